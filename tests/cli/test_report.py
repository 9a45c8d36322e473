"""``fedspec report``: one page and the tables of what is there, and what is missing."""

from __future__ import annotations

from fedspec.cli.opening import open_queue
from tests.cli.conftest import TINY, TINY_NAME, Place, items


def test_without_results_it_says_what_to_do_and_writes_nothing(place: Place):
    said = place.fedspec("report")
    assert said.code == 3
    assert "fix: Run an experiment first: fedspec run quick" in said.err
    assert not (place.root / "paper_results" / "report.html").exists()


def test_page_and_tables_of_a_run(place: Place):
    place.fedspec("run", "quick", *TINY)
    (place.root / "paper_results" / f"{TINY_NAME}.csv").unlink()  # as if it had not been published yet: the journals have it
    said = place.fedspec("report")
    assert said.code == 0
    assert said.out == "Report: paper_results/report.html\nTables: paper_results/tables (9 files)\n"
    page = (place.root / "paper_results" / "report.html").read_text(encoding="utf-8")
    assert "1 experiment, from share." in page
    assert "min_client_samples" in page  # every setting, as the queue knows it
    assert "rounds = 1" in page  # the plan that makes it again
    assert "Labels of each client." in page
    assert str(place.root) not in page
    assert (place.root / "paper_results" / "tables" / "accuracy.tex").is_file()


def test_what_has_no_result_yet_is_on_the_page(place: Place):
    place.fedspec("run", "quick", *TINY)
    open_queue(None).enqueue(items())
    place.fedspec("queue", "cancel", "fedspec_dirichlet_alpha0.1")
    document = place.fedspec("report", "--output", "mine.html", "--json").json
    assert document["report"] == "mine.html"
    assert document["summary"][1].startswith("alpha 0.5: FedAvg 0.")
    assert {path.rpartition(".")[2] for path in document["tables"]} == {"csv", "md", "tex"}
    page = (place.root / "mine.html").read_text(encoding="utf-8")
    assert "fedavg_dirichlet_alpha0.1: pending" in page
    assert "fedspec_dirichlet_alpha0.1: cancelled" in page


def test_experiments_of_a_plan_by_name_are_made_again_by_that_name(place: Place):
    (place.root / "experiments").mkdir()
    text = '[experiment]\nclients = 2\nrounds = 1\n[grid]\nmethod = ["fedavg"]\nalpha = [0.5]\nseed = [42]\n'
    (place.root / "experiments" / "small.toml").write_text(text, encoding="utf-8")
    for flags in ((), ("--engine", "stacked", "--seed", "42", "--rounds", "1")):
        place.fedspec("run", "small", *flags)
    assert place.fedspec("report").code == 0
    assert "fedspec run small --workspace share" in (place.root / "paper_results" / "report.html").read_text(encoding="utf-8")


def test_a_folder_that_cannot_take_the_page_is_an_error_with_a_remedy(place: Place):
    place.fedspec("run", "quick", *TINY)
    (place.root / "report.html").mkdir()
    said = place.fedspec("report", "--output", "report.html")
    assert said.code == 3
    assert "\n  fix: " in said.err

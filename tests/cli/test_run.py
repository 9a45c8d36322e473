"""``fedspec run``: what it says before, while and after it works, and what it leaves behind."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from fedspec.cli.opening import open_queue
from fedspec.figures import FIGURES
from tests.cli.conftest import TINY, TINY_NAME, Place, items


def test_a_run_announces_itself_works_and_sums_up(place: Place):
    said = place.fedspec("run", "quick", *TINY, "--name", "Mac")
    assert said.code == 0
    assert said.out.startswith(
        "FedSpec: Quick Experiments\n"
        "Configuration:\n"
        "  Clients: 2\n"
        "  Rounds: 1\n"
        "  Alpha: 0.5\n"
        "  Methods: FedAvg; 1 seed: 1 item\n"
        "  Estimated time: "
    )
    assert "for 1 item (measured on this machine)\n" in said.out
    assert f"Joined as Mac.\nStarting {TINY_NAME}: 1 round, 2 clients\n" in said.err
    assert f"{TINY_NAME}   Round 1/1, training 2 clients" in said.err
    assert re.search(rf"{TINY_NAME} completed: accuracy 0\.\d{{4}}\n", said.err)
    assert said.out.endswith(
        "Figures: paper_results/figures/accuracy.pdf, paper_results/figures/frobenius_gap.pdf\n"
        f"More:    fedspec report     all {len(FIGURES)} figures and the tables on one page ('fedspec plot': as PDFs)\n"
        "Next:    fedspec run distributed     on this and any other machine that shares this folder\n"
    )
    assert (place.root / "paper_results" / f"{TINY_NAME}.csv").is_file()

    again = place.fedspec("run", "quick", *TINY)
    assert again.code == 0
    assert "Estimated time: none, every item is done\n" in again.out
    assert "Starting" not in again.err
    assert "Starting" not in place.fedspec("work", "--name", "Windows").err


def test_json_is_all_that_stdout_holds(place: Place):
    document = place.fedspec("run", "quick", *TINY, "--json").json
    assert document["schema"] == 1
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", document["time"])
    assert (document["plan"], document["exit_code"]) == ("quick", 0)
    [item] = document["items"]
    assert (item["experiment"], item["state"], item["round"]) == (TINY_NAME, "sealed", 1)


def test_a_dry_run_writes_nothing_anywhere(place: Place):
    said = place.fedspec("run", "distributed", "--rounds", "3", "--dry-run")
    assert said.code == 0
    assert "Methods: FedAvg, FedSpec, centralized baseline; 1 seed: 7 items\n" in said.out
    assert re.search(r"Memory: about \d+ MiB a worker; disk: \d+\.\d MiB\n", said.out)
    assert re.search(r"^fedspec_dirichlet_alpha1\.0_r3\S* +pending  [0-9a-f]{12}$", said.out, re.MULTILINE)
    assert said.out.endswith("Nothing was written. Leave out --dry-run to start.\n")
    assert not list(place.root.iterdir())
    assert not (place.root.parent / "state").exists()


def test_a_dry_run_in_json_gives_seconds_and_bytes(place: Place):
    document = place.fedspec("run", "quick", *TINY, "--dry-run", "--json").json
    assert document["left"] == 1
    assert document["estimate"]["seconds"] > 0
    assert document["estimate"]["memory_bytes"] > document["estimate"]["disk_bytes"] > 0
    assert document["items"][0]["config"]["rounds"] == 1


def test_several_workers_share_the_estimated_time(place: Place):
    said = place.fedspec("run", "quick", "--rounds", "5", "--workers", "2", "--dry-run")
    assert "for 9 items on 2 workers (measured on this machine)" in said.out


@pytest.mark.parametrize("op", ["cancel", "fail"])
def test_a_run_with_a_lost_item_ends_with_1_and_says_how_to_go_on(place: Place, op: str):
    place.fedspec("queue", "add", "quick", *TINY)
    if op == "cancel":
        place.fedspec("queue", "cancel", TINY_NAME)
        words = f"warn   {TINY_NAME} is cancelled; 'fedspec queue resume {TINY_NAME}' undoes it.\n"
    else:
        queue = place.machine("Windows")
        queue.failed(queue.claim(), "final", "clients outnumber the samples.")
        words = f"error: {TINY_NAME} failed for good: clients outnumber the samples.\n  fix: fedspec queue retry {TINY_NAME}\n"
    said = place.fedspec("run", "quick", *TINY)
    assert said.code == 1
    assert said.err.endswith(words)


def test_joining_says_who_else_is_at_work(place: Place, claimed: Callable):
    open_queue(place.root).enqueue(items("quick", rounds="1", clients="2", method=["fedavg"], seed=["42,43"]))
    claimed("Windows")
    said = place.fedspec(
        "run", "quick", "--rounds", "1", "--clients", "2", "--method", "fedavg", "--seed", "43", "--name", "Mac"
    )
    assert f"Joined as Mac. Windows is on {TINY_NAME}.\n" in said.err


def test_a_plan_that_contradicts_the_queue_changes_nothing(place: Place):
    place.fedspec("queue", "add", "quick", *TINY)
    before = place.files()
    mine = place.root / "mine.toml"
    mine.write_text("centralised = true\n", encoding="utf-8")
    said = place.fedspec("run", "mine.toml")
    assert said.code == 2
    assert said.err.startswith("error: mine.toml, line 1: the key 'centralised' is unknown.\n  fix: Top-level keys are: title,")
    mine.unlink()
    assert place.files() == before


# A search for learning rates

SEARCHED = """\
[experiment]
rounds = 1
clients = 2
engine = "sequential"
[search]
lr = [1e-9, 0.02]
seed = [0]
[grid]
method = ["fedspec"]
seed = [42]
"""


def test_a_search_comes_first_and_the_reported_experiment_has_the_rate_that_it_found(place: Place, tmp_path: Path):
    path = tmp_path / "mine.toml"
    path.write_text(SEARCHED)
    dry = place.fedspec("run", str(path), "--dry-run")
    assert "Then 1 reported experiment, with" in dry.out
    said = place.fedspec("run", str(path))
    assert said.code == 0
    # A rate of nearly nothing learns nothing.
    assert "fedspec: learning rate 0.02 (validation accuracy 1e-09:" in said.err
    states = {line["experiment"]: line["state"] for line in place.fedspec("queue", "list", "--json").json["items"]}
    searched = [f"fedspec_dirichlet_alpha0.5_c2_r1_s0{rate}_search" for rate in ("_lr1e-09", "")]
    assert states.keys() == {"fedspec_dirichlet_alpha0.5_c2_r1", *searched}
    again = place.fedspec("run", str(path), "--json")
    assert again.json["exit_code"] == 0
    assert [line["experiment"] for line in again.json["items"]] == ["fedspec_dirichlet_alpha0.5_c2_r1"]


def test_a_search_is_announced_with_its_own_seeds(place: Place, tmp_path: Path):
    path = tmp_path / "mine.toml"
    path.write_text(SEARCHED.replace("seed = [42]", "seed = [42, 43, 44]"))
    dry = place.fedspec("run", str(path), "--dry-run")
    assert "Methods: FedSpec; 1 seed: 2 items" in dry.out
    assert "Then 3 reported experiments, each with" in dry.out


def test_adding_a_plan_with_a_search_adds_the_search_and_says_so(place: Place, tmp_path: Path):
    path = tmp_path / "mine.toml"
    path.write_text(SEARCHED)
    said = place.fedspec("queue", "add", str(path))
    assert "Added 2 of 2 items of the search" in said.out
    assert "fedspec run" in said.out

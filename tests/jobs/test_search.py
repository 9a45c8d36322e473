"""The search for learning rates: what it runs first, what it chooses from the results, and what it refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fedspec.cli.plans import read_plan
from fedspec.config import tuned_lr
from fedspec.errors import UsageError
from fedspec.jobs.search import Choice, choices
from fedspec.plan import Item, Plan
from fedspec.results import Row

SEARCH = "[search]\nlr = [0.001, 0.01, 0.1]\nseed = [0, 1]\n"
GRID = '[grid]\nmethod = ["fedavg", "fedspec"]\nalpha = [0.1, 0.5]\nseed = [42]\n'


@pytest.fixture
def plan(tmp_path: Path) -> Any:
    def expand(text: str, **flags: Any) -> Plan:
        path = tmp_path / "mine.toml"
        path.write_text(text)
        return read_plan(str(path), flags)

    return expand


def rows(*validation: float) -> list[Row]:
    counts: dict[str, Any] = dict.fromkeys(("seed", "n_clients", "participating", "local_epochs", "rank", "rank_next"), 1)
    names: dict[str, Any] = {"method": "fedavg", "dataset": "digits", "model": "mlp"}
    measured: dict[str, Any] = dict.fromkeys(("lr", "accuracy", "loss", "train_loss"), 0.1)
    return [Row(round=n, validation_accuracy=v, **counts, **names, **measured) for n, v in enumerate(validation, start=1)]


def test_the_search_spans_rates_alphas_and_its_own_seeds_and_the_report_comes_after(plan: Any) -> None:
    found = plan(SEARCH + GRID)
    assert len(found.search.items) == 3 * 2 * 2 * 2
    assert {item.config["seed"] for item in found.search.items} == {0, 1}
    assert all(item.config["purpose"] == "search" and item.exp.endswith("_search") for item in found.search.items)
    assert [item.config["purpose"] for item in found.items] == ["report"] * 4
    assert found.search.undecided == found.search.ids
    assert len(plan(SEARCH + "alpha = [0.5]\n" + GRID).search.items) == 3 * 2 * 2


def test_the_reported_experiments_have_the_rates_that_were_found(plan: Any) -> None:
    found = plan(SEARCH + GRID)
    known = found.with_rates({"fedavg": 0.1, "fedspec": tuned_lr("fedspec")})
    assert {item.config["lr"] for item in known.items if item.config["method"] == "fedavg"} == {0.1}
    assert [item.exp for item in known.items][:2] == ["fedavg_dirichlet_alpha0.1_lr0.1", "fedspec_dirichlet_alpha0.1"]
    # They are the very items of a plan that has these rates written.
    written = plan(GRID + "[method.fedavg]\nlr = 0.1\n")
    assert known.ids == written.ids
    assert known.undecided == written.undecided
    assert known.search is None


def test_a_method_whose_rate_is_written_is_not_searched_and_the_baseline_is(plan: Any) -> None:
    searched = plan(SEARCH + GRID + "[method.fedavg]\nlr = 0.1\n[centralized]\n").search
    assert {item.config.get("method", item.kind) for item in searched.items} == {"fedspec", "centralized"}
    assert {item.kind for item in plan(SEARCH + GRID + "[centralized]\nlr = 0.1\n").search.items} == {"federated"}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[search]\nlr = [0.1]\nseed = [0, 42]\n" + GRID, "seed 42 is searched on, and reported"),
        (SEARCH + GRID + "[experiment]\nlr = 0.1\n", "lr is given, and searched"),
        ("[search]\nlr = [0.1]\n" + GRID, "has no seed"),
        ("[search]\nseed = [0]\n" + GRID, "has no lr"),
        ("[search]\nlr = 0.1\nseed = [0]\n" + GRID, "must be a list"),
        ("[search]\nlr = [-1.0]\nseed = [0]\n" + GRID, "lr must be greater than 0"),
        (SEARCH + "rank = [1]\n" + GRID, "cannot be spanned"),
        ("search = 3\n" + GRID, "search is not a table"),
        (SEARCH.replace("[0, 1]", "[0, 0]") + GRID, "twice"),
    ],
)
def test_a_search_that_could_not_be_believed_is_refused(plan: Any, text: str, words: str) -> None:
    with pytest.raises(UsageError, match=r"mine\.toml") as caught:
        plan(text)
    assert words in caught.value.what


def test_a_flag_for_the_rate_contradicts_a_search(plan: Any) -> None:
    with pytest.raises(UsageError, match="lr is given, and searched"):
        plan(SEARCH + GRID, lr="0.5")


def scored(items: tuple[Item, ...], score: Any) -> dict[str, list[Row]]:
    return {item.id: rows(0.0, *[score(item)] * 5) for item in items}


def test_the_best_mean_over_alphas_and_seeds_is_chosen_for_each_method(plan: Any) -> None:
    items = plan(SEARCH + GRID).search.items
    best = {"fedavg": 0.01, "fedspec": 0.1}
    found = choices(items, scored(items, lambda item: 0.8 if item.config["lr"] == best[item.config["method"]] else 0.7))
    assert {choice.method: choice.lr for choice in found} == best
    # Only the last rounds count: the first one was 0.
    assert found[0].scores == pytest.approx({0.001: 0.7, 0.01: 0.8, 0.1: 0.7})
    assert not found[0].at_the_edge
    assert found[1].at_the_edge
    assert "a better one may lie beyond" in found[1].sentence()
    assert "beyond" not in found[0].sentence()


def test_a_run_that_failed_counts_as_nothing_and_its_rate_loses(plan: Any) -> None:
    items = plan(SEARCH + GRID).search.items
    told = scored(items, lambda item: item.config["lr"])
    lost = next(item for item in items if item.config["lr"] == 0.1 and item.config["method"] == "fedavg")
    for other in items:
        if other.config["lr"] == 0.1 and other.config["method"] == "fedavg":
            told.pop(other.id)
    found = choices(items, told)
    assert found[0].scores[0.1] == 0.0
    assert {choice.method: choice.lr for choice in found} == {lost.config["method"]: 0.01, "fedspec": 0.1}


def test_of_equal_rates_the_smallest_is_chosen_whatever_the_order() -> None:
    assert Choice("fedavg", {0.1: 0.5, 0.01: 0.5, 0.05: 0.4}).lr == 0.01

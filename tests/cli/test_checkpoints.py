"""``fedspec checkpoints``: what can be resumed, and only that."""

from __future__ import annotations

from pathlib import Path

from fedspec.checkpoints import CheckpointManager, Generation
from tests.cli.conftest import Place

WORKER = "aaaaaaaa-bbbbbb"


def saved(place: Place, exp: str, round_: int) -> None:
    facts = {"round": round_, "rounds": 20, "accuracy": 0.8123, "machine": "Mac"}
    folder: Path = place.root / "checkpoints_distributed"
    CheckpointManager(folder).derive(exp, Generation(f"r{round_:04d}.pt", "0" * 64, b"model"), facts)


def test_nothing_yet(place: Place):
    said = place.fedspec("checkpoints")
    assert said.code == 0
    assert said.out == (
        f"No checkpoints in {place.root / 'checkpoints_distributed'}: nothing has begun, or the folder has not synced yet.\n"
    )


def test_what_is_finished_is_listed_on_demand(place: Place):
    saved(place, "begun", 7)
    saved(place, "finished", 20)
    assert place.fedspec("checkpoints").out.splitlines() == [
        "Experiment  Round   Acc.  Saved by",
        "begun        7/20  0.812  Mac",
    ]
    assert "finished    20/20" in place.fedspec("checkpoints", "--all").out
    assert [about["round"] for about in place.fedspec("checkpoints", "--json").json["checkpoints"]] == [7]


def test_when_all_are_finished_it_says_so(place: Place):
    saved(place, "finished", 20)
    assert place.fedspec("checkpoints").out == (
        "Nothing to resume: all 1 experiments with checkpoints are finished ('--all' lists them).\n"
    )


def test_a_generation_without_its_derived_copy_is_found_by_its_name(place: Place):
    folder = place.root / "checkpoints_distributed" / "gen" / "lonely"
    folder.mkdir(parents=True)
    (folder / f"r0003.a01.{WORKER}.{'0' * 12}.pt").write_bytes(b"")
    assert place.fedspec("checkpoints").out.splitlines()[1].split() == ["lonely", "3/?", WORKER]

"""A campaign that was cut goes on where it was, and what other code or other options have found does not count."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from fedspec.errors import UsageError
from fedspec.simulation import ledger
from fedspec.simulation.campaign import Outcome, Tally, profile_of, run_one
from fedspec.simulation.ledger import Ledger

SEEDS = range(10)


def outcome(seed: int, name: str | None = None, naive: int = 0) -> Outcome:
    struck = Counter({"crash": seed})
    return Outcome(profile_of(seed, name).name, seed, 2, (), (), struck, seed, 16, Counter({"items": naive} if naive else {}))


def kept(path: Path, *outcomes: Outcome, machines: int | None = None, compare: bool = False) -> Ledger:
    book = Ledger(path, machines, compare)
    book.read(SEEDS, None)
    for one in outcomes:
        book.keep(one)
    return Ledger(path, machines, compare)


def test_what_a_schedule_has_shown_comes_back_as_it_was(tmp_path: Path):
    found = run_one(3, "smb", machines=2)
    assert kept(tmp_path / "f", found, machines=2).read(SEEDS, "smb") == [found]


def test_only_the_seeds_asked_for_come_back_in_their_order_and_each_once(tmp_path: Path):
    book = kept(tmp_path / "f", *map(outcome, (7, 3, 5, 3)))
    assert [one.seed for one in book.read(range(2, 6), None)] == [3, 5]
    assert book.others == 0


@pytest.mark.parametrize("cut", range(1, 40, 6))
def test_half_a_line_is_run_again_and_spoils_no_other(tmp_path: Path, cut: int):
    path = tmp_path / "f"
    kept(path, outcome(1), outcome(2))
    path.write_bytes(path.read_bytes()[:-cut])
    known = Ledger(path, None, False).read(SEEDS, None)
    # What lacks its line feed alone is whole.
    assert [one.seed for one in known] == ([1, 2] if cut == 1 else [1])
    assert [one.seed for one in kept(path, outcome(2), outcome(4)).read(SEEDS, None)] == [1, 2, 4]


def test_files_of_two_machines_are_one_when_appended(tmp_path: Path):
    kept(tmp_path / "a", outcome(1), outcome(2))
    kept(tmp_path / "b", outcome(2), outcome(3))
    (tmp_path / "c").write_bytes((tmp_path / "a").read_bytes() + (tmp_path / "b").read_bytes())
    assert Ledger(tmp_path / "c", None, False).read(SEEDS, None) == [outcome(1), outcome(2), outcome(3)]


def test_what_was_asked_for_otherwise_does_not_count(tmp_path: Path):
    kept(tmp_path / "f", outcome(1))
    for book in (Ledger(tmp_path / "f", 3, False), Ledger(tmp_path / "f", None, True)):
        assert (book.read(SEEDS, None), book.others) == ([], 1)
    # Seed 1 stands for another profile when all take turns.
    assert Ledger(tmp_path / "f", None, False).read(SEEDS, "smb") == []
    both = kept(tmp_path / "f", outcome(2, naive=4), compare=True)
    assert [one.seed for one in both.read(SEEDS, None)] == [2]


def test_what_other_code_has_shown_does_not_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    kept(tmp_path / "f", outcome(1))
    monkeypatch.setattr(ledger, "code_hash", lambda: "0" * 12)
    book = Ledger(tmp_path / "f", None, False)
    assert (book.read(SEEDS, None), book.others) == ([], 1)


@pytest.mark.parametrize("junk", [b"\n\n", b"null\n", b"\xff\n", b'{"seed": 1}\n', b"[" * 3000 + b"\n"])
def test_what_is_no_line_of_ours_is_left_out(tmp_path: Path, junk: bytes):
    (tmp_path / "f").write_bytes(junk)
    assert kept(tmp_path / "f", outcome(1)).read(SEEDS, None) == [outcome(1)]


def test_a_file_that_cannot_be_had_is_an_error_with_a_way_out(tmp_path: Path):
    with pytest.raises(UsageError, match="cannot be read"):
        Ledger(tmp_path, None, False).read(SEEDS, None)
    with pytest.raises(UsageError, match="cannot be written"):
        Ledger(tmp_path / "none" / "f", None, False).keep(outcome(1))


def test_outcomes_add_up(tmp_path: Path):
    tally = Tally()
    for seed in range(4):
        tally.add(outcome(seed))
    assert (tally.schedules, tally.struck, tally.repeated, tally.rounds, tally.broken) == (4, Counter(crash=6), 6, 64, [])

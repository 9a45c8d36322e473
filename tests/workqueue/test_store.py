"""Reading the shared folder is incremental and forgiving: what is torn, foreign or damaged is left out until it is whole."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from queuekit import ALICE, BOB, WORKSPACE, Author, item

from fedspec.files import MemoryDisk, MemoryFiles
from fedspec.plan import encoded, published_names
from fedspec.workqueue.records import Ckpt, Claim, Ctl, Done, Seal, Yield, line_hash, machine_of
from fedspec.workqueue.store import Beat, Store

JOURNAL = WORKSPACE.journals / "any name at all"
ITEM = item()
PLAN = WORKSPACE.plan(ITEM.id)


@pytest.fixture
def disk() -> MemoryDisk:
    return MemoryDisk()


@pytest.fixture
def store(disk: MemoryDisk) -> Store:
    return Store(MemoryFiles(disk), WORKSPACE)


def author(length: int, worker: str = ALICE) -> Author:
    pen = Author(worker)
    for attempt in range(length):
        pen.write(Claim, item="i", attempt=attempt)
    return pen


def text(*lines: bytes) -> bytes:
    return b"".join(line + b"\n" for line in lines)


@given(st.lists(st.integers(0, 400), max_size=6))
def test_a_journal_that_grows_in_any_pieces_is_read_as_if_at_once(cuts: list[int]):
    disk, pen = MemoryDisk(), author(4)
    store, whole = Store(MemoryFiles(disk), WORKSPACE), text(*pen.lines)
    for cut in sorted(cuts):
        disk.contents[JOURNAL] = whole[:cut]
        store.refresh()
        assert store.length(ALICE) == whole[:cut].count(b"\n")
    disk.contents[JOURNAL] = whole
    store.refresh()
    assert store.length(ALICE) == 4
    assert not store.damaged


@given(st.lists(st.integers(0, 1000), max_size=6))
def test_a_journal_that_shrinks_and_grows_again_loses_nothing(lengths: list[int]):
    disk, pen = MemoryDisk(), author(4)
    store, whole, most = Store(MemoryFiles(disk), WORKSPACE), text(*pen.lines), 0
    for length in lengths:
        disk.contents[JOURNAL] = whole[:length]
        store.refresh()
        most = max(most, whole[:length].count(b"\n"))
        assert store.length(ALICE) == most


def test_a_journal_that_something_shorter_has_overwritten_is_read_again(store: Store, disk: MemoryDisk):
    disk.contents[JOURNAL] = text(*author(4).lines)
    store.refresh()
    disk.contents[JOURNAL] = text(*author(1, BOB).lines)
    store.refresh()
    assert (store.length(ALICE), store.length(BOB)) == (4, 1)


def test_garbage_between_lines_costs_only_itself_and_is_told(store: Store, disk: MemoryDisk):
    pen = author(2)
    disk.contents[JOURNAL] = text(pen.lines[0], b"\0\xff garbage", pen.lines[1])
    store.refresh()
    assert store.length(ALICE) == 2
    assert list(store.damaged) == [JOURNAL.name]


def test_a_journal_is_known_by_its_content_and_not_by_its_name(store: Store, disk: MemoryDisk):
    pen = author(4)
    names = ["a.0000.sync-conflict-20260101-120000-ABCDEFG.jsonl", "a (Bob's conflicted copy).jsonl", "a-PC.jsonl", "a 2.jsonl"]
    for name, line in zip(names, pen.lines, strict=True):
        disk.contents[WORKSPACE.journals / name] = text(line)
    store.refresh()
    assert store.length(ALICE) == 4


def test_foreign_files_are_left_alone(store: Store, disk: MemoryDisk):
    for folder in (WORKSPACE.journals, WORKSPACE.plans, WORKSPACE.beats):
        for name in (".DS_Store", "desktop.ini", ".x.jsonl.icloud", "Icon\r"):
            disk.contents[folder / name] = b"\0\1bplist"
    before = dict(disk.contents)
    store.refresh()
    store.read_beats()
    assert (store.items, store.beats, store.damaged) == ({}, {}, {})
    assert disk.contents == before


def test_a_fork_takes_back_what_was_folded_and_flags_the_worker(store: Store, disk: MemoryDisk):
    one, other = author(2), Author(ALICE)
    other.write(Claim, item="i", attempt=0)
    other.write(Yield, item="i", attempt=0, reason="I am a clone")
    disk.contents[JOURNAL] = text(*one.lines)
    store.refresh()
    assert len(store.fold.item("i").attempts) == 2
    disk.contents[WORKSPACE.journals / "clone"] = text(*other.lines)
    store.refresh()
    assert store.cloned() == {ALICE}
    assert len(store.fold.item("i").attempts) == 1


def clones(*lives: str) -> list[Author]:
    """Processes that go on from one claim, each with its own result."""
    authors = []
    for rows in lives:
        author = Author(ALICE)
        author.write(Claim, item="i", attempt=1)
        author.write(Done, item="i", attempt=1, rows=rows, rounds=1)
        authors.append(author)
    return authors


def sealed_after(store: Store, disk: MemoryDisk, *authors: Author) -> str | None:
    for number, author in enumerate(authors):
        disk.contents[WORKSPACE.journals / f"{number}.jsonl"] = text(*author.lines)
        store.refresh()
    assert store.cloned() == {ALICE}
    done = store.fold.canonical("i")
    assert store.fold.status("i") == ("sealed" if done else "pending")
    return done.rows if done else None


@pytest.mark.parametrize("sealer", [ALICE, BOB])
@pytest.mark.parametrize("meant", [0, 1])
def test_a_sealed_result_survives_the_fork_of_its_author_s_journal(store: Store, disk: MemoryDisk, meant: int, sealer: str):
    one, other = clones("of the one", "of the other")
    seal = {"item": "i", "attempt": 1, "author": ALICE, "line": line_hash((one, other)[meant].lines[1])}
    if sealer == ALICE:
        (one, other)[meant].write(Seal, **seal)
        assert sealed_after(store, disk, one, other) == ("of the one", "of the other")[meant]
    else:
        pen = Author(BOB)
        pen.write(Seal, **seal)
        assert sealed_after(store, disk, one, pen, other) == ("of the one", "of the other")[meant]


def test_of_two_results_either_of_which_an_old_version_may_have_sealed_all_take_the_same(store: Store, disk: MemoryDisk):
    one, other = clones("of the one", "of the other")
    pen = Author(BOB)
    pen.write(Seal, item="i", attempt=1, author=ALICE)
    first = sealed_after(store, disk, one, pen, other)
    again = MemoryDisk()
    assert first is not None
    assert sealed_after(Store(MemoryFiles(again), WORKSPACE), again, other, pen, one) == first


def test_a_result_that_nobody_had_sealed_ends_with_its_author_s_history(store: Store, disk: MemoryDisk):
    assert sealed_after(store, disk, *clones("of the one", "of the other")) is None


def test_a_round_that_a_cloned_worker_saved_can_be_gone_on_from(store: Store, disk: MemoryDisk):
    one, other = clones("of the one", "of the other")
    one.write(Ckpt, item="j", attempt=1, round=3, file="f", sha256="s", base="")
    sealed_after(store, disk, one, other)
    assert [ckpt.round for ckpt in store.fold.generations("j")] == [3]


def test_of_a_cloned_worker_nothing_more_is_brought_to_the_folder(store: Store, disk: MemoryDisk):
    one, other = clones("of the one", "of the other")
    sealed_after(store, disk, one, other)
    before = dict(disk.contents)
    assert store.relay(ALICE, BOB, one.lines) == 0
    assert disk.contents == before


def test_a_line_that_was_folded_when_written_changes_nothing_when_read(store: Store, disk: MemoryDisk):
    pen = author(2)
    for line in pen.lines:
        store.add_line(line)
    disk.contents[JOURNAL] = text(*pen.lines)
    store.refresh()
    assert store.length(ALICE) == 2
    assert not store.cloned()


# Plans


def test_an_item_is_written_once(store: Store, disk: MemoryDisk):
    assert store.write_plan(ITEM)
    assert not store.write_plan(ITEM)
    assert disk.contents[PLAN] == encoded(ITEM)


DAMAGES = [b"", b"{", encoded(ITEM)[:-1], b"\0" * len(encoded(ITEM)), encoded(ITEM).replace(b"0.5", b"0.6"), b"[" * 9999]


@pytest.mark.parametrize("damage", DAMAGES, ids=range(len(DAMAGES)))
def test_a_damaged_plan_file_is_no_item_and_enqueuing_again_heals_it_for_everybody(
    store: Store, disk: MemoryDisk, damage: bytes
):
    disk.contents[PLAN] = damage
    store.refresh()
    assert not store.items
    assert PLAN.name in store.damaged
    assert Store(MemoryFiles(disk), WORKSPACE).write_plan(ITEM)
    store.refresh()
    assert store.items == {ITEM.id: ITEM}
    assert not store.damaged


def test_a_conflict_copy_of_a_plan_file_is_the_same_item(store: Store, disk: MemoryDisk):
    disk.contents[PLAN.with_name(f"p-{ITEM.id}.sync-conflict-20260101-120000-ABCDEFG.json")] = encoded(ITEM)
    store.refresh()
    assert store.items == {ITEM.id: ITEM}
    assert not store.damaged


def test_an_item_stays_known_when_its_file_disappears(store: Store, disk: MemoryDisk):
    store.write_plan(ITEM)
    store.refresh()
    disk.contents.clear()
    store.refresh()
    assert store.items == {ITEM.id: ITEM}


# Beats


def beat(n: int, worker: str = ALICE) -> Beat:
    return Beat(worker=worker, n=n, seq=3)


def test_the_last_beat_of_each_worker_counts_whatever_its_file_is_called(store: Store, disk: MemoryDisk):
    for name, one in {"x": beat(2), "x conflict": beat(1), "y": beat(7, BOB)}.items():
        disk.contents[WORKSPACE.beats / name] = msgspec.json.encode(one)
    store.read_beats()
    assert {worker: held.n for worker, held in store.beats.items()} == {ALICE: 2, BOB: 7}


@pytest.mark.parametrize("damage", [b"", b"{}", b'{"worker":"w","n":-1,"seq":0}', b'"\xff"', b"[" * 9999])
def test_a_torn_beat_keeps_the_last_good_one(store: Store, disk: MemoryDisk, damage: bytes):
    store.write_beat(beat(5))
    store.read_beats()
    disk.contents[Path(WORKSPACE.beat(ALICE))] = damage
    store.read_beats()
    assert store.beats[ALICE].n == 5


def test_a_conflict_copy_of_a_beat_does_not_keep_a_retired_machine_from_joining(store: Store, disk: MemoryDisk):
    machine = machine_of(ALICE)
    person = Author(BOB)
    person.write(Ctl, op="retire", value=machine)
    disk.contents[JOURNAL] = text(*author(1).lines, *person.lines)
    copy = WORKSPACE.beats / f"{ALICE} (Konflikt-Kopie von Büro 3 2026-01-01).json"
    for path in (WORKSPACE.beat(ALICE), copy):
        disk.contents[path] = msgspec.json.encode(beat(1))
    store.refresh()
    store.remove_old_beats(machine)
    assert [path for path in disk.contents if path.parent == WORKSPACE.beats] == [copy]


def test_names_are_those_of_the_items_that_are_there_by_now():
    store = Store(MemoryFiles(MemoryDisk(), "a"), WORKSPACE)
    one, other = item(1), item(2)
    for known in ([one], [one, other]):
        store.write_plan(known[-1])
        assert store.names() == published_names(known)
    assert store.names() is store.names()

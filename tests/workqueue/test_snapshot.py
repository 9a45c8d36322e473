"""Whoever goes on from a snapshot sees what everybody else sees; and where it does not fit, everything is read."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from playkit import HISTORIES, ITEMS, text
from queuekit import ALICE, BOB, WORKSPACE, Author, local_state

from fedspec.files import MemoryDisk, MemoryFiles
from fedspec.plan import encoded
from fedspec.workqueue import snapshot as module
from fedspec.workqueue.brief import brief
from fedspec.workqueue.fold import Fold
from fedspec.workqueue.liveness import LOCAL_DISK
from fedspec.workqueue.progress import progress
from fedspec.workqueue.records import Claim, Done, Start
from fedspec.workqueue.snapshot import Facts, ResumedFold, Snapshot
from fedspec.workqueue.store import Store
from fedspec.workqueue.view import render_view
from fedspec.workspace import Workspace

LOCAL = local_state("mac")
NOW = datetime(2026, 1, 2, tzinfo=UTC)
JOURNAL = WORKSPACE.journal(ALICE, 0)


def read(disk: MemoryDisk) -> Store:
    """What a process that reads everything knows."""
    store = Store(MemoryFiles(disk), WORKSPACE)
    store.refresh()
    return store


def snapshot(disk: MemoryDisk, workspace: Workspace = WORKSPACE, least: int = 0) -> Snapshot:
    return Snapshot(MemoryFiles(disk), LOCAL, workspace, least)


def resumed(disk: MemoryDisk) -> Store | None:
    """What a process knows that goes on from the snapshot; None if it does not fit."""
    store = Store(MemoryFiles(disk), WORKSPACE)
    if not snapshot(disk).resume(store):
        return None
    store.refresh()
    return store


def known(store: Store) -> dict[str, Any]:
    """All that a store knows."""
    fold, items = store.fold, store.items
    lines = progress(fold, items, {}, LOCAL_DISK, NOW)
    states = {item_id: fold.known(item_id) for item_id in sorted({*items, *fold.found})}
    facts = {name: getattr(fold, name) for name in Facts.__struct_fields__}
    lengths = {worker: store.length(worker) for worker in fold.workers}
    return {
        **facts, "lines": lines, "states": states, "view": render_view(fold, items), "items": items, "plans": store.plans,
        "lengths": lengths, "forked": store.cloned(), "damaged": store.damaged, "sources": store.sources(),
    }  # fmt: skip


def filled(*authors: Author) -> MemoryDisk:
    disk = MemoryDisk()
    for item in ITEMS:
        disk.contents[WORKSPACE.plan(item.id)] = encoded(item)
    for author in authors:
        disk.contents[WORKSPACE.journal(author.worker, 0)] = text(author.lines)
    return disk


def begun(worker: str = ALICE, rows: str = "") -> Author:
    author = Author(worker)
    author.write(Claim, item=ITEMS[0].id, attempt=1)
    author.write(Start, item=ITEMS[0].id, attempt=1, round=0, base="b")
    author.write(Done, item=ITEMS[0].id, attempt=1, rows=rows, rounds=1)
    return author


@pytest.fixture
def disk() -> MemoryDisk:
    """A folder of which a snapshot was kept."""
    disk = filled(begun(), begun(BOB))
    assert snapshot(disk).keep(read(disk))
    return disk


@given(HISTORIES, st.data())
def test_going_on_from_any_earlier_moment_is_reading_everything(authors: list[Author], data: st.DataObject):
    disk = MemoryDisk()
    for item in ITEMS:
        disk.contents[WORKSPACE.plan(item.id)] = encoded(item)
    files = {WORKSPACE.journal(author.worker, 0): text(author.lines) for author in authors}
    for moment in range(data.draw(st.integers(2, 4))):
        for path, whole in files.items():
            disk.contents[path] = whole[: data.draw(st.integers(len(disk.contents.get(path, b"")), len(whole)))]
        # A copy beside it, as sync clients leave them, says again what is known, and perhaps more.
        author = data.draw(st.sampled_from(authors))
        disk.contents[WORKSPACE.journals / f"copy {moment}.jsonl"] = text(author.lines[: data.draw(st.integers(0, 20))])
        store = resumed(disk) if moment else read(disk)
        assert store is not None
        assert known(store) == known(read(disk))
        assert snapshot(disk).keep(store)


def test_a_snapshot_lies_on_this_machine_alone(disk: MemoryDisk):
    (path,) = (path for path in disk.contents if "snapshot" in path.name)
    assert path.is_relative_to(LOCAL.root)
    assert not path.is_relative_to(WORKSPACE.root)


def test_what_nobody_asks_for_stays_packed(disk: MemoryDisk):
    store = resumed(disk)
    assert store is not None
    assert isinstance(store.fold, ResumedFold)
    before = brief(store.fold, ITEMS[0].id)
    assert not store.fold.items
    assert store.fold.status(ITEMS[0].id) == before.status == "done"
    assert list(store.fold.items) == [ITEMS[0].id]


def _append(disk: MemoryDisk, path: Path, data: bytes) -> None:
    disk.contents[path] = disk.contents[path] + data


CHANGES: dict[str, Callable[[MemoryDisk], None]] = {
    "a journal is gone": lambda disk: disk.contents.__delitem__(JOURNAL),
    "a journal is shorter": lambda disk: disk.contents.__setitem__(JOURNAL, disk.contents[JOURNAL][:-1]),
    "another journal has its place": lambda disk: disk.contents.__setitem__(JOURNAL, text(begun(ALICE, "x").lines)),
    "a plan is gone": lambda disk: disk.contents.__delitem__(WORKSPACE.plan(ITEMS[0].id)),
    "a plan is shorter": lambda disk: disk.contents.__setitem__(WORKSPACE.plan(ITEMS[0].id), b"{}"),
    "everything is gone": lambda disk: [disk.contents.pop(path) for path in list(disk.contents) if "local" not in path.parts],
}  # fmt: skip


@pytest.mark.parametrize("change", CHANGES)
def test_a_snapshot_of_other_files_does_not_count(disk: MemoryDisk, change: str):
    CHANGES[change](disk)
    assert resumed(disk) is None


def test_a_snapshot_with_one_wrong_bit_does_not_count(disk: MemoryDisk):
    path = LOCAL.snapshot(WORKSPACE)
    whole = disk.contents[path]
    for at in range(len(whole)):
        disk.contents[path] = whole[:at] + bytes([whole[at] ^ 1 << at % 8]) + whole[at + 1 :]
        assert resumed(disk) is None
    for size in range(0, len(whole), 7):
        disk.contents[path] = whole[:size]
        assert resumed(disk) is None


@given(st.binary(max_size=200))
def test_bytes_that_are_none_of_ours_do_not_count_even_with_the_right_sum(data: bytes):
    disk = filled(begun())
    digest = module.hashlib.sha256(data).digest()
    disk.contents[LOCAL.snapshot(WORKSPACE)] = module.MAGIC + module._code() + digest + data
    assert resumed(disk) is None


def test_a_snapshot_of_other_code_does_not_count(disk: MemoryDisk, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "_code", lambda: bytes(32))
    assert resumed(disk) is None


def test_a_snapshot_of_another_folder_does_not_count(disk: MemoryDisk):
    other = Workspace(Path("/other"))
    disk.contents[LOCAL.snapshot(other)] = disk.contents[LOCAL.snapshot(WORKSPACE)]
    for path in [path for path in disk.contents if path.is_relative_to(WORKSPACE.root)]:
        disk.contents[other.root / path.relative_to(WORKSPACE.root)] = disk.contents[path]
    store = Store(MemoryFiles(disk), other)
    assert not snapshot(disk, other).resume(store)
    assert not store.items


def test_a_clone_that_shows_later_ends_a_history_that_was_read_before(disk: MemoryDisk):
    disk.contents[WORKSPACE.journals / "clone.jsonl"] = text(begun(ALICE, "another result").lines)
    store = resumed(disk)
    assert store is not None
    assert store.cloned() == {ALICE}
    assert known(store) == known(read(disk))


def test_a_damaged_line_is_told_of_again(disk: MemoryDisk):
    _append(disk, JOURNAL, b"damaged\n")
    assert snapshot(disk).keep(read(disk))
    store = resumed(disk)
    assert store is not None
    assert len(store.notes()) == 1


def test_of_a_small_queue_nothing_is_kept():
    disk = filled(begun())
    assert not snapshot(disk, least=module.LEAST_RECORDS).keep(read(disk))
    assert not disk.contents.get(LOCAL.snapshot(WORKSPACE))


def test_a_snapshot_is_not_written_again_for_little_news(disk: MemoryDisk):
    kept, store = snapshot(disk), Store(MemoryFiles(disk), WORKSPACE)
    assert kept.resume(store)
    store.refresh()
    assert not kept.keep(store)
    disk.contents[WORKSPACE.journal("cccccccc-000001", 0)] = text(begun("cccccccc-000001").lines)
    store.refresh()
    assert kept.keep(store)


def test_a_snapshot_holds_all_that_a_fold_knows():
    assert vars(Fold()).keys() - {"items", "found"} == set(Facts.__struct_fields__)

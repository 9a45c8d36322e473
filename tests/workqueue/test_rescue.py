"""Records that the folder lost are said again by those who have read them, if their author does not come back."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from queuekit import ALICE, BOB, CAROL, WORKSPACE, Author, Share, arrived, claimed, item, pass_time, table

from fedspec.files.evicted import stub_of
from fedspec.workqueue import store as reading
from fedspec.workqueue.distributor import WorkDistributor
from fedspec.workqueue.liveness import SYNC_FOLDER
from fedspec.workqueue.records import Claim

ONE, TWO = item(), item(43)


def finished_and_lost(share: Share, reader: WorkDistributor, *, vanished: bool = False, machine: str = "mac") -> bytes:
    """A machine finishes an item, all read it, it dies, and the folder is put back to before. Returns what was lost."""
    author = share.member(machine, timing=SYNC_FOLDER)
    held = claimed(author)
    path = WORKSPACE.journal(author.worker, 0)
    earlier = share.disk.contents[path]
    author.done(held, table(), 1, 0.5)
    reader.refresh()
    share.kill(author)
    lost = share.disk.contents[path][len(earlier) :]
    if vanished:
        del share.disk.contents[path]
    else:
        share.disk.contents[path] = earlier
    assert not share.fold().canonical(held.item.id)
    return lost


@pytest.fixture
def reader(share: Share) -> WorkDistributor:
    share.enqueue(ONE, TWO)
    return share.member("pc", timing=SYNC_FOLDER)


@pytest.mark.parametrize("machine", ["mac", "pc"])  # of another machine, and of the reader's own
@pytest.mark.parametrize("vanished", [False, True])
def test_a_result_that_the_folder_lost_with_its_author_is_said_again_by_whoever_has_read_it(
    share: Share, reader: WorkDistributor, vanished: bool, machine: str
):
    finished_and_lost(share, reader, vanished=vanished, machine=machine)
    reader.refresh()
    reader.caretaker.rescue.look()
    pass_time(reader, SYNC_FOLDER.dead / 2)
    assert reader.caretaker.rescue.look() == []
    pass_time(reader, SYNC_FOLDER.dead)
    assert len(reader.caretaker.rescue.look()) == 1
    assert share.fold().finished
    assert share.fold().finished == reader.store.fold.finished
    before = dict(share.disk.contents)
    pass_time(reader, 2 * SYNC_FOLDER.dead)
    assert reader.caretaker.rescue.look() == []
    assert [path for path in share.disk.contents if path.parent == WORKSPACE.journals] == [
        path for path in before if path.parent == WORKSPACE.journals
    ]


def test_who_leaves_says_it_again_at_once(share: Share, reader: WorkDistributor):
    finished_and_lost(share, reader)
    reader.refresh()
    reader.caretaker.look_after(thorough=True, leaving=True)
    assert share.fold().finished


def test_what_comes_back_by_itself_is_not_said_again(share: Share, reader: WorkDistributor):
    lost = finished_and_lost(share, reader)
    reader.refresh()
    reader.caretaker.rescue.look()
    (path,) = (path for path in share.disk.contents if path.parent == WORKSPACE.journals and path.name in reader.store.short)
    share.disk.contents[path] += lost
    reader.refresh()
    pass_time(reader, 2 * SYNC_FOLDER.dead)
    assert reader.caretaker.rescue.look(leaving=True) == []
    assert not [path for path in share.disk.contents if ".by-" in path.name]


def put(share: Share, author: Author) -> Path:
    """The worker's journal in one file."""
    path = WORKSPACE.journal(author.worker, 0)
    share.disk.contents[path] = b"".join(line + b"\n" for line in author.lines)
    return path


def some(worker: str, claims: int = 20) -> Author:
    author = arrived(worker, "nas")
    for number in range(claims):
        author.write(Claim, item=ONE.id, attempt=number + 1)
    return author


def rescued(reader: WorkDistributor) -> list[str]:
    """Who is said again, once whatever is missing has been missing for long enough."""
    reader.refresh()
    reader.caretaker.rescue.look()
    pass_time(reader, 2 * SYNC_FOLDER.dead)
    return reader.caretaker.rescue.look()


def unreadable(monkeypatch: pytest.MonkeyPatch, reader: WorkDistributor, file: Path, error: int) -> set[Path]:
    """The files that refuse to be read with this error, ``file`` for now."""
    read, away = reader.files.read, {file}

    def read_here(path: Path, offset: int = 0, limit: int = -1) -> bytes:
        if path in away:
            raise OSError(error, os.strerror(error), str(path))
        return read(path, offset, limit)

    monkeypatch.setattr(reader.files, "read", read_here)
    return away


@pytest.mark.parametrize("lost", ["a plan", "a journal"])
def test_what_a_sync_client_has_evicted_is_not_said_again(
    share: Share, reader: WorkDistributor, monkeypatch: pytest.MonkeyPatch, lost: str
):
    evicted, other = put(share, some(ALICE)), put(share, some(BOB))
    reader.refresh()
    unreadable(monkeypatch, reader, evicted, errno.EAGAIN)
    del share.disk.contents[WORKSPACE.plan(ONE.id) if lost == "a plan" else other]
    assert rescued(reader) == ([] if lost == "a plan" else [BOB])
    assert rescued(reader) == []


def test_a_worker_of_whom_a_file_cannot_be_read_waits_until_it_can(
    share: Share, reader: WorkDistributor, monkeypatch: pytest.MonkeyPatch
):
    author = some(ALICE)
    path, copy = put(share, author), WORKSPACE.journals / f"{ALICE}.0000 (conflicted copy).jsonl"
    share.disk.contents[copy] = share.disk.contents[path]
    reader.refresh()
    del share.disk.contents[path]
    away = unreadable(monkeypatch, reader, copy, errno.EACCES)
    assert rescued(reader) == []
    share.disk.contents[copy] = share.disk.contents[copy][:-10]
    away.clear()
    assert rescued(reader) == [ALICE]
    said = share.disk.contents[WORKSPACE.relayed(ALICE, reader.worker)]
    assert said == author.lines[-1] + b"\n", "the rest is in the copy"


def test_more_journals_than_one_look_reads_are_not_said_again(
    share: Share, reader: WorkDistributor, monkeypatch: pytest.MonkeyPatch
):
    lost, _, _ = (put(share, some(worker, 200)) for worker in (ALICE, BOB, CAROL))
    monkeypatch.setattr(reading, "MAX_POLL_BYTES", len(share.disk.contents[lost]))
    monkeypatch.setattr(reading, "PIECE_BYTES", 4096)
    pass_time(reader, SYNC_FOLDER.dead)
    whole = share.disk.contents[lost]
    share.disk.contents[lost] = whole[: len(whole) // 2]
    assert rescued(reader) == [ALICE]
    assert rescued(reader) == []
    said = share.disk.contents[WORKSPACE.relayed(ALICE, reader.worker)]
    assert said == whole[whole.rindex(b"\n", 0, len(whole) // 2) + 1 :]


def test_a_plan_that_the_folder_lost_is_put_back_by_whoever_knows_it_but_not_into_an_empty_folder(
    share: Share, reader: WorkDistributor
):
    reader.refresh()
    plans = {path: share.disk.contents[path] for path in map(WORKSPACE.plan, (ONE.id, TWO.id))}
    for path in plans:
        del share.disk.contents[path]
    assert reader.caretaker.rescue.look(leaving=True) == []
    assert not set(plans) & set(share.disk.contents)
    share.disk.contents[WORKSPACE.plan(TWO.id)] = plans[WORKSPACE.plan(TWO.id)]
    reader.caretaker.rescue.look()
    pass_time(reader, 2 * SYNC_FOLDER.dead)
    reader.caretaker.rescue.look()
    assert {path: share.disk.contents[path] for path in plans} == plans


def test_a_plan_that_was_put_back_to_when_it_was_half_there_is_made_whole_by_whoever_knows_it(
    share: Share, reader: WorkDistributor
):
    reader.refresh()
    path = WORKSPACE.plan(TWO.id)
    whole = share.disk.contents[path]
    share.disk.contents[path] = whole[:100]
    reader.caretaker.rescue.look()
    assert share.disk.contents[path] == whole[:100]
    pass_time(reader, 2 * SYNC_FOLDER.dead)
    reader.caretaker.rescue.look()
    assert share.disk.contents[path] == whole


def test_plans_are_looked_at_once_while_a_dead_peer_is_waited_for(
    share: Share, reader: WorkDistributor, monkeypatch: pytest.MonkeyPatch
):
    reader.refresh()
    asked, sizes = [], reader.files.sizes
    monkeypatch.setattr(reader.files, "sizes", lambda folder: asked.append(folder) or sizes(folder))
    for _ in range(20):
        reader.caretaker.rescue.look()
    assert asked == [WORKSPACE.plans]
    pass_time(reader, SYNC_FOLDER.dead)
    asked.clear()
    reader.caretaker.rescue.look()
    assert asked == [WORKSPACE.plans]


def test_a_plan_of_which_only_a_stub_is_here_is_not_written(share: Share, reader: WorkDistributor):
    reader.refresh()
    path = WORKSPACE.plan(TWO.id)
    del share.disk.contents[path]
    share.disk.contents[stub_of(path)] = b"tells no size"
    assert rescued(reader) == []
    assert path not in share.disk.contents


def test_a_conflict_copy_of_a_plan_that_is_gone_is_not_missed(share: Share, reader: WorkDistributor):
    path = WORKSPACE.plans / f"p-{TWO.id} 2.json"
    share.disk.contents[path] = share.disk.contents[WORKSPACE.plan(TWO.id)]
    reader.refresh()
    del share.disk.contents[path]
    assert rescued(reader) == []
    assert path not in share.disk.contents
    assert path.name not in reader.store.plans


def test_nothing_is_said_into_a_folder_that_has_vanished(share: Share, reader: WorkDistributor):
    put(share, some(ALICE))
    reader.refresh()
    for path in [path for path in share.disk.contents if WORKSPACE.root in path.parents]:
        del share.disk.contents[path]
    reader.refresh()
    assert reader.store.short
    assert reader.caretaker.rescue.look(leaving=True) == []
    assert not [path for path in share.disk.contents if path.parent in (WORKSPACE.journals, WORKSPACE.plans)]

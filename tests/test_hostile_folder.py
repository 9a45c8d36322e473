"""Whatever kind of file lies in the workspace under whatever name: the worker finishes its items and stays inside."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from fedspec.errors import FolderError
from fedspec.workqueue.liveness import LOCAL_DISK, SYNC_FOLDER
from tests.hostilekit import ITEM, Ground, odd, put, sparse
from tests.test_worker import item_of

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="POSIX has the odder files")

Plant = Callable[[Path, Ground], None]
GIB = 1 << 30

FOLDERS = {
    "journals": "distributed_work/journal/evil.jsonl",
    "plans": "distributed_work/plan/p-0123456789ab.json",
    "beats": "distributed_work/beat/evil.json",
    "logs": "distributed_work/logs/evil.log",
    "quarantine": "distributed_work/quarantine/evil.pt",
    "results": "paper_results/evil.csv",
    "copies of checkpoints": "checkpoints_distributed/evil.json",
    "generations": f"checkpoints_distributed/gen/{ITEM.exp}/r0001.a01.abcdabcd-123456.0123456789ab.pt",
    "bases": "checkpoints_distributed/gen/base/0123456789ab.pt",
    "an unsafe experiment": "checkpoints_distributed/gen/EVIL ..\n/r0001.a01.abcdabcd-123456.0123456789ab.pt",
}


def socket_at(path: Path, ground: Ground) -> None:
    here = Path.cwd()
    os.chdir(path.parent)  # the name of a socket may have a hundred bytes only
    try:
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(path.name)
    finally:
        os.chdir(here)


KINDS: dict[str, Plant] = {
    "a folder": lambda path, ground: path.mkdir(),
    "a pipe": lambda path, ground: os.mkfifo(path),
    "a socket": socket_at,
    "a link to itself": lambda path, ground: path.symlink_to(path),
    "a link to nothing": lambda path, ground: path.symlink_to(ground.home / "nothing"),
    "a link to endless zeros": lambda path, ground: path.symlink_to("/dev/zero"),
    "a link to somebody's file": lambda path, ground: path.symlink_to(ground.home / "diary.txt"),
    "a gibibyte without a line": lambda path, ground: sparse(path, GIB),
    "nothing at all": lambda path, ground: put(path),
    "deep JSON": lambda path, ground: put(path, b"[" * 1_000_000),
    "a name that is no text": lambda path, ground: put(
        path.with_name(odd(b"\xff\xfe\xed\xa0\x80" + path.suffix.encode())), b"{}"
    ),
    "a name that clears the screen": lambda path, ground: put(path.with_name(f"p-\x1b[2J\n\r[red]{path.suffix}"), b"{}"),
}


@pytest.fixture(params=[LOCAL_DISK, SYNC_FOLDER], ids=["a disk", "a sync folder"])
def ground(tmp_path: Path, request: pytest.FixtureRequest) -> Ground:
    ground = Ground(tmp_path, request.param)
    ground.enqueue(ITEM)
    return ground


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("folder", FOLDERS)
def test_odd_files_stop_no_worker_and_nothing_outside_changes(ground: Ground, folder: str, kind: str):
    before = ground.at_home()
    path = ground.share / FOLDERS[folder]
    path.parent.mkdir(parents=True, exist_ok=True)
    KINDS[kind](path, ground)
    ground.work()
    ground.check()
    assert ground.at_home() == before


# What the worker itself wants to write

PLACES = {
    "the view": "distributed_work/work_queue.json",
    "the lock": "distributed_work/work_queue.json.lock",
    "the result": f"paper_results/{ITEM.exp}.csv",
    "the copy for people": f"checkpoints_distributed/{ITEM.exp}.json",
    "the copy of the model": f"checkpoints_distributed/{ITEM.exp}_model.pt",
    "the logs": "distributed_work/logs",
    "the beats": "distributed_work/beat",
    "the journals": "distributed_work/journal",
    "the plans": "distributed_work/plan",
    "the quarantine": "distributed_work/quarantine",
    "the queue": "distributed_work",
    "the results": "paper_results",
    "the checkpoints": "checkpoints_distributed",
    "the generations": "checkpoints_distributed/gen",
    "the item's generations": f"checkpoints_distributed/gen/{ITEM.exp}",
    "the bases": "checkpoints_distributed/gen/base",
}
TAKEN: dict[str, Plant] = {
    "a folder": lambda path, ground: path.mkdir(),
    "a file": lambda path, ground: put(path, b"mine"),
    "a pipe": lambda path, ground: os.mkfifo(path),
    "a link to itself": lambda path, ground: path.symlink_to(path),
    "a link to somebody's file": lambda path, ground: path.symlink_to(ground.home / "diary.txt"),
    "a link to somebody's folder": lambda path, ground: path.symlink_to(ground.home / "empty"),
    "a link to nothing yet": lambda path, ground: path.symlink_to(ground.home / "autostart"),
}


@pytest.mark.parametrize("kind", TAKEN)
@pytest.mark.parametrize("place", PLACES)
def test_whatever_takes_the_place_of_our_files_the_worker_finishes_or_says_so_and_nothing_outside_changes(
    ground: Ground, place: str, kind: str
):
    before = ground.at_home()
    path = ground.share / PLACES[place]
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists():
        path.rename(ground.share / "aside")
    TAKEN[kind](path, ground)
    told = ""
    try:
        ground.work()
    except FolderError as error:
        told = error.what
    except AssertionError:
        # It is alive, and tries this item again ever more rarely; nobody can save what has no place.
        told = ground.events[-1]
        assert "tried again later" in told
    assert ground.at_home() == before
    # Without its file the item is not there for the worker.
    if told:
        assert str(ground.share) in told
    elif place not in ("the plans", "the queue"):
        ground.check()


def test_an_item_whose_folder_is_taken_keeps_nobody_from_the_other_items(ground: Ground):
    other = item_of(43, rounds=2)
    ground.enqueue(other)
    put(ground.share / "checkpoints_distributed" / "gen" / ITEM.exp, b"no folder")
    with pytest.raises(AssertionError):
        ground.work(ITEM, other)
    ground.check(other)
    assert "tried again later" in ground.events[-1]


def test_what_a_peer_links_while_a_worker_runs_changes_nothing_outside(ground: Ground):
    """The worker's journal, log, beat and their next files have names that a peer can read by then."""
    before, planted = ground.at_home(), []

    def peer(text: str) -> None:
        for worker in {path.name.partition(".")[0] for path in ground.workspace.journals.iterdir()}:
            for path in (
                *(ground.workspace.journal(worker, segment) for segment in range(1, 4)),
                ground.workspace.log(worker),
                ground.workspace.beat(worker),
                ground.workspace.queue_lock,
            ):
                if path.parent.is_dir():
                    path.unlink(missing_ok=True)
                    path.symlink_to(ground.home / "diary.txt")
                    planted.append(path)
            # Shorter than what was written: the worker must say everything again in its next segment.
            ground.workspace.journal(worker, 0).write_bytes(b"")

    ground.status = peer  # type: ignore[method-assign]
    with pytest.raises(FolderError, match=r"leads out of the shared folder"):
        ground.work()
    assert planted
    assert ground.at_home() == before


def test_a_damaged_generation_is_not_set_aside_through_a_link(ground: Ground):
    before = ground.at_home()
    ground.work()
    other = ground.share / "checkpoints_distributed" / "gen" / ITEM.exp
    for path in other.iterdir():
        path.write_bytes(b"damaged")
    (ground.workspace.queue / "quarantine").symlink_to(ground.home / "empty")
    for journal in ground.workspace.journals.iterdir():
        lines = journal.read_bytes().split(b"\n")
        journal.write_bytes(b"".join(line + b"\n" for line in lines if line and b'"type":"done"' not in line))
    ground.workspace.result(ITEM.exp).unlink()
    ground.work()
    ground.check()
    assert ground.at_home() == before

"""A file that a sync client has evicted stops nobody: it is read later, and what is derived is written again."""

from __future__ import annotations

import errno
from pathlib import Path

from queuekit import WORKSPACE, Share, claimed, item, table

from fedspec.files import MemoryFiles
from fedspec.workqueue.distributor import WorkDistributor

ONE = item()


def evict(queue: WorkDistributor, *away: Path) -> None:
    """From now on these files are in the cloud, for this process."""
    files = queue.files
    assert isinstance(files, MemoryFiles)
    read = files.read

    def refuse(path: Path, offset: int = 0, limit: int = -1) -> bytes:
        if path in away:
            raise OSError(errno.EAGAIN, "is being downloaded", str(path))
        return read(path, offset, limit)

    files.read = refuse  # type: ignore[method-assign]


def test_a_plan_can_be_enqueued_again_while_its_items_are_away(share: Share):
    share.enqueue(ONE)
    before = share.disk.contents[WORKSPACE.plan(ONE.id)]
    queue = share.process("mac")
    evict(queue, WORKSPACE.plan(ONE.id))
    queue.enqueue([ONE])
    assert share.disk.contents[WORKSPACE.plan(ONE.id)] == before


def test_results_and_the_view_are_published_while_their_files_are_away(share: Share):
    share.enqueue(ONE)
    queue = share.member("mac")
    queue.done(claimed(queue), table(), 1, 0.5)
    queue.publisher.publish()
    queue.publisher.write_view()
    csv = share.disk.contents[WORKSPACE.result(ONE.exp)]
    evict(queue, WORKSPACE.result(ONE.exp), WORKSPACE.view)
    queue.publisher.publish(check_all=True)
    queue.publisher.write_view()
    assert share.disk.contents[WORKSPACE.result(ONE.exp)] == csv


def test_a_journal_that_is_away_is_read_when_it_is_here(share: Share):
    share.enqueue(ONE)
    peer = share.member("pc")
    peer.done(claimed(peer), table(), 1, 0.5)
    queue = share.process("mac")
    evict(queue, WORKSPACE.journal(peer.worker, 0))
    queue.refresh()
    assert queue.store.fold.status(ONE.id) == "pending"
    del queue.files.read  # type: ignore[attr-defined]
    queue.refresh()
    assert queue.store.fold.status(ONE.id) == "done"

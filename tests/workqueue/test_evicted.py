"""A file that a sync client has evicted stops nobody: it is read later, and what is derived is written again."""

from __future__ import annotations

import errno
from pathlib import Path

from queuekit import WORKSPACE, Share, claimed, item, table

from fedspec.files import MemoryFiles
from fedspec.worker.attempt import check_folder
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


def leave_stubs(share: Share, folder: Path) -> dict[Path, bytes]:
    """As iCloud did before macOS 14, of all files in the folder; returns what they held."""
    held = {path: data for path, data in share.disk.contents.items() if path.parent == folder}
    for path in held:
        del share.disk.contents[path]
        share.disk.contents[path.with_name(f".{path.name}.icloud")] = b"bplist"
    return held


def bring(share: Share, held: dict[Path, bytes]) -> None:
    """The files that somebody has asked for come."""
    for path in share.disk.recalled:
        share.disk.contents[path] = held[path]
        del share.disk.contents[path.with_name(f".{path.name}.icloud")]


def test_a_folder_whose_plans_are_stubs_is_no_folder_that_is_gone(share: Share):
    share.enqueue(ONE)
    queue = share.member("mac")
    leave_stubs(share, WORKSPACE.plans)
    check_folder(queue)
    queue.refresh()
    assert claimed(queue).item == ONE


def test_a_new_process_asks_for_plans_and_journals_of_which_only_stubs_are_here(share: Share):
    share.enqueue(ONE)
    peer = share.member("pc")
    peer.done(claimed(peer), table(), 1, 0.5)
    held = leave_stubs(share, WORKSPACE.plans) | leave_stubs(share, WORKSPACE.journals)
    queue = share.process("mac")
    queue.refresh()
    assert not queue.store.items
    assert share.disk.recalled == held.keys()
    bring(share, held)
    for _ in range(20):
        queue.refresh()
    assert queue.store.items == {ONE.id: ONE}
    assert queue.store.fold.status(ONE.id) == "done"
    assert not queue.store.notes()


def test_a_worker_whose_own_journal_has_become_a_stub_loses_nothing(share: Share):
    share.enqueue(ONE)
    queue = share.member("mac")
    held = claimed(queue)
    away = leave_stubs(share, WORKSPACE.journals)
    queue.done(held, table(), 1, 0.5)
    queue.tick()
    share.disk.recalled.update(away)
    bring(share, away)
    assert share.fold().status(ONE.id) in ("done", "sealed")


def test_an_edit_of_which_only_a_stub_is_here_is_not_written_over(share: Share):
    share.enqueue(ONE)
    queue = share.member("mac")
    queue.caretaker.show()
    leave_stubs(share, WORKSPACE.queue)
    queue.caretaker.show()
    assert WORKSPACE.view not in share.disk.contents

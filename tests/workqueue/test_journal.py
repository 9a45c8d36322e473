"""What a process has journalled reaches every reader, whatever happens to the share or to the process."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from queuekit import ALICE, WORKSPACE, Share, claimed, item, local_state, pass_time, table

from fedspec.clock import FakeClock
from fedspec.errors import FolderError
from fedspec.files import Crash, MemoryDisk, MemoryFiles
from fedspec.workqueue.distributor import WorkDistributor
from fedspec.workqueue.histories import Histories
from fedspec.workqueue.journal import LOOK_EVERY, SEGMENT_BYTES, OwnJournal
from fedspec.workqueue.liveness import LOCAL_DISK
from fedspec.workqueue.records import Bye, Claim, Record
from fedspec.workqueue.rules import Held

FIRST_SEGMENT = WORKSPACE.journal(ALICE, 0)


class FullDisk(MemoryFiles):
    """Files whose folder ``full`` takes half of what is appended and then says so."""

    full: Path | None = None

    def append(self, path: Path, data: bytes) -> None:
        if self.full is not None and self.full in path.parents:
            self.contents[path] = self.contents.get(path, b"") + data[: len(data) // 2]
            raise FolderError(f"Cannot write {path}: no space left.", "Free some.") from OSError(errno.ENOSPC, "full")
        super().append(path, data)


def pen(files: MemoryFiles) -> OwnJournal:
    return OwnJournal(files, FakeClock(), WORKSPACE, local_state("mac"), ALICE)


def write(journal: OwnJournal, count: int = 1) -> None:
    for _ in range(count):
        journal.append(Claim, lam=journal.seq, item="i", attempt=journal.seq)


def segments(disk: MemoryDisk) -> list[Path]:
    return sorted(path for path in disk.contents if path.parent == WORKSPACE.journals)


def read(disk: MemoryDisk) -> list[Record]:
    """What a reader accepts that comes now."""
    histories = Histories()
    for path in segments(disk):
        histories.offer(disk.contents[path].split(b"\n")[:-1])
    return histories.accepted()


def test_what_is_appended_is_in_the_machine_s_copy_and_in_the_share():
    disk = MemoryDisk()
    write(pen(MemoryFiles(disk)), 3)
    assert [record.seq for record in read(disk)] == [0, 1, 2]
    assert disk.contents[local_state("mac").journal_copy(ALICE)] == disk.contents[FIRST_SEGMENT]


ACCIDENTS: dict[str, Callable[[bytes], bytes | None]] = {
    "deleted": lambda data: None,
    "emptied": lambda data: b"",
    "torn in a line": lambda data: data[:-5],
    "restored from a backup": lambda data: data[: data.find(b"\n") + 1],
    "overwritten by something longer": lambda data: b"\0" * (len(data) + 7),
    "overwritten by something shorter": lambda data: b"hello",
}


def strike(disk: MemoryDisk, path: Path, accident: str) -> None:
    left = ACCIDENTS[accident](disk.contents.get(path, b""))
    if left is None:
        disk.contents.pop(path, None)
    else:
        disk.contents[path] = left


@given(st.lists(st.sampled_from([*ACCIDENTS, "append", "append", "append while it is full"]), max_size=8))
@example(["append", "restored from a backup", "append while it is full"])
def test_after_any_accidents_to_its_file_the_next_append_brings_everything(course: list[str]):
    disk = MemoryDisk()
    files = FullDisk(disk)
    journal = pen(files)
    write(journal)
    for event in course:
        if event.startswith("append"):
            files.full = WORKSPACE.root if "full" in event else None
            write(journal)
            files.full = None
        else:
            strike(disk, segments(disk)[-1] if segments(disk) else FIRST_SEGMENT, event)
    write(journal)
    assert [record.seq for record in read(disk)] == list(range(journal.seq))


@pytest.mark.parametrize("accident", [name for name in ACCIDENTS if name != "deleted"])
def test_a_file_that_others_may_have_read_is_never_mended(accident: str):
    disk = MemoryDisk()
    journal = pen(MemoryFiles(disk))
    write(journal, 3)
    strike(disk, FIRST_SEGMENT, accident)
    left = disk.contents[FIRST_SEGMENT]
    write(journal)
    assert disk.contents[FIRST_SEGMENT] == left
    assert len(segments(disk)) == 2


def test_while_the_share_is_full_nothing_is_lost_and_afterwards_everything_arrives():
    files = FullDisk(MemoryDisk())
    journal = pen(files)
    write(journal)
    files.full = WORKSPACE.root
    write(journal, 2)
    with pytest.raises(FolderError):
        journal.flush()
    assert [record.seq for record in read(files.disk)] == [0]
    files.full = None
    write(journal)
    assert [record.seq for record in read(files.disk)] == [0, 1, 2, 3]


def test_a_record_that_the_machine_s_own_disk_refused_does_not_exist_and_nothing_follows_it():
    files = FullDisk(MemoryDisk())
    journal = pen(files)
    write(journal)
    files.full = local_state("mac").root
    with pytest.raises(FolderError):
        write(journal)
    files.full = None
    with pytest.raises(FolderError, match="no space left") as caught:
        write(journal)
    assert not caught.value.passing
    assert [record.seq for record in read(files.disk)] == [0]


def test_a_journal_goes_on_in_a_new_segment_before_one_grows_too_large():
    disk = MemoryDisk()
    journal = pen(MemoryFiles(disk))
    for _ in range(8):
        journal.append(Bye, lam=0, reason="x" * (SEGMENT_BYTES // 3))
    assert len(segments(disk)) == 4
    assert all(len(disk.contents[path]) <= SEGMENT_BYTES for path in segments(disk))
    assert len(read(disk)) == 8


def test_a_record_larger_than_a_segment_has_one_for_itself():
    disk = MemoryDisk()
    journal = pen(MemoryFiles(disk))
    journal.append(Bye, lam=0, reason="x" * (SEGMENT_BYTES + 1))
    write(journal)
    assert len(read(disk)) == 2


@pytest.mark.parametrize("accident", ACCIDENTS)
def test_a_journal_is_completed_where_an_earlier_segment_was_lost(accident: str):
    disk = MemoryDisk()
    journal = pen(MemoryFiles(disk))
    for _ in range(4):
        journal.append(Bye, lam=0, reason="x" * (SEGMENT_BYTES // 3))
    strike(disk, FIRST_SEGMENT, accident)
    journal.complete()
    assert len(read(disk)) == 4


def beat(journal: OwnJournal, disk: MemoryDisk, count: int = LOOK_EVERY) -> None:
    """What a heart does with the journal: it lists the folder."""
    for _ in range(count):
        journal.watch({path.name: len(disk.contents[path]) for path in segments(disk)})


@pytest.mark.parametrize("segment", [0, 1, -1])
@pytest.mark.parametrize("accident", ACCIDENTS)
def test_a_heart_brings_what_was_lost_from_any_segment_though_nothing_is_appended(accident: str, segment: int):
    disk = MemoryDisk()
    journal = pen(MemoryFiles(disk))
    for _ in range(6):
        journal.append(Bye, lam=0, reason="x" * (SEGMENT_BYTES // 3))
    for _ in range(2):  # what was said again may be lost as well
        strike(disk, segments(disk)[segment], accident)
        beat(journal, disk)
        assert len(read(disk)) == 6
    write(journal)
    before = dict(disk.contents)
    beat(journal, disk, 3 * LOOK_EVERY)
    assert len(read(disk)) == 7
    assert disk.contents == before


def test_an_append_that_meets_a_loss_has_the_next_beat_look_at_all_segments():
    disk = MemoryDisk()
    journal = pen(MemoryFiles(disk))
    for _ in range(6):
        journal.append(Bye, lam=0, reason="x" * (SEGMENT_BYTES // 3))
    for path in segments(disk):
        strike(disk, path, "deleted")
    write(journal)
    assert read(disk) == []
    beat(journal, disk, 1)
    assert len(read(disk)) == 7


def test_a_listing_that_is_late_has_nothing_said_again():
    disk = MemoryDisk()
    journal = pen(MemoryFiles(disk))
    write(journal)
    late = {path.name: len(disk.contents[path]) for path in segments(disk)}
    for _ in range(4):
        journal.append(Bye, lam=0, reason="x" * (SEGMENT_BYTES // 3))
    before = dict(disk.contents)
    for _ in range(2 * LOOK_EVERY):
        journal.watch(late)
    assert disk.contents == before


def test_a_peer_that_comes_after_a_loss_knows_what_a_living_worker_has_done(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("fedspec.workqueue.journal.SEGMENT_BYTES", 1000)
    share = Share()
    share.enqueue(item(), item(43))
    mac = share.member("mac")
    mac.done(claimed(mac), table(), 1, 0.5)
    held = claimed(mac)
    assert len(segments(share.disk)) > 1
    del share.disk.contents[WORKSPACE.journal(mac.worker, 0)]
    pass_time(mac, (LOOK_EVERY + 1) * LOCAL_DISK.beat)
    pc = share.member("pc")
    assert pc.store.length(mac.worker) == mac.store.length(mac.worker)
    assert not isinstance(pc.claim(), Held)
    assert mac.must_stop(held) is None


def test_completing_a_whole_journal_writes_nothing():
    disk = MemoryDisk()
    journal = pen(MemoryFiles(disk))
    write(journal, 3)
    before = dict(disk.contents)
    journal.complete()
    assert disk.contents == before


def test_an_error_message_that_is_no_unicode_can_be_journalled():
    disk = MemoryDisk()
    record, _ = pen(MemoryFiles(disk)).append(Bye, lam=0, reason="no file \udcff.txt")
    assert record.reason == "no file ?.txt"
    assert read(disk) == [record]


# A crash at every step


class CrashAt:
    """Dies before the n-th step of its process's writes, counted from 0."""

    def __init__(self, step: int) -> None:
        self.left = step

    def __call__(self, step: str) -> None:
        self.left -= 1
        if self.left < 0:
            raise Crash


def a_life(queue: WorkDistributor) -> None:
    queue.join("Mac", {"cpu"})
    held = queue.claim()
    if isinstance(held, Held):
        queue.started(held, 0, "base", "", "cpu")
        queue.saved(held, 1, "file", "sha", "base", 0.5)
        queue.done(held, table(), 1, 0.5)
    queue.publisher.publish()
    queue.publisher.write_view()
    queue.leave("finished")


def steps_of_a_life() -> int:
    share, steps = Share(), []
    share.enqueue(item())
    a_life(share.process("mac", before_write=steps.append))
    return len(steps)


def copies(share: Share) -> dict[str, list[Record]]:
    """What the machine's own copies of journals hold."""
    found = {}
    for path, data in share.disk.contents.items():
        if path.parent == local_state("mac").slots and path.suffix == ".jsonl":
            histories = Histories()
            histories.offer(data.split(b"\n")[:-1])
            found[path.stem] = histories.accepted()
    return found


@pytest.mark.parametrize("step", range(steps_of_a_life()))
def test_a_crash_at_any_step_loses_nothing_that_the_machine_had_noted(step: int):
    share = Share()
    share.enqueue(item())
    victim = share.process("mac", before_write=CrashAt(step))
    with pytest.raises(Crash):
        a_life(victim)
    share.kill(victim)
    noted = copies(share)
    successor = share.member("mac")
    in_share = share.records()
    for worker, records in noted.items():
        assert [record for record in in_share if record.worker == worker] == records
        assert share.fold().gone(worker)
    assert copies(share).keys() == {successor.worker}, "a closed slot is not kept"
    assert not successor.store.cloned()
    held = successor.claim()
    if isinstance(held, Held):
        successor.done(held, table(), 1, 0.5)
    assert share.fold().status(item().id) in ("done", "sealed")


def test_a_crash_of_the_successor_at_any_step_loses_nothing_either():
    for step in range(60):
        share = Share()
        share.enqueue(item())
        first = share.member("mac")
        held = claimed(first)
        files = first.files
        assert isinstance(files, MemoryFiles)
        files.before_write = CrashAt(2)  # the record is in the copy, and not in the share
        with pytest.raises(Crash):
            first.done(held, table(), 1, 0.5)
        share.kill(first)
        second = share.process("mac", before_write=CrashAt(step))
        try:
            a_life(second)
        except Crash:
            share.kill(second)
        else:
            return
        share.member("mac")
        assert share.fold().status(item().id) in ("done", "sealed")
        assert all(share.fold().gone(worker) for worker in share.fold().workers if not worker.endswith(_last(share)))
    raise AssertionError("the successor never came to its end")


def _last(share: Share) -> str:
    (living,) = copies(share)
    return living.partition("-")[2]


class Blinking(MemoryFiles):
    """A share that does not answer for one call."""

    blind = False

    def sizes(self, folder: Path) -> dict[str, int]:
        if self.blind and folder == WORKSPACE.journals:
            self.blind = False
            raise FolderError("Cannot read it.", "Connect the share.")
        return super().sizes(folder)


def test_a_share_that_does_not_answer_once_leaves_no_hole_in_the_journal():
    share = Share()
    share.enqueue(item())
    files = Blinking(share.disk, "blinking")
    queue = WorkDistributor(WORKSPACE, files=files, clock=FakeClock(), timing=LOCAL_DISK, local=local_state("mac"))
    queue.join("Mac", {"cpu"})
    held = claimed(queue)
    files.blind = True
    with pytest.raises(FolderError):
        queue.started(held, 0, "", "", "cpu")
    queue.give_back(held, "the share blinked")
    assert share.fold().live(item().id) == ()
    assert claimed(queue).attempt == 2

"""A machine keeps its id for good, and tells its own dead workers from the living by their locks."""

from __future__ import annotations

import errno
import itertools
import secrets
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from queuekit import Author

from fedspec.files import DiskFiles, Files, MemoryDisk, MemoryFiles
from fedspec.workqueue.records import Bye, Claim
from fedspec.workqueue.slots import Slots
from fedspec.workspace import LocalState, Workspace

Process = Callable[..., Slots]


@pytest.fixture(params=["disk", "memory"])
def process(request: pytest.FixtureRequest, tmp_path: Path) -> Process:
    """Each call is another process of one machine; ``workspace`` another folder, ``local`` another machine."""
    disk, numbers = MemoryDisk(), itertools.count(1)

    def make(workspace: str = "share", local: str = "local") -> Slots:
        files: Files = DiskFiles() if request.param == "disk" else MemoryFiles(disk, f"process {next(numbers)}")
        new_hex = lambda count: next(numbers).to_bytes(count, "big").hex()  # noqa: E731
        return Slots(files, LocalState(tmp_path / local), Workspace(tmp_path / workspace), new_hex)

    return make


def nobody(worker: str) -> bool:
    return False


def everybody(worker: str) -> bool:
    return True


def test_the_machine_id_is_made_once(process: Process):
    assert process().machine_id() == process().machine_id() == process(workspace="other").machine_id()
    assert len(process().machine_id()) == 8


def test_two_machines_have_two_ids(process: Process):
    assert process(local="mac").machine_id() != process(local="pc").machine_id()


def test_of_several_workers_that_ask_for_another_id_the_first_gets_one(tmp_path: Path):
    made: list[str] = []

    def slots() -> Slots:
        def new_hex(count: int) -> str:
            made.append(secrets.token_hex(count))
            return made[-1]

        return Slots(DiskFiles(), LocalState(tmp_path / "local"), Workspace(tmp_path / "share"), new_hex)

    old = slots().machine_id()
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda one: one.renew(old), [slots() for _ in range(8)]))
    assert made == [old, slots().machine_id()]


def test_a_damaged_id_is_replaced(process: Process):
    slots = process()
    old = slots.machine_id()
    for damage in (b"", b"{", b'"\xff"', b'{"id": 7}'):
        slots.files.write(slots.local.machine, damage)
        assert process().machine_id() == process().machine_id() != old


def test_a_worker_s_name_tells_its_machine_and_is_new_each_time(process: Process):
    slots = process()
    (one, free_one), (other, free_other) = slots.open({}), slots.open({})
    assert one != other
    assert {one.partition("-")[0], other.partition("-")[0]} == {slots.machine_id()}
    free_one()
    free_other()


def test_a_process_that_lives_is_not_dead_and_one_that_ended_is(process: Process):
    worker, die = process().open({})
    observer = process()
    assert observer.dead(nobody) == []
    die()
    assert observer.dead(nobody) == [worker]


def test_looking_at_a_slot_does_not_keep_it(process: Process):
    worker, die = process().open({})
    die()
    assert process().dead(nobody) == process().dead(nobody) == [worker]


def test_a_closed_worker_is_forgotten(process: Process):
    slots = process()
    worker, die = slots.open({})
    slots.files.append(slots.local.journal_copy(worker), b"line\n")
    die()
    slots.forget(worker)
    assert slots.dead(nobody) == []
    assert slots.history(worker) == ([], [])
    assert slots.files.names(slots.local.slots) == []


def test_workers_of_another_workspace_are_left_alone_unless_their_journal_is_here(process: Process):
    worker, die = process(workspace="here").open({})
    die()
    assert process(workspace="elsewhere").dead(nobody) == []
    assert process(workspace="moved").dead(lambda name: name == worker) == [worker]


def test_workers_of_another_machine_are_unknown(process: Process):
    _, die = process(local="mac").open({})
    die()
    assert process(local="pc").dead(everybody) == []


def test_a_damaged_slot_is_nobody_s_unless_its_journal_is_here(process: Process):
    slots = process()
    worker, die = slots.open({})
    die()
    for damage in (b"", b"[]", b'"\xff"', b'{"x":' + b"[" * 100_000):
        slots.files.write(slots.local.slot(worker), damage)
        assert slots.dead(nobody) == []
        assert slots.dead(lambda name: name == worker) == [worker]


@pytest.mark.parametrize("name", ["Thumbs.db", "desktop.ini", "aaaaaaaa-000001 (1).json", "aaaaaaaa-000001 copy.jsonl"])
def test_what_people_and_systems_leave_beside_the_notes_is_nobody_s(process: Process, name: str):
    slots = process()
    worker, die = slots.open({})
    die()
    slots.files.write(slots.local.slots / name, b"{}")
    assert slots.dead(everybody) == [worker]
    slots.forget(worker)
    slots.files.write(slots.local.archive(slots.workspace) / name, b"{}")
    assert slots.known() == {worker}
    assert [former.worker for former in slots.former(everybody)] == [worker]


class BadSectors(MemoryFiles):
    """A disk on which nothing of what has left can be read any more."""

    def read(self, path: Path, offset: int = 0, limit: int = -1) -> bytes:
        if path.parent.name.startswith("archive-"):
            raise OSError(errno.EIO, "Input/output error", str(path))
        return super().read(path, offset, limit)


def test_who_has_left_with_notes_that_cannot_be_read_is_known_and_says_nothing_more(tmp_path: Path):
    files = BadSectors(MemoryDisk())
    slots = Slots(files, LocalState(tmp_path / "local"), Workspace(tmp_path / "share"))
    worker, free = slots.open({"bbbbbbbb-000001": 3})
    files.append(slots.local.journal_copy(worker), b"line\n")
    free()
    slots.forget(worker)
    (former,) = slots.former(everybody)
    assert (former.worker, former.slot.read, slots.lines(former)) == (worker, {}, None)


def test_who_has_left_is_known_by_whom_it_had_met_or_by_whom_those_had_met(process: Process):
    slots = process()
    early, free_early = slots.open({})
    free_early()
    late, free_late = slots.open({early: 1, "bbbbbbbb-000001": 2})
    free_late()
    for worker in (early, late):
        slots.forget(worker)
    for workspace in ("share", "moved"):
        observer = process(workspace=workspace)
        assert observer.former(nobody) == []
        assert {former.worker for former in observer.former("bbbbbbbb-000001".__eq__)} == {early, late}
        assert observer.have_read("bbbbbbbb-000001".__eq__) == {"bbbbbbbb-000001": 2}


@pytest.mark.parametrize("torn", [0, 10])
def test_a_history_is_what_the_copy_holds_up_to_the_first_torn_line(process: Process, torn: int):
    slots, author = process(), Author()
    for attempt in range(3):
        author.write(Claim, item="i", attempt=attempt)
    author.write(Bye, reason="torn" * 5)
    whole = b"".join(line + b"\n" for line in author.lines[:3])
    slots.files.append(slots.local.journal_copy(author.worker), whole + author.lines[3][:torn])
    assert slots.history(author.worker) == (author.lines[:3], author.records[:3])

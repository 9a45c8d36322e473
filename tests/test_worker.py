"""The worker with a job that trains nothing: what it journals, saves and publishes, whatever happens to it."""

from __future__ import annotations

import errno
import hashlib
import itertools
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from fedspec.checkpoints import KEEP, CheckpointManager
from fedspec.clock import FakeClock
from fedspec.config import FederatedConfig
from fedspec.errors import CapabilityError, DamagedError, ExperimentError, FolderError
from fedspec.federated.events import ClientDone, ClientRejected, RoundDone
from fedspec.files import MemoryDisk, MemoryFiles
from fedspec.files.memory import Tree
from fedspec.plan import Item, make_item
from fedspec.results import Row, to_csv
from fedspec.worker import Stopped, StopSignal, Worker, drive
from fedspec.worker.attempt import COPY_EVERY_S
from fedspec.workqueue.caretaker import SHOW_EVERY_S
from fedspec.workqueue.distributor import WorkDistributor
from fedspec.workqueue.liveness import LOCAL_DISK, SYNC_FOLDER, Timing
from fedspec.workqueue.records import Bye, Ckpt, Claim, Done, Fail, Start, Yield
from fedspec.workqueue.rules import Held
from fedspec.workspace import LocalState, Workspace

SHARE = Workspace(Path("/share"))
ROUNDS = 4
Hook = Callable[[int, int], Any]


def item_of(seed: int = 42, rounds: int = ROUNDS) -> Item:
    return make_item("federated", FederatedConfig(seed=seed, clients=2, rounds=rounds))


def link(item: Item, number: int, before: str) -> str:
    return hashlib.sha256(f"{item.id}/{number}/{before}".encode()).hexdigest()


def row(item: Item, number: int, chain: str) -> Row:
    """A row that only the whole chain of rounds before it gives."""
    return Row(
        run_id=item.id, method="fedavg", dataset="digits", model="mlp", alpha=0.5, seed=item.config["seed"], n_clients=2,
        participating=2, round=number, local_epochs=1, lr=0.01, rank=4, rank_next=4, accuracy=int(chain[:8], 16) / 2**32,
        loss=0.0, train_loss=0.0, device="none", torch_version="0",
    )  # fmt: skip


def expected(item: Item) -> bytes:
    """The CSV of an undisturbed run."""
    chain, rows = "", []
    for number in range(1, item.config["rounds"] + 1):
        chain = link(item, number, chain)
        rows.append(row(item, number, chain))
    return to_csv(rows)


class FakeJob:
    """Rounds that form a hash chain; ``hook(round, client)`` runs for each client and may raise or return an event."""

    device, runtime = "none", "0"

    def __init__(self, item: Item, base: Mapping[str, torch.Tensor], hook: Hook) -> None:
        self.item, self.base, self.hook = item, base, hook

    def run(self, state: Mapping[str, Any] | None) -> Iterator[Any]:
        number, chain = (0, "") if state is None else (state["round"], state["chain"])
        while number < self.item.config["rounds"]:
            number += 1
            for client in range(2):
                yield self.hook(number, client) or ClientDone(number, client, 10, 0.5)
            chain = link(self.item, number, chain)
            yield RoundDone(number, row(self.item, number, chain), {"round": number, "chain": chain})


class Process:
    """A worker process of a machine, in this one. ``bases``: what a job of it makes where no base is given."""

    def __init__(
        self,
        disk: MemoryDisk,
        machine: str = "aa",
        *,
        clock: FakeClock | None = None,
        hook: Hook = lambda number, client: None,
        opened: Callable[[Item], None] = lambda item: None,
        base: float = 1.0,
        timing: Timing = LOCAL_DISK,
        before_write: Callable[[str], None] = lambda step: None,
    ) -> None:
        self.clock = clock or FakeClock()
        self.files = MemoryFiles(disk, f"{machine}{next(_processes)}", before_write)
        names = itertools.count(next(_processes) * 1000)
        self.queue = WorkDistributor(
            SHARE,
            files=self.files,
            clock=self.clock,
            timing=timing,
            local=LocalState(Path(f"/{machine}")),
            new_hex=lambda n: machine * 4 if n == 4 else f"{next(names):06x}",
        )
        self.events: list[str] = []
        self.statuses: list[str] = []
        self.stop = StopSignal()
        self.base = base

        def open_job(item: Item, base: Mapping[str, torch.Tensor] | None) -> FakeJob:
            opened(item)
            return FakeJob(item, base or {"w": torch.full((3,), self.base)}, hook)

        checkpoints = CheckpointManager(SHARE.checkpoints, self.files)
        self.worker = Worker(self.queue, checkpoints, open_job, self, self.stop)
        self.queue.join(f"machine {machine}", ["cpu"])

    def event(self, text: str) -> None:
        self.events.append(text)

    def status(self, text: str) -> None:
        self.statuses.append(text)

    def work(self, limit: int = 5000) -> None:
        """Until all is done; time passes as the worker waits."""
        for seconds, _ in zip(self.worker.steps(), range(limit), strict=False):
            self.clock.advance(seconds)
            self.queue.tick()
        assert self.worker.finished is not None

    def die(self) -> None:
        """The system frees its locks."""
        self.files.disk.end(self.files.process)

    def of(self, *kinds: type) -> list[Any]:
        """The records of these kinds, in Lamport order."""
        self.queue.refresh()
        found = [record for record in self.queue.store.histories.accepted() if isinstance(record, kinds)]
        return sorted(found, key=lambda record: (record.lam, record.worker))

    def result(self, item: Item) -> bytes:
        return self.files.read(SHARE.result(item.exp))

    def view(self) -> list[tuple[str, str | None]]:
        return [(e["status"], e["assigned_to"]) for e in json.loads(self.files.read(SHARE.view))]


_processes = itertools.count(1)


def strip_times(csv: bytes) -> list[list[str]]:
    """Cells without sec_*, which depend on the clock."""
    lines = [line.split(",") for line in csv.decode().splitlines()]
    kept = [index for index, name in enumerate(lines[0]) if not name.startswith("sec_")]
    return [[line[index] for index in kept] for line in lines]


def check(process: Process, *items: Item) -> None:
    """Every item has its one whole result."""
    for item in items:
        assert strip_times(process.result(item)) == strip_times(expected(item))


@pytest.fixture
def disk() -> MemoryDisk:
    return MemoryDisk()


def fill(disk: MemoryDisk, *items: Item) -> None:
    """Put items into the queue."""
    local = LocalState(Path("/me"))
    WorkDistributor(SHARE, files=MemoryFiles(disk), clock=FakeClock(), timing=LOCAL_DISK, local=local).enqueue(items)


# The whole way


def test_a_worker_runs_all_items_saves_each_round_and_publishes(disk: MemoryDisk):
    items = [item_of(42), item_of(43)]
    fill(disk, *items)
    process = Process(disk)
    process.work()
    check(process, *items)
    assert process.worker.finished is not None
    assert process.worker.finished.failed == ()
    assert [type(r) for r in process.of(Claim, Start, Ckpt, Done)] == ([Claim, Start] + [Ckpt] * ROUNDS + [Done]) * 2
    assert process.view() == [("completed", "machine aa")] * 2


def test_the_view_shows_who_is_on_what_while_it_runs(disk: MemoryDisk):
    fill(disk, item_of())
    seen = []

    def look(number: int, client: int) -> None:
        process.clock.advance(SHOW_EVERY_S)
        process.queue.caretaker.glance()  # as the heart does
        seen.append(process.view())

    process = Process(disk, hook=look)
    process.work()
    assert seen[0] == [("in_progress", "machine aa")]


def test_an_event_never_names_a_generation_that_is_not_there(disk: MemoryDisk):
    fill(disk, item_of())

    def look(step: str) -> None:
        if step.startswith("append"):
            for ckpt in process.of(Ckpt)[-1:]:
                assert process.files.size(SHARE.checkpoints / "gen" / item_of().exp / ckpt.file)

    process = Process(disk)
    process.files.before_write = look
    process.work()
    assert len(process.of(Ckpt)) == ROUNDS


def test_a_damaged_or_deleted_result_is_published_again_by_the_next_process(disk: MemoryDisk):
    item = item_of()
    fill(disk, item)
    Process(disk).work()
    good = disk.contents[SHARE.result(item.exp)]
    disk.contents[SHARE.result(item.exp)] = good[:-10]
    disk.contents.pop(SHARE.view)
    process = Process(disk)
    process.work()
    assert process.result(item) == good
    assert process.view() == [("completed", "machine aa")]
    assert len(process.of(Done)) == 1


# Failures


def failing(times: int, error: Exception) -> Hook:
    left = itertools.count(times, -1)

    def hook(number: int, client: int) -> None:
        if (number, client) == (2, 1) and next(left) > 0:
            raise error

    return hook


@pytest.mark.parametrize("error", [OSError("disk hiccup"), MemoryError()], ids=repr)
def test_a_transient_failure_is_tried_again_after_one_then_two_minutes_from_the_saved_round(disk: MemoryDisk, error: Exception):
    item = item_of()
    fill(disk, item)
    process = Process(disk, hook=failing(2, error))
    process.work()
    check(process, item)
    assert [fail.fault for fail in process.of(Fail)] == ["transient"] * 2
    assert [start.round for start in process.of(Start)] == [0, 1, 1]
    assert 60 + 120 <= process.clock.seconds < 60 + 120 + 4 * LOCAL_DISK.poll
    assert any("tried again later" in status for status in process.statuses)


def test_only_failures_without_a_round_between_them_make_the_wait_longer(disk: MemoryDisk):
    item = item_of(rounds=8)
    fill(disk, item)
    met: set[int] = set()

    def hook(number: int, client: int) -> None:
        if number not in met:
            met.add(number)
            raise OSError("disk hiccup")

    process = Process(disk, hook=hook)
    process.work()
    check(process, item)
    assert len(process.of(Fail)) == 8
    # The first attempt saved nothing; each other one saved the round that had failed.
    assert process.clock.seconds < 60 * 8 + 8 * 4 * LOCAL_DISK.poll


def test_a_bug_is_tried_three_times_and_then_the_item_has_failed_with_its_traceback(disk: MemoryDisk):
    item, other = item_of(42), item_of(43)
    fill(disk, item, other)

    def broken(opened: Item) -> None:
        if opened.id == item.id:
            raise ZeroDivisionError("the bug")

    process = Process(disk, opened=broken)
    process.work()
    assert [fail.fault for fail in process.of(Fail)] == ["code"] * 3
    assert "in broken" in process.of(Fail)[-1].traceback
    assert process.worker.finished is not None
    assert [failed.id for failed in process.worker.finished.failed] == [item.id]
    check(process, other)
    assert process.view() == [("failed", None), ("completed", "machine aa")]
    assert SHARE.result(item.exp) not in disk.contents


def blip_after_the_claim(process: Process) -> None:
    """The share's journals are away for one look as soon as something is claimed."""
    claim, sizes, armed = process.queue.claim, process.files.sizes, [True]

    def claimed(only: Any = None) -> Any:
        action = claim(only)
        if isinstance(action, Held) and armed:
            armed.clear()
            process.files.sizes = gone  # type: ignore[method-assign]
        return action

    def gone(folder: Path) -> dict[str, int]:
        process.files.sizes = sizes  # type: ignore[method-assign]
        raise FolderError(f"Cannot read {folder}: the network name is gone.", "Connect the share again.")

    process.queue.claim = claimed  # type: ignore[method-assign]


def test_a_share_that_is_away_just_after_a_claim_leaves_no_worker_waiting_for_itself(disk: MemoryDisk):
    item = item_of()
    fill(disk, item)
    process = Process(disk)
    blip_after_the_claim(process)
    process.work(limit=200)
    check(process, item)
    assert [(claim.attempt, claim.worker) for claim in process.of(Claim)] == [(n, process.queue.worker) for n in (1, 2)]
    assert [record.attempt for record in process.of(Yield)] == [1]


def test_a_failure_that_a_share_does_not_take_leaves_no_worker_waiting_for_itself(disk: MemoryDisk):
    # The gate that goes before the word of it reads the share, which is away.
    item = item_of()
    fill(disk, item)
    process = Process(disk, hook=lambda number, client: fail() if armed else None)
    armed, read = [True], process.files.sizes

    def fail() -> None:
        armed.clear()
        process.files.sizes = gone  # type: ignore[method-assign]
        raise OSError("disk hiccup")

    def gone(folder: Path) -> dict[str, int]:
        process.files.sizes = read  # type: ignore[method-assign]
        raise FolderError(f"Cannot read {folder}: the network name is gone.", "Connect the share again.")

    process.work(limit=200)
    check(process, item)
    assert [record.attempt for record in process.of(Yield)] == [1]


@pytest.mark.parametrize("kind", ["claim", "start", "ckpt", "yield", "fail", "done"])
def test_a_machine_whose_own_disk_is_full_for_one_record_says_so_and_the_next_process_goes_on(disk: MemoryDisk, kind: str):
    item = item_of()
    fill(disk, item)

    def hook(number: int, client: int) -> None:
        if number == 2 and kind == "fail":
            raise ZeroDivisionError("a bug")
        if number == 2 and kind == "yield":
            raise FolderError("Cannot write to the share.", "Connect it.")

    process = Process(disk, hook=hook)
    append, own = process.files.append, LocalState(Path("/aa")).journal_copy(process.queue.worker)
    refused: list[bytes] = []

    def full(path: Path, data: bytes) -> None:
        if not refused and path == own and f'"type":"{kind}"'.encode() in data:
            refused.append(data)
            raise FolderError(f"Cannot write {path}: No space left on device.", "Free some space there.")
        append(path, data)

    process.files.append = full  # type: ignore[method-assign]
    with pytest.raises(FolderError, match="No space left") as caught:
        drive(process.worker)
    assert (caught.value.exit_code, caught.value.fix) == (3, "Free some space there.")
    process.die()
    later = Process(disk)
    later.work()
    check(later, item)
    assert later.clock.seconds < LOCAL_DISK.dead


def test_a_machine_that_sleeps_while_its_share_is_away_tries_on_when_it_wakes(disk: MemoryDisk):
    item = item_of()
    fill(disk, item)
    process = Process(disk)
    steps = process.worker.steps()
    process.clock.advance(next(steps))
    hidden = {path: disk.contents.pop(path) for path in list(disk.contents) if path.parent == SHARE.plans}
    while not any("Trying again" in event for event in process.events):
        process.clock.advance(next(steps))
    process.clock.advance(8 * 3600)
    for _ in range(10):  # the share takes a moment to come back, too
        process.clock.advance(next(steps))
    disk.contents.update(hidden)
    process.work()
    check(process, item)


def test_stock_is_taken_of_what_is_begun_and_not_done(disk: MemoryDisk, monkeypatch: pytest.MonkeyPatch):
    done, begun, *others = (item_of(seed) for seed in range(20))
    fill(disk, done)
    Process(disk, timing=SYNC_FOLDER).work()
    fill(disk, begun)
    killed_after(disk, 2, timing=SYNC_FOLDER)
    fill(disk, *others)
    process = Process(disk, timing=SYNC_FOLDER)
    fold, asked = process.queue.store.fold, []
    status = fold.status

    def spied(item_id: str) -> str:
        asked.append(item_id)
        return status(item_id)

    monkeypatch.setattr(fold, "status", spied)
    process.worker.take_stock()
    assert process.queue.report.have == {begun.id: 2}
    assert asked == [begun.id]


def test_a_share_that_stays_away_is_tried_for_five_times_a_dead_peer_s_silence(disk: MemoryDisk):
    fill(disk, item_of())
    process = Process(disk)
    for path in [path for path in disk.contents if path.parent == SHARE.plans]:
        del disk.contents[path]
    with pytest.raises(FolderError, match="is gone"):
        process.work()
    assert 300 <= process.clock.seconds <= 304


def test_what_no_machine_can_run_fails_at_once(disk: MemoryDisk):
    fill(disk, item_of())

    def refuse(item: Item) -> None:
        raise ExperimentError("The model has diverged.", "Lower lr.")

    process = Process(disk, opened=refuse)
    process.work()
    (fail,) = process.of(Fail)
    assert (fail.fault, fail.reason) == ("final", "The model has diverged.")
    assert process.worker.finished is not None
    assert len(process.worker.finished.failed) == 1


def test_what_this_machine_cannot_run_is_left_to_another(disk: MemoryDisk):
    item = item_of()
    fill(disk, item)

    def refuse(item: Item) -> None:
        raise CapabilityError("MPS has no float64.", "Set dtype.")

    first = Process(disk, "aa", opened=refuse)
    steps = first.worker.steps()
    for _ in range(5):
        first.clock.advance(next(steps))
    assert [fail.fault for fail in first.of(Fail)] == ["capability"]
    assert "MPS has no float64" in first.statuses[-1]
    second = Process(disk, "bb")
    second.work()
    check(second, item)
    assert list(steps) == []


def test_a_rejected_client_is_told_and_the_round_goes_on(disk: MemoryDisk):
    item = item_of()
    fill(disk, item)
    process = Process(disk, hook=lambda n, c: ClientRejected(n, c, 1, "its loss is not finite") if (n, c) == (2, 0) else None)
    process.work()
    check(process, item)
    (warning,) = [event for event in process.events if event.startswith("warn")]
    assert "round 2" in warning
    assert "client 0" in warning
    assert "its loss is not finite" in warning


# Going on from what is there


def killed_after(disk: MemoryDisk, rounds: int, machine: str = "aa", refused: Sequence[Path] = (), **settings: Any) -> Process:
    """A process that died in the client after this many rounds."""

    class Killed(BaseException):
        pass

    def hook(number: int, client: int) -> None:
        if number > rounds:
            raise Killed

    process = Process(disk, machine, hook=hook, **settings)
    refuse(process, BAD_SECTOR, *refused)
    with pytest.raises(Killed):
        process.work()
    process.die()
    return process


def generation_files(disk: MemoryDisk, item: Item | None = None) -> list[Path]:
    generations = SHARE.checkpoints / "gen" / (item or item_of()).exp
    return sorted(path for path in disk.contents if path.parent == generations)


def test_a_dead_process_is_carried_on_with_from_its_last_round(disk: MemoryDisk):
    item = item_of()
    fill(disk, item)
    killed_after(disk, 2)
    process = Process(disk)
    process.work()
    check(process, item)
    assert process.of(Start)[-1].round == 2
    assert process.clock.seconds < LOCAL_DISK.dead


def test_a_damaged_checkpoint_costs_one_round_and_is_set_aside(disk: MemoryDisk):
    item = item_of()
    fill(disk, item)
    killed_after(disk, 3)
    newest = generation_files(disk)[-1]
    disk.contents[newest] = disk.contents[newest][:-1]
    process = Process(disk)
    process.work()
    check(process, item)
    assert process.of(Start)[-1].round == 2
    assert any("Nothing to do" in event for event in process.events)
    assert SHARE.quarantined(f"{item.exp}.{newest.name}") in disk.contents


def refuse(process: Process, error: OSError, *paths: Path, until_s: float = float("inf")) -> None:
    """Reading these fails, as on a bad sector or while a sync client downloads them."""
    read = process.files.read

    def refusing(path: Path, offset: int = 0, limit: int = -1) -> bytes:
        if path in paths and process.clock.seconds < until_s:
            raise error
        return read(path, offset, limit)

    process.files.read = refusing  # type: ignore[method-assign]


BAD_SECTOR = OSError(errno.EIO, "Input/output error")
IN_THE_CLOUD = BlockingIOError(errno.EAGAIN, "is being downloaded")


@pytest.mark.parametrize(
    ("error", "timing", "longest_s"),
    [(BAD_SECTOR, LOCAL_DISK, 60.0), (IN_THE_CLOUD, LOCAL_DISK, 60.0), (IN_THE_CLOUD, SYNC_FOLDER, 120.0)],
)
def test_a_checkpoint_that_can_never_be_read_costs_one_round(
    disk: MemoryDisk, error: OSError, timing: Timing, longest_s: float
):
    item = item_of()
    fill(disk, item)
    killed_after(disk, 3, timing=timing)
    process = Process(disk, timing=timing)
    refuse(process, error, generation_files(disk)[-1])
    process.work()
    check(process, item)
    assert process.of(Fail) == []
    assert process.of(Start)[-1].round == 2
    assert any("round 3" in event and "round 2 is intact" in event for event in process.events)
    assert not [path for path in disk.contents if "quarantine" in path.parts]
    assert process.clock.seconds <= longest_s + 4 * timing.poll


@pytest.mark.parametrize("error", [BAD_SECTOR, IN_THE_CLOUD], ids=repr)
def test_a_checkpoint_that_can_be_read_again_in_time_costs_none(disk: MemoryDisk, error: OSError):
    item = item_of()
    fill(disk, item)
    killed_after(disk, 3)
    process = Process(disk)
    refuse(process, error, generation_files(disk)[-1], until_s=LOCAL_DISK.dead / 2)
    process.work()
    check(process, item)
    assert (process.of(Fail), process.of(Start)[-1].round) == ([], 3)
    assert any("Waiting up to" in status for status in process.statuses)
    assert process.clock.seconds < LOCAL_DISK.dead


def test_a_stop_does_not_wait_for_a_checkpoint_to_come(disk: MemoryDisk):
    fill(disk, item_of())
    killed_after(disk, 3)
    process = Process(disk)
    refuse(process, IN_THE_CLOUD, generation_files(disk)[-1])
    steps = process.worker.steps()
    while not any("Waiting up to" in status for status in process.statuses):
        process.clock.advance(next(steps))
    process.stop.request()
    with pytest.raises(Stopped):
        list(steps)
    assert [record.reason for record in process.of(Yield)] == ["stopped on request"]


def test_where_no_round_can_be_read_the_new_ones_are_kept(disk: MemoryDisk):
    item = item_of(rounds=8)
    fill(disk, item)
    killed_after(disk, 6)
    lost = generation_files(disk, item)
    killed_after(disk, 2, machine="bb", refused=lost)
    process = Process(disk, "cc")
    refuse(process, BAD_SECTOR, *lost)
    process.work()
    check(process, item)
    assert [start.round for start in process.of(Start)] == [0, 0, 2]


@pytest.mark.parametrize(("remade", "round_"), [(1.0, 2), (2.0, 0)], ids=["the same", "another"])
@pytest.mark.parametrize("error", [BAD_SECTOR, IN_THE_CLOUD], ids=repr)
def test_a_frozen_base_that_can_never_be_read_is_made_again(disk: MemoryDisk, error: OSError, remade: float, round_: int):
    item = item_of()
    fill(disk, item)
    killed_after(disk, 2, base=1.0)
    (base,) = [path for path in disk.contents if path.parent.name == "base"]
    process = Process(disk, base=remade)
    refuse(process, error, base)
    process.work()
    check(process, item)
    assert (process.of(Fail), process.of(Start)[-1].round) == ([], round_)
    assert process.clock.seconds < 2 * LOCAL_DISK.dead


def test_a_frozen_base_that_comes_in_time_costs_nothing(disk: MemoryDisk):
    item = item_of()
    fill(disk, item)
    killed_after(disk, 2, base=1.0)
    (base,) = [path for path in disk.contents if path.parent.name == "base"]
    process = Process(disk, base=2.0)
    refuse(process, IN_THE_CLOUD, base, until_s=LOCAL_DISK.dead / 2)
    process.work()
    check(process, item)
    assert (process.of(Fail), process.of(Start)[-1].round) == ([], 2)


def frozen_base(disk: MemoryDisk) -> Path:
    (base,) = [path for path in disk.contents if path.parent.name == "base"]
    return base


def waits(process: Process) -> list[str]:
    """What a person is told of files that are waited for."""
    return [event for event in process.events if "Waiting up to" in event]


# What is late -> its file, what there is of it first, and the round that is gone on from if the rest never comes.
LATE: dict[str, tuple[Callable[[MemoryDisk], Path], bytes | None, int]] = {
    "the base": (frozen_base, None, 0),
    "half of the base": (frozen_base, b"half", 0),
    "the latest round": (lambda disk: generation_files(disk)[-1], None, 2),
    "half of the latest round": (lambda disk: generation_files(disk)[-1], b"half", 2),
}


def successor_of_what_is_late(disk: MemoryDisk, what: str, timing: Timing) -> tuple[Process, Path, bytes]:
    """A process in a folder where a file has not arrived; and that file."""
    find, first, _ = LATE[what]
    fill(disk, item_of())
    killed_after(disk, 3, base=1.0, timing=timing)
    path = find(disk)
    whole = disk.contents.pop(path)
    if first is not None:
        disk.contents[path] = first
    return Process(disk, base=2.0, timing=timing), path, whole


@pytest.mark.parametrize("what", LATE)
def test_where_folders_sync_what_has_not_arrived_is_waited_for_and_costs_nothing(disk: MemoryDisk, what: str):
    process, path, whole = successor_of_what_is_late(disk, what, SYNC_FOLDER)
    coming = {path: whole}
    for seconds in process.worker.steps():
        process.clock.advance(seconds)
        process.queue.tick()
        if process.clock.seconds > 60.0:
            disk.contents.update(coming)
            coming.clear()
    check(process, item_of())
    assert (process.of(Fail), process.of(Start)[-1].round) == ([], 3)
    assert len(waits(process)) == 1, "a person is told once"
    assert process.clock.seconds < 60.0 + 2 * SYNC_FOLDER.settle + 4 * SYNC_FOLDER.poll


@pytest.mark.parametrize("what", LATE)
def test_what_never_arrives_is_done_without(disk: MemoryDisk, what: str):
    process, *_ = successor_of_what_is_late(disk, what, SYNC_FOLDER)
    process.work()
    check(process, item_of())
    assert (process.of(Fail), process.of(Start)[-1].round) == ([], LATE[what][2])
    longest_s = SYNC_FOLDER.dead if "base" in what else 2 * SYNC_FOLDER.settle
    assert process.clock.seconds < longest_s + 2 * SYNC_FOLDER.settle + 4 * SYNC_FOLDER.poll


@pytest.mark.parametrize("what", LATE)
def test_in_a_folder_that_all_see_what_is_not_there_is_not_waited_for(disk: MemoryDisk, what: str):
    process, *_ = successor_of_what_is_late(disk, what, LOCAL_DISK)
    process.work()
    check(process, item_of())
    assert (waits(process), process.of(Start)[-1].round) == ([], LATE[what][2])
    assert process.clock.seconds < LOCAL_DISK.dead / 2


def test_where_all_has_arrived_nothing_is_waited_for(disk: MemoryDisk):
    fill(disk, item_of())
    killed_after(disk, 3, base=1.0, timing=SYNC_FOLDER)
    process = Process(disk, base=2.0, timing=SYNC_FOLDER)
    process.work()
    assert (waits(process), process.of(Start)[-1].round) == ([], 3)


def test_a_base_that_somebody_has_waited_for_in_vain_is_not_waited_for_again(disk: MemoryDisk):
    fill(disk, item_of())
    killed_after(disk, 3, base=1.0, timing=SYNC_FOLDER)
    (lost,) = (path for path in disk.contents if path.parent.name == "base")
    del disk.contents[lost]
    killed_after(disk, 1, base=2.0, timing=SYNC_FOLDER)
    process = Process(disk, base=2.0, timing=SYNC_FOLDER)
    process.work()
    check(process, item_of())
    assert (waits(process), process.of(Start)[-1].round) == ([], 1)


@pytest.mark.parametrize("loss", ["damaged", "deleted"])
def test_losing_all_checkpoints_costs_all_rounds_but_never_the_result(disk: MemoryDisk, loss: str):
    # The journals go on telling of rounds that nobody has: a worker must not take them for a rival's.
    item = item_of()
    fill(disk, item)
    killed_after(disk, 3)
    for path in generation_files(disk):
        if loss == "damaged":
            disk.contents[path] = b"garbage"
        else:
            del disk.contents[path]
    process = Process(disk)
    process.work()
    assert process.of(Start)[-1].round == 0
    check(process, item)


def test_without_its_frozen_base_a_run_begins_again_unless_the_machine_makes_the_same_one(disk: MemoryDisk):
    item = item_of()
    fill(disk, item)
    killed_after(disk, 1, base=1.0)
    bases = [path for path in disk.contents if path.parent.name == "base"]
    assert len(bases) == 1
    del disk.contents[bases[0]]
    killed_after(disk, 2, base=1.0)
    del disk.contents[bases[0]]
    last = Process(disk, base=2.0)
    last.work()
    assert [start.round for start in last.of(Start)] == [0, 1, 0]
    assert any("frozen base" in event for event in last.events)
    check(last, item)


def test_a_run_on_a_new_base_keeps_its_own_rounds_whatever_the_old_base_had(disk: MemoryDisk):
    item = item_of(rounds=8)
    fill(disk, item)
    killed_after(disk, 6, base=1.0)
    for path in [path for path in disk.contents if path.parent.name == "base"]:
        del disk.contents[path]
    killed_after(disk, 3, base=2.0)
    last = Process(disk, base=2.0)
    last.work()
    assert last.of(Start)[-1].round == 3
    check(last, item)


def test_a_state_that_the_engine_refuses_costs_that_round_and_not_the_item(disk: MemoryDisk):
    item = item_of()
    fill(disk, item)
    killed_after(disk, 2)
    process = Process(disk)
    real = process.worker.open_job

    def open_job(item: Item, base: Mapping[str, torch.Tensor] | None) -> Any:
        job = real(item, base)
        run = job.run

        def picky(state: Mapping[str, Any] | None) -> Iterator[Any]:
            if state is not None and state["round"] == 2:
                raise DamagedError("A checkpoint's state is of another run.", "Take an older one.")
            return run(state)

        job.run = picky  # type: ignore[method-assign]
        return job

    process.worker.open_job = open_job
    process.work()
    assert [start.round for start in process.of(Start)][-2:] == [2, 1]
    assert process.of(Fail) == []
    check(process, item)


def test_a_copy_that_another_program_holds_stops_no_training(disk: MemoryDisk):
    item = item_of()
    fill(disk, item)

    def held(step: str) -> None:
        if step.startswith(("write", "rename")) and "_model.pt" in step:
            raise FolderError("Cannot write it: a spreadsheet has it.", "Close it.")

    process = Process(disk, before_write=held)
    process.work()
    check(process, item)


@pytest.mark.parametrize(("pause", "copies"), [(0.0, [1, ROUNDS]), (COPY_EVERY_S, list(range(1, ROUNDS + 1)))])
def test_rounds_faster_than_anybody_looks_are_saved_and_not_all_copied(disk: MemoryDisk, pause: float, copies: list[int]):
    item, copied = item_of(), []
    fill(disk, item)

    def hook(number: int, client: int) -> None:
        process.clock.advance(pause)

    def writes(step: str) -> None:
        if step.startswith("write") and step.endswith("_model.pt"):
            copied.append(len(process.of(Ckpt)))

    process = Process(disk, hook=hook, before_write=writes)
    process.work()
    assert len(process.of(Ckpt)) == ROUNDS
    assert copied == copies


def test_whoever_stops_leaves_a_copy_of_the_last_saved_round_and_no_more_rounds_than_are_kept(disk: MemoryDisk):
    item = item_of()
    fill(disk, item)

    def hook(number: int, client: int) -> None:
        if number == ROUNDS - 1:
            process.stop.request()

    process = Process(disk, hook=hook)
    with pytest.raises(Stopped):
        process.work()
    about = json.loads(process.files.read(SHARE.checkpoints / f"{item.exp}.json"))
    assert about["round"] == ROUNDS - 1 > KEEP
    assert len(generation_files(disk)) == KEEP


def test_a_stop_is_a_stop_though_the_folder_has_gone_meanwhile(disk: MemoryDisk, monkeypatch: pytest.MonkeyPatch):
    fill(disk, item_of())

    def gone(queue: WorkDistributor, item_id: str = "") -> None:
        if process.stop.requested:
            raise FolderError("The queue is gone.", "Connect it.")

    process = Process(disk)
    # What is shown once a round is saved, and before anybody asks whether to stop.
    process.status = lambda text: process.stop.request() if "Round 3/" in text else None  # type: ignore[method-assign]
    monkeypatch.setattr("fedspec.worker.attempt.check_folder", gone)
    with pytest.raises(Stopped):
        process.work()
    assert [ckpt.round for ckpt in process.of(Ckpt)] == [1, 2]
    assert [record.reason for record in process.of(Yield)] == ["stopped on request"]


def test_memory_that_does_not_suffice_is_this_machines_fault_and_not_the_items(disk: MemoryDisk):
    item = item_of()
    fill(disk, item)

    class OutOfMemoryError(RuntimeError):
        """Named like torch's."""

    def hook(number: int, client: int) -> None:
        raise OutOfMemoryError("CUDA out of memory")

    small = Process(disk, "bb", hook=hook)
    for _ in zip(range(3), small.worker.steps(), strict=False):
        pass
    assert [fail.fault for fail in small.of(Fail)] == ["capability"]


def test_a_successor_trains_on_the_base_of_its_predecessor(disk: MemoryDisk):
    item = item_of()
    fill(disk, item)
    killed_after(disk, 2, base=1.0)
    successor = Process(disk, base=2.0)
    successor.work()
    assert len({start.base for start in successor.of(Start)}) == 1
    assert successor.of(Start)[-1].round == 2


def late_rival(disk: MemoryDisk) -> tuple[str, Process]:
    """A rival whose four rounds arrive while the process that took its item over trains the second; and that process."""
    there = MemoryDisk()
    there.contents = Tree(disk.contents)
    rival = killed_after(there, 4, "bb").queue.worker
    shared = {path: data for path, data in there.contents.items() if SHARE.root in path.parents}
    # Only its first words have arrived here when it falls silent.
    journal = SHARE.journal(rival, 0)
    disk.contents[journal] = b"".join(line + b"\n" for line in shared[journal].split(b"\n")[:2])

    def rest_arrives(number: int, client: int) -> None:
        if (number, client) == (2, 0):
            disk.contents.update(shared)

    return rival, Process(disk, "aa", hook=rest_arrives)


def test_rounds_of_a_rival_that_arrive_late_are_gone_on_from(disk: MemoryDisk):
    item = item_of(rounds=6)
    fill(disk, item)
    rival, process = late_rival(disk)
    process.work()
    check(process, item)
    assert [ckpt.round for ckpt in process.of(Ckpt) if ckpt.worker != rival] == [1, 2, 5, 6]
    assert any("from round 4, saved by a rival" in event for event in process.events)
    assert process.clock.seconds >= LOCAL_DISK.dead


def test_a_rival_s_generation_that_is_still_in_the_cloud_stops_nobody(disk: MemoryDisk):
    item = item_of(rounds=6)
    fill(disk, item)
    rival, process = late_rival(disk)
    read = process.files.read

    def away(path: Path, offset: int = 0, limit: int = -1) -> bytes:
        if f".{rival}." in path.name and path.suffix == ".pt":
            raise BlockingIOError(11, "is being downloaded")
        return read(path, offset, limit)

    process.files.read = away  # type: ignore[method-assign]
    process.work()
    check(process, item)
    assert [ckpt.round for ckpt in process.of(Ckpt) if ckpt.worker != rival] == [1, 2, 3, 4, 5, 6]


def test_a_worker_that_is_superseded_yields_writes_nothing_more_and_takes_the_next_item(disk: MemoryDisk):
    items = [item_of(42), item_of(43)]
    fill(disk, *items)

    def release(number: int, client: int) -> None:
        if (number, client) == (2, 0) and not process.of(Yield):
            process.queue.control("release", items[0])

    process = Process(disk, hook=release)
    process.work()
    first = [r for r in process.of(Claim, Start, Ckpt, Yield, Done) if r.item == items[0].id and r.attempt == 1]
    assert [type(record) for record in first] == [Claim, Start, Ckpt, Yield]
    check(process, *items)


# Stopping


def test_a_stop_waits_for_the_round_gives_the_item_back_and_loses_nothing(disk: MemoryDisk):
    item = item_of()
    fill(disk, item)

    def ask(number: int, client: int) -> None:
        if (number, client) == (2, 0):
            process.stop.request()

    process = Process(disk, hook=ask)
    with pytest.raises(Stopped):
        drive(process.worker)
    assert [ckpt.round for ckpt in process.of(Ckpt)] == [1, 2]
    assert [type(record) for record in process.of(Yield, Bye)] == [Yield, Bye]
    assert process.view() == [("pending", None)]
    later = Process(disk)
    later.work()
    assert later.of(Start)[-1].round == 2
    check(later, item)


def test_a_stop_in_the_last_round_ends_with_the_result(disk: MemoryDisk):
    item = item_of()
    fill(disk, item)

    def ask(number: int, client: int) -> None:
        if number == ROUNDS:
            process.stop.request()

    process = Process(disk, hook=ask)
    with pytest.raises(Stopped):
        drive(process.worker)
    process = Process(disk)
    process.work()
    check(process, item)
    assert len(process.of(Start)) == 1


@pytest.mark.parametrize("step", ["append", "tear"])
@pytest.mark.parametrize("where", [".jsonl", ".0000.jsonl"], ids=["own copy", "share"])
def test_an_abort_in_the_middle_of_a_journal_line_is_an_abort_and_the_next_process_goes_on(
    disk: MemoryDisk, step: str, where: str
):
    item = item_of()
    fill(disk, item)

    def interrupt(text: str) -> None:
        shared = text.count(".") == 2
        if armed and text.startswith(step) and shared == (where != ".jsonl"):
            armed.clear()
            raise KeyboardInterrupt

    armed: list[bool] = []
    process = Process(disk, hook=lambda number, client: armed.append(True) if (number, client) == (2, 1) else None)
    process.files.before_write = interrupt
    with pytest.raises(KeyboardInterrupt):
        drive(process.worker)
    process.die()
    later = Process(disk)
    later.work()
    check(later, item)
    assert later.of(Start)[-1].round >= 1
    assert later.clock.seconds < LOCAL_DISK.dead


@pytest.mark.parametrize("moment", ["write r0002", "rename r0002", "append aa", "tear aa", "in a client"])
def test_a_worker_never_makes_a_new_queue_where_its_own_has_vanished(disk: MemoryDisk, moment: str):
    item = item_of()
    fill(disk, item)
    away: dict[Path, bytes] = {}

    def vanish(step: str) -> None:
        if not away and step.startswith(moment) and SHARE.checkpoints / f"{item.exp}.json" in disk.contents:
            away.update({path: data for path, data in disk.contents.items() if SHARE.root in path.parents})
            for path in away:
                del disk.contents[path]

    process = Process(disk, hook=lambda number, client: vanish("in a client"))
    process.files.before_write = vanish
    with pytest.raises(FolderError, match="is gone"):
        process.work()
    # What was being written at that moment may lie there, but nothing that looks like a queue or a result.
    assert not [path for path in disk.contents if path.parent in (SHARE.plans, SHARE.results)]
    process.die()
    disk.contents = Tree({p: data for p, data in disk.contents.items() if SHARE.root not in p.parents} | away)
    later = Process(disk)
    later.work()
    check(later, item)
    assert later.of(Start)[-1].round >= 1


def test_a_finished_worker_makes_no_new_queue_where_its_own_vanishes_while_it_waits_for_the_others(disk: MemoryDisk):
    item = item_of()
    fill(disk, item)
    Process(disk, "bb", timing=SYNC_FOLDER).queue.tick()
    process = Process(disk, timing=SYNC_FOLDER)
    steps = process.worker.steps()
    while not (process.statuses and process.statuses[-1].startswith("All done. Waiting")):
        process.clock.advance(next(steps))
        process.queue.tick()
    away = {path: data for path, data in disk.contents.items() if SHARE.root in path.parents}
    for path in away:
        del disk.contents[path]
    while not any("is gone" in event for event in process.events):
        process.clock.advance(next(steps))
    assert not [path for path in disk.contents if SHARE.root in path.parents]
    disk.contents.update(away)
    process.work()
    check(process, item)


@pytest.mark.parametrize(
    ("timing", "pauses"), [(LOCAL_DISK, [0.05, 0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 2.0, 2.0]), (SYNC_FOLDER, [15.0] * 9)]
)
def test_who_waits_looks_again_soon_where_all_see_one_folder(disk: MemoryDisk, timing: Timing, pauses: list[float]):
    fill(disk, item_of())
    other, process = Process(disk, "bb", timing=timing), Process(disk, "aa", timing=timing)
    while not isinstance(other.queue.claim(), Held):
        other.clock.advance(timing.poll)
        other.queue.tick()
    waited = itertools.islice((seconds for seconds in process.worker.steps() if seconds), len(pauses))
    assert list(waited) == pytest.approx(pauses)


def test_who_is_alone_in_a_synced_folder_begins_at_once(disk: MemoryDisk):
    item = item_of()
    fill(disk, item)
    trained: list[float] = []
    process = Process(disk, timing=SYNC_FOLDER, hook=lambda number, client: trained.append(process.clock.seconds))
    process.work()
    assert trained[0] < SYNC_FOLDER.settle
    check(process, item)


def test_an_item_of_another_s_share_waits_until_the_other_could_be_heard(disk: MemoryDisk):
    item = item_of()
    fill(disk, item)
    Process(disk, "bb", timing=SYNC_FOLDER)  # has joined, and says nothing
    trained: list[float] = []
    process = Process(disk, "aa", timing=SYNC_FOLDER, hook=lambda number, client: trained.append(process.clock.seconds))
    process.work()
    assert trained[0] >= SYNC_FOLDER.settle
    check(process, item)

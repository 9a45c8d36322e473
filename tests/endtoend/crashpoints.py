"""A worker's life on a machine whose disk loses power after any step, and what whoever comes next makes of the rest.

Everything is production code but for the job, the clock and the system below `DiskFiles`: a disk in memory that keeps what it
promised and nothing else.
"""

from __future__ import annotations

import itertools
import json
import random
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property, partial
from hashlib import sha256
from itertools import islice
from pathlib import Path

from msgspec.structs import asdict

from fedspec.checkpoints import CheckpointManager
from fedspec.clock import FakeClock
from fedspec.errors import FolderError
from fedspec.files import DiskFiles
from fedspec.files.powercut import LossyKernel, Remains, Step
from fedspec.plan import Item
from fedspec.results import MACHINE_COLUMNS, Row, from_table, to_csv
from fedspec.simulation.rehearsal import RehearsalJob, expected_rows, rehearsal
from fedspec.worker import Stopped, StopSignal, Worker
from fedspec.workqueue.distributor import WorkDistributor
from fedspec.workqueue.histories import Histories
from fedspec.workqueue.liveness import LOCAL_DISK
from fedspec.workqueue.records import Ckpt, Done, Fail, Record, Start, decode, unpack_rows
from fedspec.workqueue.view import view_hash
from fedspec.workspace import CheckpointPaths, LocalState, Workspace

SHARE = Workspace(Path("/share"))
GENERATIONS = CheckpointPaths(SHARE.checkpoints)
LOCAL = Path("/local")
ITEMS = [rehearsal(seed, rounds=2, clients=1) for seed in (42, 43)]
NEW = Remains({}, frozenset({SHARE.root, LOCAL}))

_numbers = itertools.count(1)


def local(machine: str) -> LocalState:
    return LocalState(LOCAL / machine)


def process(kernel: LossyKernel, machine: str) -> WorkDistributor:
    """A process that has not joined."""
    return WorkDistributor(
        SHARE,
        files=DiskFiles(kernel=kernel),
        clock=FakeClock(),
        timing=LOCAL_DISK,
        local=local(machine),
        new_hex=lambda count: next(_numbers).to_bytes(count, "big").hex(),
    )


def enqueue(kernel: LossyKernel, machine: str = "mac") -> None:
    process(kernel, machine).enqueue(ITEMS)


class Quiet:
    """A reporter that keeps the events; ``on_event`` is called for each."""

    def __init__(self) -> None:
        self.events: list[str] = []

    def event(self, text: str) -> None:
        self.events.append(text)

    def status(self, text: str) -> None:
        pass


def work(kernel: LossyKernel, machine: str = "mac", *, capabilities: Collection[str] = ("cpu",), rounds: int = 99) -> list[str]:
    """Join, work until every item is done or a person stops it after so many rounds, and leave; returns what it said."""
    queue, stop, reporter = process(kernel, machine), StopSignal(), Quiet()
    clock = queue.clock

    def rest(seconds: float) -> None:
        clock.sleep(seconds)
        queue.tick()

    def open_job(item: Item, base: object) -> RehearsalJob:
        job = RehearsalJob(item, base, rest, 1.0)  # type: ignore[arg-type]
        run = job.run

        def counted(state: object) -> Iterator[object]:
            for event in run(state):  # type: ignore[arg-type]
                if type(event).__name__ == "RoundDone" and event.round >= rounds:  # type: ignore[union-attr]
                    stop.request()
                yield event

        job.run = counted  # type: ignore[method-assign, assignment]
        return job

    queue.join(machine, capabilities)
    worker = Worker(queue, CheckpointManager(SHARE.checkpoints, queue.files), open_job, reporter, stop)
    try:
        for seconds in worker.steps():
            rest(seconds)
    except Stopped:
        queue.leave("stopped on request")
    else:
        queue.leave("finished")
    return reporter.events


# What a step belongs to


def kinds(data: bytes) -> str:
    """The types of the records in a piece of a journal."""
    return "+".join(type(record).__name__.lower() for record in map(decode, data.split(b"\n")) if record)


def operations(steps: Sequence[Step]) -> list[str]:
    """The durable operation that each step is part of, in words."""
    return list(_operations(steps))


def _operations(steps: Sequence[Step]) -> Iterator[str]:
    written: dict[int, str] = {}
    # What opens a file comes before what says which record it is for.
    for step in reversed(steps):
        if step.kind == "write":
            written[step.node] = kinds(step.data)
    last = "folders"
    for step in steps:
        if step.kind == "write":
            written[step.node] = kinds(step.data)
        if step.kind not in ("sync_folder", "folder"):
            last = _operation(step, written.get(step.node, ""))
        yield last


def _operation(step: Step, record: str) -> str:
    path = step.path
    if step.kind == "unlink" or (step.kind == "rename" and path.parent.name == "slots" and path.suffix == ".jsonl"):
        return "clean-up"
    if path.name.startswith("~"):
        path = path.with_name(path.name[1:].rpartition(".")[0].rpartition(".")[0])
    if LOCAL in path.parents:
        return f"journal: {record}, machine's copy" if path.suffix == ".jsonl" else path.name.partition(".")[0][:7] + " (local)"
    if path.parent == SHARE.journals:
        if ".by-" in path.name:
            return "recovery of a dead worker's journal"
        return f"journal: {record}" if ".0000." in path.name else f"rotation: {record}"
    if path.parent == GENERATIONS.root:
        return "derived copies"
    names = {SHARE.plans: "plan", SHARE.beats: "heartbeat", SHARE.results: "CSV", SHARE.queue: "work_queue.json"}
    return names.get(path.parent, "base" if path.parent.name == "base" else "generation")


# Promises


@dataclass(frozen=True)
class Promise:
    """A record that was reported as kept after so many steps: in the share, or at least in the machine's own copy."""

    after: int
    record: Record
    shared: bool


def promises(steps: Sequence[Step]) -> list[Promise]:
    """Judged by what the process did, not by what the disk says: it went on to something else."""
    return list(_promises(steps))


def _promises(steps: Sequence[Step]) -> Iterator[Promise]:
    for number, step in enumerate(steps):
        shared = step.path.parent == SHARE.journals
        if step.kind != "write" or not (shared or step.path.suffix == ".jsonl"):
            continue
        own = (step.path, step.path.parent)
        after = next((n for n, s in enumerate(steps) if n > number and s.path not in own), len(steps))
        for record in map(decode, step.data.split(b"\n")):
            if record is not None:
                yield Promise(after, record, shared)


# Every crash point of a life


def chosen(points: Sequence[Point], at_most: int | None) -> list[Point]:
    """All points, or so many: at least one of each operation, the others by chance."""
    if at_most is None:
        return list(points)
    mixed = random.Random(0).sample(points, len(points))
    one_each = {point.operation: point for point in mixed}
    others = [point for point in mixed if point is not one_each[point.operation]]
    return [*one_each.values(), *others[: max(0, at_most - len(one_each))]]


def _fail_the_share(kernel: LossyKernel, fatal: int, steps: int) -> None:
    if steps == fatal:
        *_, (_, least) = islice(kernel.outcomes(steps), 2)
        kernel.replace(SHARE.root, least)


@dataclass(frozen=True)
class Point:
    """After so many steps, in the middle of an ``operation``, the power failed and took something."""

    steps: int
    operation: str
    taken: str
    remains: Remains

    def __str__(self) -> str:
        return f"after {self.steps} steps ({self.operation}; {self.taken})"


@dataclass
class Life:
    """What somebody did on a machine, step by step, and how it goes on.

    Attributes:
        begin: what was on the disk before. live: what is interrupted. again: what the next process does.
        only: the operations to interrupt, all if none are named.
    """

    begin: Remains
    live: Callable[[LossyKernel], object]
    again: Callable[[LossyKernel, str], object] = work
    only: tuple[str, ...] = ()
    kernel_of: type[LossyKernel] = LossyKernel
    tried: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.kernel = self.kernel_of(self.begin)
        self.live(self.kernel)
        self.operations = [*operations(self.kernel.steps), "the end"]
        self.promises = promises(self.kernel.steps)

    @cached_property
    def points(self) -> list[Point]:
        """Every crash point: each outcome once, after as many steps as possible."""
        found: dict[object, Point] = {}
        for steps, operation in enumerate(self.operations):
            if self.only and not operation.startswith(self.only):
                continue
            outcomes = list(self.kernel.outcomes(steps))
            (_, killed), *others = outcomes
            if others:
                least = others[0][1]
                outcomes.append(("on the share", killed.but_for(SHARE.root, least)))
                outcomes.append(("on the machine's own disk", killed.but_for(LOCAL, least)))
            for taken, remains in outcomes:
                found[remains.key] = Point(steps, operation, taken, remains)
        return list(found.values())

    @property
    def places(self) -> set[str]:
        """The operations that are interrupted."""
        return {point.operation for point in self.points}

    def recover(self, machine: str, at_most: int | None = None) -> list[str]:
        """Let ``machine`` go on from every point, or from so many in all operations; returns what was wrong, in words."""
        return list(self.mishaps(machine, at_most))

    def mishaps(self, machine: str, at_most: int | None = None) -> Iterator[str]:
        """The same, one after the other."""
        for point in chosen(self.points, at_most):
            self.tried[point.operation] += 1
            kernel = LossyKernel(point.remains)
            try:
                self.again(kernel, machine)
                found = list(self.complaints(point.steps, kernel.remains, machine))
            except Exception as error:
                found = [f"{type(error).__name__}: {error}"]
            yield from (f"{machine} {point}: {text}" for text in found)

    def survive(self, at_most: int | None = None) -> list[str]:
        """Let the share alone lose what it can while the worker lives on; what was wrong in the end, in words.

        Copies and CSVs that were lost behind its back come back with whoever looks next, or with the next round.
        """
        wrong = []
        steps = range(1, len(self.kernel.steps))
        for fatal in steps if at_most is None else random.Random(0).sample(steps, at_most):
            kernel = LossyKernel(self.begin)
            kernel.on_step = partial(_fail_the_share, kernel, fatal)
            try:
                with suppress(FolderError):  # the file that it was writing is gone
                    self.live(kernel)
                kernel.free_locks()
                kept = promises(kernel.steps)
                self.again(kernel, "mac")
                found = list(self.complaints(fatal, kernel.remains, "mac", own=kept))
            except Exception as error:
                found = [f"{type(error).__name__}: {error}"]
            found = [text for text in found if not text.startswith("the copies of")]
            wrong += [f"after {fatal} steps ({self.operations[fatal]}): {text}" for text in found]
        return wrong

    def complaints(self, steps: int, remains: Remains, machine: str, own: Sequence[Promise] | None = None) -> Iterator[str]:
        """What is not as it must be in the end. ``own`` are the promises of a worker that lived on: it keeps them all."""
        reader = process(LossyKernel(remains), "reader")
        reader.refresh()
        accepted = _records(remains)
        kept = [p for p in self.promises if p.after <= steps] if own is None else own
        promised = [p.record for p in kept if p.shared or machine == "mac"]
        yield from (f"lost {type(r).__name__} {r.seq} of {r.worker}" for r in promised if r not in accepted)
        yield from (f"{r.worker} failed: {r.reason}" for r in accepted if isinstance(r, Fail))
        yield from (f"{worker} is cloned" for worker in reader.store.cloned())
        known = {p.record.worker for p in [*self.promises, *(own or [])]}
        for item in ITEMS:
            yield from _item_complaints(item, reader, remains)
            saved = max((r.round for r in promised if isinstance(r, Ckpt) and r.item == item.id), default=0)
            later = [r for r in accepted if isinstance(r, Start) and r.item == item.id and r.worker not in known]
            yield from (f"{item.exp} began after round {r.round} of {saved}" for r in later if r.round < saved)
            if any(isinstance(r, Done) and r.item == item.id for r in promised) and later:
                yield f"{item.exp} was trained again"
        view = json.loads(remains.files[SHARE.view])
        if {e["view"] for e in view} != {view_hash(view)} or {e["status"] for e in view} != {"completed"}:
            yield "the view is not that of the end"
        if machine == "mac":
            yield from _left_open(remains, {record.worker for record in accepted})


def _left_open(remains: Remains, known: Collection[str]) -> Iterator[str]:
    """Slots that are not closed. The lock alone of a worker that never wrote a line is nothing but an empty file."""
    for path in remains.files:
        is_open = path.suffix in (".json", ".jsonl") or (path.suffix == ".lock" and path.stem in known)
        if path.parent == local("mac").slots and is_open:
            yield f"{path.name} is left"


def _item_complaints(item: Item, reader: WorkDistributor, remains: Remains) -> Iterator[str]:
    done = reader.store.fold.canonical(item.id)
    if done is None or reader.store.fold.status(item.id) not in ("done", "sealed"):
        yield f"{item.exp} is {reader.store.fold.status(item.id)}"
        return
    rows = from_table(unpack_rows(done.rows))
    if [_comparable(row) for row in rows] != [_comparable(row) for row in expected_rows(item)]:
        yield f"{item.exp} has a result that no undisturbed run has"
    if remains.files.get(SHARE.result(item.exp)) != to_csv(rows):
        yield f"the CSV of {item.exp} is not its result"
    try:
        about = json.loads(remains.files[GENERATIONS.progress(item.exp)])
        model = sha256(remains.files[GENERATIONS.model(item.exp)]).hexdigest()
    except (KeyError, ValueError) as error:
        yield f"the copies of {item.exp} cannot be read: {error!r}"
        return
    if about["round"] != item.config["rounds"] or about["sha256"] != model:
        yield f"the copies of {item.exp} are not those of the last round"


def _records(remains: Remains) -> list[Record]:
    histories = Histories()
    for path, data in remains.files.items():
        if path.parent == SHARE.journals:
            histories.offer(data.split(b"\n")[:-1])
    return histories.accepted()


def _comparable(row: Row) -> dict[str, object]:
    return {key: value for key, value in asdict(row).items() if key not in MACHINE_COLUMNS}

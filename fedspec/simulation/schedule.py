"""One schedule: machines that work through a queue while processes crash, stop and never come back."""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from fedspec.checkpoints import CheckpointManager
from fedspec.files import MemoryFiles
from fedspec.plan import Item
from fedspec.simulation.rehearsal import RehearsalJob, rehearsal
from fedspec.simulation.world import Process, SimulatedFiles, World
from fedspec.worker import StopSignal, Worker
from fedspec.workqueue.distributor import WorkDistributor
from fedspec.workqueue.liveness import LOCAL_DISK, Timing
from fedspec.workqueue.records import Ckpt, Done, Fail, Start, decode
from fedspec.workqueue.rules import gate
from fedspec.workspace import CheckpointPaths, LocalState, Workspace

WORKSPACE = Workspace(Path("/share"))
END_OF_TIME_S = 8_000.0


@dataclass(frozen=True, slots=True)
class Profile:
    """What can happen, and how often. ``crash`` and ``stop`` are probabilities per step of a write.

    Attributes:
        skew_h: wall clocks are off by up to so many hours.
        death: probability that a crashed machine never comes back.
    """

    machines: int = 3
    items: int = 4
    rounds: int = 4
    clients: int = 2
    client_s: float = 5.0
    crash: float = 0.01
    stop: float = 0.01
    reboot_s: float = 90.0
    death: float = 0.2
    skew_h: float = 12.0
    timing: Timing = LOCAL_DISK


@dataclass(slots=True)
class Course:
    """What came of a schedule: the world as it was left, and whether everybody was done in time."""

    world: World
    items: list[Item]
    finished: bool
    profile: Profile
    reports: list[str] = field(default_factory=list)

    @property
    def counts(self) -> Counter[str]:
        """How often each fault struck."""
        return self.world.counts

    def reader(self) -> WorkDistributor:
        """The queue as somebody sees it who comes when all is over."""
        return WorkDistributor(WORKSPACE, files=MemoryFiles(self.world.disk), local=_local("reader"))


class _Silent:
    def __init__(self, course: Course, process: Process) -> None:
        self.course, self.process = course, process

    def event(self, text: str) -> None:
        self.course.reports.append(f"{self.process.world.now:9.1f} {self.process.name}: {text}")

    def status(self, text: str) -> None:
        pass


def run_schedule(
    seed: int,
    profile: Profile | None = None,
    *,
    distributor: type[WorkDistributor] = WorkDistributor,
    checkpoints: type[CheckpointManager] = CheckpointManager,
) -> Course:
    """Run one schedule to its end. ``distributor`` and ``checkpoints`` let tests put a known mistake in."""
    profile = profile or Profile()
    world = World(seed)
    items = [rehearsal(42 + number, profile.rounds, profile.clients) for number in range(profile.items)]
    WorkDistributor(WORKSPACE, files=MemoryFiles(world.disk), local=_local("planner")).enqueue(items)
    course = Course(world, items, False, profile)
    for number in range(profile.machines):
        _Machine(course, number, distributor, checkpoints).boot(world.random.uniform(0.0, 5.0))
    course.finished = world.run(END_OF_TIME_S)
    return course


class _Machine:
    """A machine that starts a worker again after each crash, until it dies for good. The first machine never does."""

    def __init__(
        self, course: Course, number: int, distributor: type[WorkDistributor], checkpoints: type[CheckpointManager]
    ) -> None:
        self.course, self.number = course, number
        self.distributor, self.checkpoints = distributor, checkpoints
        self.processes = 0
        self.skew = timedelta(hours=course.profile.skew_h * course.world.random.uniform(-1.0, 1.0))

    def boot(self, after_s: float) -> None:
        self.processes += 1
        process = Process(self.course.world, f"m{self.number}p{self.processes}", self.skew, self._live)
        process.on_end = self._after
        self.course.world.schedule(process, self.course.world.now + after_s)

    def _after(self, crashed: bool) -> None:
        if not crashed:
            return
        random = self.course.world.random
        if self.number and random.random() < self.course.profile.death:
            self.course.counts["death"] += 1
        else:
            self.boot(random.uniform(0.0, self.course.profile.reboot_s))

    def _live(self, process: Process) -> None:
        profile = self.course.profile
        files = SimulatedFiles(process, profile.crash, profile.stop, 3 * profile.timing.dead)
        queue = self.distributor(
            WORKSPACE,
            files=files,
            clock=process,
            timing=profile.timing,
            local=_local(f"m{self.number}"),
            new_hex=lambda count: process.world.random.randbytes(count).hex(),
        )
        files.audit = lambda path, data: self._audit(queue, path, data)
        queue.join(f"machine {self.number}", {"cpu"})
        process.on_tick, process.tick_every_s = queue.tick, profile.timing.poll
        worker = Worker(
            queue,
            self.checkpoints(WORKSPACE.checkpoints, files),
            lambda item, base: RehearsalJob(item, base, process.sleep, profile.client_s),
            _Silent(self.course, process),
            StopSignal(),
        )
        for seconds in worker.steps():
            process.sleep(seconds)
        queue.leave("finished")

    def _audit(self, queue: WorkDistributor, path: Path, data: bytes) -> None:
        """Nobody may write for an attempt, but that it yields, once what it has read itself says that the attempt is over."""
        # The machine's own copy comes first: then the fold is still what the worker knew when it decided.
        if not queue.joined or path != queue.slots.local.journal_copy(queue.worker):
            return
        breaches = self.course.world.breaches
        for record in map(decode, data.split(b"\n")[:-1]):
            if not isinstance(record, Start | Ckpt | Done | Fail):
                continue
            reason = gate(queue.store.fold, record.item, record.key)
            if reason is not None:
                breaches.append(f"{record.worker} wrote {type(record).__name__} though it was {reason}")
            if isinstance(record, Ckpt) and not self._was_saved(queue, record):
                breaches.append(f"{record.worker} journalled {record.file} before it was on disk")

    def _was_saved(self, queue: WorkDistributor, record: Ckpt) -> bool:
        """It may be gone by now: a worker that was stopped just before this record may have been overtaken by two rounds."""
        path = CheckpointPaths(WORKSPACE.checkpoints).generation(queue.store.items[record.item].exp, record.file)
        data = self.course.world.disk.contents.get(path)
        return path in self.course.world.writers if data is None else hashlib.sha256(data).hexdigest() == record.sha256


def _local(machine: str) -> LocalState:
    return LocalState(Path("/local") / machine)

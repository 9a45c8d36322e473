"""A simulated machine: starts a worker again after each crash, sleeps, goes offline, is cloned, or is lost for good."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from fedspec.errors import FedspecError
from fedspec.files import MemoryFiles
from fedspec.jobs import Job
from fedspec.jobs.meeting import Meeting
from fedspec.plan import Item
from fedspec.simulation.bystander import Bystander
from fedspec.simulation.hands import Ground, SimulatedFiles
from fedspec.simulation.rehearsal import PairJob, RehearsalJob
from fedspec.simulation.world import Process
from fedspec.worker import Stopped, StopSignal, Worker
from fedspec.workqueue.distributor import WorkDistributor
from fedspec.workqueue.slots import Slots
from fedspec.workspace import LocalState

if TYPE_CHECKING:
    from torch import Tensor

    from fedspec.simulation.schedule import Course

# What a process of a machine does.
Life = Callable[["Machine", Process], None]
HOUR_S = 3600.0
NEVER = float("inf")


class Machine:
    """One machine. ``local`` is its own folder; the first two are never lost for good."""

    def __init__(self, course: Course, number: int, ground: Ground) -> None:
        self.course, self.world, self.number, self.ground = course, course.world, number, ground
        self.name = f"m{number}"
        self.local = LocalState(Path("/local") / self.name)
        self.processes = 0
        self.living: list[Process] = []
        # How a person stops each worker that is at work.
        self.stops: dict[str, StopSignal] = {}
        # What each process knows of the queue that lives, or has ended in order since people last looked.
        self.minds: dict[str, WorkDistributor] = {}
        self.dead = False
        self.asleep_until = self.offline_until = 0.0
        self._skew_h = course.profile.skew_h * course.clocks.uniform(-1.0, 1.0)

    def reachable_at(self) -> float:
        """When others next see what this machine writes."""
        return NEVER if self.dead else max(self.asleep_until, self.offline_until)

    def skew(self) -> timedelta:
        """How far its wall clock is off, now."""
        return timedelta(hours=self._skew_h)

    def machine_id(self) -> str:
        """Its id, as it would tell it now; "" if it has none yet. To look must not make one."""
        if self.local.machine not in self.ground.disk.contents:
            return ""
        return Slots(MemoryFiles(self.ground.disk), self.local, self.course.workspace).machine_id()

    def start(self, after_s: float, life: Life) -> None:
        """Start a process that lives this life."""
        self.processes += 1
        name = f"{self.name}p{self.processes}"
        process = Process(self.world, name, lambda p: life(self, p), lambda: self.asleep_until, self.skew)
        process.on_end = lambda crashed: self._after(process, crashed, life)
        self.living.append(process)
        self.world.begin(process, after_s)

    def weather(self) -> None:
        """Let the faults that strike whole machines come, in their time."""
        profile, random = self.course.profile, self.world.random
        for fault, hourly in (("sleep", profile.sleep), ("offline", profile.offline)):
            if hourly:
                self.world.at(self.world.now + random.expovariate(hourly) * HOUR_S, lambda f=fault: self._away(f))  # type: ignore[misc]

    def _away(self, fault: str) -> None:
        if self.world.calm or self.dead:
            return
        profile, random = self.course.profile, self.world.random
        days = self.world.chance(profile.days)
        length = profile.timing.dead * (random.uniform(20, 60) if days else random.uniform(0.05, 3.0))
        self.world.struck("days away" if days else fault, self.name, f"for {length:.0f} s")
        self.world.took("days away" if days else fault, length)
        self.leave_for(length, asleep=fault == "sleep" and not days)
        if random.random() < 0.5:
            self._skew_h = profile.skew_h * self.course.clocks.uniform(-1.0, 1.0)
            self.world.counts["clock jump"] += 1
        self.weather()

    def leave_for(self, length_s: float, *, asleep: bool) -> None:
        """Nobody hears of this machine for so long."""
        if asleep:
            self.asleep_until = max(self.asleep_until, self.world.now + length_s)
        else:
            self.offline_until = max(self.offline_until, self.world.now + length_s)

    def _after(self, process: Process, crashed: bool, life: Life) -> None:
        self.living.remove(process)
        self.stops.pop(process.name, None)
        # The system frees what a dead process held.
        self.ground.disk.end(process.name)
        self.world.note(process.name, "is dead" if crashed else "has ended")
        if crashed:
            self.minds.pop(process.name, None)
        if not crashed and process.name not in self.course.gave_up:
            return
        random, profile = self.world.random, self.course.profile
        # Two stay: what two run together could not end otherwise.
        if crashed and self.number > 1 and self.world.chance(profile.death):
            self.world.struck("death", self.name)
            self.dead = True
            self.world.kill(other for other in self.living if other is not process)
        elif life in (self.course.work, self.course.plan):
            self.start(random.uniform(0.0, profile.reboot_s), life)

    def queue(self, process: Process) -> WorkDistributor:
        """The queue as a process of this machine has it."""
        course = self.course
        queue = course.distributor(
            course.workspace,
            files=SimulatedFiles(process, self.ground),
            clock=process,
            timing=course.profile.timing,
            local=self.local,
            new_hex=lambda count: self.world.random.randbytes(count).hex(),
        )
        assert isinstance(queue.files, SimulatedFiles)
        queue.files.witness = Bystander(course, self, process, queue)
        self.minds[process.name] = queue
        return queue

    def plan(self, process: Process) -> None:
        """Put the items into the queue, as `fedspec queue add` does."""
        try:
            self.queue(process).enqueue(self.course.items)
        except FedspecError as error:
            self.give_up(process, error.what)

    def work(self, process: Process) -> None:
        """The life of a worker process, as `fedspec work` runs it."""
        course, profile = self.course, self.course.profile
        queue, stop = self.queue(process), StopSignal()
        self.world.note(process.name, "starts")
        try:
            queue.require_queue()
            queue.join(f"machine {self.number}", {"cpu"})
            process.on_tick, process.tick_every_s = lambda: self._beat(queue), profile.timing.poll
            worker = Worker(
                queue,
                course.checkpoints(course.workspace.checkpoints, queue.files),
                lambda item, base, meeting=None: self._job(process, item, base, meeting),
                Diary(process),
                stop,
            )
            self.stops[process.name] = stop
            try:
                for seconds in worker.steps():
                    process.sleep(seconds)
                queue.leave("finished")
            except Stopped:
                queue.leave("stopped")
        except FedspecError as error:
            self.give_up(process, error.what)

    def _job(self, process: Process, item: Item, base: Mapping[str, Tensor] | None, meeting: Meeting | None) -> Job:
        about = (item, base, process.sleep, self.course.profile.client_s, self.name)
        if meeting is None:
            return RehearsalJob(*about)
        return PairJob(*about, meeting=meeting, link=self.course.link, patience_s=2 * self.course.profile.timing.dead)

    def give_up(self, process: Process, what: str) -> None:
        """End with an error that a person reads; then the same is started again."""
        self.world.note(process.name, f"error: {what}")
        self.world.counts["gave up"] += 1
        self.course.gave_up.add(process.name)

    def _beat(self, queue: WorkDistributor) -> None:
        try:
            queue.tick()
            queue.caretaker.glance()
        except FedspecError as error:
            self.world.note(self.name, f"no heartbeat: {error.what}")
        assert isinstance(queue.files, SimulatedFiles)
        if queue.files.witness is not None:
            queue.files.witness.looks()


class Diary:
    """Where a simulated worker says what it does."""

    def __init__(self, process: Process) -> None:
        self.process = process

    def event(self, text: str) -> None:
        """Into the trace."""
        self.process.world.note(self.process.name, text.replace("\n", " "))

    def status(self, text: str) -> None:
        """Nobody looks."""

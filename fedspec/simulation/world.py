"""Simulated time and processes: any number of them take turns, one at a time, in an order that the seed decides.

A process is a thread that runs only while it has the baton. It hands it back when it sleeps and, now and then, in the middle
of a write, where it may also die.
"""

from __future__ import annotations

import heapq
import itertools
import random
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

from fedspec.files import Crash, MemoryDisk, MemoryFiles

LOCK_POLL_S = 0.5


class World:
    """The scheduler. ``now`` is true time in seconds, which no process sees."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.now = 0.0
        self.disk = MemoryDisk()
        self.counts: Counter[str] = Counter()
        self.writers: dict[Path, set[str]] = {}
        self.breaches: list[str] = []
        self._queue: list[tuple[float, int, Process]] = []
        self._order = itertools.count()
        self._back = threading.Semaphore(0)

    def schedule(self, process: Process, at: float) -> None:
        """Give the process the baton at ``at``."""
        heapq.heappush(self._queue, (at, next(self._order), process))

    def run(self, until: float) -> bool:
        """Let everything happen that happens before ``until``; whether all processes ended by themselves."""
        while self._queue and self._queue[0][0] <= until:
            self.now, _, process = heapq.heappop(self._queue)
            process.resume()
            self._back.acquire()
        finished = not self._queue
        while self._queue:
            process = heapq.heappop(self._queue)[2]
            process.doomed = True
            process.resume()
            self._back.acquire()
        return finished

    def hand_back(self) -> None:
        """The process that had the baton is done with it."""
        self._back.release()


class Process:
    """One process of one machine.

    Args:
        life: what it does; gets the process. It ends by returning or by dying in a `Crash`.
        skew: how far this machine's wall clock is off.
    """

    def __init__(self, world: World, name: str, skew: timedelta, life: Callable[[Process], None]) -> None:
        self.world, self.name, self.skew = world, name, skew
        self.life = life
        self.doomed = False
        self.on_tick: Callable[[], None] = lambda: None
        self.tick_every_s = float("inf")
        self.on_end: Callable[[bool], None] = lambda crashed: None
        self._ticked_at = 0.0
        self._go = threading.Semaphore(0)
        self._thread: threading.Thread | None = None

    def resume(self) -> None:
        """Take the baton."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, daemon=True)
            self._thread.start()
        self._go.release()

    def park(self, seconds: float) -> None:
        """Hand the baton back for a while. Raises Crash if the world ends meanwhile."""
        self.world.schedule(self, self.world.now + seconds)
        self.world.hand_back()
        self._go.acquire()
        if self.doomed:
            raise Crash

    # The clock port

    def monotonic(self) -> float:
        """This machine's monotonic clock."""
        return self.world.now

    def awake_or_asleep(self) -> float:
        """The same: simulated machines do not sleep, they are stopped."""
        return self.world.now

    def now(self) -> datetime:
        """This machine's wall clock."""
        return datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=self.world.now) + self.skew

    def sleep(self, seconds: float, wake: threading.Event | None = None) -> None:
        """Wait, and let the process's heart beat meanwhile."""
        until = self.world.now + seconds
        while True:
            due = self._ticked_at + self.tick_every_s
            self.park(max(0.0, min(until, due) - self.world.now))
            if self.world.now >= due:
                self._ticked_at = self.world.now
                self.on_tick()
            if self.world.now >= until:
                return

    def _run(self) -> None:
        self._go.acquire()
        crashed = False
        try:
            if not self.doomed:
                self.life(self)
        except Crash:
            crashed = True
        except Exception as error:
            self.world.breaches.append(f"{self.name} ended in {type(error).__name__}: {error}")
        finally:
            # The system frees what a dead process held.
            self.world.disk.end(self.name)
            if not self.doomed:
                self.on_end(crashed)
            self.world.hand_back()


class SimulatedFiles(MemoryFiles):
    """A process's hands on the world's disk: it may be stopped for long, or die, before each step of each write.

    Args:
        crash: probability of dying at a step. stop: probability of being stopped there, for up to ``stop_s`` seconds.
    """

    def __init__(self, process: Process, crash: float, stop: float, stop_s: float) -> None:
        super().__init__(process.world.disk, process.name, self._strike)
        self.owner, self.crash, self.stop, self.stop_s = process, crash, stop, stop_s
        self.audit: Callable[[Path, bytes], None] = lambda path, data: None

    def write(self, path: Path, data: bytes, *, durable: bool = True) -> None:
        """Replace the file, and remember who did."""
        self._note(path)
        super().write(path, data, durable=durable)

    def append(self, path: Path, data: bytes) -> None:
        """Add to the file, and remember who did."""
        self._note(path)
        self.audit(path, data)
        super().append(path, data)

    @contextmanager
    def lock(self, path: Path, timeout_s: float) -> Iterator[bool]:
        """A lock as the system gives it: freed when its holder dies, but not while it is stopped."""
        until = self.owner.world.now + timeout_s
        release = self.hold(path)
        while release is None and self.owner.world.now < until:
            self.owner.park(LOCK_POLL_S)
            release = self.hold(path)
        try:
            yield release is not None
        finally:
            if release is not None:
                release()

    def _note(self, path: Path) -> None:
        self.owner.world.writers.setdefault(path, set()).add(self.owner.name)

    def _strike(self, step: str) -> None:
        world = self.owner.world
        chance = world.random.random()
        if chance < self.crash:
            world.counts["crash"] += 1
            raise Crash
        if chance < self.crash + self.stop:
            world.counts["stop"] += 1
            self.owner.park(world.random.uniform(0.0, self.stop_s))

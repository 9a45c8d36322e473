"""Simulated time and processes: any number of them take turns, one at a time, in an order that the seed decides.

A process is a greenlet that runs only while it has the baton. It hands it back when it sleeps and, now and then, in the middle
of an operation on a file, where it may also die. Everything else that happens (files that arrive, a network that fails) is an
action that the scheduler calls itself.
"""

from __future__ import annotations

import heapq
import itertools
import random
import threading
from collections import Counter
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from greenlet import greenlet

from fedspec.files import Crash

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
# Turns and operations on files within one simulated second, of all processes together, beyond which nothing ever ends: a worker
# that starts reads its folder in some hundreds.
MOST_STEPS = 20_000


class World:
    """The scheduler. ``now`` is true time in seconds, which no process sees."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.random = random.Random(seed)
        self.now = 0.0
        self.calm = False  # no fault strikes any more
        self.stuck = False  # time stood still: the schedule is over
        self._steps, self._second = 0, 0.0
        self.counts: Counter[str] = Counter()
        self.writers: dict[Path, set[str]] = {}
        self.longest: dict[str, float] = {}
        self.breaches: list[str] = []
        self.trace: list[str] = []
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._living: set[Process] = set()

    def at(self, time: float, action: Callable[[], None]) -> None:
        """Let ``action`` happen at ``time``."""
        now = self.now
        heapq.heappush(self._events, (time if time > now else now, next(self._order), action))

    def chance(self, probability: float) -> bool:
        """Whether a fault of this probability strikes now; never once the world is calm."""
        return probability > 0.0 and not self.calm and self.random.random() < probability

    def struck(self, fault: str, who: str, about: str = "") -> None:
        """Count a fault and write it down."""
        self.counts[fault] += 1
        self.note(who, f"** {fault} {about}".rstrip())

    def note(self, who: str, text: str) -> None:
        """Write down what happened."""
        self.trace.append(f"{self.now:10.1f}  {who:<8} {text}")

    def took(self, what: str, seconds: float) -> None:
        """Remember how long something took that keeps news from arriving, the longest of each kind."""
        self.longest[what] = max(seconds, self.longest.get(what, 0.0))

    def run(self, until: float) -> bool:
        """Let everything happen that happens before ``until``; whether all that was due is over."""
        events = self._events
        while events and events[0][0] <= until and not self.stuck:
            self.now, _, action = heapq.heappop(events)
            if self.now >= self._second:
                self._steps, self._second = 0, self.now + 1.0
            action()
        return not events

    def step(self, process: Process) -> None:
        """The process does something that takes no time. Raises Crash where too much is done at one moment: an endless loop."""
        self._steps += 1
        if self._steps > MOST_STEPS:
            if not self.stuck:
                self.stuck = True
                self.breaches.append(f"I1: time stands still at {self.now:.0f} s, where {process.name} goes round in circles")
            self.kill([process])
            raise Crash

    def busy(self) -> bool:
        """Whether a process is still alive."""
        return bool(self._living)

    def begin(self, process: Process, after_s: float) -> None:
        """Start a process."""
        self._living.add(process)
        self.at(self.now + after_s, process.take_turn)

    def ended(self, process: Process) -> None:
        """The process is no more."""
        self._living.discard(process)

    def kill(self, processes: Iterable[Process]) -> None:
        """These processes are no more; nothing of what they do next happens."""
        for process in processes:
            process.doomed = True
            self._living.discard(process)

    def end(self) -> None:
        """Kill what is still alive."""
        left = sorted(self._living, key=lambda process: process.name)
        self.kill(left)
        for process in left:
            process.take_turn()


class Process:
    """One process of one machine; it is its own clock.

    Args:
        life: what it does; gets the process. It ends by returning or by dying in a `Crash`.
        asleep_until: when its machine wakes up, at or before now if it is awake.
        skew: how far this machine's wall clock is off, now.
    """

    def __init__(
        self,
        world: World,
        name: str,
        life: Callable[[Process], None],
        asleep_until: Callable[[], float] = lambda: 0.0,
        skew: Callable[[], timedelta] = timedelta,
    ) -> None:
        self.world, self.name, self.life = world, name, life
        self.asleep_until, self.skew = asleep_until, skew
        self.doomed = False
        self.on_tick: Callable[[], None] = lambda: None
        self.tick_every_s = float("inf")
        self.on_end: Callable[[bool], None] = lambda crashed: None
        self._ticked_at = 0.0
        self._slept_s = 0.0
        self._life = greenlet(self._run)

    def take_turn(self) -> None:
        """Run until the process hands the baton back; later if its machine is asleep."""
        wakes = self.asleep_until()
        if wakes > self.world.now and not self.doomed:
            self._slept_s += wakes - self.world.now
            self.world.at(wakes, self.take_turn)
            return
        self._life.switch()

    def park(self, seconds: float) -> None:
        """Hand the baton back for a while. Raises Crash if the process is to end."""
        self.world.step(self)
        self.world.at(self.world.now + seconds, self.take_turn)
        assert self._life.parent is not None
        self._life.parent.switch()
        if self.doomed:
            raise Crash

    # The clock port

    def monotonic(self) -> float:
        """Stands still while the machine sleeps."""
        return self.world.now - self._slept_s

    def awake_or_asleep(self) -> float:
        """Goes on while the machine sleeps."""
        return self.world.now

    def now(self) -> datetime:
        """This machine's wall clock."""
        return BEGIN + timedelta(seconds=self.world.now) + self.skew()

    def sleep(self, seconds: float, wake: threading.Event | None = None) -> None:
        """Wait, and let the process's heart beat meanwhile."""
        until = self.world.now + seconds
        while True:
            due = self._ticked_at + self.tick_every_s
            self.park(max(0.0, min(until, due) - self.world.now))
            if self.world.now >= due:
                self._ticked_at = self.world.now
                self.on_tick()
            if self.world.now >= until or (wake is not None and wake.is_set()):
                return

    def _run(self) -> None:
        crashed = False
        try:
            if not self.doomed:
                self.life(self)
        except Crash:
            crashed = True
        except Exception as error:
            self.world.breaches.append(f"{self.name} ended in {type(error).__name__}: {error}")
        finally:
            if not self.doomed:
                self.world.ended(self)
                self.on_end(crashed)

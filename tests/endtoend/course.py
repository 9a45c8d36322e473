"""A seeded course of misfortunes for two workers that share a folder by Syncthing: kills, stops, cuts and hand edits.

What happens is drawn beforehand; when exactly it strikes is up to real processes and real daemons.
"""

from __future__ import annotations

import json
import random
import signal
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from machines import Machine, Running, Trap, local_lines, on_the_brink, share_lines
from syncthing import Daemon, SyncthingPair

from fedspec.workqueue.liveness import Timing

PATIENCE_S = 300.0
POLL_S = 0.05
# The longest life that a blow at a moment waits for: about two items.
MOMENTS = 120
PLANTS = ("queue", "result")


@dataclass(frozen=True)
class Blow:
    """What strikes one process: at the ``moment``-th moment of its life, or if that is 0, ``after_s`` after its start."""

    number: signal.Signals
    moment: int
    after_s: float
    away_s: float


@dataclass(frozen=True)
class Cut:
    """A while without a connection, ``after_s`` after the last one; ``plants`` are edited by hand on both sides meanwhile."""

    after_s: float
    for_s: float
    plants: tuple[str, ...]


@dataclass(frozen=True)
class Course:
    """All that happens in one run; ``blows`` for each side, one for each life or stop."""

    seed: int
    blows: tuple[tuple[Blow, ...], tuple[Blow, ...]]
    cuts: tuple[Cut, ...]


def draw(seed: int, timing: Timing) -> Course:
    """The course of a seed. Some absences are longer than the time after which a silent worker is presumed dead."""
    chance = random.Random(seed)

    def away(longest_s: float) -> float:
        return chance.uniform(1.1, 1.4) * timing.dead if chance.random() < 0.12 else chance.uniform(0.2, longest_s)

    def blow() -> Blow:
        number = signal.SIGKILL if chance.random() < 0.65 else signal.SIGSTOP
        moment = chance.randint(1, MOMENTS) if chance.random() < 0.6 else 0
        return Blow(number, moment, chance.uniform(0.5, 6.0), away(3.0))

    def cut() -> Cut:
        return Cut(chance.uniform(0.5, 4.0), away(6.0), tuple(p for p in PLANTS if chance.random() < 0.6))

    def blows() -> tuple[Blow, ...]:
        return tuple(blow() for _ in range(chance.randint(1, 4)))

    return Course(seed, (blows(), blows()), tuple(cut() for _ in range(chance.randint(1, 3))))


class Side:
    """One side of the pair, its machine, and the worker process that lives there, dies, and is started again."""

    def __init__(self, daemon: Daemon, machine: Machine, blows: Sequence[Blow], scale: float) -> None:
        self.daemon, self.machine, self.scale = daemon, machine, scale
        self.running: Running | None = None
        self.finished = False
        self.counts: Counter[str] = Counter()
        self._left = list(blows)
        self._blow: Blow | None = None
        self._struck = self._trapped = False
        self._began = self._back = 0.0

    def step(self, now: float) -> None:
        """Look after the process: what is due happens."""
        if self.finished:
            return
        if self.running is None:
            if now >= self._back:
                self._begin(now)
        elif (code := self.running.process.exitcode) is not None:
            self._ended(code, now)
        elif self._blow is not None and not self._struck:
            self._strike(self._blow, self.running, now)
        elif self._struck and now >= self._back:
            self.running.send(signal.SIGCONT)
            self._next_blow(now)

    def _begin(self, now: float) -> None:
        self._next_blow(now)
        # Three deaths in a row before a checkpoint are an item's fault, by the queue's own rule, and no course may cause them.
        if self._blow is not None and self._blow.number == signal.SIGKILL and on_the_brink(self.daemon.folder):
            self._blow = None
        blow = self._blow
        self._trapped = blow is not None and blow.moment > 0
        self.running = self.machine.work(self.scale, Trap(blow.moment, blow.number) if blow and self._trapped else None)

    def _next_blow(self, now: float) -> None:
        self._blow = self._left.pop(0) if self._left else None
        self._struck, self._trapped, self._began = False, False, now

    def _strike(self, blow: Blow, running: Running, now: float) -> None:
        """From outside when it is time; a process with a trap strikes itself."""
        if not self._trapped and now - self._began >= blow.after_s:
            running.send(blow.number)
            self._struck = blow.number == signal.SIGSTOP
        elif self._trapped and blow.number == signal.SIGSTOP:
            self._struck = running.stopped
        if self._struck:
            self.counts["stops"] += 1
            self._back = now + blow.away_s

    def _ended(self, code: int, now: float) -> None:
        assert self.running is not None
        if code == -signal.SIGKILL:
            self.counts["kills"] += 1
            self._back = now + (self._blow.away_s if self._blow is not None else 0.0)
            self.running = None
            return
        assert code == 0, f"a worker on {self.daemon.name} ended with {code}:\n{self.running.output}"
        self.finished = True


class Run:
    """One run of a course on a pair: afterwards both workers have finished and the connection stands.

    Attributes:
        lines: every whole journal line that was ever seen, in the shared folder of either side or in a machine's own copy.
        planted: paths that were edited by hand.
    """

    def __init__(self, course: Course, pair: SyncthingPair, sides: tuple[Side, Side]) -> None:
        self.course, self.pair, self.sides = course, pair, sides
        self.lines: set[bytes] = set()
        self.planted: set[str] = set()
        self.counts: Counter[str] = Counter()
        self._chance = random.Random(course.seed)

    def go(self) -> None:
        """Everything that is to happen happens."""
        cuts, cut, since, deadline = list(self.course.cuts), None, time.monotonic(), time.monotonic() + PATIENCE_S
        while (now := time.monotonic()) < deadline:
            for side in self.sides:
                side.step(now)
            if cut is None and cuts and now - since >= cuts[0].after_s:
                cut, since = cuts.pop(0), now
                self._cut(cut)
            elif cut is not None and now - since >= cut.for_s:
                self.pair.resume()
                cut, since = None, now
            self.look()
            if cut is None and all(side.finished for side in self.sides):
                break
            time.sleep(POLL_S)
        else:
            raise AssertionError("\n".join(f"{s.daemon.name}: {s.running and s.running.output}" for s in self.sides))
        for side in self.sides:
            self.counts.update(side.counts)

    def look(self) -> None:
        """Note all lines that are there now."""
        for side in self.sides:
            self.lines |= share_lines(side.daemon.folder) | local_lines(side.machine.local)

    def _cut(self, cut: Cut) -> None:
        self.pair.pause()
        self.counts["pauses"] += 1
        for plant in cut.plants:
            edit = self._edit_queue if plant == "queue" else self._edit_result
            self.counts["hand edits"] += edit()

    def _edit_queue(self) -> int:
        """On both sides somebody sets an item back, each another one."""
        edited = 0
        for side in self.sides:
            path = side.daemon.folder / "distributed_work" / "work_queue.json"
            try:
                entries = json.loads(path.read_text(encoding="utf-8"))
            except (FileNotFoundError, ValueError):
                continue
            self._chance.choice(entries).update(status="pending", assigned_to=f"somebody on {side.daemon.name}")
            edited += self._plant(side, path, json.dumps(entries, indent=2).encode())
        return edited

    def _edit_result(self) -> int:
        """On both sides somebody writes a remark into one result."""
        both = [{path.name for path in (s.daemon.folder / "paper_results").glob("*.csv")} - self.planted for s in self.sides]
        names = sorted(name for name in both[0] & both[1] if ".sync-conflict-" not in name)
        if not names:
            return 0
        name = self._chance.choice(names)
        edited = 0
        for side in self.sides:
            path = side.daemon.folder / "paper_results" / name
            edited += self._plant(side, path, path.read_bytes() + f"remark made on {side.daemon.name}\n".encode())
        return edited

    def _plant(self, side: Side, path: Path, data: bytes) -> int:
        path.write_bytes(data)
        self.planted.add(path.relative_to(side.daemon.folder).as_posix())
        return 1

"""How far the queue is, for people and for programs: who does what, since when, and how long it will take.

Pure: the fold, the beats and the reader's clock come in as values. Ages here may use wall clocks; decisions never see them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from fedspec.clock import moment
from fedspec.plan import Item, published_names
from fedspec.workqueue.fold import Fold, Key
from fedspec.workqueue.liveness import Timing
from fedspec.workqueue.records import Start, machine_of
from fedspec.workqueue.rules import scope
from fedspec.workqueue.store import Beat
from fedspec.workqueue.wording import one_line

RULE = "=" * 40
MAX_TAKEOVERS = 5
MAX_MACHINE_NAME = 40
# Some thirty years: more is no estimate.
LONGEST_S = 1e9


@dataclass(frozen=True, slots=True)
class ItemLine:
    """One line of the table.

    Attributes:
        state: sealed, done, running, stale (its worker is silent), pending, failed or cancelled.
        beat_age_s: seconds since the worker's last sign by wall clocks, None where nobody works.
    """

    id: str
    experiment: str
    state: str
    machine: str = ""
    worker: str = ""
    attempt: int = 0
    round: int = 0
    rounds: int = 0
    accuracy: float | None = None
    beat_age_s: float | None = None
    eta_s: float | None = None
    why: str = ""


@dataclass(frozen=True, slots=True)
class Progress:
    """The state of the queue, or of some of its items."""

    lines: tuple[ItemLine, ...]
    notes: tuple[str, ...] = ()

    def count(self, *states: str) -> int:
        """How many items are in one of these states."""
        return sum(line.state in states for line in self.lines)

    @property
    def completed(self) -> int:
        """Items with a result."""
        return self.count("done", "sealed")

    def block(self) -> str:
        """The summary as the original printed it."""
        total = len(self.lines)
        share = 100.0 * self.completed / total if total else 0.0
        running = [line for line in self.lines if line.state in ("running", "stale")]
        by_machine = Counter(line.machine for line in running)
        width = max((len(name) for name in by_machine), default=0) + 1
        return "\n".join(
            [
                "Distributed Work Progress",
                RULE,
                f"Total items: {total}",
                f"Completed:   {self.completed} ({share:.1f}%)",
                f"In progress: {len(running)}",
                *(f"  - {name + ':':<{width}} {count}" for name, count in sorted(by_machine.items())),
                f"Pending:     {self.count('pending')}",
                f"Failed:      {self.count('failed', 'cancelled')}",
                RULE,
            ]
        )


def display_names(fold: Fold) -> dict[str, str]:
    """Machine id -> the name people read; of several machines with one name the later ones get a number."""
    names: dict[str, str] = {}
    used: set[str] = set()
    numbers: Counter[str] = Counter()
    hellos = sorted(((s.hello.lam, worker, s.hello) for worker, s in fold.workers.items() if s.hello), key=lambda h: h[:2])
    for _, worker, hello in hellos:
        machine = machine_of(worker)
        if machine not in names:
            name = one_line(hello.name, MAX_MACHINE_NAME)
            # Thousands may have one name: go on from the last number of it.
            numbers[name] += 1
            while (shown := _numbered(name, numbers[name])) in used:
                numbers[name] += 1
            names[machine] = shown
            used.add(shown)
    return names


def progress(
    fold: Fold, items: Mapping[str, Item], beats: Mapping[str, Beat], timing: Timing, now: datetime, notes: tuple[str, ...] = ()
) -> Progress:
    """The state of the queue as one reader sees it at ``now``."""
    names = published_names(items.values())
    reader = _Reader(fold, display_names(fold), beats, timing, now)
    lines = tuple(reader.line(item, names[item.id]) for item in scope(items, None, fold))
    return Progress(lines, (*_stale_notes(lines, timing), *reader.takeovers(lines), *notes))


def elapsed_s(wall: str, now: datetime) -> float | None:
    """Seconds since a wall-clock time that some machine wrote, at least 0; None if it wrote no time."""
    then = moment(wall)
    return None if then is None else max(0.0, (now - then).total_seconds())


def in_words(seconds: float) -> str:
    """``12 s``, ``9 min``, ``1 h 30 min``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 90:
        return f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60} min"


@dataclass(frozen=True, slots=True)
class _Reader:
    """What one look at the queue goes by. ``machines``: machine id -> display name."""

    fold: Fold
    machines: Mapping[str, str]
    beats: Mapping[str, Beat]
    timing: Timing
    now: datetime

    def name(self, worker: str) -> str:
        return self.machines.get(machine_of(worker), worker)

    def line(self, item: Item, experiment: str) -> ItemLine:
        status, done, owner = self.fold.status(item.id), self.fold.canonical(item.id), self.fold.owner(item.id)
        best = next(iter(self.fold.generations(item.id)), None)
        line = ItemLine(
            item.id,
            experiment,
            status,
            round=best.round if best else 0,
            rounds=int(item.config.get("rounds", 0)),
            accuracy=best.accuracy if best else None,
        )
        if done is not None:
            line = replace(line, machine=self.name(done.worker), worker=done.worker, attempt=done.attempt)
            return replace(line, round=done.rounds, accuracy=done.accuracy)
        if status != "running" or owner is None:
            return replace(line, why=one_line(self.fold.failure(item.id) or ""))
        return self._held(line, owner)

    def _held(self, line: ItemLine, owner: Key) -> ItemLine:
        attempt, worker = owner
        beat = self.beats.get(worker)
        # The claim itself is the first sign of life; a beat comes later.
        wall = beat.wall if beat is not None else self.fold.item(line.id).attempts[owner].claimed_at
        age = elapsed_s(wall, self.now)
        stale = age is not None and age > 3 * self.timing.beat + 2 * self.timing.poll
        line = replace(line, machine=self.name(worker), worker=worker, attempt=attempt, beat_age_s=age)
        if stale:
            return replace(line, state="stale")
        if beat is None or beat.running != line.id:
            return line
        return replace(line, round=max(line.round, beat.round), eta_s=_estimate(beat.eta))

    def takeovers(self, lines: Sequence[ItemLine]) -> list[str]:
        """One sentence for each item that a machine carried on from another's saved round, the latest last."""
        found: list[tuple[int, str, str, Start]] = []
        for line in lines:
            writers = {ckpt.file: ckpt.worker for ckpt in self.fold.generations(line.id)}
            for (_, worker), attempted in self.fold.item(line.id).attempts.items():
                start = attempted.start
                if start is not None and machine_of(writers.get(start.source, worker)) != machine_of(worker):
                    found.append((start.lam, line.experiment, writers[start.source], start))
        found.sort(key=lambda one: (*one[:3], one[3].worker, one[3].seq))
        more = [f"... and {len(found) - MAX_TAKEOVERS} takeovers before."] if len(found) > MAX_TAKEOVERS else []
        return more + [self._takeover(*one[1:]) for one in found[-MAX_TAKEOVERS:]]

    def _takeover(self, experiment: str, dead: str, start: Start) -> str:
        saved = self.fold.generations(start.item)
        whole = all(ckpt.round <= start.round for ckpt in saved if ckpt.attempt < start.attempt)
        text = f"{self.name(start.worker)} took {experiment} over from {self.name(dead)} after round {start.round}"
        return f"{text}; nothing was lost." if whole else f"{text}, the last that was intact."


def _stale_notes(lines: Sequence[ItemLine], timing: Timing) -> list[str]:
    notes = []
    for line in lines:
        if line.state == "stale" and line.beat_age_s is not None:
            left = max(0.0, timing.dead - line.beat_age_s)
            when = f"in ~{in_words(left)}" if left else "now"
            notes.append(
                f"{line.machine} has not been seen for ~{in_words(line.beat_age_s)}. Any other worker takes "
                f"{line.experiment} over {when}; at once: fedspec queue release {line.experiment}"
            )
    return notes


def _estimate(eta: float | None) -> float | None:
    return eta if eta is not None and 0 <= eta <= LONGEST_S else None


def _numbered(name: str, number: int) -> str:
    return name if number == 1 else f"{name} {number}"

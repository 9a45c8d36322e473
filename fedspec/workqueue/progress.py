"""How far the queue is, for people and for programs: who does what, since when, and how long it will take.

Pure: the fold, the beats and the reader's clock come in as values. Ages here may use wall clocks; decisions never see them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from fedspec.plan import Item, published_names
from fedspec.workqueue.fold import Fold, Key
from fedspec.workqueue.liveness import Timing
from fedspec.workqueue.records import machine_of
from fedspec.workqueue.rules import scope
from fedspec.workqueue.store import Beat

RULE = "=" * 40


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
    hellos = sorted(((s.hello.lam, worker, s.hello) for worker, s in fold.workers.items() if s.hello), key=lambda h: h[:2])
    for _, worker, hello in hellos:
        machine = machine_of(worker)
        if machine not in names:
            used = set(names.values())
            number = next(n for n in range(1, len(used) + 2) if _numbered(hello.name, n) not in used)
            names[machine] = _numbered(hello.name, number)
    return names


def progress(
    fold: Fold, items: Mapping[str, Item], beats: Mapping[str, Beat], timing: Timing, now: datetime, notes: tuple[str, ...] = ()
) -> Progress:
    """The state of the queue as one reader sees it at ``now``."""
    names, machines = published_names(items.values()), display_names(fold)
    lines = tuple(_line(item, names[item.id], fold, machines, beats, timing, now) for item in scope(items, None))
    return Progress(lines, (*_stale_notes(lines, timing), *notes))


def elapsed_s(wall: str, now: datetime) -> float | None:
    """Seconds since a wall-clock time that some machine wrote, at least 0; None if it wrote no time."""
    try:
        then = datetime.strptime(wall, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    except ValueError:
        return None
    return max(0.0, (now - then).total_seconds())


def in_words(seconds: float) -> str:
    """``12 s``, ``9 min``, ``1 h 30 min``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 90:
        return f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60} min"


def _line(
    item: Item,
    name: str,
    fold: Fold,
    machines: Mapping[str, str],
    beats: Mapping[str, Beat],
    timing: Timing,
    now: datetime,
) -> ItemLine:
    status = fold.status(item.id)
    generations = fold.generations(item.id)
    rounds = int(item.config.get("rounds", 0))
    saved = generations[0].round if generations else 0
    accuracy = generations[0].accuracy if generations else None
    done = fold.canonical(item.id)
    if done is not None:
        machine = machines.get(machine_of(done.worker), done.worker)
        return ItemLine(item.id, name, status, machine, done.worker, done.attempt, done.rounds, rounds, done.accuracy)
    owner = fold.owner(item.id)
    if status != "running" or owner is None:
        why = fold.failure(item.id) or ""
        return ItemLine(item.id, name, status, round=saved, rounds=rounds, accuracy=accuracy, why=why)
    return _running(item, name, fold, owner, machines, beats.get(owner[1]), timing, now, saved, rounds, accuracy)


def _running(
    item: Item,
    name: str,
    fold: Fold,
    owner: Key,
    machines: Mapping[str, str],
    beat: Beat | None,
    timing: Timing,
    now: datetime,
    saved: int,
    rounds: int,
    accuracy: float | None,
) -> ItemLine:
    attempt, worker = owner
    # The claim itself is the first sign of life; a beat comes later.
    wall = beat.wall if beat is not None else fold.item(item.id).attempts[owner].claimed_at
    age = elapsed_s(wall, now)
    stale = age is not None and age > 3 * timing.beat + 2 * timing.poll
    current = beat is not None and beat.running == item.id
    return ItemLine(
        id=item.id,
        experiment=name,
        state="stale" if stale else "running",
        machine=machines.get(machine_of(worker), worker),
        worker=worker,
        attempt=attempt,
        round=max(saved, beat.round if beat is not None and current else 0),
        rounds=rounds,
        accuracy=accuracy,
        beat_age_s=age,
        eta_s=beat.eta if beat is not None and current and not stale else None,
    )


def _stale_notes(lines: tuple[ItemLine, ...], timing: Timing) -> list[str]:
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


def _numbered(name: str, number: int) -> str:
    return name if number == 1 else f"{name} {number}"

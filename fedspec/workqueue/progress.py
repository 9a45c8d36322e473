"""How far the queue is, for people and for programs: who does what, since when, and how long it will take.

Pure: the fold, the beats and the reader's clock come in as values. Ages here may use wall clocks; decisions never see them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cached_property

from fedspec.plan import Item, published_names
from fedspec.workqueue import condition
from fedspec.workqueue.brief import brief
from fedspec.workqueue.condition import Condition, Machine
from fedspec.workqueue.fold import ORDERS, Fold, Key
from fedspec.workqueue.hindrances import Hindrance, Order, hindrances
from fedspec.workqueue.liveness import Timing
from fedspec.workqueue.members import Absent, Settlement
from fedspec.workqueue.naming import display_names
from fedspec.workqueue.pace import Paces
from fedspec.workqueue.records import Start, machine_of
from fedspec.workqueue.rules import scope
from fedspec.workqueue.store import Beat
from fedspec.workqueue.wording import elapsed_s, local_time, told

RULE = "=" * 40
# Lines below the table, of each sort; 'fedspec queue why' has the rest.
MAX_TAKEOVERS = 3
MOST_TAKEOVERS = 100  # for programs
MAX_HINDRANCES = 4
# Some thirty years: more is no estimate.
LONGEST_S = 1e9


@dataclass(frozen=True, slots=True)
class ItemLine:
    """One line of the table.

    Attributes:
        state: sealed, done, running, stale (its worker is silent or dead), pending, failed or cancelled.
        beat_age_s: seconds since the worker's last sign by wall clocks, None where nobody works.
        why: what is behind the condition, "" where the word says it all.
        condition: the state again, or a finer word for it: slow, stalled, crashed, retry-wait, no-machine, paused, draining.
        due_s: seconds until it changes by itself, None where it does not or nobody knows.
        priority: what a person gave it; 0 is usual, higher comes first.
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
    condition: str = ""
    due_s: float | None = None
    priority: int = 0


@dataclass(frozen=True, slots=True)
class Progress:
    """The state of the queue, or of some of its items.

    ``hindrances``: what keeps it from going on; ``takeovers``: a sentence each, the latest last.
    """

    lines: tuple[ItemLine, ...]
    hindrances: tuple[Hindrance, ...] = ()
    takeovers: tuple[str, ...] = ()

    @property
    def warnings(self) -> tuple[str, ...]:
        """The hindrances in a line each, at most a handful."""
        more = len(self.hindrances) - MAX_HINDRANCES
        rest = (f"... and {more} more: fedspec queue why",) if more > 0 else ()
        return (*(found.line() for found in self.hindrances[:MAX_HINDRANCES]), *rest)

    @property
    def news(self) -> tuple[str, ...]:
        """The latest takeovers, at most a handful."""
        more = len(self.takeovers) - MAX_TAKEOVERS
        return (*((f"... and {more} takeovers before.",) if more > 0 else ()), *self.takeovers[-MAX_TAKEOVERS:])

    @property
    def notes(self) -> tuple[str, ...]:
        """What to know besides the lines."""
        return (*self.warnings, *self.news)

    def count(self, *states: str) -> int:
        """How many items are in one of these states."""
        return sum(line.state in states for line in self.lines)

    @property
    def completed(self) -> int:
        """Items with a result."""
        return self.count("done", "sealed")

    def block(self) -> str:
        """The summary as the original printed it, which knew of no cancelled items: these get a line where there are any."""
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
                f"Failed:      {self.count('failed')}",
                *([f"Cancelled:   {cancelled}"] if (cancelled := self.count("cancelled")) else []),
                RULE,
            ]
        )


def progress(
    fold: Fold,
    items: Mapping[str, Item],
    beats: Mapping[str, Beat],
    timing: Timing,
    now: datetime,
    *,
    told: Mapping[str, Beat] | None = None,
    crashed: Collection[str] = (),
    damaged: Sequence[str] = (),
    copies: Sequence[str] = (),
) -> Progress:
    """The state of the queue as one reader sees it at ``now``; the arguments are those of `Reader`.

    ``damaged``: what is wrong with files, a sentence each; ``copies``: names of conflict copies.
    """
    reader = Reader(fold, items, beats, timing, now, told or {}, crashed)
    return reader.progress(damaged, copies)


@dataclass(frozen=True)
class Reader:
    """What one look at the queue goes by.

    Attributes:
        told: of each worker the beat whose author's journal is here up to then (`Store.told`): an acknowledgement.
        crashed: workers of this machine whose process is known to have ended, though nobody has said so yet.
        read: how many records of others this machine's earlier processes had read (`Slots.have_read`).
    """

    fold: Fold
    items: Mapping[str, Item]
    beats: Mapping[str, Beat]
    timing: Timing
    now: datetime
    told: Mapping[str, Beat] = field(default_factory=dict)
    crashed: Collection[str] = ()
    read: Mapping[str, int] = field(default_factory=dict)

    @cached_property
    def machines(self) -> dict[str, str]:
        """Machine id -> display name."""
        return display_names(self.fold)

    @cached_property
    def crew(self) -> dict[str, Machine]:
        """Machine id -> what is known of it."""
        return condition.machines(self.fold, self.beats, self.machines, self.timing, self.now, self.crashed)

    @cached_property
    def names(self) -> dict[str, str]:
        """Item id -> experiment."""
        return published_names(self.items.values())

    def name(self, worker: str) -> str:
        """The display name of a worker's machine."""
        return self.machines.get(machine_of(worker), worker)

    def age_s(self, wall: str) -> float | None:
        """Seconds since some machine's wall clock showed this."""
        return elapsed_s(wall, self.now)

    def progress(self, damaged: Sequence[str] = (), copies: Sequence[str] = ()) -> Progress:
        """The whole queue."""
        lines = tuple(self.line(item, self.names[item.id]) for item in scope(self.items, None, self.fold))
        mine = next((machine_of(worker) for worker in self.crashed), "")
        found = hindrances(lines, self.crew, self.orders(), self._unconfirmed(), self.timing, mine, damaged, copies)
        return Progress(lines, found, tuple(self.takeovers(lines)))

    def line(self, item: Item, experiment: str) -> ItemLine:
        """One item."""
        line = self._line(item, experiment)
        priority = self.fold.priority(item.id)
        return replace(line, priority=priority) if priority else line

    def _line(self, item: Item, experiment: str) -> ItemLine:
        said = brief(self.fold, item.id)
        status, rounds = said.status, int(item.config.get("rounds", 0))
        if status in ("sealed", "done"):
            who = self.name(said.worker), said.worker, said.attempt
            return ItemLine(item.id, experiment, status, *who, said.round, rounds, said.accuracy, condition=status)
        line = ItemLine(item.id, experiment, status, round=said.round, rounds=rounds, accuracy=said.accuracy, condition=status)
        if status == "running" and said.worker:
            return self._held(line, said.key)
        if status == "pending":
            return _conditioned(line, self._free(item))
        return replace(line, why=told(said.reason, self.name))

    def _free(self, item: Item) -> Condition:
        """What an item waits for that nobody has; thousands that nobody has touched wait for the same."""
        if self.fold.known(item.id) is not None:
            return condition.free(item, self.fold, self.crew, self.timing, self.now)
        needs = (item.science_version, *item.needs)
        if needs not in self._untouched:
            self._untouched[needs] = condition.free(item, self.fold, self.crew, self.timing, self.now)
        return self._untouched[needs]

    @cached_property
    def _untouched(self) -> dict[tuple[object, ...], Condition]:
        return {}

    @cached_property
    def paces(self) -> Paces:
        """How long rounds take."""
        return Paces(self.fold, self.items)

    def _held(self, line: ItemLine, owner: Key) -> ItemLine:
        attempt, worker = owner
        beat = self.beats.get(worker)
        # The claim itself is the first sign of life; a beat comes later.
        wall = beat.wall if beat is not None else self.fold.item(line.id).attempts[owner].claimed_at
        age = elapsed_s(wall, self.now)
        line = replace(line, machine=self.name(worker), worker=worker, attempt=attempt, beat_age_s=age)
        if worker in self.crashed:
            return replace(line, state="stale", condition="crashed", why="its process ended without a word")
        found = condition.held(self.items[line.id], owner, self.paces, beat, age, self.timing)
        line = _conditioned(line, found)
        if found.word == "stale":
            return replace(line, state="stale")
        if beat is None or beat.running != line.id:
            return line
        return replace(line, round=max(line.round, beat.round), eta_s=_estimate(beat.eta))

    def takeovers(self, lines: Sequence[ItemLine]) -> list[str]:
        """One sentence for each item that a machine carried on from another's attempt, the latest last."""
        found = [(line, handover) for line in lines for handover in brief(self.fold, line.id).handovers]
        found.sort(key=lambda one: (one[1].lam, one[0].experiment, one[1].lost, one[1].worker, one[1].seq))
        sentences = []
        for line, handover in found[-MOST_TAKEOVERS:]:
            start = self.fold.item(line.id).attempts[handover.attempt, handover.worker].start
            if start is not None:
                sentences.append(self._takeover(line.experiment, handover.lost, start))
        return sentences

    def _takeover(self, experiment: str, lost: str, start: Start) -> str:
        at = f" at {local_time(start.wall, self.now)}" if self.age_s(start.wall) is not None else ""
        earlier = [ckpt.round for ckpt in self.fold.generations(start.item) if ckpt.attempt < start.attempt]
        text = f"{self.name(start.worker)} took {experiment} over from {self.name(lost)}{at}"
        return f"{text} {_from_round(start.round, earlier)}"

    def orders(self) -> list[Order]:
        """Pause and drain, as they hold: for all machines but some, and for those of which something else is wanted."""
        every = self.fold.orders.get("", (-1, 0, "", ""))
        others = [
            machine for machine in self.crew if (own := self.fold.orders.get(machine, every)) > every and own[1] != every[1]
        ]
        given = []
        for target in ("", *sorted(others)):
            _, place, author, wall = self.fold.orders.get(target, every)
            # An order for all also holds for whoever comes yet, but of these nobody can tell.
            if ORDERS[place] != "resume" and (target or not self.crew or len(others) < len(self.crew)):
                by = self.machines.get(machine_of(author), "")
                but = () if target else tuple(self.machines[machine] for machine in others)
                given.append(Order(target, self.machines.get(target, target), ORDERS[place], by, self.age_s(wall), but))
        return given

    def order_of(self, machine: str) -> Order | None:
        """The order that keeps a machine from taking items, None if nobody gave one."""
        orders = self.orders()
        own = [order for order in orders if order.machine == machine]
        every = [order for order in orders if not order.machine and self.machines.get(machine) not in order.but]
        return next(iter(own + every), None)

    def unconfirmed_by(self, item_id: str) -> list[str]:
        """Machine ids from which a confirmation of the item's result is missing."""
        done = self.fold.canonical(item_id)
        if done is None or item_id not in self.fold.unsealed:
            return []
        return list(dict.fromkeys(machine_of(worker) for worker in self._settlement.missing(done)))

    @property
    def strangers(self) -> Sequence[str]:
        """Workers of whom more has been read than is here, by peers or by this machine before the folder was put back."""
        return self._settlement.strangers

    @cached_property
    def _settlement(self) -> Settlement:
        acks = {worker: beat.seen for worker, beat in self.told.items()}
        views = {worker: beat.gone for worker, beat in self.told.items()}
        living = [worker for worker in self.fold.workers if not self.fold.gone(worker)]

        def away() -> Absent | None:
            # Whoever has met most of those that are away seals.
            return min((Absent(self.fold, acks, worker) for worker in living or [""]), key=len) if self.timing.syncs else None

        return Settlement(self.fold, acks, views, "", away, self.read)

    def _unconfirmed(self) -> dict[str, list[str]]:
        """Machines that are away -> experiments whose results wait for them."""
        away: dict[str, list[str]] = {}
        latest: dict[str, tuple[int, str]] = {}
        results = [(item_id, done) for item_id in sorted(self.fold.unsealed & self.items.keys())
                   if (done := self.fold.canonical(item_id)) is not None]  # fmt: skip
        for item_id, done in results:
            latest[done.worker] = max(latest.get(done.worker, (-1, "")), (done.seq, item_id))
        # Whoever has confirmed an author's latest result has read the earlier ones.
        waited_for = {
            author for author, (_, item_id) in latest.items() if any(map(self._is_away, self.unconfirmed_by(item_id)))
        }
        for item_id, done in results:
            for machine in self.unconfirmed_by(item_id) if done.worker in waited_for else ():
                if self._is_away(machine):
                    away.setdefault(machine, []).append(self.names[item_id])
        return away

    def _is_away(self, machine: str) -> bool:
        """Whether the machine has been silent for so long that others take its items over, or is not known here, or not all of
        it that was."""
        known = self.crew.get(machine)
        return (
            known is None
            or machine in map(machine_of, self.strangers)
            or (not known.alive and (known.age_s is None or known.age_s > self.timing.dead))
        )


def _conditioned(line: ItemLine, found: Condition) -> ItemLine:
    return replace(line, condition=found.word, why=found.why, due_s=found.due_s)


def _from_round(start: int, earlier: Sequence[int]) -> str:
    """From where a takeover went on, and what was lost of the rounds that had been saved ``earlier``."""
    if start and start >= max(earlier, default=0):
        return f"after round {start}; nothing was lost."
    if start:
        return f"after round {start}, the last that was intact."
    if earlier:
        return "from round 1: no saved round could be read there."
    return "from round 1; no round had been saved."


def _estimate(eta: float | None) -> float | None:
    return eta if eta is not None and 0 <= eta <= LONGEST_S else None

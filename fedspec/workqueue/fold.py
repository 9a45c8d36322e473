"""What the records say together: who owns which item, what is done, what has failed. A pure function of the set of records.

Every merge is commutative and idempotent, so the order in which a folder delivers journals changes nothing. Whether a silent
worker is dead is not in the records; `liveness` judges that, and `rules` puts the two together.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TypeVar

from fedspec.workqueue.records import (
    Bye,
    Ckpt,
    Claim,
    Ctl,
    Done,
    Fail,
    Hello,
    Import,
    Lost,
    Meet,
    Record,
    Seal,
    Start,
    Yield,
    machine_of,
)

MAX_CODE_FAILURES = 3
MAX_DEATHS = 3
# An attempt's number is one above the highest that its writer knew. Whatever is this far above the number of attempts known
# here is nobody's next one: it neither counts nor uses the numbers up, or one odd record would stop an item for good.
LEAP = 1_000_000

# What a person may want of a machine, or of all; of two orders at one Lamport time the stricter counts.
ORDERS = ("resume", "drain", "pause")
MAX_PRIORITY = 1000
# The role of the member that journals for all.
ROOT = "root"

Key = tuple[int, str]
R = TypeVar("R", bound=Record)


@dataclass(slots=True)
class Attempted:
    """One worker's attempt at an item, as far as its journal tells."""

    claim: Claim | None = None
    start: Start | None = None
    saved: int = 0
    ended: Yield | Fail | None = None

    @property
    def claimed_at(self) -> str:
        """The claimant's wall clock, "" if the claim is not there."""
        return self.claim.wall if self.claim is not None else ""


@dataclass(slots=True)
class ItemState:
    """All that was journalled about one item."""

    attempts: dict[Key, Attempted] = field(default_factory=dict)
    generations: dict[tuple[int, int, str, str], Ckpt] = field(default_factory=dict)
    done: dict[Key, Done] = field(default_factory=dict)
    seals: dict[tuple[int, str, int], Seal] = field(default_factory=dict)
    releases: set[int] = field(default_factory=set)
    retries: set[int] = field(default_factory=set)
    meets: dict[Key, Meet] = field(default_factory=dict)
    losses: set[tuple[Key, str]] = field(default_factory=set)  # (the member's claim, whoever says that it is lost)
    cancel: tuple[int, bool, str, str] = (-1, False, "", "")
    priority: tuple[int, str, int] = (-1, "", 0)

    @property
    def limit(self) -> int:
        """The highest attempt number that counts: a function of the set of records, which grows with it."""
        return LEAP + len(self.attempts)

    @property
    def released(self) -> int:
        """Attempts up to this one have been taken from their workers by hand."""
        return max((attempt for attempt in self.releases if attempt <= self.limit), default=0)

    @property
    def retried(self) -> int:
        """Failures of attempts up to this one are forgiven."""
        return max((attempt for attempt in self.retries if attempt <= self.limit), default=0)

    def last_attempt(self) -> int:
        """The highest attempt number in use, 0 if nobody ever claimed the item."""
        return max((attempt for attempt, _ in self.attempts if attempt <= self.limit), default=0)

    def next_attempt(self) -> int:
        """The number of the next claim: above all in use, and above those that a person has spoken of."""
        return max(self.last_attempt(), self.released, self.retried) + 1

    def failures(self, fault: str) -> list[Fail]:
        """Failed attempts of one kind since the last retry, oldest first."""
        retried, limit = self.retried, self.limit
        ended = ((key, a.ended) for key, a in self.attempts.items() if retried < key[0] <= limit)
        return [end for _, end in sorted(ended, key=lambda pair: pair[0]) if isinstance(end, Fail) and end.fault == fault]


@dataclass(slots=True)
class WorkerState:
    """What a worker's journal says of the worker itself."""

    hello: Hello | None = None
    bye: bool = False
    length: int = 0


class Fold:
    """The state that a set of records adds up to."""

    def __init__(self, records: Iterable[Record] = ()) -> None:
        self.items: dict[str, ItemState] = {}
        self.workers: dict[str, WorkerState] = {}
        self.closed: dict[str, int] = {}
        self.retirements: set[str] = set()
        self.imported: set[str] = set()  # hashes of files that were taken in
        self.orders: dict[str, tuple[int, int, str, str]] = {}  # machine, "" for all -> (lam, place in ORDERS, author, wall)
        self.unsealed: set[str] = set()  # items with a result that may still change
        self.lam = 0
        for record in records:
            self.add(record)

    def item(self, item_id: str) -> ItemState:
        """The item's state; an item nobody has touched is empty."""
        return self.items.get(item_id) or ItemState()

    def add(self, record: Record) -> None:
        """Take one more accepted record in."""
        self.lam = max(self.lam, record.lam)
        worker = self.workers.setdefault(record.worker, WorkerState())
        worker.length = max(worker.length, record.seq + 1)
        match record:
            case Hello():
                worker.hello = _later(worker.hello, record)
                # A machine knows of its own dead only.
                for dead, last in record.closes.items():
                    if machine_of(dead) != machine_of(record.worker):
                        continue
                    self.closed[dead] = max(last, self.closed.get(dead, -1))
            case Bye():
                worker.bye = True
            case Ctl():
                self._control(record)
            case Seal():
                self._state(record.item).seals[record.lam, record.worker, record.seq] = record
                self._note_seal(record.item)
            case Import():
                self.imported.add(record.content)
            case Claim() | Start() | Ckpt() | Yield() | Fail() | Done() | Meet() | Lost():
                self._attempt(record)
            case _:
                pass

    def _state(self, item_id: str) -> ItemState:
        return self.items.setdefault(item_id, ItemState())

    def _attempt(self, record: Claim | Start | Ckpt | Yield | Fail | Done | Meet | Lost) -> None:
        state = self._state(record.item)
        if isinstance(record, Lost):
            state.losses.add(((record.attempt, record.member), record.worker))
            return
        attempted = state.attempts.setdefault(record.key, Attempted())
        match record:
            case Claim():
                attempted.claim = _later(attempted.claim, record)
            case Start():
                attempted.start = _later(attempted.start, record)
            case Ckpt():
                attempted.saved = max(attempted.saved, record.round)
                key = (record.round, record.attempt, record.worker, record.sha256)
                state.generations[key] = _later(state.generations.get(key), record)
            case Done():
                state.done[record.key] = _later(state.done.get(record.key), record)
                self._note_seal(record.item)
            case Meet():
                state.meets[record.key] = _later(state.meets.get(record.key), record)
            case Yield() | Fail():
                attempted.ended = _later(attempted.ended, record)

    def _note_seal(self, item_id: str) -> None:
        state = self.items[item_id]
        (self.unsealed.discard if _sealed(state) is not None or not state.done else self.unsealed.add)(item_id)

    def _control(self, ctl: Ctl) -> None:
        if ctl.op == "retire":
            self.retirements.add(ctl.value)
        elif not ctl.item and ctl.op in ORDERS:
            order = (ctl.lam, ORDERS.index(ctl.op), ctl.worker, ctl.wall)
            self.orders[ctl.value] = max(order, self.orders.get(ctl.value, order))
        elif ctl.item:
            self._control_item(self._state(ctl.item), ctl)

    def _control_item(self, state: ItemState, ctl: Ctl) -> None:
        match ctl.op:
            case "release":
                state.releases.add(ctl.attempt)
            case "retry":
                state.retries.add(ctl.attempt)
            case "cancel" | "resume":
                # At equal Lamport time cancel beats resume.
                state.cancel = max(state.cancel, (ctl.lam, ctl.op == "cancel", ctl.worker, ctl.wall))
            case "priority" if (value := _priority(ctl.value)) is not None:
                state.priority = max(state.priority, (ctl.lam, ctl.worker, value))
            case _:
                pass

    def order_for(self, machine: str) -> str:
        """What a person wants of the machine: the latest order for it or for all, one of `ORDERS`."""
        given = [self.orders[target] for target in ("", machine) if target in self.orders]
        return ORDERS[max(given)[1]] if given else "resume"

    def priority(self, item_id: str) -> int:
        """Higher comes first; 0 unless a person has said otherwise."""
        return self.item(item_id).priority[2]

    def gone(self, worker: str) -> bool:
        """The worker said good-bye, its machine has closed it, or a person has retired the machine: nothing it does counts."""
        state = self.workers.get(worker)
        return worker in self.closed or (state is not None and state.bye) or self.retired(worker)

    def retired(self, worker: str) -> bool:
        """Whether a person has said that the worker's machine does not come back."""
        return machine_of(worker) in self.retirements

    def live(self, item_id: str) -> list[Key]:
        """Claims that still stand."""
        state = self.item(item_id)
        if cancelled(state):
            return []
        released, limit = state.released, state.limit
        return [
            key
            for key, attempted in state.attempts.items()
            if attempted.ended is None and released < key[0] <= limit and not self.gone(key[1]) and not self._lost(item_id, key)
        ]

    def _lost(self, item_id: str, key: Key) -> bool:
        """Whether the root of the claim's own attempt has lost that member."""
        losses = self.item(item_id).losses
        return any(lost == key and self.role(item_id, (key[0], author)) == ROOT for lost, author in losses)

    def role(self, item_id: str, key: Key) -> str:
        """The role that a claim is for, "" for all of an item that one worker runs alone."""
        attempted = self.item(item_id).attempts.get(key)
        return attempted.claim.role if attempted is not None and attempted.claim is not None else ""

    def owner(self, item_id: str) -> Key | None:
        """The claim that counts, of a gang its root's. Rivals who know of each other's claims agree on it, whoever is ahead."""
        live = self.live(item_id)
        roots = [key for key in live if self.role(item_id, key) in ("", ROOT)]
        return max(roots or live, key=lambda key: _precedence(item_id, key), default=None)

    def canonical(self, item_id: str) -> Done | None:
        """The one result that is published."""
        state = self.items.get(item_id)
        if state is None or not state.done:
            return None
        return _sealed(state) or state.done[max(state.done, key=lambda key: _precedence(item_id, key))]

    def generations(self, item_id: str) -> list[Ckpt]:
        """Saved rounds of all attempts, the latest first."""
        saved = self.item(item_id).generations
        return [saved[key] for key in sorted(saved, reverse=True)]

    def base(self, item_id: str) -> str:
        """The frozen base that the item's attempts use, "" if none has begun: of the latest generation, else of a start."""
        for ckpt in self.generations(item_id):
            return ckpt.base
        starts = sorted((key, a.start) for key, a in self.item(item_id).attempts.items() if a.start is not None)
        return starts[0][1].base if starts else ""

    def deaths(self, item_id: str) -> list[Key]:
        """Attempts since the last retry and the last saved round that began and ended without a word: it may kill its worker.

        Only those whose own machine has said that the process is dead: one that was merely silent may wake and yield, and an
        item that has failed must not come back to life.
        """
        state = self.item(item_id)
        saved = max((key[0] for key, a in state.attempts.items() if a.saved and key[0] <= state.limit), default=0)
        since, limit = max(state.retried, saved), state.limit
        return sorted(
            key
            for key, a in state.attempts.items()
            if since < key[0] <= limit
            and a.start is not None
            and a.ended is None
            and key not in state.done
            and key[1] in self.closed
            and self.read_to_the_end(key[1])
        )

    def read_to_the_end(self, worker: str) -> bool:
        """Whether the worker is gone and all that it wrote is here: its last word may still be on its way."""
        state = self.workers.get(worker)
        if state is None:
            return False
        return state.bye or (worker in self.closed and state.length > self.closed[worker])

    def view_of_the_gone(self) -> str:
        """Names what is known of all workers that are gone: two readers with the same view know the same of them."""
        known = sorted((w, s.length) for w, s in self.workers.items() if self.read_to_the_end(w) and not self.retired(w))
        return hashlib.sha256(repr(known).encode()).hexdigest()[:12]

    def status(self, item_id: str) -> str:
        """The first that holds: sealed, done, cancelled, failed, running, pending."""
        state = self.items.get(item_id)
        if state is None:
            return "pending"
        if state.done:
            return "sealed" if _sealed(state) is not None else "done"
        if cancelled(state):
            return "cancelled"
        if self.failure(item_id) is not None:
            return "failed"
        return "running" if self.live(item_id) else "pending"

    def failure(self, item_id: str) -> str | None:
        """Why the item is given up, or None."""
        state = self.item(item_id)
        faults = state.failures("code")
        if len(faults) >= MAX_CODE_FAILURES:
            return faults[-1].reason
        for fail in state.failures("final"):
            return fail.reason
        deaths = self.deaths(item_id)
        if len(deaths) >= MAX_DEATHS:
            return f"it killed its worker {len(deaths)} times"
        return None


def _later(old: R | None, new: R) -> R:
    """Of two records of one worker that say the same thing, the later one, in whatever order they are read."""
    return new if old is None or old.seq < new.seq else old


def _priority(text: str) -> int | None:
    try:
        return max(-MAX_PRIORITY, min(MAX_PRIORITY, int(text[:8])))
    except ValueError:
        return None


def _sealed(state: ItemState) -> Done | None:
    """The result that every machine has acknowledged. If two seals conflict, the lowest (lam, worker) counts."""
    for _, seal in sorted(state.seals.items()):
        if (done := state.done.get((seal.attempt, seal.author))) is not None:
            return done
    return None


def cancelled(state: ItemState) -> bool:
    """Whether the last word of a person is cancel."""
    return state.cancel[1]


def _precedence(item_id: str, key: Key) -> tuple[int, bytes]:
    """A static order of claims: by attempt, then by a weight that favours nobody in the long run."""
    attempt, worker = key
    return attempt, weight(item_id, worker)


def weight(item_id: str, worker: str) -> bytes:
    """Highest-random-weight hashing: of any set of workers, the one with the largest weight has the item.

    Shares go by it (`members.Members.share_of`) and so do rival claims: whoever starts an item of its own share without asking
    never loses it to one that only stole it.
    """
    return hashlib.sha256(f"{item_id}/{worker}".encode()).digest()

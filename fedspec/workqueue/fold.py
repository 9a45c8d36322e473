"""What the records say together: who owns which item, what is done, what has failed. A pure function of the set of records.

Every merge is commutative and idempotent, so the order in which a folder delivers journals changes nothing. Whether a silent
worker is dead is not in the records; `liveness` judges that, and `rules` puts the two together.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import wraps
from typing import Any, TypeVar

from fedspec.plan import ROOT as ROOT
from fedspec.workqueue.itemstate import ItemState, later
from fedspec.workqueue.itemstate import Key as Key
from fedspec.workqueue.records import (
    Bye,
    Ckpt,
    Claim,
    Ctl,
    Done,
    Fail,
    Fork,
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
# What a person may want of a machine, or of all; of two orders at one Lamport time the stricter counts.
ORDERS = ("resume", "drain", "pause")
_UNTOUCHED = ItemState()

Answer = TypeVar("Answer")


def remembered(find: Callable[[Fold, str], Answer]) -> Callable[[Fold, str], Answer]:
    """Find the answer about an item once, until what it follows from changes: a record of the item, the fate of a worker."""
    name = find.__name__

    @wraps(find)
    def answer(fold: Fold, item_id: str) -> Answer:
        found = fold.found.get(item_id)
        if found is None:
            found = fold.found[item_id] = {}
        if name not in found:
            found[name] = find(fold, item_id)
        known: Answer = found[name]
        return known

    return answer


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
        self.closers: dict[str, set[str]] = {}  # of each closed worker those who have closed it
        self.inherited: set[str] = set()  # workers that their machine has closed under another id
        self.forks: set[str] = set()  # workers that were cloned
        self.retirements: set[str] = set()
        self.imported: set[str] = set()  # hashes of files that were taken in
        self.orders: dict[str, tuple[int, int, str, str]] = {}  # machine, "" for all -> (lam, place in ORDERS, author, wall)
        self.finished: set[str] = set()  # items with a result
        self.unsealed: set[str] = set()  # items with a result that may still change
        self.hesitant: set[str] = set()  # items of which an attempt met a transient failure
        self.preferred: set[str] = set()  # items that a person has given a priority
        self.items_of: dict[str, set[str]] = {}  # worker -> items that it has said something of
        self.found: dict[str, dict[str, Any]] = {}  # item -> answers that were found: see `remembered`
        self.lam = 0
        for record in records:
            self.add(record)

    def known(self, item_id: str) -> ItemState | None:
        """The item's state, None if nobody has touched it."""
        return self.items.get(item_id)

    def item(self, item_id: str) -> ItemState:
        """The item's state; an item nobody has touched is empty. Only to be read."""
        return self.known(item_id) or _UNTOUCHED

    def add(self, record: Record) -> None:
        """Take one more accepted record in."""
        if record.lam > self.lam:
            self.lam = record.lam
        worker = self.workers.get(record.worker)
        if worker is None:
            worker = self.workers[record.worker] = WorkerState()
        if record.seq >= worker.length:
            worker.length = record.seq + 1
            if record.worker in self.closed:
                self._forget_items_of(record.worker)
        take = _TAKE.get(type(record))
        if take is not None:
            take(self, record)

    def _take_hello(self, hello: Hello) -> None:
        worker = self.workers[hello.worker]
        worker.hello = later(worker.hello, hello)
        self._close(hello)

    def _take_bye(self, bye: Bye) -> None:
        self.workers[bye.worker].bye = True
        self._forget_items_of(bye.worker)
        self._close(bye)

    def _close(self, by: Hello | Bye) -> None:
        # Under whatever id they were its machine's: that may have changed since.
        for dead, last in by.closes.items():
            self.closed[dead] = max(last, self.closed.get(dead, -1))
            self.closers.setdefault(dead, set()).add(by.worker)
            if machine_of(dead) != machine_of(by.worker):
                self.inherited.add(dead)
            self._forget_items_of(dead)

    def _take_fork(self, fork: Fork) -> None:
        self.forks.add(fork.worker)
        self._forget_items_of(fork.worker)
        for line, record in fork.disputed:
            self._changed(record.item).dispute(line, record)
            self._note_seal(record.item)

    def _take_import(self, taken: Import) -> None:
        self.imported.add(taken.content)

    def _take_seal(self, seal: Seal) -> None:
        self._changed(seal.item).seals[seal.lam, seal.worker, seal.seq] = seal
        self._note_seal(seal.item)

    def _take_lost(self, lost: Lost) -> None:
        self._changed(lost.item).losses.add(((lost.attempt, lost.member), lost.worker))

    def _take_attempt(self, record: Claim | Start | Ckpt | Yield | Fail | Done | Meet) -> None:
        self._changed(record.item).take(record)
        # The index is by worker, for the day when that is gone.
        items = self.items_of.get(record.worker)
        if items is None:
            items = self.items_of[record.worker] = set()
        items.add(record.item)

    def _take_fail(self, fail: Fail) -> None:
        self._take_attempt(fail)
        if fail.fault == "transient":
            self.hesitant.add(fail.item)

    def _take_done(self, done: Done) -> None:
        self._take_attempt(done)
        self.finished.add(done.item)
        self._note_seal(done.item)

    def _take_control(self, ctl: Ctl) -> None:
        if ctl.op == "retire":
            self.retirements.add(ctl.value)
            for worker in self.items_of:
                if machine_of(worker) == ctl.value:
                    self._forget_items_of(worker)
        elif not ctl.item and ctl.op in ORDERS:
            order = (ctl.lam, ORDERS.index(ctl.op), ctl.worker, ctl.wall)
            self.orders[ctl.value] = max(order, self.orders.get(ctl.value, order))
        elif ctl.item:
            self._changed(ctl.item).obey(ctl)
            if ctl.op == "priority":
                self.preferred.add(ctl.item)

    def _changed(self, item_id: str) -> ItemState:
        self.found.pop(item_id, None)
        state = self.known(item_id)
        if state is None:
            state = self.items[item_id] = ItemState()
        return state

    def _forget_items_of(self, worker: str) -> None:
        for item_id in self.items_of.get(worker, ()):
            self.found.pop(item_id, None)

    def _note_seal(self, item_id: str) -> None:
        state = self.items[item_id]
        (self.unsealed.discard if state.sealed is not None or not state.done else self.unsealed.add)(item_id)
        if state.disputed and state.has_result:
            self.finished.add(item_id)

    def order_for(self, machine: str) -> str:
        """What a person wants of the machine: the latest order for it or for all, one of `ORDERS`."""
        given = [self.orders[target] for target in ("", machine) if target in self.orders]
        return ORDERS[max(given)[1]] if given else "resume"

    def priority(self, item_id: str) -> int:
        """Higher comes first; 0 unless a person has said otherwise."""
        return self.item(item_id).priority[2] if item_id in self.preferred else 0

    def length(self, worker: str) -> int:
        """How many records of the worker are here."""
        state = self.workers.get(worker)
        return 0 if state is None else state.length

    def gone(self, worker: str) -> bool:
        """The worker said good-bye, its machine has closed it, it was cloned, or a person has retired the machine: nothing
        it does counts."""
        state = self.workers.get(worker)
        return worker in self.closed or (state is not None and state.bye) or worker in self.forks or self.retired(worker)

    def retired(self, worker: str) -> bool:
        """Whether a person has said that the worker's machine does not come back."""
        return bool(self.retirements) and machine_of(worker) in self.retirements

    @remembered
    def live(self, item_id: str) -> tuple[Key, ...]:
        """Claims that still stand."""
        state = self.item(item_id)
        if state.cancelled:
            return ()
        released, limit = state.released, state.limit
        return tuple(
            key
            for key, attempted in state.attempts.items()
            if attempted.ended is None and released < key[0] <= limit and not self.gone(key[1]) and not self._lost(item_id, key)
        )

    def _lost(self, item_id: str, key: Key) -> bool:
        """Whether the root of the claim's own attempt has lost that member."""
        losses = self.item(item_id).losses
        return any(lost == key and self.role(item_id, (key[0], author)) == ROOT for lost, author in losses)

    def role(self, item_id: str, key: Key) -> str:
        """The role that a claim is for, "" for all of an item that one worker runs alone."""
        attempted = self.item(item_id).attempts.get(key)
        return attempted.claim.role if attempted is not None and attempted.claim is not None else ""

    @remembered
    def owner(self, item_id: str) -> Key | None:
        """The claim that counts, of a gang its root's. Rivals who know of each other's claims agree on it, whoever is ahead."""
        live = self.live(item_id)
        roots = [key for key in live if self.role(item_id, key) in ("", ROOT)]
        return max(roots or live, key=lambda key: _precedence(item_id, key), default=None)

    @remembered
    def canonical(self, item_id: str) -> Done | None:
        """The one result that is published."""
        state = self.known(item_id)
        if state is None or not state.has_result:
            return None
        return state.sealed or state.done[max(state.done, key=lambda key: _precedence(item_id, key))]

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

    @remembered
    def deaths(self, item_id: str) -> tuple[Key, ...]:
        """Attempts since the last retry and the last saved round that began and ended without a word: it may kill its worker.

        Only those whose own machine has said that the process is dead: one that was merely silent may wake and yield, and an
        item that has failed must not come back to life.
        """
        state = self.item(item_id)
        since, limit = max(state.retried, state.advanced), state.limit
        counted = (
            key
            for key, a in state.attempts.items()
            if since < key[0] <= limit
            and a.start is not None
            and a.ended is None
            and key not in state.done
            and key[1] in self.closed
            and key[1] not in self.forks
            and self.read_to_the_end(key[1])
        )
        return tuple(sorted(counted))

    def read_to_the_end(self, worker: str) -> bool:
        """Whether the worker is gone and all that it wrote is here: its last word may still be on its way."""
        state = self.workers.get(worker)
        if state is None:
            return False
        # Where a history has forked, nothing can follow.
        return worker in self.forks or state.bye or (worker in self.closed and state.length == self.closed[worker] + 1)

    def outlives(self, worker: str) -> bool:
        """Whether the worker has said more than whoever closed it took for its last word.

        Then it is another machine's, which a copy of its notes took for its own dead, or their folder was put back. It may say
        still more until it leaves, or is closed by whoever knows of its later words.
        """
        state = self.workers.get(worker)
        said_more = state is not None and worker in self.closed and state.length > self.closed[worker] + 1
        return said_more and not self.read_to_the_end(worker)

    def view_of_the_gone(self) -> str:
        """Names what is known of all workers that are gone: two readers with the same view know the same of them."""
        known = sorted((w, s.length) for w, s in self.workers.items() if self.read_to_the_end(w) and not self.retired(w))
        return hashlib.sha256(repr(known).encode()).hexdigest()[:12]

    @remembered
    def status(self, item_id: str) -> str:
        """The first that holds: sealed, done, cancelled, failed, running, pending."""
        state = self.known(item_id)
        if state is None:
            return "pending"
        if state.has_result:
            return "sealed" if state.sealed is not None else "done"
        if state.cancelled:
            return "cancelled"
        if self.failure(item_id) is not None:
            return "failed"
        return "running" if self.live(item_id) else "pending"

    @remembered
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


_TAKE: dict[type[Record], Callable[[Fold, Any], None]] = {
    Hello: Fold._take_hello,
    Fork: Fold._take_fork,
    Claim: Fold._take_attempt,
    Start: Fold._take_attempt,
    Ckpt: Fold._take_attempt,
    Yield: Fold._take_attempt,
    Fail: Fold._take_fail,
    Done: Fold._take_done,
    Seal: Fold._take_seal,
    Meet: Fold._take_attempt,
    Lost: Fold._take_lost,
    Ctl: Fold._take_control,
    Import: Fold._take_import,
    Bye: Fold._take_bye,
}

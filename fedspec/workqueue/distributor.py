"""`WorkDistributor`: the queue in a shared folder as its members use it: to claim items, to finish them, to show life."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

from fedspec.errors import FedspecError, FolderError, SupersededError
from fedspec.plan import Item
from fedspec.workqueue import rules
from fedspec.workqueue.caretaker import Caretaker
from fedspec.workqueue.fold import Key
from fedspec.workqueue.gangs import Gang, gang_of, is_over
from fedspec.workqueue.journal import R
from fedspec.workqueue.members import Absent, Settlement, have_read
from fedspec.workqueue.membership import Member
from fedspec.workqueue.pulse import Report
from fedspec.workqueue.records import (
    Ckpt,
    Claim,
    Ctl,
    Done,
    Fail,
    Seal,
    Start,
    Yield,
    machine_of,
    pack_rows,
)
from fedspec.workqueue.rules import Drained, Finished, Held, Situation, Wait

BEGUN_ANEW = (
    "This machine has worked in this folder before, and nothing of that is here: a new queue begins, and all is trained again. "
    "If you did not empty the folder, it may not be connected or synced: stop, see to that, and start again. Nothing is lost."
)


class WorkDistributor(Member):
    """The queue as its members use it.

    Without `join` a process only looks, and adds items. After `join` it is a member: it beats, claims, and journals what it
    does. All methods may be called from any thread.
    """

    def _set_up(self) -> None:
        super()._set_up()
        self.caretaker = Caretaker(self)
        self._held: Held | None = None
        self._stop: str | None = None
        self._avoided: dict[str, float] = {}
        self._failed_at: dict[tuple[str, Key], float] = {}

    def join(self, name: str, capabilities: Collection[str], version: str = "") -> str:
        """As `Member.join`, and the first heartbeat."""
        worker = super().join(name, capabilities, version)
        if self.begins_anew:
            self.caretaker.tell(BEGUN_ANEW)
        with suppress(FolderError):  # it is a member already, and beats as soon as the folder lets it
            self.tick()
        return worker

    def claim(self, only: Collection[str] | None = None) -> Held | Wait | Drained | Finished:
        """Claim the next item, one of ``only`` if given. What is still held is given back first.

        Raises:
            FolderError: the folder cannot be read or written; nothing is claimed.
        """
        with self._lock:
            if self.joined and (left := self._held) is not None and left.worker == self.worker:
                # The folder failed whoever had it before a word of that was said: this process would wait for itself.
                self.give_back(left, "left by an error")
        if note := self._stay_member():
            self.caretaker.tell(note)
        with self._alone(), self._lock:
            self.store.refresh()
            self._own().flush()
            action = rules.next_action(self._situation(only))
            if not isinstance(action, rules.Take):
                return action
            claim = self._append(Claim, item=action.item.id, attempt=action.attempt, role=action.role)
            held = Held(action.item, action.attempt, self.worker, action.over, claim.seq, action.sure, action.role)
            self._held = held
            self._stop = None
            return self._held

    def is_paused(self) -> bool:
        """Whether a person wants this machine to stop after the round. Reads nothing."""
        with self._lock:
            return self.store.fold.order_for(machine_of(self.worker)) == "pause"

    def agreed(self, held: Held) -> bool:
        """Whether every other machine's live worker is known to have read the claim. Reads nothing."""
        with self._lock:
            others = self._pulse.members(self.worker, self._dead()).others
            return held.sure or have_read(self.store.acks, others, self.worker, held.seq)

    def seal(self) -> list[str]:
        """Journal of each result that no other can come to replace any more that it never changes; returns the items' ids.

        Whoever has the item in its share does it, of those that have met the machines that are away. Where copies of the folder
        meet later, a machine that has never heard of another seals nothing: it may just not have met them.
        """
        with self._lock:
            fold = self.store.fold
            if not fold.unsealed or self._journal is None or fold.gone(self.worker) or not self._pulse.settled():
                return []
            if self.timing.syncs and not (self._pulse.has_been_here() and self._has_company()):
                return []
            settlement = self._settlement()
            settled = [
                done
                for item_id in sorted(fold.unsealed)
                if item_id in self.store.items
                and (done := fold.canonical(item_id)) is not None
                and not self._may_change(done, settlement)
            ]
            # Whose share it is takes a hash for each member: asked last.
            ready = self._of_this_worker(settled) if settled else []
            for done in ready:
                line = self.store.histories.name_of(done.worker, done.seq)
                self._append(Seal, item=done.item, attempt=done.attempt, author=done.worker, line=line)
            return [done.item for done in ready]

    def _of_this_worker(self, results: list[Done]) -> list[Done]:
        """Those that it falls to this worker to seal."""
        crowd = self._pulse.members(self.worker, self._dead())
        absent = {worker: self._absent(worker) for worker in crowd.live if worker != self.worker}
        mine = []
        for done in results:
            able = [w for w in crowd.live if (away := absent.get(w)) is None or not any(away.unaware(done))]
            if crowd.share_of(self.store.items[done.item], able) == self.worker:
                mine.append(done)
        return mine

    def _may_change(self, done: Done, settlement: Settlement) -> bool:
        return settlement.may_change(done)

    def _settlement(self) -> Settlement:
        views = {worker: beat.gone for worker, beat in self.store.told.items()}
        absent = partial(self._absent, self.worker)
        return Settlement(self.store.fold, self.store.acks, views, self.worker, absent, self._have_read)

    def _absent(self, worker: str) -> Absent | None:
        return Absent(self.store.fold, self.store.acks, worker) if self.timing.syncs else None

    def unconfirmed(self) -> list[str]:
        """Items with a result that others have not all acknowledged, and may yet before long.

        Who has left, and was not met in two settle times, is not waited for.
        """
        with self._lock:
            fold = self.store.fold
            items = sorted(fold.unsealed & self.store.items.keys()) if self._has_company() else []
            if not self._pulse.has_been_here(times=2):
                return items
            absent = self._absent(self.worker)
            unaware = {i for i in items if absent and (done := fold.canonical(i)) is not None and any(absent.unaware(done))}
            return [item_id for item_id in items if item_id not in unaware]

    def _has_company(self) -> bool:
        workers, mine = self.store.fold.workers, machine_of(self.worker)
        # A visitor only says something: who works there may not have been met.
        return any(state.hello is not None and machine_of(worker) != mine for worker, state in workers.items())

    def must_stop(self, held: Held) -> str | None:
        """The gate: why work on the item must end now, or None. Reads the folder."""
        with self._lock:
            self.store.catch_up()
            self._stop = rules.gate(self.store.fold, held.item.id, held.key)
            return self._stop

    @property
    def stop_reason(self) -> str | None:
        """Why the held item must be dropped, as the heartbeat or the last gate found. Reads nothing."""
        return self._stop

    def gang(self, held: Held) -> Gang:
        """Who else is in the gang of the item that this worker has a role in. Reads nothing."""
        with self._lock:
            return gang_of(self.store.fold, held.item)

    def is_over(self, held: Held) -> bool:
        """Whether the gang's root has left or is presumed dead: others may begin it anew by now. Reads nothing."""
        with self._lock:
            return is_over(self.store.fold, held.item.id, held.attempt, self._dead())

    def avoid(self, held: Held, seconds: float) -> None:
        """Claim no role in this gang for a while, unless somebody else waits in it."""
        with self._lock:
            self._avoided[held.item.id] = self.clock.awake_or_asleep() + seconds

    def started(self, held: Held, round_: int, base: str, source: str, device: str) -> None:
        """Journal that training begins after ``round_``. Raises SupersededError."""
        self.note(held, Start, round=round_, base=base, source=source, device=device)

    def saved(self, held: Held, round_: int, file: str, sha256: str, base: str, accuracy: float | None) -> None:
        """Journal a generation that is on disk. Raises SupersededError."""
        self.note(held, Ckpt, round=round_, file=file, sha256=sha256, base=base, accuracy=accuracy)

    def done(self, held: Held, table: Mapping[str, Any], rounds: int, accuracy: float | None) -> None:
        """Journal the result, rows and all. Raises SupersededError."""
        self.note(held, Done, rows=pack_rows(table), rounds=rounds, accuracy=accuracy)
        self._drop(held)

    def failed(self, held: Held, fault: str, reason: str, traceback: str = "") -> None:
        """Journal that the attempt ended in an error, unless somebody else has the item by now."""
        try:
            self.note(held, Fail, fault=fault, reason=reason[:2000], traceback=traceback[-8000:])
        except SupersededError as error:
            self._append_yield(held, error.what)
        self._drop(held)

    def give_back(self, held: Held, reason: str) -> None:
        """Journal that this worker drops the item and writes nothing more for this attempt."""
        self._append_yield(held, reason)
        self._drop(held)

    def control(self, op: str, item: Item | Sequence[Item] | None = None, value: str = "") -> None:
        """Journal what a person asked for, of items or of the whole queue. Opens a journal if the process has none.

        ``op`` is one of ``release retry cancel resume`` and ``priority`` (``value``: a number) for an item, and for a machine
        (``value``: its id, "" for all) one of ``pause drain resume`` and ``retire``.
        """
        about = [""] if item is None else [item.id] if isinstance(item, Item) else [one.id for one in item]
        with self.pen() as append:
            for id_ in about:
                append(Ctl, op=op, item=id_, attempt=self.store.fold.item(id_).last_attempt(), value=value)
        self.caretaker.show()

    def enqueue(self, items: Iterable[Item]) -> tuple[list[Item], int]:
        """As `Board.enqueue`, and show it."""
        chosen = super().enqueue(items)
        self.caretaker.show()
        return chosen

    def elected(self, task: str, *, leaving: bool = False) -> bool:
        """Whether this member does what only one should do; never before it has met the others, unless it is ``leaving``."""
        with self._lock:
            crowd = self._pulse.members(self.worker, self._dead()) if self._journal is not None else None
            return crowd is not None and (crowd.known or leaving) and crowd.first(task) == crowd.me

    def tick(self) -> None:
        """Poll the folder, and beat when it is time. Called from the beat thread, at least every `Timing.poll` seconds."""
        with self._lock:
            if self._journal is None:
                return
            self.store.refresh()
            if self._acquainted != len(self.store.fold.workers):
                self._meet()
            self._pulse.look(self.worker)
            self.timing = self._pulse.timing
            if self._held is not None and self._stop is None:
                self._stop = rules.gate(self.store.fold, self._held.item.id, self._held.key)
            due = self._pulse.due()
            if due:
                self._own().watch(self.store.journals)
            self._own().flush()
            if due:
                with suppress(FedspecError, OSError):  # a machine whose own disk refuses ends with its next record
                    self._note_read()
                self._pulse.beat(self.worker, self._own().seq)
            self.seal()

    def everywhere(self, item: Item) -> float:
        """The latest round of which all who have not left have the generation; infinite where all see one folder."""
        with self._lock:
            return self._pulse.everywhere(self.worker, item.id) if self.timing.syncs else float("inf")

    def note(self, held: Held, kind: type[R], **fields: Any) -> R:
        """Journal something about the attempt, unless it is over. Raises SupersededError."""
        with self._lock:
            reason = self.must_stop(held)
            if reason is not None:
                raise SupersededError(f"{held.item.exp} was {reason}.", "Nothing is lost; this worker takes the next item.")
            return self._append(kind, item=held.item.id, attempt=held.attempt, **fields)

    def _append_yield(self, held: Held, reason: str) -> None:
        with self._lock:
            self._append(Yield, item=held.item.id, attempt=held.attempt, reason=reason)

    def _drop(self, held: Held) -> None:
        with self._lock:
            if self._held == held:
                self._held, self._stop = None, None
            self._pulse.report = Report(steps=self.report.steps, have=self.report.have)

    def _situation(self, only: Collection[str] | None) -> Situation:
        dead, now = self._dead(), self.clock.awake_or_asleep()
        return Situation(
            fold=self.store.fold,
            items=self.store.items,
            machine=machine_of(self.worker),
            capabilities=self.capabilities,
            dead=dead,
            backing_off=frozenset([*self._backing_off(now), *(i for i, until in self._avoided.items() if now < until)]),
            only=only,
            settled=self._pulse.settled(),
            members=self._pulse.members(self.worker, dead),
            locks=self.timing.locks,
        )

    def _backing_off(self, now: float) -> Iterator[str]:
        """Items whose last transient failure this process has known of for less than the back-off."""
        fold = self.store.fold
        for item_id in fold.hesitant - fold.finished:
            failures = fold.item(item_id).setbacks()
            if failures:
                seen = self._failed_at.setdefault((item_id, failures[-1].key), now)
                if now - seen < rules.backoff_s(len(failures)) * self.timing.scale:
                    yield item_id

"""`WorkDistributor`: the queue in a shared folder as its members use it: to claim items, to finish them, to show life."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedspec.clock import Clock, timestamp
from fedspec.errors import SetupError, SupersededError
from fedspec.files import Files
from fedspec.plan import Item
from fedspec.workqueue import rules
from fedspec.workqueue.board import Board
from fedspec.workqueue.fold import Key
from fedspec.workqueue.journal import OwnJournal, R
from fedspec.workqueue.liveness import Timing, Watch
from fedspec.workqueue.records import Bye, Ckpt, Claim, Ctl, Done, Fail, Hello, Start, Yield, machine_of, pack_rows
from fedspec.workqueue.rules import Finished, Situation, Wait
from fedspec.workqueue.slots import NewHex
from fedspec.workqueue.store import Beat
from fedspec.workspace import LocalState, Workspace


@dataclass(frozen=True, slots=True)
class Held:
    """An item that this process has claimed; ``over`` is the dead worker's claim that it took over."""

    item: Item
    attempt: int
    worker: str
    over: Key | None = None

    @property
    def key(self) -> Key:
        """(attempt, worker)."""
        return self.attempt, self.worker


@dataclass(slots=True)
class Report:
    """What the trainer tells the heartbeat; written by one thread, read by another."""

    running: str = ""
    round: int = 0
    clients: str = ""
    steps: int = 0
    eta_s: float | None = None


class WorkDistributor(Board):
    """The queue as its members use it.

    Without `join` a process only looks, and adds items. After `join` it is a member: it beats, claims, and journals what it
    does. All methods may be called from any thread.
    """

    def __init__(
        self,
        workspace: Workspace | str | Path | None = None,
        *,
        files: Files | None = None,
        clock: Clock | None = None,
        timing: Timing | None = None,
        local: LocalState | None = None,
        new_hex: NewHex = secrets.token_hex,
    ) -> None:
        super().__init__(workspace, files=files, clock=clock, timing=timing, local=local, new_hex=new_hex)
        self.report = Report()
        self.capabilities: frozenset[str] = frozenset()
        self._watch = Watch(self.timing)
        self._journal: OwnJournal | None = None
        self._free_slot: Callable[[], None] = lambda: None
        self._held: Held | None = None
        self._stop: str | None = None
        self._beats = 0
        self._next_beat = 0.0
        self._failed_at: dict[tuple[str, Key], float] = {}

    @property
    def joined(self) -> bool:
        """Whether this process is a member."""
        return self._journal is not None

    @property
    def worker(self) -> str:
        """This process's name in the queue."""
        return self._own().worker

    def join(self, name: str, capabilities: Collection[str], version: str = "") -> str:
        """Become a member: close this machine's dead workers, bringing along what the share lacks of their journals.

        Returns:
            The new worker's name.
        """
        with self._lock:
            self.store.refresh()
            worker, self._free_slot = self.slots.open()
            self._journal = OwnJournal(self.files, self.clock, self.workspace, self.slots.local, worker, self.store.add_line)
            machine = machine_of(worker)
            self.capabilities = frozenset({*capabilities, f"machine:{machine}", f"machine:{name}"})
            dead = self._own_dead()
            closes = {old: self._recover(old) for old in dead}
            self._append(
                Hello,
                machine=machine,
                name=name,
                capabilities=sorted(self.capabilities),
                fedspec=version,
                mode="sync" if self.timing.syncs else "lock",
                closes=closes,
            )
            for old in dead:
                self.slots.forget(old)
            self._remove_old_beats(machine)
        self.tick()
        return worker

    def _remove_old_beats(self, machine: str) -> None:
        """This machine's earlier processes beat no more; of its last one the sign of life stays until the next comes."""
        for worker in (Path(name).stem for name in self.files.names(self.workspace.beats)):
            if machine_of(worker) == machine and self.store.fold.gone(worker):
                self.files.remove(self.workspace.beat(worker))

    def leave(self, reason: str = "") -> None:
        """Say good-bye: nothing more comes from this process."""
        with self._lock:
            if self._journal is not None:
                self._append(Bye, reason=reason)
                self._own().complete()
                worker, self._journal = self.worker, None
                # Free before forgetting: Windows cannot delete a lock that is held.
                self._free_slot()
                self.slots.forget(worker)

    def claim(self, only: Collection[str] | None = None) -> Held | Wait | Finished:
        """Claim the next item, one of ``only`` if given."""
        with self._alone(), self._lock:
            self.store.refresh()
            if self.store.fold.gone(self.worker):
                raise SetupError(
                    "Another process of this machine has declared this one dead.",
                    "Run the command again. If it says so again, another computer uses a copy of this one's state folder.",
                )
            action = rules.next_action(self._situation(only))
            if not isinstance(action, rules.Take):
                return action
            self._append(Claim, item=action.item.id, attempt=action.attempt)
            self._held = Held(action.item, action.attempt, self.worker, action.over)
            self._stop = None
            return self._held

    def must_stop(self, held: Held) -> str | None:
        """The gate: why work on the item must end now, or None. Reads the folder."""
        with self._lock:
            self.store.refresh()
            self._stop = rules.gate(self.store.fold, held.item.id, held.key)
            return self._stop

    @property
    def stop_reason(self) -> str | None:
        """Why the heartbeat, or the last gate, found that the held item must be dropped. Reads nothing."""
        return self._stop

    def started(self, held: Held, round_: int, base: str, source: str, device: str) -> None:
        """Journal that training begins after ``round_``. Raises SupersededError."""
        self._gated(held, Start, round=round_, base=base, source=source, device=device)

    def saved(self, held: Held, round_: int, file: str, sha256: str, base: str, accuracy: float | None) -> None:
        """Journal a generation that is on disk. Raises SupersededError."""
        self._gated(held, Ckpt, round=round_, file=file, sha256=sha256, base=base, accuracy=accuracy)

    def done(self, held: Held, table: Mapping[str, Any], rounds: int, accuracy: float | None) -> None:
        """Journal the result, rows and all. Raises SupersededError."""
        self._gated(held, Done, rows=pack_rows(table), rounds=rounds, accuracy=accuracy)
        self._drop(held)

    def failed(self, held: Held, fault: str, reason: str, traceback: str = "") -> None:
        """Journal that the attempt ended in an error, unless somebody else has the item by now."""
        try:
            self._gated(held, Fail, fault=fault, reason=reason[:2000], traceback=traceback[-8000:])
        except SupersededError as error:
            self._append_yield(held, error.what)
        self._drop(held)

    def give_back(self, held: Held, reason: str) -> None:
        """Journal that this worker drops the item and writes nothing more for this attempt."""
        self._append_yield(held, reason)
        self._drop(held)

    def control(self, op: str, item: Item) -> None:
        """Journal what a person asked for: release, retry, cancel or resume. Opens a journal if the process has none."""
        with self._lock:
            visitor = self._journal is None
            if visitor:
                worker, self._free_slot = self.slots.open()
                self._journal = OwnJournal(
                    self.files, self.clock, self.workspace, self.slots.local, worker, self.store.add_line
                )
            self.store.refresh()
            self._append(Ctl, op=op, item=item.id, attempt=self.store.fold.item(item.id).last_attempt())
            if visitor:
                self.leave("command")
        self.publisher.write_view()

    def tick(self) -> None:
        """Poll the folder, and beat when it is time. Called from the beat thread, at least every `Timing.poll` seconds."""
        with self._lock:
            if self._journal is None:
                return
            self.store.refresh()
            self.store.read_beats()
            now = self.clock.awake_or_asleep()
            self._watch.poll(now, self._signs())
            if self._held is not None and self._stop is None:
                self._stop = rules.gate(self.store.fold, self._held.item.id, self._held.key)
            if now >= self._next_beat:
                self._next_beat = now + self.timing.beat
                self._beat()

    def _beat(self) -> None:
        self._beats += 1
        fold, report = self.store.fold, self.report
        seen = {worker: state.length for worker, state in fold.workers.items() if not fold.gone(worker)}
        self.store.write_beat(
            Beat(
                worker=self.worker,
                n=self._beats,
                seq=self._own().seq,
                running=report.running,
                round=report.round,
                clients=report.clients,
                steps=report.steps,
                eta=None if report.eta_s is None else round(report.eta_s, 1),
                wall=timestamp(self.clock.now()),
                seen=seen,
            )
        )

    def _own(self) -> OwnJournal:
        if self._journal is None:
            raise RuntimeError("the process has not joined the queue")
        return self._journal

    def _append(self, kind: type[R], **fields: Any) -> R:
        record, line = self._own().append(kind, lam=self.store.fold.lam + 1, **fields)
        self.store.add_line(line)
        if self.worker in self.store.cloned():
            fix = "Start the same command again: it gets a name of its own, and what was saved is kept."
            raise SetupError(f"Another process writes as {self.worker}: this machine was copied while it ran.", fix)
        return record

    def _gated(self, held: Held, kind: type[R], **fields: Any) -> R:
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
            self.report = Report(steps=self.report.steps)

    def _situation(self, only: Collection[str] | None) -> Situation:
        now = self.clock.awake_or_asleep()
        return Situation(
            fold=self.store.fold,
            items=self.store.items,
            machine=machine_of(self.worker),
            capabilities=self.capabilities,
            dead=self._watch.presumed_dead() | self.store.cloned() | frozenset(self._own_dead()),
            backing_off=frozenset(self._backing_off(now)),
            only=only,
            settled=self._watch.settled(now),
        )

    def _backing_off(self, now: float) -> Iterator[str]:
        """Items whose last transient failure this process has known of for less than the back-off."""
        for item_id, state in self.store.fold.items.items():
            failures = state.failures("transient")
            if failures:
                seen = self._failed_at.setdefault((item_id, failures[-1].key), now)
                if now - seen < rules.backoff_s(len(failures)) * self.timing.scale:
                    yield item_id

    def _signs(self) -> dict[str, tuple[int, int]]:
        fold, beats = self.store.fold, self.store.beats
        return {
            worker: (self.store.length(worker), beats[worker].n if worker in beats else 0)
            for worker in fold.workers
            if worker != self.worker and not fold.gone(worker)
        }

    def _own_dead(self) -> list[str]:
        mine = self._journal.worker if self._journal else ""
        return [w for w in self.slots.dead(lambda worker: worker in self.store.fold.workers) if w != mine]

    def _recover(self, old: str) -> int:
        """Bring what the share lacks of a dead worker's journal; returns the last seq."""
        lines, records = self.slots.history(old)
        known = self.store.length(old)
        if len(lines) > known:
            missing = b"".join(line + b"\n" for line in lines[known:])
            self.files.append(self.workspace.relayed(old, self.worker), missing)
            self.store.refresh()
        return max(len(records), known) - 1

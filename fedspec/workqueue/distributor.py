"""`WorkDistributor`: the queue in a shared folder as one process uses it: to look, to add work, to claim and finish items."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedspec.clock import Clock, SystemClock, timestamp
from fedspec.errors import QueueMissingError, SupersededError, UsageError
from fedspec.files import DiskFiles, Files
from fedspec.plan import Item, same_experiment
from fedspec.workqueue import liveness, rules
from fedspec.workqueue.fold import Key
from fedspec.workqueue.journal import OwnJournal, R
from fedspec.workqueue.liveness import Timing, Watch
from fedspec.workqueue.progress import Progress, display_names, progress
from fedspec.workqueue.records import Bye, Ckpt, Claim, Ctl, Done, Fail, Hello, Start, Yield, pack_rows
from fedspec.workqueue.rules import Finished, Situation, Wait, machine_of
from fedspec.workqueue.slots import NewHex, Slots
from fedspec.workqueue.store import Beat, Store
from fedspec.workqueue.view import Publisher
from fedspec.workspace import LocalState, Workspace, folder_kind

TIMINGS: Mapping[str, Timing] = {
    "local": liveness.LOCAL_DISK,
    "network": liveness.NETWORK_SHARE,
    "sync": liveness.SYNC_FOLDER,
}


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


class WorkDistributor:
    """The queue of one workspace.

    Without `join` it only reads, and `enqueue` adds items. After `join` the process is a member: it beats, claims, and
    journals what it does. All methods may be called from any thread.
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
        self.workspace = workspace if isinstance(workspace, Workspace) else Workspace.find(workspace)
        self.files = files or DiskFiles()
        self.clock = clock or SystemClock()
        self.timing = timing or TIMINGS[folder_kind(self.workspace.root).mode]
        self.store = Store(self.files, self.workspace)
        self.publisher = Publisher(self.files, self.store)
        self.slots = Slots(self.files, local or LocalState.find(), self.workspace, new_hex)
        self.report = Report()
        self.capabilities: frozenset[str] = frozenset()
        self._watch = Watch(self.timing)
        # Covers fold, publishing `seen`, and gate + append: the beat must not acknowledge what the trainer contradicts.
        self._lock = threading.RLock()
        self._journal: OwnJournal | None = None
        self._free_slot: Callable[[], None] = lambda: None
        self._held: Held | None = None
        self._stop: str | None = None
        self._beats = 0
        self._next_beat = 0.0
        self._failed_at: dict[tuple[str, Key], float] = {}

    # Looking

    def refresh(self) -> None:
        """Read what others have written."""
        with self._lock:
            self.store.refresh()

    def require_queue(self) -> None:
        """Raises QueueMissingError if there is nothing to work on: the folder may not have synced yet."""
        self.refresh()
        if not self.store.items:
            raise QueueMissingError(
                f"No work queue in {self.workspace.queue}.",
                "Start one with 'fedspec run quick', or wait for the folder to sync.",
            )

    def progress(self) -> Progress:
        """How far the queue is."""
        with self._lock:
            self.store.refresh()
            self.store.read_beats()
            notes = tuple(self.store.damaged.values())
            return progress(self.store.fold, self.store.items, self.store.beats, self.timing, self.clock.now(), notes)

    def print_progress(self) -> None:
        """Print the summary block."""
        print(self.progress().block())  # noqa: T201 - the original's public method

    def machine_name(self, worker: str) -> str:
        """The display name of a worker's machine."""
        return display_names(self.store.fold).get(machine_of(worker), worker)

    def find_item(self, name: str) -> Item:
        """The item with this id or experiment name. Raises UsageError if there is none."""
        self.refresh()
        for item in self.store.items.values():
            if name in (item.id, item.exp):
                return item
        raise UsageError(f"There is no item {name} in the queue.", "List them with 'fedspec queue list'.")

    # Adding work

    def enqueue(self, items: Iterable[Item]) -> tuple[list[Item], int]:
        """Add what is missing; an experiment that is there already keeps its item.

        Returns:
            The queue's items for ``items``, and how many of them are new.

        Raises:
            UsageError: another configuration already has an experiment's name; nothing was added.
        """
        with self._alone(), self._lock:
            self.store.refresh()
            by_name = {item.exp: item for item in self.store.items.values()}
            chosen = [self._reconcile(item, by_name.get(item.exp)) for item in items]
            added = sum(self.store.write_plan(item) for item in chosen)
            self.store.refresh()
        self.publisher.write_view()
        return chosen, added

    def _reconcile(self, item: Item, present: Item | None) -> Item:
        if present is None or present.id == item.id or same_experiment(present, item):
            return present or item
        keys = sorted(k for k in item.config.keys() | present.config.keys() if item.config.get(k) != present.config.get(k)) or [
            "needs"
        ]
        raise UsageError(
            f"The queue already has {item.exp} with another {', '.join(keys)}.",
            "Use another workspace for it, or run the plan that is in the queue.",
        )

    # Being a member

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
            self._journal = OwnJournal(self.files, self.clock, self.workspace, self.slots.local, worker)
            machine = machine_of(worker)
            self.capabilities = frozenset({*capabilities, f"machine:{machine}", f"machine:{name}"})
            dead = self._own_dead()
            closes = {old: self._recover(old) for old in dead}
            self._append(
                Hello, machine=machine, name=name, capabilities=sorted(self.capabilities), fedspec=version, closes=closes
            )
            for old in dead:
                self.slots.forget(old)
        self.tick()
        return worker

    def leave(self, reason: str = "") -> None:
        """Say good-bye: nothing more comes from this process."""
        with self._lock:
            if self._journal is not None:
                self._append(Bye, reason=reason)
                worker, self._journal = self.worker, None
                # Free before forgetting: Windows cannot delete a lock that is held.
                self._free_slot()
                self.slots.forget(worker)

    def claim(self, only: Collection[str] | None = None) -> Held | Wait | Finished:
        """Claim the next item, one of ``only`` if given."""
        with self._alone(), self._lock:
            self.store.refresh()
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
                self._journal = OwnJournal(self.files, self.clock, self.workspace, self.slots.local, worker)
            self.store.refresh()
            self._append(Ctl, op=op, item=item.id, attempt=self.store.fold.item(item.id).last_attempt())
            if visitor:
                self.leave("command")
        self.publisher.write_view()

    # The heartbeat

    def tick(self) -> None:
        """Poll the folder, and beat when it is time. Called from the beat thread, at least every `Timing.poll` seconds."""
        with self._lock:
            if self._journal is None:
                return
            self.store.refresh()
            self.store.read_beats()
            now = self.clock.monotonic()
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

    # Inside

    def _own(self) -> OwnJournal:
        if self._journal is None:
            raise RuntimeError("the process has not joined the queue")
        return self._journal

    def _append(self, kind: type[R], **fields: Any) -> R:
        record, line = self._own().append(kind, lam=self.store.fold.lam + 1, **fields)
        self.store.add_line(line)
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
        now = self.clock.monotonic()
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

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Keep rivals out while claiming, as far as locks go: this machine's always, the folder's where it has any.

        Taken before the process's own lock, so that the heart goes on beating; a rival that was stopped while it held a lock
        is not waited for longer than a dead one, since the fold settles who owns what.
        """
        with ExitStack() as locks:
            locks.enter_context(self.files.lock(self.slots.local.claim_lock(self.workspace), self.timing.dead))
            if not self.timing.syncs:
                locks.enter_context(self.files.lock(self.workspace.queue_lock, self.timing.dead))
            yield

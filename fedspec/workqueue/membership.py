"""A process's membership of the queue: its journal, how it joins and leaves, and how it goes on when it counts as gone."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fedspec.clock import Clock
from fedspec.errors import SetupError
from fedspec.files import Files
from fedspec.workqueue.board import Board
from fedspec.workqueue.journal import OwnJournal, R
from fedspec.workqueue.liveness import Lag, Timing
from fedspec.workqueue.pulse import Pulse, Report
from fedspec.workqueue.records import Bye, Hello, machine_of
from fedspec.workqueue.slots import NewHex
from fedspec.workspace import LocalState, Workspace


class Member(Board):
    """A process that may have a journal of its own. Before `join` it only looks."""

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
        self.capabilities: frozenset[str] = frozenset()
        self._about = ("", frozenset[str](), "")
        self._folder_timing = self.timing
        self._pulse = Pulse(self.store, self.clock, self.timing, Lag())
        self._journal: OwnJournal | None = None
        self._free_slot: Callable[[], None] = lambda: None

    @property
    def joined(self) -> bool:
        """Whether this process is a member."""
        return self._journal is not None

    @property
    def report(self) -> Report:
        """Where the trainer says how far it is."""
        return self._pulse.report

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
            self._about = (name, frozenset(capabilities), version)
            worker = self._open_journal()
            self._pulse = Pulse(self.store, self.clock, self._folder_timing, self._pulse.lag)
            machine = machine_of(worker)
            self.capabilities = frozenset({*capabilities, f"machine:{machine}", f"machine:{name}"})
            dead = self._own_dead()
            closes = {old: self.store.relay(old, worker, self.slots.history(old)[0]) for old in dead}
            self._append(
                Hello,
                machine=machine,
                name=name,
                capabilities=sorted(self.capabilities),
                fedspec=version,
                mode="lock" if self.timing.locks else "sync",
                closes=closes,
            )
            # From the first word on: a folder that takes none is not to be joined.
            self._own().flush()
            for old in dead:
                self.slots.forget(old)
            for old, lines in self.slots.archives():
                # The folder may have been put back to an earlier state since they left.
                self.store.relay(old, worker, lines)
            self.store.remove_old_beats(machine)
        return worker

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

    def _start_over_if_disowned(self) -> None:
        """Take a new machine id if this process, though alive, counts as gone.

        A person has retired this machine, or another one has a copy of its id and takes this one's workers for its own dead.
        What was published stands, and what was saved is kept; under the new id nothing is in doubt.
        """
        with self._lock:
            self.store.catch_up()
            if not self.store.fold.gone(self.worker):
                return
            old = self.worker
            self.leave("disowned")
            self.slots.renew(machine_of(old))
        self.join(*self._about)

    @contextmanager
    def pen(self) -> Iterator[Callable[..., Any]]:
        """Append records that belong to no attempt. A process without a journal opens one, and closes it again."""
        with self._lock:
            visitor = self._journal is None
            self.store.refresh()
            if visitor:
                self._open_journal()
            yield self._append
            if visitor:
                self.leave("command")

    def _open_journal(self) -> str:
        worker, self._free_slot = self.slots.open()
        self._journal = OwnJournal(self.files, self.clock, self.workspace, self.slots.local, worker, self.store.add_line)
        return worker

    def _own(self) -> OwnJournal:
        if self._journal is None:
            raise RuntimeError("the process has not joined the queue")
        return self._journal

    def _append(self, kind: type[R], **fields: Any) -> R:
        record, line = self._own().append(kind, lam=self.store.fold.lam + 1, **fields)
        self.store.add_line(line)
        self._pulse.wrote(record.seq)
        if self.worker in self.store.cloned():
            fix = "Start the same command again: it gets a name of its own, and what was saved is kept."
            raise SetupError(f"Another process writes as {self.worker}: this machine was copied while it ran.", fix)
        return record

    def _dead(self) -> frozenset[str]:
        # Of notes that were copied from another machine nothing holds the locks here, and their workers may live there.
        mine = machine_of(self.worker)
        own = frozenset(worker for worker in self._own_dead() if machine_of(worker) == mine)
        return self._pulse.silent() | self.store.cloned() | own

    def _own_dead(self) -> list[str]:
        mine = self._journal.worker if self._journal else ""
        return [w for w in self.slots.dead(lambda worker: worker in self.store.fold.workers) if w != mine]

"""A process's membership of the queue: its journal, how it joins and leaves, and how it goes on when it counts as gone."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

from fedspec.errors import FedspecError, FolderError
from fedspec.workqueue.board import Board
from fedspec.workqueue.journal import OwnJournal, R
from fedspec.workqueue.liveness import Lag
from fedspec.workqueue.pulse import Pulse, Report
from fedspec.workqueue.records import Bye, Claim, Done, Hello, machine_of

# Of so many whom a worker has met first, and as many of the last, its machine knows the queue again.
SOME = 8


class Member(Board):
    """A process that may have a journal of its own. Before `join` it only looks."""

    def _set_up(self) -> None:
        super()._set_up()
        self.capabilities: frozenset[str] = frozenset()
        self._about = ("", frozenset[str](), "")
        self.begins_anew = False  # it has joined a queue without a word, in a folder that this machine has worked in before
        self._have_read: dict[str, int] = {}  # `Slots.have_read` of the machine's earlier processes
        self._unclosed: dict[str, int] = {}  # workers that this one has met since it said hello
        self._brought: set[str] = set()  # former workers of which the folder has what this machine has
        self._acquainted = 0  # how many workers the fold held at the last look at the machine's notes
        self._noted = -1  # `Store.asked` when this process last noted what it has read
        self._returning = False  # it has given up a name that counts as gone, and is to join again
        self._cloned: tuple[str, list[Done]] | None = None  # a former name, with results that count no more under it
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

        Raises:
            FolderError: the folder refuses; the process is no member. It may try again.
        """
        with self._lock:
            self.store.refresh()
            self._about = (name, frozenset(capabilities), version)
            self.begins_anew = not self.store.fold.workers and self.slots.has_worked_here()
            worker = self._open_journal()
            try:
                self._introduce(worker, name, capabilities, version)
            except (FedspecError, OSError):
                self._withdraw()
                raise
        return worker

    def _introduce(self, worker: str, name: str, capabilities: Collection[str], version: str) -> None:
        """Say hello, and bring to an end what this machine's dead workers have left."""
        self._pulse = Pulse(self.store, self.clock, self._folder_timing, self._pulse.lag)
        machine = machine_of(worker)
        self.capabilities = frozenset({*capabilities, f"machine:{machine}", f"machine:{name}"})
        self._recall()
        dead = self._bring_home(worker)
        self._unclosed = {}
        # Of whom somebody has closed already, and all is here, nothing need be said.
        closes = {old: last for old, last in dead.items() if not self.store.fold.read_to_the_end(old)}
        closes |= self._bring_back(worker)
        closes |= {old: self.store.length(old) - 1 for old in self._former_selves(machine) if old not in closes}
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
        self._note_read()
        self._forget(dead)
        with suppress(FolderError):  # somebody is reading one; the next process that joins removes it
            self.store.remove_old_beats(machine)

    def _bring_home(self, worker: str) -> dict[str, int]:
        """Bring to the folder what it lacks of the journals of this machine's dead workers; returns the last seq of each."""
        dead = [old for old in self.slots.dead(self._is_known) if old != worker]
        # One of them may have said good-bye just now, and have put its own copy away.
        self.store.catch_up()
        return {old: self.store.relay(old, worker, self.slots.history(old)[0]) for old in dead}

    def _bring_back(self, worker: str) -> dict[str, int]:
        """The same of those that have left, once: the folder may have been put back to an earlier state since.

        Returns:
            Those that are not known to be gone: their good-bye was lost, or they were closed in a copy of the folder.
        """
        unclosed = {}
        for former in self.slots.former(self._is_known):
            if former.worker not in self._brought and (lines := self.slots.lines(former)) is not None:
                last = self.store.relay(former.worker, worker, lines)
                self._brought.add(former.worker)
                if self._is_known(former.worker) and not self.store.fold.gone(former.worker):
                    unclosed[former.worker] = last
        return unclosed

    def _forget(self, closed: Collection[str]) -> None:
        for old in closed:
            with suppress(FedspecError, OSError):  # the next process does
                self.slots.forget(old)

    def _meet(self) -> None:
        """Somebody is here who was not known: a folder that is put back may come back in pieces."""
        with suppress(FedspecError, OSError):  # it is tried again
            self._unclosed |= self._bring_home(self.worker) | self._bring_back(self.worker)
            self._recall()

    def _recall(self) -> None:
        """Look up what this machine has acknowledged before."""
        self._acquainted = len(self.store.fold.workers)
        for worker, count in self.slots.have_read(self._is_known).items():
            self._have_read[worker] = max(count, self._have_read.get(worker, 0))

    def _note_read(self) -> None:
        """Note what this process has read of other members, if there is more to confirm than before."""
        if self._noted != self.store.asked:
            own = self.slots.known()  # what these have said lies beside
            more = {
                worker: state.length
                for worker, state in self.store.fold.workers.items()
                if state.hello is not None and worker not in own and state.length > self._have_read.get(worker, 0)
            }
            self.slots.note(self.worker, {**self._company(), **more, self.worker: 0})
            self._noted = self.store.asked

    def _company(self) -> dict[str, int]:
        """Some that this process has met. Notes that held all would grow with the square of their number."""
        met = list(self.store.fold.workers)
        return dict.fromkeys([*met[:SOME], *met[-SOME:]], 0)

    def _former_selves(self, machine: str) -> Iterator[str]:
        """Of each id that this machine had before ``machine`` the last worker: nobody need wait for another one."""
        fold, known = self.store.fold, self.slots.known()
        greeted = sorted((s.hello.lam, worker) for worker, s in fold.workers.items() if s.hello is not None)
        for former, last in {machine_of(worker): worker for _, worker in greeted}.items():
            # Where somebody has spoken under it since, it is another machine's.
            mine = former != machine and last in known and last not in fold.inherited and not fold.retired(last)
            if mine and not self.slots.lives(last):  # one that lives finds out, and joins under the new id itself
                yield last

    def _withdraw(self) -> None:
        """Be no member any more. What has been said already is this machine's dead worker's, for the next to close."""
        own, self._journal = self._journal, None
        if own is None:
            return
        self._free_slot()
        if not own.seq:
            with suppress(FedspecError, OSError):
                self.slots.discard(own.worker)

    def leave(self, reason: str = "", closes: Mapping[str, int] | None = None) -> None:
        """Say good-bye: nothing more comes from this process. ``closes``: nor from these workers of this machine."""
        with self._lock:
            if self._journal is not None:
                ended = {**self._unclosed, **(closes or {})}
                closes = {old: last for old, last in ended.items() if not self.store.fold.read_to_the_end(old)}
                self._append(Bye, reason=reason, closes=closes)
                self._own().complete()
                self._forget(ended)
                worker, self._journal = self.worker, None
                # Free before forgetting: Windows cannot delete a lock that is held.
                self._free_slot()
                with suppress(FedspecError, OSError):  # this machine's next process forgets it
                    self.slots.forget(worker)

    def _stay_member(self) -> str:
        """Join again under a new machine id if this process, though alive, counts as gone, or if another machine has this one's
        id; returns what people should know.

        A person has retired this machine, another one has a copy of its notes and takes this one's workers for its own dead, or
        another process writes under this one's name. What was published stands, and what was saved is kept; under the new id
        nothing is in doubt.
        """
        with self._lock:
            if not self._returning:
                self.store.catch_up()
                if not (self.store.fold.gone(old := self.worker) or self._has_double()):
                    return ""
                if old in self.store.cloned():
                    said = self.slots.history(old)[1]
                    self._cloned = old, [record for record in said if isinstance(record, Done)]
                self.slots.renew(machine_of(old))
                self._returning = True  # if the folder refuses what follows, the next call goes on from here
                # No good-bye: the new worker's first word closes the old one, so that who thinks it gone has heard of the new.
                self._withdraw()
            if self._journal is None:
                self.join(*self._about)
            self._returning = False
            if self._cloned is None:
                return (
                    f"This machine goes on under another id, as {self.worker}: it was retired, or another one went by its id."
                )
            (old, results), self._cloned = self._cloned, None
            self._say_again(results)
            return (
                f"Another process wrote as {old}: this machine was copied, or put back to an earlier state, while it ran. "
                f"It goes on as {self.worker}, from what was saved."
            )

    def _has_double(self) -> bool:
        """Whether another machine has this one's id: somebody speaks under it who is not in its notes, or whom it closed."""
        fold, mine = self.store.fold, machine_of(self.worker)
        speaking = {w for w in fold.workers if machine_of(w) == mine and w != self.worker and not fold.read_to_the_end(w)}
        return any(map(fold.outlives, speaking)) or bool(speaking and speaking - self.slots.known())

    def _say_again(self, results: list[Done]) -> None:
        """Journal under the new name the results that counted no more under the old one."""
        for done in results:
            if self.store.fold.status(done.item) in ("pending", "running"):
                attempt = self.store.fold.item(done.item).next_attempt()
                self._append(Claim, item=done.item, attempt=attempt)
                said = {"rows": done.rows, "rounds": done.rounds, "accuracy": done.accuracy}
                self._append(Done, item=done.item, attempt=attempt, **said)

    @contextmanager
    def pen(self) -> Iterator[Callable[..., Any]]:
        """Append records that belong to no attempt. A process without a journal opens one, and closes it again.

        With it go what this machine's dead workers had to say: it may be a machine that gives commands and nothing else.
        """
        with self._lock:
            self.store.refresh()
            if self.joined:
                yield self._append
                return
            worker, dead = self._open_journal(), dict[str, int]()
            try:
                with suppress(FedspecError, OSError):  # the next process brings it
                    dead = self._bring_home(worker)
                yield self._append
                # Only then: a queue in which nobody knows it is not known by itself.
                self._own().flush()
                with suppress(FedspecError, OSError):
                    self.slots.note(worker, {**self._company(), worker: 0})
                # Members are left to this machine's next one, which peers that knew them know again as it follows them.
                workers = self.store.fold.workers
                closes = {old: last for old, last in dead.items() if old in workers and workers[old].hello is None}
                self.leave("command", closes)
            finally:
                self._withdraw()

    def _open_journal(self) -> str:
        worker, self._free_slot = self.slots.open(self._company())
        self._noted = -1
        self._journal = OwnJournal(self.files, self.clock, self.workspace, self.slots.local, worker, self.store.add_line)
        return worker

    def _own(self) -> OwnJournal:
        if self._journal is None:
            raise RuntimeError("the process has not joined the queue")
        return self._journal

    def _append(self, kind: type[R], **fields: Any) -> R:
        record, _ = self._own().append(kind, lam=self.store.fold.lam + 1, **fields)
        self._pulse.wrote(record.seq)
        return record

    def _dead(self) -> frozenset[str]:
        # Of notes that were copied from another machine nothing holds the locks here, and their workers may live there.
        mine = machine_of(self.worker)
        own = frozenset(worker for worker in self._own_dead() if machine_of(worker) == mine)
        return self._pulse.silent() | own

    def _own_dead(self) -> list[str]:
        mine = self._journal.worker if self._journal else ""
        return [worker for worker in super()._own_dead() if worker != mine]

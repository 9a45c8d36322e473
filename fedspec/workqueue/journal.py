"""A process's own journal: every record goes to the machine's copy first, then to the share.

It survives a share that is full, restored from a backup or overwritten: whatever the share lacks goes into a new segment.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, TypeVar

from fedspec.clock import Clock, timestamp
from fedspec.errors import FolderError
from fedspec.files import Files
from fedspec.workqueue.histories import Histories
from fedspec.workqueue.records import FIRST, MAX_LAM, Record, encode, line_hash
from fedspec.workspace import LocalState, Workspace

SEGMENT_BYTES = 256 << 10
# Once in so many beats all that the share holds of the journal is looked at, not only where the next record goes.
LOOK_EVERY = 10

R = TypeVar("R", bound=Record)


class OwnJournal:
    """Append-only; exactly one process ever writes it."""

    def __init__(
        self,
        files: Files,
        clock: Clock,
        workspace: Workspace,
        local: LocalState,
        worker: str,
        taken: Callable[[bytes], None] = lambda line: None,
    ) -> None:
        """``taken(line)`` is told of each record as soon as it exists, whether or not the share has it yet."""
        self.files, self.clock, self.taken = files, clock, taken
        self.workspace, self.local, self.worker = workspace, local, worker
        self.seq = 0
        self._prev = FIRST
        self._segment = 0
        self._written = b""  # what the share's current segment must hold
        self._earlier: dict[str, int] = {}  # how many bytes the share held in the journal's other files
        self._beats = 0
        self._doubted = False  # the share has lost something since the last look
        self._unshared = b""  # what the share does not have yet
        self._broken = False
        self._ended: FolderError | None = None  # why nothing can follow
        self._refused = False

    def append(self, kind: type[R], lam: int, **fields: Any) -> tuple[R, bytes]:
        """Write one record; returns it with its line (without line feed).

        A share that refuses is no error: the record exists once this machine's copy has it, and reaches the share with the
        next `flush`, or with this machine's next process.

        Raises:
            FolderError: the machine's own disk refused, now or for an earlier record; the process can say nothing more.
        """
        if self._ended is not None:
            raise self._ended
        if self._broken:
            raise RuntimeError("the process was interrupted in the middle of a journal line, and must end")
        wall = timestamp(self.clock.now())
        # An error may quote a file name that is no Unicode.
        fields = {k: v.encode(errors="replace").decode() if isinstance(v, str) else v for k, v in fields.items()}
        record = kind(worker=self.worker, seq=self.seq, lam=min(lam, MAX_LAM), prev=self._prev, wall=wall, **fields)
        line = encode(record)
        # If the copy refuses, the record does not exist; a torn line there is no valid line, and nothing may follow it.
        self._broken = True
        try:
            self.files.append(self.local.journal_copy(self.worker), line)
        except FolderError as error:
            self._ended = FolderError(error.what, error.fix, passing=False)
            raise self._ended from error
        self.seq += 1
        self._prev = line_hash(line[:-1])
        self._unshared += line
        # Last: an interrupt in between must not let another record follow in this one's place.
        self._broken = False
        self.taken(line[:-1])
        with suppress(FolderError):
            self.flush()
        return record, line[:-1]

    def flush(self) -> None:
        """Bring to the share what it does not have yet. Raises FolderError."""
        if self._unshared:
            self._share()

    def watch(self, sizes: Mapping[str, int]) -> None:
        """At a beat: `complete` what the share has lost, now and then, and where a loss was met since.

        ``sizes``: of the files in the share's folder of journals, since the last record. A process may append nothing for
        hours, and what it appends tells of one segment only.
        """
        self._beats += 1
        if self._doubted or self._beats % LOOK_EVERY == 0:
            self._doubted = False
            current = {self._name(): len(self._written)} if self._written else {}
            # The listing may be an old one: only the files themselves decide.
            if any(sizes.get(name) != size for name, size in (self._earlier | current).items()):
                self.complete()

    def complete(self) -> None:
        """Say everything again in a new segment if the share has lost some of it, in whichever segment it was."""
        histories = Histories()
        whole = self.files.size(self.local.journal_copy(self.worker)) or 0
        # A larger one is none of ours, whatever it is called.
        ours = {
            name: size
            for name, size in self.files.sizes(self.workspace.journals).items()
            if name.startswith(f"{self.worker}.") and size <= whole
        }
        for name in ours:
            with suppress(OSError):  # what cannot be read is said again
                histories.offer(self.files.read(self.workspace.journals / name, 0, whole).split(b"\n"))
        if histories.length(self.worker) < self.seq and self.worker not in histories.forked():
            self._roll()
            self._unshared = self.files.read(self.local.journal_copy(self.worker))
            self._earlier = {}
        else:
            self._earlier = {name: size for name, size in ours.items() if name != self._name()}
        self.flush()

    def _share(self) -> None:
        path = self.workspace.journal(self.worker, self._segment)
        if (self.files.size(path) or 0) != len(self._written):
            # Short, longer or gone: never mend a file that others may have read; say everything again in a new one, which may
            # be refused just now.
            self._unshared = self._written + self._unshared
            self._roll()
            self._doubted = True
        elif self._refused or (self._written and len(self._written) + len(self._unshared) > SEGMENT_BYTES):
            # Somebody holds the file that was refused; another name may do.
            if self._written:
                self._earlier[self._name()] = len(self._written)
            self._roll()
        self._refused = True
        self.files.append(self.workspace.journal(self.worker, self._segment), self._unshared)
        self._refused = False
        self._written += self._unshared
        self._unshared = b""

    def _name(self) -> str:
        return self.workspace.journal(self.worker, self._segment).name

    def _roll(self) -> None:
        self._segment += 1
        self._written = b""

"""The queue's files in the shared folder as one process reads them: plans, journals and heartbeats, damaged ones set aside.

Reading is incremental and forgiving: what is torn, foreign or not there yet is left out and counted, never obeyed.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Annotated

import msgspec

from fedspec.errors import DamagedError
from fedspec.files import Files
from fedspec.plan import Item, decoded, encoded
from fedspec.workqueue.fold import Fold
from fedspec.workqueue.records import Claim, Done, Hello, Histories
from fedspec.workspace import Workspace

Count = Annotated[int, msgspec.Meta(ge=0)]


class Beat(msgspec.Struct, frozen=True, kw_only=True):
    """A worker's heartbeat, overwritten every few seconds.

    Attributes:
        n: counts the beats; a change is what peers take for life.
        seq: records in the worker's journal when it wrote the beat.
        running: id of the item it trains, "" if none; ``round`` the last complete round; ``eta`` seconds left.
        steps: grows with every client trained; standing still while ``n`` grows means stalled.
        idle: seconds for which ``steps`` has stood still, by the worker's own clock and without its sleep.
        seen: records of each worker that this one has read: an acknowledgement.
        have: the highest round of each unfinished item whose generation is in this machine's folder.
        gone: what this worker knows of those that are gone (`Fold.view_of_the_gone`).
    """

    v: int = 1
    worker: str
    n: Count
    seq: Count
    running: str = ""
    round: Count = 0
    clients: str = ""
    steps: Count = 0
    idle: Annotated[float, msgspec.Meta(ge=0)] = 0.0
    eta: float | None = None
    wall: str = ""
    seen: dict[str, int] = {}
    have: dict[str, int] = {}
    gone: str = ""


class Store:
    """Items, the fold of all journals, and the last beat of every worker."""

    def __init__(self, files: Files, workspace: Workspace) -> None:
        self.files, self.workspace = files, workspace
        self.items: dict[str, Item] = {}
        self.fold = Fold()
        self.beats: dict[str, Beat] = {}
        # Of each worker the latest beat whose author's own journal is here up to then: only that is an acknowledgement.
        self.told: dict[str, Beat] = {}
        self.damaged: dict[str, str] = {}
        # Held by whoever changes the fold or reads it in several steps, where a heartbeat runs in another thread.
        self.lock = threading.RLock()
        # Counts what others say that waits for an answer: a claim, a result, or that somebody has come.
        self.asked = 0
        self._histories = Histories()
        self._read: dict[str, int] = {}
        self._taken: set[str] = set()

    def refresh(self) -> None:
        """Read what is new."""
        self._read_plans()
        self._read_journals()

    def add_line(self, line: bytes) -> None:
        """Fold a line that this process has just written itself."""
        self._take([line], "own journal")

    def length(self, worker: str) -> int:
        """How many records of the worker are accepted."""
        return self._histories.length(worker)

    def cloned(self) -> frozenset[str]:
        """Workers that two processes wrote for; they count as dead."""
        return self._histories.forked()

    def read_beats(self) -> None:
        """Read every heartbeat; one that is torn keeps its last good state."""
        for name in self.files.names(self.workspace.beats):
            try:
                beat = msgspec.json.decode(self.files.read(self.workspace.beats / name), type=Beat)
            except (OSError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
                continue
            held = self.beats.get(beat.worker)
            if held is None or held.n < beat.n:
                self.beats[beat.worker] = beat
            if self.length(beat.worker) >= self.beats[beat.worker].seq:
                self.told[beat.worker] = self.beats[beat.worker]

    def sources(self) -> list[str]:
        """Names of the plans and journals that were read."""
        return [*sorted(self._taken), *sorted(self._read)]

    @property
    def acks(self) -> dict[str, dict[str, int]]:
        """How many records of each worker the others have said to have read."""
        return {worker: beat.seen for worker, beat in self.told.items()}

    def write_beat(self, beat: Beat) -> None:
        """Replace this worker's heartbeat."""
        self.files.write(self.workspace.beat(beat.worker), msgspec.json.encode(beat), durable=False)

    def write_plan(self, item: Item) -> bool:
        """Put an item into the queue; True unless its file is already there, whole."""
        path, data = self.workspace.plan(item.id), encoded(item)
        try:
            present = self.files.read(path) == data
        except OSError:  # absent, or a sync client has evicted it: the same bytes do no harm
            present = False
        if not present:
            self.files.write(path, data)
        return not present

    def _read_plans(self) -> None:
        for name in self.files.names(self.workspace.plans):
            if name.endswith(".json") and name not in self._taken:
                self._read_plan(self.workspace.plans / name)

    def _read_plan(self, path: Path) -> None:
        """Take a plan file in. One that is damaged is read again each time: its bytes may still be on their way."""
        try:
            item = decoded(self.files.read(path), path.name)
        except OSError:
            return
        except DamagedError as error:
            self.damaged[path.name] = error.what
        else:
            self.items[item.id] = item
            self._taken.add(path.name)
            self.damaged.pop(path.name, None)

    def _read_journals(self) -> None:
        for name in self.files.names(self.workspace.journals):
            path = self.workspace.journals / name
            size, offset = self.files.size(path) or 0, self._read.get(name, 0)
            if size == offset:
                continue
            # A file that shrank was overwritten: take all of it; what we know already is a duplicate and changes nothing.
            offset = offset if size > offset else 0
            try:
                data = self.files.read(path, offset)
            except OSError:
                continue
            whole = data.rfind(b"\n") + 1
            self._read[name] = offset + whole
            self._take(data[:whole].split(b"\n")[:-1], name)

    def _take(self, lines: list[bytes], source: str) -> None:
        fresh, revoked, damaged = self._histories.offer(lines)
        if damaged:
            self.damaged[source] = f"{source} has lines that cannot be read; they are left out."
        if revoked:
            self.fold = Fold(self._histories.accepted())
        else:
            for record in fresh:
                self.fold.add(record)
        self.asked += sum(isinstance(record, Claim | Done | Hello) for record in fresh)

"""This machine's own notes, outside the share: its id, and one slot per worker process that tells the living from the dead.

A slot is a lock held for life, a note of the workspace, and a copy of the journal. The lock of a dead process is free, so a
machine knows about its own workers at once, where peers have to wait.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import msgspec

from fedspec.errors import FolderError
from fedspec.files import Files
from fedspec.workqueue.histories import Histories
from fedspec.workqueue.records import Record, is_worker
from fedspec.workspace import LocalState, Workspace

NewHex = Callable[[int], str]

# Only the very first processes of a machine ever meet there.
MACHINE_LOCK_TIMEOUT_S = 5.0


class _Machine(msgspec.Struct):
    id: str


class _Slot(msgspec.Struct):
    """``read``: how many records of each worker this one had read that earlier notes do not tell, and 0 of some it had met,
    itself among them once others may have read of it: by these its queue is known.
    """

    workspace: str
    read: dict[str, int] = {}


@dataclass(frozen=True, slots=True)
class Former:
    """A worker of this machine that has left, or was closed.

    Attributes:
        journal: this machine's own copy of it.
        slot: what was noted of it.
    """

    worker: str
    journal: Path
    slot: _Slot

    @property
    def company(self) -> tuple[str, ...]:
        """It, and some that it had met."""
        return (self.worker, *self.slot.read)


class Slots:
    """The slots of one machine, seen from one workspace. ``new_hex(n)`` gives n random bytes as hex digits."""

    def __init__(self, files: Files, local: LocalState, workspace: Workspace, new_hex: NewHex = secrets.token_hex) -> None:
        self.files, self.local, self.workspace, self.new_hex = files, local, workspace, new_hex
        self._archived: dict[Path, _Slot] = {}  # these never change

    def machine_id(self) -> str:
        """8 hex digits that are this installation's for good; made when first asked for."""
        with self.files.lock(self.local.machine_lock, MACHINE_LOCK_TIMEOUT_S):
            return self._noted_id() or self._new_id()

    def renew(self, old: str) -> None:
        """Give this machine another id, if ``old`` still is its id: of several workers that ask for it, the first gets one."""
        with self.files.lock(self.local.machine_lock, MACHINE_LOCK_TIMEOUT_S):
            if self._noted_id() == old:
                self._new_id()

    def _noted_id(self) -> str:
        try:
            return msgspec.json.decode(self.files.read(self.local.machine), type=_Machine).id
        except (FileNotFoundError, msgspec.MsgspecError):
            return ""

    def _new_id(self) -> str:
        machine = _Machine(self.new_hex(4))
        self.files.write(self.local.machine, msgspec.json.encode(machine))
        return machine.id

    def open(self, read: Mapping[str, int]) -> tuple[str, Callable[[], None]]:
        """Take a new slot. Returns the new worker's name, and what frees the slot when the process leaves in order.

        ``read``: how many records of each worker it has read.
        """
        worker = f"{self.machine_id()}-{self.new_hex(3)}"
        release = self.files.hold(self.local.slot_lock(worker))
        if release is None:
            raise RuntimeError(f"the new worker name {worker} is in use")
        self.note(worker, read)
        return worker, release

    def note(self, worker: str, read: Mapping[str, int]) -> None:
        """Note what the worker has read by now. Done before it tells: this machine must not forget what peers rely on."""
        self.files.write(self.local.slot(worker), msgspec.json.encode(_Slot(str(self.workspace.root), dict(read))))

    def dead(self, known: Callable[[str], bool]) -> list[str]:
        """Workers of this machine in this workspace whose process has ended without closing its slot.

        ``known(worker)`` says whether the worker has a journal in this workspace: the folder may have been moved since, or
        emptied, and then another queue begun in it. What was said in a former queue is not for this one.
        """
        return [worker for worker in self._registered(known) if self._is_free(worker)]

    def known(self) -> set[str]:
        """Workers that are or were this machine's, as far as its notes tell, in whatever workspace."""
        # In this order: one that leaves meanwhile is in both.
        return {*self._named(self.local.slots), *(worker for archive in self._archives() for worker in self._named(archive))}

    def lives(self, worker: str) -> bool:
        """Whether it is a process of this machine that has not ended."""
        return worker in self._named(self.local.slots) and not self._is_free(worker)

    def have_read(self, known: Callable[[str], bool]) -> dict[str, int]:
        """How many records of each other machine's worker this one's had read that are no more. ``known`` as in `dead`.

        In a copy of a folder that is in use elsewhere only what was read in the copy counts: the rest need never come here.
        """
        slots = [self._noted(self.local.slot(worker)) for worker in self.dead(known)]
        slots += [former.slot for former in self.former(known)]
        own, most = self.known(), dict[str, int]()
        elsewhere = {place for place in {slot.workspace for slot in slots} if self._is_in_use(place)}
        for slot in slots:
            for worker, count in slot.read.items() if slot.workspace not in elsewhere else ():
                if worker not in own:
                    most[worker] = max(count, most.get(worker, 0))
        return most

    def _is_in_use(self, place: str) -> bool:
        """Whether another folder has a queue."""
        if place in ("", str(self.workspace.root)):
            return False
        try:
            return self.files.has_files(Workspace(Path(place)).journals)
        except (OSError, FolderError):
            return False

    def history(self, worker: str) -> tuple[list[bytes], list[Record]]:
        """The worker's own copy of its journal: intact lines without line feed, and the records they hold."""
        return self._history(self.local.journal_copy(worker))

    def forget(self, worker: str) -> None:
        """The worker's journal is whole in the share and closed there; its slot is no longer needed.

        The copy of its journal is kept, should the shared folder be put back to an earlier state, and what it had read.
        """
        for path, place in (
            (self.local.journal_copy(worker), self.local.archived(self.workspace, worker)),
            (self.local.slot(worker), self.local.archived_slot(self.workspace, worker)),
        ):
            with suppress(FileNotFoundError):
                self.files.move(path, place)
        for path in (self.local.slot(worker), self.local.slot_lock(worker)):
            self.files.remove(path)

    def former(self, known: Callable[[str], bool]) -> list[Former]:
        """Workers that have left the queue in the folder, wherever it lay then. ``known`` as in `dead`.

        They have met a worker that the folder knows, or one that this machine's other workers here have met.
        """
        left = [
            Former(worker, archive / f"{worker}.jsonl", self._once_noted(archive / f"{worker}.json"))
            for archive in self._archives()
            for worker in self._named(archive)
        ]
        found: list[Former] = []
        met = {name for worker in self._registered(known) for name in (worker, *self._noted(self.local.slot(worker)).read)}
        while left:
            more, rest = list[Former](), list[Former]()
            for former in left:
                (more if any(worker in met or known(worker) for worker in former.company) else rest).append(former)
            if not more:
                break
            found, left = found + more, rest
            met.update(worker for former in more for worker in former.company)
        return found

    def lines(self, former: Former) -> list[bytes] | None:
        """The lines of its journal, without line feeds; None where they cannot be read just now: they are only spare."""
        try:
            return self._history(former.journal)[0]
        except OSError:
            return None

    def has_worked_here(self) -> bool:
        """Whether a worker of this machine has ever been in a queue in this workspace."""
        here = str(self.workspace.root)
        slots = (self._noted(self.local.slot(worker)).workspace for worker in self._named(self.local.slots))
        return bool(self._named(self.local.archive(self.workspace))) or here in slots

    def discard(self, worker: str) -> None:
        """The worker has never said a word."""
        for path in (self.local.journal_copy(worker), self.local.slot(worker), self.local.slot_lock(worker)):
            self.files.remove(path)

    def _archives(self) -> list[Path]:
        return self.local.archives(self.files.folders(self.local.root))

    def _named(self, folder: Path) -> list[str]:
        """Workers that files of a folder are named by; people and systems leave others there."""
        try:
            names = {name.partition(".")[0] for name in self.files.names(folder)}
        except (OSError, FolderError):
            if folder == self.local.slots:
                raise
            return []  # the archives are only spare
        return sorted(name for name in names if is_worker(name))

    def _history(self, path: Path) -> tuple[list[bytes], list[Record]]:
        histories = Histories()
        try:
            lines = self.files.read(path).split(b"\n")
        except FileNotFoundError:
            return [], []
        histories.offer(lines[:-1])
        records = histories.accepted()
        # The copy has one writer and is in order: the accepted prefix is a prefix of its lines.
        return lines[: len(records)], records

    def _registered(self, known: Callable[[str], bool]) -> list[str]:
        # By any of its files: a power cut may keep one that the slot's end had deleted, and take the others.
        return [w for w in self._named(self.local.slots) if known(w) or self._belongs(self._noted(self.local.slot(w)), known)]

    def _belongs(self, slot: _Slot, known: Callable[[str], bool]) -> bool:
        return slot.workspace == str(self.workspace.root) and (not slot.read or any(map(known, slot.read)))

    def _once_noted(self, path: Path) -> _Slot:
        if path not in self._archived:
            self._archived[path] = self._noted(path)
        return self._archived[path]

    def _noted(self, path: Path) -> _Slot:
        try:
            return msgspec.json.decode(self.files.read(path), type=_Slot)
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return _Slot("")

    def _is_free(self, worker: str) -> bool:
        release = self.files.hold(self.local.slot_lock(worker))
        if release is None:
            return False
        release()
        return True

"""This machine's own notes, outside the share: its id, and one slot per worker process that tells the living from the dead.

A slot is a lock held for life, a note of the workspace, and a copy of the journal. The lock of a dead process is free, so a
machine knows about its own workers at once, where peers have to wait.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import msgspec

from fedspec.files import Files
from fedspec.workqueue.histories import Histories
from fedspec.workqueue.records import Record
from fedspec.workspace import LocalState, Workspace

NewHex = Callable[[int], str]

# Only the very first processes of a machine ever meet there.
MACHINE_LOCK_TIMEOUT_S = 5.0


class _Machine(msgspec.Struct):
    id: str


class _Slot(msgspec.Struct):
    """``origin``: the worker by which the queue goes that this one has joined, "" where it is the first of all."""

    workspace: str
    origin: str = ""


class Slots:
    """The slots of one machine, seen from one workspace. ``new_hex(n)`` gives n random bytes as hex digits."""

    def __init__(self, files: Files, local: LocalState, workspace: Workspace, new_hex: NewHex = secrets.token_hex) -> None:
        self.files, self.local, self.workspace, self.new_hex = files, local, workspace, new_hex

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

    def open(self, origin: str = "") -> tuple[str, Callable[[], None]]:
        """Take a new slot. Returns the new worker's name, and what frees the slot when the process leaves in order.

        ``origin``: `Fold.first` of the queue.
        """
        worker = f"{self.machine_id()}-{self.new_hex(3)}"
        release = self.files.hold(self.local.slot_lock(worker))
        if release is None:
            raise RuntimeError(f"the new worker name {worker} is in use")
        self._note(worker, origin)
        return worker, release

    def has_begun(self, worker: str) -> None:
        """The worker's first word is in the folder: if it is the first of all, the queue goes by it from now on."""
        if not self._noted(worker).origin:
            self._note(worker, worker)

    def _note(self, worker: str, origin: str) -> None:
        self.files.write(self.local.slot(worker), msgspec.json.encode(_Slot(str(self.workspace.root), origin)))

    def dead(self, known: Callable[[str], bool]) -> list[str]:
        """Workers of this machine in this workspace whose process has ended without closing its slot.

        ``known(worker)`` says whether the worker has a journal in this workspace: the folder may have been moved since, or
        emptied, and then another queue begun in it. What was said in a former queue is not for this one.
        """
        return [worker for worker in self._registered(known) if self._is_free(worker)]

    def known(self) -> set[str]:
        """Workers that are or were this machine's, as far as its notes tell, in whatever workspace."""
        # In this order: one that leaves meanwhile is in both.
        known = {_worker_of(name) for name in self.files.names(self.local.slots)}
        for archive in self.local.archives(self.files.folders(self.local.root)):
            known.update(*(self._archived(archive, origin) for origin in self.files.folders(archive)))
        return known

    def history(self, worker: str) -> tuple[list[bytes], list[Record]]:
        """The worker's own copy of its journal: intact lines without line feed, and the records they hold."""
        return self._history(self.local.journal_copy(worker))

    def forget(self, worker: str) -> None:
        """The worker's journal is whole in the share and closed there; its slot is no longer needed.

        The copy of its journal is kept, should the shared folder be put back to an earlier state.
        """
        with suppress(FileNotFoundError):
            origin = self._noted(worker).origin or worker
            self.files.move(self.local.journal_copy(worker), self.local.archived(self.workspace, origin, worker))
        for path in (self.local.slot(worker), self.local.slot_lock(worker)):
            self.files.remove(path)

    def archives(self, known: Callable[[str], bool]) -> Iterator[tuple[str, list[bytes]]]:
        """Workers that have left the queue in the folder, each with the lines of its journal. ``known`` as in `dead`."""
        archive = self.local.archive(self.workspace)
        for origin in self.files.folders(archive):
            paths = [self.local.archived(self.workspace, origin, worker) for worker in self._archived(archive, origin)]
            if any(known(worker) for worker in [origin, *(path.stem for path in paths)]):
                for path in paths:
                    yield path.stem, self._history(path)[0]

    def has_worked_here(self) -> bool:
        """Whether a worker of this machine has ever left a queue in this workspace."""
        return bool(self.files.folders(self.local.archive(self.workspace)))

    def _archived(self, archive: Path, origin: str) -> list[str]:
        return [Path(name).stem for name in self.files.names(archive / origin)]

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
        workers = sorted({_worker_of(name) for name in self.files.names(self.local.slots)})
        return [worker for worker in workers if known(worker) or self._belongs(self._noted(worker), known)]

    def _belongs(self, slot: _Slot, known: Callable[[str], bool]) -> bool:
        return slot.workspace == str(self.workspace.root) and (not slot.origin or known(slot.origin))

    def _noted(self, worker: str) -> _Slot:
        try:
            return msgspec.json.decode(self.files.read(self.local.slot(worker)), type=_Slot)
        except (FileNotFoundError, msgspec.MsgspecError):
            return _Slot("")

    def _is_free(self, worker: str) -> bool:
        release = self.files.hold(self.local.slot_lock(worker))
        if release is None:
            return False
        release()
        return True


def _worker_of(name: str) -> str:
    return name.rpartition(".")[0] or name

"""What lies in a workspace besides what fedspec wrote there under its own names: conflict copies, stubs, torn temporary files.

It says whose each is, by content where that can be told, and what is done about it. It changes nothing.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from fedspec.errors import DamagedError
from fedspec.files import Files, evicted
from fedspec.folders import conflict_copy, is_dataless, original_of
from fedspec.plan import decoded
from fedspec.workqueue.edits import MAX_BYTES, is_rendering, listed
from fedspec.workqueue.pairing import Side
from fedspec.workqueue.records import decode
from fedspec.workqueue.store import Beat
from fedspec.workspace import Workspace

# A process that is at it writes its temporary file for moments, a checkpoint's for minutes.
OLD_S = 3600.0
# Enough to know a file by: more than a segment of a journal, a plan or the longest list has.
LOOK_BYTES = 4 << 20
_JOURNAL = re.compile(r"[0-9a-f]{8}-[0-9a-f]{6}\.(?:\d{4}|by-[0-9a-f]{8}-[0-9a-f]{6})\.jsonl")
_PLAN = re.compile(r"p-[0-9a-f]{12}\.json")
# Of a copy of these, the original's readers read it as well: nothing in it is lost.
READ_ANYWAY = ("journal", "plan", "heartbeat")


@dataclass(frozen=True, slots=True)
class Copy:
    """A conflict copy: its path in the workspace, the sync client ("" if unknown), and whose copy it is, in a word."""

    path: str
    client: str
    whose: str

    @property
    def is_read(self) -> bool:
        """Whether it is read like the original."""
        return self.whose in READ_ANYWAY

    def is_taken_in(self, workspace: Workspace) -> bool:
        """Whether a worker takes in what it says: it is a copy of the list for people, beside it."""
        path = workspace.root / self.path
        return path.parent == workspace.queue and original_of(path.name) == workspace.view.name


@dataclass(slots=True)
class Leftovers:
    """What was found, by paths as they are in the workspace.

    Attributes:
        temporary: files of processes that were killed in the midst of a write.
        queue: what ``work_queue.json`` is: ``view``, ``edited``, ``original`` (another tool's list), ``damaged``, "" for none.
        entries: how many it lists.
    """

    evicted: list[str] = field(default_factory=list)
    copies: list[Copy] = field(default_factory=list)
    temporary: list[str] = field(default_factory=list)
    temporary_bytes: int = 0
    queue: str = ""
    entries: int = 0


def leftovers(files: Files, workspace: Workspace, now: float) -> Leftovers:
    """Look through the three state folders. ``now``: seconds since 1970, to tell old files by."""
    found = Leftovers()
    for top in (workspace.queue, workspace.checkpoints, workspace.results):
        for entry in _below(top):
            path = Path(entry.path)
            name = path.relative_to(workspace.root).as_posix()
            stub = evicted(entry.name)
            try:
                about = entry.stat(follow_symlinks=False)
            except OSError:
                continue  # gone since
            if stub or is_dataless(getattr(about, "st_flags", 0), getattr(about, "st_file_attributes", 0)):
                found.evicted.append(path.with_name(stub).relative_to(workspace.root).as_posix() if stub else name)
            elif entry.name.startswith("~") and entry.name.endswith(".tmp"):
                if now - about.st_mtime > OLD_S:
                    found.temporary.append(name)
                    found.temporary_bytes += about.st_size
            elif (copy := _copy(files, workspace, path, name)) is not None:
                found.copies.append(copy)
    if workspace.view.relative_to(workspace.root).as_posix() not in found.evicted:
        found.queue, found.entries = _queue(_start(files, workspace.view, MAX_BYTES))
    return found


def _below(folder: Path) -> Iterator[os.DirEntry[str]]:
    """Every file below the folder, hidden ones too, in order."""
    try:
        with os.scandir(folder) as entries:
            every = sorted(entries, key=lambda entry: entry.name)
    except OSError:
        return
    for entry in every:
        if entry.is_dir(follow_symlinks=False):
            yield from _below(Path(entry.path))
        elif entry.is_file(follow_symlinks=False):
            yield entry


def _copy(files: Files, workspace: Workspace, path: Path, name: str) -> Copy | None:
    named = conflict_copy(path.name)
    if named is not None:
        return Copy(name, named.client, _whose(files, path, named.original))
    ours = {workspace.journals: _JOURNAL, workspace.plans: _PLAN}.get(path.parent)
    if ours is None or ours.fullmatch(path.name) or path.name.startswith("."):
        return None
    whose = _whose(files, path, path.name)
    return Copy(name, "", whose) if whose in READ_ANYWAY else None


def _whose(files: Files, path: Path, original: str) -> str:
    """What a file holds, by its bytes; by the original's name where they are too many, or do not tell."""
    by_name = {".pt": "checkpoint", ".lock": "lock", ".log": "log", ".pdf": "figure", ".png": "figure"}
    if path.suffix in by_name:
        return by_name[path.suffix]
    data = _start(files, path)
    if any(decode(line) is not None for line in data.split(b"\n")[:-1]):
        return "journal"
    try:
        decoded(data)
    except DamagedError:
        pass
    else:
        return "plan"
    for kind, whose in ((Beat, "heartbeat"), (Side, "doctor --pair")):
        if _is(data, kind):
            return whose
    if _queue(data)[0] in ("view", "edited", "original"):
        return "queue for people"
    if data.startswith(b"run_id,"):
        return "result"
    return "checkpoint" if original.endswith(".json") and b'"generation"' in data else "file"


def _queue(data: bytes) -> tuple[str, int]:
    """What the bytes of a ``work_queue.json`` are, and how many entries the list has."""
    if not data:
        return "", 0
    entries = listed(data)
    if entries is None:
        return "damaged", 0
    if is_rendering(entries):
        return "view", len(entries)
    original = all(isinstance(e, dict) and {"item_id", "status"} <= e.keys() and "view" not in e for e in entries)
    return "original" if original else "edited", len(entries)


def _is(data: bytes, kind: type) -> bool:
    try:
        msgspec.json.decode(data, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return False
    return True


def _start(files: Files, path: Path, limit: int = LOOK_BYTES) -> bytes:
    try:
        return files.read(path, limit=limit)
    except OSError:
        return b""

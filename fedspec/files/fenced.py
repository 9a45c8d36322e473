"""A shared folder's files behind a fence: others decide what lies in there, never what is read or written outside.

What is no regular file does not exist for a reader: a pipe would block it, a device never end. Nothing is written through a
link that leads out of the folder. A link that a rival puts there between the check and the write is beyond what every system
can exclude; sync clients do not bring files at such moments on command.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from fedspec.errors import TakenError
from fedspec.files.disk import DiskFiles


class FencedFiles(DiskFiles):
    """Files on a disk. ``root`` is the folder that others write to as well; outside it everything is this person's own."""

    def __init__(self, root: Path, **about: Any) -> None:
        super().__init__(**about)
        self.root = root
        # `Path.is_relative_to` takes as long as reading a small file.
        self._below = os.path.join(os.path.normcase(root), "")  # noqa: PTH118 - with its separator at the end

    def read(self, path: Path, offset: int = 0, limit: int = -1) -> bytes:
        """The file's bytes from ``offset`` on, at most ``limit`` of them. Raises FileNotFoundError for what is no file."""
        if self._is_shared(path) and not _is_file(path):
            raise FileNotFoundError(errno.ENOENT, "no regular file", str(path))
        return super().read(path, offset, limit)

    def size(self, path: Path) -> int | None:
        """Bytes in the file, or None if there is none, or something else."""
        return None if self._is_shared(path) and not _is_file(path) else super().size(path)

    def _listed(self, folder: Path) -> list[Any]:
        return [entry for entry in super()._listed(folder) if _can_be_told(entry)]

    def write(self, path: Path, data: bytes, *, durable: bool = True) -> None:
        """Write a temporary file in the same folder, and put it in the file's place; a link is replaced, never followed."""
        self._fence(path.parent)
        super().write(path, data, durable=durable)

    def append(self, path: Path, data: bytes) -> None:
        """Add to the end of a file that is one, not to what a link names."""
        self._fence(path)
        super().append(path, data)

    def remove(self, path: Path) -> None:
        """Delete the file, or the link that has its name."""
        self._fence(path.parent)
        super().remove(path)

    def move(self, path: Path, target: Path) -> None:
        """Rename within the workspace, replacing ``target``."""
        self._fence(path.parent)
        self._fence(target.parent)
        super().move(path, target)

    @contextmanager
    def lock(self, path: Path, timeout_s: float) -> Iterator[bool | None]:
        """Hold the file lock ``path`` if it can be had in time; opening one would empty the file that a link names."""
        self._fence(path)
        with super().lock(path, timeout_s) as alone:
            yield alone

    def hold(self, path: Path) -> Callable[[], None] | None:
        """Take the lock for as long as this process lives, or return None if another holds it."""
        self._fence(path)
        return super().hold(path)

    def _is_shared(self, path: Path) -> bool:
        return os.path.join(os.path.normcase(path), "").startswith(self._below)  # noqa: PTH118 - the root itself too

    def _fence(self, path: Path) -> None:
        """Refuse a place below the root that links lead out of it, and one that is there and is neither file nor folder."""
        if not self._is_shared(path):
            return
        if self._may_lead_out(path) and not Path(os.path.realpath(path)).is_relative_to(os.path.realpath(self.root)):
            raise TakenError(
                f"{path} leads out of the shared folder: there is a link on its way.",
                "Find out who put the link there and delete it; nothing outside the shared folder was changed.",
            )
        with suppress(OSError):  # what is absent, or cannot be looked at, is for the write itself to tell
            mode = path.stat().st_mode
            if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
                raise TakenError(f"{path} is no file.", "Delete it, then run the same command again.")

    def _may_lead_out(self, path: Path) -> bool:
        """Whether there is a link, or what may be one, between the root and the path: most often a few looks tell that not."""
        parts = path.relative_to(self.root).parts
        if ".." in parts:
            return True
        step = str(self.root)
        for part in parts:
            step = os.path.join(step, part)  # noqa: PTH118 - a path for each step takes longer than the look
            try:
                found = os.lstat(step)
            except FileNotFoundError:
                return False
            except OSError:
                return True
            # On Windows a junction, or what a sync client has evicted, is a reparse point.
            if stat.S_ISLNK(found.st_mode) or getattr(found, "st_reparse_tag", False):
                return True
        return False


def _is_file(path: Path) -> bool:
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except OSError as error:
        # A link that leads to itself; everything else is for the read to tell.
        return error.errno != errno.ELOOP


def _can_be_told(entry: Any) -> bool:
    try:
        return bool(entry.is_file() or entry.is_dir())
    except OSError:  # a link that leads to itself, or to where nobody may look
        return False

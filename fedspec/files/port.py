"""What the queue, the checkpoints and the results ask of a folder, and what they may not rely on."""

from __future__ import annotations

from collections.abc import Callable, Set
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

# From what age on a temporary file is taken for a killed process's: no clock is wrong by so much, and no write takes so long.
ORPHANED_S = 2 * 86400.0


class Files(Protocol):
    """File operations as the queue, the checkpoints and the results need them.

    A write is whole or absent for every reader on this machine. Nothing is promised about when, in which order or under
    which name another machine sees it.

    A file that a sync client has evicted is there: it is listed under its own name, even where the client has left a stub of
    another name, and has the size that the client tells, which need not be right. Reading it asks for its download.
    """

    def read(self, path: Path, offset: int = 0, limit: int = -1) -> bytes:
        """The file's bytes from ``offset`` on, at most ``limit`` of them if that is not negative.

        Raises FileNotFoundError, and OSError for a file whose bytes cannot be had now. EAGAIN: a sync client has evicted it,
        and is downloading it again; a later call will find it. No call waits for that longer than some seconds.
        """
        ...

    def size(self, path: Path) -> int | None:
        """Bytes in the file, or None if there is none."""
        ...

    def names(self, folder: Path) -> list[str]:
        """Names of the files in ``folder``, sorted; none if there is no such folder.

        Temporary and hidden files are left out: none of ours is hidden, but sync clients hide what they work on. A stub that
        iCloud left of an evicted file, ``.<name>.icloud``, stands for that file.
        """
        ...

    def has_files(self, folder: Path) -> bool:
        """Whether `names` finds any; asked before each write, of folders with thousands of them."""
        ...

    def sizes(self, folder: Path) -> dict[str, int]:
        """The same names, each with the bytes in the file: one look at the folder instead of one at each file."""
        ...

    def sizes_beyond(self, folder: Path, known: Set[str]) -> dict[str, int]:
        """The same for files whose names are not in ``known``; no look is taken at those that are."""
        ...

    def folders(self, folder: Path) -> list[str]:
        """Names of the folders in ``folder``, sorted; none if there is no such folder."""
        ...

    def write(self, path: Path, data: bytes, *, durable: bool = True) -> None:
        """Replace the file as a whole. ``durable`` waits until it would survive a power cut; derived files need not."""
        ...

    def append(self, path: Path, data: bytes) -> None:
        """Add to the end of the file and wait until it would survive a power cut. Raises FolderError if it is only a stub."""
        ...

    def remove(self, path: Path) -> None:
        """Delete the file; an absent one is no error. Of an evicted one the stub may stay."""
        ...

    def move(self, path: Path, target: Path) -> None:
        """Rename within the workspace, replacing ``target``. Raises FileNotFoundError."""
        ...

    def remove_orphans(self, folder: Path, older_than_s: float) -> list[str]:
        """Delete temporary files in ``folder`` that killed processes have left; returns their names. To be called rarely.

        Left alone are this process's own, and those changed within ``older_than_s`` by the folder's own clock. What a sync
        client brought has its writer's time: be generous, a day or two, so that nobody's wrong clock costs a living write.
        """
        ...

    def lock(self, path: Path, timeout_s: float) -> AbstractContextManager[bool | None]:
        """Try to exclude other processes of this machine, and of others where the folder's locks work.

        Yields whether that succeeded: a stopped process may hold a lock for ever, and no lock is ever the safety argument.
        None: the folder has no locks, so nobody can be known to be at it.
        """
        ...

    def hold(self, path: Path) -> Callable[[], None] | None:
        """Take the lock for as long as this process lives, or return None if another holds it; returns its release."""
        ...

    def free_bytes(self, folder: Path) -> int:
        """Bytes that can still be written in ``folder``."""
        ...

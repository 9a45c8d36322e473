"""The system calls that durable writing is made of, and how they differ from one system to another."""

from __future__ import annotations

import errno
import ntpath
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from filelock import FileLock, Timeout

# macOS: the file is there in name only. Windows: reading it recalls it from the cloud; it is offline.
SF_DATALESS = 0x40000000
RECALL_ON_DATA_ACCESS, OFFLINE = 0x400000, 0x1000
# What asks iCloud for a file, where there is an iCloud.
BRCTL, RECALL_S = Path("/usr/bin/brctl"), 60.0
# A folder's path must be this short for Windows without the prefix; a file's may be 12 longer.
WINDOWS_PATH_LIMIT = 248
# Some shares have no locks. A lock is an optimisation everywhere, so that is no error.
NO_LOCKS_HERE = frozenset({errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP})


class Entry(Protocol):
    """A name in a folder; `os.DirEntry` is one."""

    @property
    def name(self) -> str: ...  # noqa: D102
    def is_file(self) -> bool: ...  # noqa: D102
    def is_dir(self) -> bool: ...  # noqa: D102
    def stat(self) -> os.stat_result: ...  # noqa: D102


class Kernel(Protocol):
    """What `DiskFiles` asks the system for, one step at a time. Everything raises OSError.

    Nothing of a step survives a power cut unless `sync` (a file's bytes) or `sync_folder` (the names in it) has returned.

    Attributes:
        evicts: files may be there in name only, and `stat` tells, or a stub is in their place.
    """

    evicts: bool

    def read(self, path: Path, offset: int, limit: int) -> bytes:
        """Bytes from ``offset`` on, at most ``limit`` unless that is negative."""
        ...

    def stat(self, path: Path) -> os.stat_result:
        """Size, times and flags; never waits for an evicted file."""
        ...

    def recall(self, path: Path) -> None:
        """Ask for an evicted file of which only a stub is here; it comes later, or never."""
        ...

    def listed(self, folder: Path) -> list[Entry]:
        """What is in the folder, in any order."""
        ...

    def names(self, folder: Path) -> list[str]:
        """The same names, faster."""
        ...

    def create(self, path: Path) -> int:
        """A handle to an empty file of this name, emptied if it was there."""
        ...

    def extend(self, path: Path) -> int:
        """A handle that writes at the file's end; it is made if it was not there."""
        ...

    def write(self, handle: int, data: bytes | memoryview) -> int:
        """Write some of the bytes; returns how many."""
        ...

    def sync(self, handle: int) -> None:
        """Wait until the file's bytes would survive a power cut."""
        ...

    def close(self, handle: int) -> None:
        """Give the handle back."""
        ...

    def rename(self, path: Path, target: Path) -> None:
        """Give the file another name, replacing what had it."""
        ...

    def unlink(self, path: Path) -> None:
        """Take the file's name away."""
        ...

    def make_folder(self, path: Path) -> None:
        """Make one folder; the one above it must be there."""
        ...

    def sync_folder(self, path: Path) -> None:
        """Wait until the names in the folder would survive a power cut."""
        ...

    def lock(self, path: Path, timeout_s: float) -> Callable[[], None] | None:
        """Take a file lock; returns its release, or None if another process holds it for so long."""
        ...

    def free_bytes(self, folder: Path) -> int:
        """Bytes that can still be written in ``folder``."""
        ...


class SystemKernel:
    """The system that this process runs on. ``full_sync(handle)`` also empties the disk's own cache, where the system can."""

    def __init__(self, full_sync: Callable[[int], object] | None = None) -> None:
        self.evicts = any(hasattr(os.stat_result, name) for name in ("st_flags", "st_file_attributes"))
        self._full_sync = full_sync or _full_sync_of_macos()
        # Also for what is handed to libraries: a path as the system takes it.
        self.native: Callable[[Path], Path] = _native_to_windows if os.name == "nt" else _unchanged

    def read(self, path: Path, offset: int, limit: int) -> bytes:
        """Bytes from ``offset`` on."""
        with self.native(path).open("rb") as file:
            file.seek(offset)
            return file.read(limit)

    def stat(self, path: Path) -> os.stat_result:
        """Size, times and flags."""
        return self.native(path).stat()

    def recall(self, path: Path) -> None:
        """Ask iCloud for the file: opening it by the name that it does not have now would find nothing."""
        if BRCTL.exists():
            about = subprocess.DEVNULL
            subprocess.run([BRCTL, "download", path], stdin=about, stdout=about, stderr=about, check=False, timeout=RECALL_S)

    def listed(self, folder: Path) -> list[Entry]:
        """What is in the folder."""
        with os.scandir(self.native(folder)) as entries:
            return list(entries)

    def names(self, folder: Path) -> list[str]:
        """The same names, in two thirds of the time."""
        return os.listdir(self.native(folder))  # noqa: PTH208 - a path for each name is what takes the time

    def create(self, path: Path) -> int:
        """A handle to an empty file."""
        return self._open(path, os.O_TRUNC)

    def extend(self, path: Path) -> int:
        """A handle that writes at the file's end."""
        return self._open(path, os.O_APPEND)

    def _open(self, path: Path, flag: int) -> int:
        windows = getattr(os, "O_BINARY", 0) | getattr(os, "O_NOINHERIT", 0)
        return os.open(self.native(path), os.O_WRONLY | os.O_CREAT | flag | windows, 0o666)

    def write(self, handle: int, data: bytes | memoryview) -> int:
        """Write some of the bytes."""
        return os.write(handle, data)

    def sync(self, handle: int) -> None:
        """Wait for the disk: on macOS for the platters, since `fsync` there waits only until the disk has been told."""
        if self._full_sync is not None:
            try:
                self._full_sync(handle)
                return
            except OSError:
                pass  # a share, or a foreign file system; where the disk itself fails, the plain call says so too
        os.fsync(handle)

    def close(self, handle: int) -> None:
        """Give the handle back."""
        os.close(handle)

    def rename(self, path: Path, target: Path) -> None:
        """Give the file another name."""
        self.native(path).replace(self.native(target))

    def unlink(self, path: Path) -> None:
        """Take the file's name away."""
        self.native(path).unlink()

    def make_folder(self, path: Path) -> None:
        """Make one folder."""
        self.native(path).mkdir()

    def sync_folder(self, path: Path) -> None:
        """Make names durable; Windows has no such call, and keeps a log of its names by itself."""
        if os.name == "nt":
            return
        handle = os.open(path, os.O_RDONLY)
        try:
            self.sync(handle)
        except OSError as error:
            # Some network file systems cannot sync a folder; they are no less durable than without the call.
            if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EBADF):
                raise
        finally:
            os.close(handle)

    def lock(self, path: Path, timeout_s: float) -> Callable[[], None] | None:
        """Take a file lock; the system frees it when this process dies."""
        lock = FileLock(self.native(path), timeout=timeout_s, thread_local=False)
        try:
            lock.acquire(poll_interval=0.01)
        except Timeout:
            return None
        return lock.release

    def free_bytes(self, folder: Path) -> int:
        """Bytes that can still be written there."""
        return shutil.disk_usage(self.native(folder)).free


def is_away(status: Any) -> bool:
    """Whether a sync client has evicted the file: a read would wait for its download. ``status`` is a `stat` of any system."""
    flags, attributes = getattr(status, "st_flags", 0), getattr(status, "st_file_attributes", 0)
    return bool(flags & SF_DATALESS or attributes & (RECALL_ON_DATA_ACCESS | OFFLINE))


def extended(path: str) -> str:
    r"""An absolute Windows path as Windows takes it at any length: from `WINDOWS_PATH_LIMIT` on with the prefix ``\\?\``."""
    path = ntpath.normpath(path)
    if len(path) < WINDOWS_PATH_LIMIT or path.startswith("\\\\?\\"):
        return path
    return "\\\\?\\UNC" + path[1:] if path.startswith("\\\\") else "\\\\?\\" + path


def _unchanged(path: Path) -> Path:
    return path


def _native_to_windows(path: Path) -> Path:
    return Path(extended(str(path.absolute())))


def _full_sync_of_macos() -> Callable[[int], object] | None:
    try:
        import fcntl
    except ImportError:  # Windows
        return None
    command: int | None = getattr(fcntl, "F_FULLFSYNC", None)
    return None if command is None else lambda handle: fcntl.fcntl(handle, command)

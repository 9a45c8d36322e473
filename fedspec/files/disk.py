"""Files on a disk or a mounted share: how bytes survive a crash, a full disk and Windows' sharing violations."""

from __future__ import annotations

import errno
import os
import secrets
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, TypeVar

from filelock import FileLock, Timeout

from fedspec.errors import FolderError

# WinError 5, 32, 33: a reader, a virus scanner or a sync client holds the file for a moment.
SHARING_VIOLATIONS = frozenset({5, 32, 33})
RETRY_FOR_S = 2.5
# Some shares have no locks. A lock is an optimisation everywhere, so that is no error.
NO_LOCKS_HERE = frozenset({errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP})

T = TypeVar("T")


class DiskFiles:
    """Files on a disk or a mounted share. ``sleep`` waits some seconds before the next try where Windows refuses."""

    def __init__(self, sleep: Callable[[float], None] = time.sleep) -> None:
        self.sleep = sleep
        # Several processes may write one derived file at once; their temporary files must not meet.
        self.tag = secrets.token_hex(4)

    def read(self, path: Path, offset: int = 0, limit: int = -1) -> bytes:
        """The file's bytes from ``offset`` on, at most ``limit`` of them."""

        def attempt() -> bytes:
            with path.open("rb") as file:
                file.seek(offset)
                return file.read(limit)

        return self._patiently(attempt)

    def size(self, path: Path) -> int | None:
        """Bytes in the file, or None if there is none."""
        with (
            _explained(path, FileNotFoundError, NotADirectoryError, verb="read"),
            suppress(FileNotFoundError, NotADirectoryError),
        ):
            return path.stat().st_size
        return None

    def names(self, folder: Path) -> list[str]:
        """Names of the files in ``folder``, sorted."""
        return sorted(entry.name for entry in self._listed(folder) if _is_ours(entry))

    def sizes(self, folder: Path) -> dict[str, int]:
        """Names of the files in ``folder``, sorted, each with its size."""
        sizes = {}
        for entry in self._listed(folder):
            with suppress(FileNotFoundError):  # deleted since
                if _is_ours(entry):
                    sizes[entry.name] = entry.stat().st_size
        return dict(sorted(sizes.items()))

    def folders(self, folder: Path) -> list[str]:
        """Names of the folders in ``folder``, sorted."""
        return sorted(entry.name for entry in self._listed(folder) if entry.is_dir())

    def _listed(self, folder: Path) -> list[os.DirEntry[str]]:
        with (
            _explained(folder, FileNotFoundError, NotADirectoryError, verb="read"),
            suppress(FileNotFoundError, NotADirectoryError),
            os.scandir(folder) as entries,
        ):
            return list(entries)
        return []

    def write(self, path: Path, data: bytes, *, durable: bool = True) -> None:
        """Write a temporary file in the same folder, flush, fsync, and put it in the file's place."""
        # A name that iCloud never syncs and that no pattern of ours matches.
        temporary = path.with_name(f"~{path.name}.{self.tag}.tmp")
        with _explained(path):
            try:
                with _created(temporary) as file:
                    file.write(data)
                    if durable:
                        file.flush()
                        os.fsync(file.fileno())
                self._patiently(lambda: temporary.replace(path))
            except BaseException:
                with suppress(OSError):
                    temporary.unlink()
                raise
            if durable:
                _sync_folder(path.parent)

    def append(self, path: Path, data: bytes) -> None:
        """Open, write, fsync, close: a sync client sees the file at rest between two lines."""

        def attempt() -> None:
            fresh = not path.exists()
            with path.open("ab") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            if fresh:
                _sync_folder(path.parent)

        with _explained(path):
            if not path.parent.is_dir():
                path.parent.mkdir(parents=True, exist_ok=True)
            self._patiently(attempt)

    def remove(self, path: Path) -> None:
        """Delete the file; an absent one is no error."""
        with _explained(path), suppress(FileNotFoundError):
            self._patiently(path.unlink)

    def move(self, path: Path, target: Path) -> None:
        """Rename within the workspace, replacing ``target``."""
        with _explained(target, FileNotFoundError):
            target.parent.mkdir(parents=True, exist_ok=True)
            self._patiently(lambda: path.replace(target))

    @contextmanager
    def lock(self, path: Path, timeout_s: float) -> Iterator[bool]:
        """Hold the file lock ``path`` if it can be had in time."""
        lock = FileLock(path, timeout=timeout_s, thread_local=False)
        with _explained(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                lock.acquire(poll_interval=0.01)
            except Timeout:
                pass
            except OSError as error:
                if error.errno not in NO_LOCKS_HERE:
                    raise
        try:
            yield lock.is_locked
        finally:
            lock.release()

    def hold(self, path: Path) -> Callable[[], None] | None:
        """Take the lock for as long as this process lives, or return None if another holds it."""
        with _explained(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            lock = FileLock(path, timeout=0, thread_local=False)
            try:
                lock.acquire()
            except Timeout:
                return None
        return lock.release

    def free_bytes(self, folder: Path) -> int:
        """Bytes that can still be written in ``folder`` or the nearest folder above it that exists."""
        while not folder.exists() and folder != folder.parent:
            folder = folder.parent
        return shutil.disk_usage(folder).free

    def _patiently(self, attempt: Callable[[], T]) -> T:
        """Repeat while Windows says that somebody else holds the file, from 50 ms apart, for `RETRY_FOR_S`."""
        waited, pause = 0.0, 0.05
        while True:
            try:
                return attempt()
            except PermissionError as error:
                if getattr(error, "winerror", None) not in SHARING_VIOLATIONS or waited >= RETRY_FOR_S:
                    raise
                self.sleep(pause)
                waited, pause = waited + pause, pause * 2


def _is_ours(entry: os.DirEntry[str]) -> bool:
    return not entry.name.startswith(".") and not entry.name.endswith(".tmp") and entry.is_file()


@contextmanager
def _created(path: Path) -> Iterator[BinaryIO]:
    try:
        file = path.open("wb")
    except FileNotFoundError:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("wb")
    with file:
        yield file


def _sync_folder(folder: Path) -> None:
    """Make a rename durable; Windows has no such call and does it by itself."""
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        # Some network file systems cannot sync a folder; they are no less durable than without the call.
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EBADF):
            raise
    finally:
        os.close(handle)


@contextmanager
def _explained(path: Path, *expected: type[OSError], verb: str = "write") -> Iterator[None]:
    """Turn what the system says about a file into what a person can do about it, but for what the caller expects."""
    try:
        yield
    except expected:
        raise
    except OSError as error:
        raise FolderError(f"Cannot {verb} {path}: {error.strerror or error}.", _remedy(error)) from error


def _remedy(error: OSError) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "Free some space there, then run the same command again; what was saved so far is kept."
    if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
        return "Make the folder writable for your user, or name another with --workspace."
    if error.errno in (errno.EISDIR, errno.ENOTDIR, errno.EEXIST, errno.ELOOP, errno.ENXIO):
        return "Something else has its place: find out who put it there, and delete or rename it."
    return "Check that the shared folder is connected, then run the same command again."

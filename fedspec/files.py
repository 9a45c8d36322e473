"""The files port: durable operations on a folder that others may share, and its fake in memory.

It knows how bytes reach a disk and survive a crash, a full disk and Windows' sharing violations. What the files mean is for
others to know.
"""

from __future__ import annotations

import errno
import os
import secrets
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import BinaryIO, Protocol, TypeVar

from filelock import FileLock, Timeout

from fedspec.errors import FolderError

# WinError 5, 32, 33: a reader, a virus scanner or a sync client holds the file for a moment.
SHARING_VIOLATIONS = frozenset({5, 32, 33})
RETRY_FOR_S = 2.5
# Some shares have no locks. A lock is an optimisation everywhere, so that is no error.
NO_LOCKS_HERE = frozenset({errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP})

T = TypeVar("T")


class Files(Protocol):
    """File operations as the queue, the checkpoints and the results need them.

    A write is whole or absent for every reader on this machine. Nothing is promised about when, in which order or under
    which name another machine sees it.
    """

    def read(self, path: Path, offset: int = 0) -> bytes:
        """The file's bytes from ``offset`` on. Raises FileNotFoundError."""
        ...

    def size(self, path: Path) -> int | None:
        """Bytes in the file, or None if there is none."""
        ...

    def names(self, folder: Path) -> list[str]:
        """Names of the files in ``folder``, sorted; none if there is no such folder. Temporary files are left out."""
        ...

    def folders(self, folder: Path) -> list[str]:
        """Names of the folders in ``folder``, sorted; none if there is no such folder."""
        ...

    def write(self, path: Path, data: bytes, *, durable: bool = True) -> None:
        """Replace the file as a whole. ``durable`` waits until it would survive a power cut; derived files need not."""
        ...

    def append(self, path: Path, data: bytes) -> None:
        """Add to the end of the file and wait until it would survive a power cut."""
        ...

    def remove(self, path: Path) -> None:
        """Delete the file; an absent one is no error."""
        ...

    def move(self, path: Path, target: Path) -> None:
        """Rename within the workspace, replacing ``target``. Raises FileNotFoundError."""
        ...

    def lock(self, path: Path, timeout_s: float) -> AbstractContextManager[bool]:
        """Try to exclude other processes of this machine, and of others where the folder's locks work.

        Yields whether that succeeded: a stopped process may hold a lock for ever, and no lock is ever the safety argument.
        """
        ...

    def hold(self, path: Path) -> Callable[[], None] | None:
        """Take the lock for as long as this process lives, or return None if another holds it; returns its release."""
        ...

    def free_bytes(self, folder: Path) -> int:
        """Bytes that can still be written in ``folder``."""
        ...


class DiskFiles:
    """Files on a disk or a mounted share. ``sleep`` waits some seconds before the next try where Windows refuses."""

    def __init__(self, sleep: Callable[[float], None] = time.sleep) -> None:
        self.sleep = sleep
        # Several processes may write one derived file at once; their temporary files must not meet.
        self.tag = secrets.token_hex(4)

    def read(self, path: Path, offset: int = 0) -> bytes:
        """The file's bytes from ``offset`` on."""

        def attempt() -> bytes:
            with path.open("rb") as file:
                file.seek(offset)
                return file.read()

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
        return self._listed(folder, lambda entry: not entry.name.endswith(".tmp") and entry.is_file())

    def folders(self, folder: Path) -> list[str]:
        """Names of the folders in ``folder``, sorted."""
        return self._listed(folder, lambda entry: entry.is_dir())

    def _listed(self, folder: Path, wanted: Callable[[os.DirEntry[str]], bool]) -> list[str]:
        with (
            _explained(folder, FileNotFoundError, NotADirectoryError, verb="read"),
            suppress(FileNotFoundError, NotADirectoryError),
            os.scandir(folder) as entries,
        ):
            return sorted(entry.name for entry in entries if wanted(entry))
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


class Crash(BaseException):
    """The fake process dies here; not an Exception, so that no handler survives its own death."""


class MemoryDisk:
    """What fake processes share: the files, and who holds which lock."""

    def __init__(self) -> None:
        self.contents: dict[Path, bytes] = {}
        self.holders: dict[Path, str] = {}

    def end(self, process: str) -> None:
        """The system frees the locks of a process that died."""
        self.holders = {path: holder for path, holder in self.holders.items() if holder != process}


class MemoryFiles:
    """One fake process's hands on a `MemoryDisk`; it can die in the middle of every write.

    ``before_write(step)`` is called before each step of each operation that changes something and may raise `Crash`. What a
    real crash leaves behind stays: half an appended line, a temporary file without its rename.
    """

    def __init__(
        self, disk: MemoryDisk, process: str = "process", before_write: Callable[[str], None] = lambda step: None
    ) -> None:
        self.disk = disk
        self.process = process
        self.before_write = before_write

    @property
    def contents(self) -> dict[Path, bytes]:
        """The disk's files."""
        return self.disk.contents

    def read(self, path: Path, offset: int = 0) -> bytes:
        """The file's bytes from ``offset`` on."""
        try:
            return self.contents[path][offset:]
        except KeyError:
            raise FileNotFoundError(errno.ENOENT, "no such file", str(path)) from None

    def size(self, path: Path) -> int | None:
        """Bytes in the file, or None if there is none."""
        data = self.contents.get(path)
        return None if data is None else len(data)

    def names(self, folder: Path) -> list[str]:
        """Names of the files in ``folder``, sorted."""
        return sorted(path.name for path in self.contents if path.parent == folder and path.suffix != ".tmp")

    def folders(self, folder: Path) -> list[str]:
        """Names of the folders in ``folder``, sorted."""
        return sorted({path.relative_to(folder).parts[0] for path in self.contents if folder in path.parents[1:]})

    def write(self, path: Path, data: bytes, *, durable: bool = True) -> None:
        """Replace the file; a crash leaves the old bytes, and perhaps a temporary file."""
        temporary = path.with_name(f"~{path.name}.{self.process}.tmp")
        self.before_write(f"write {path.name}")
        self.contents[temporary] = data
        self.before_write(f"rename {path.name}")
        self.contents[path] = self.contents.pop(temporary)

    def append(self, path: Path, data: bytes) -> None:
        """Add to the end; a crash leaves a part of the bytes."""
        self.before_write(f"append {path.name}")
        old = self.contents.get(path, b"")
        self.contents[path] = old + data[: len(data) // 2]
        self.before_write(f"tear {path.name}")
        self.contents[path] = old + data

    def remove(self, path: Path) -> None:
        """Delete the file; an absent one is no error."""
        self.before_write(f"remove {path.name}")
        self.contents.pop(path, None)

    def move(self, path: Path, target: Path) -> None:
        """Rename, replacing ``target``."""
        self.before_write(f"move {path.name}")
        self.contents[target] = self.read(path)
        del self.contents[path]

    def lock(self, path: Path, timeout_s: float) -> AbstractContextManager[bool]:
        """Nothing to do: fake processes take turns, and change hands only between operations."""
        return nullcontext(True)

    def hold(self, path: Path) -> Callable[[], None] | None:
        """Take the lock until released, or until the process ends."""
        if path in self.disk.holders:
            return None
        self.disk.holders[path] = self.process

        def release() -> None:
            if self.disk.holders.get(path) == self.process:
                del self.disk.holders[path]

        return release

    def free_bytes(self, folder: Path) -> int:
        """Plenty."""
        return 1 << 40


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
    return "Check that the shared folder is connected, then run the same command again."

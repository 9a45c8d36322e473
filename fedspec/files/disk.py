"""Files on a disk or a mounted share: how bytes survive a crash, a full disk and Windows' sharing violations."""

from __future__ import annotations

import errno
import re
import secrets
import stat
import time
from collections.abc import Callable, Iterator, Set
from contextlib import contextmanager, suppress
from functools import partial
from itertools import filterfalse
from pathlib import Path
from typing import TypeVar

from fedspec.errors import FolderError, TakenError
from fedspec.files.evicted import MAX_STUB_BYTES, PATIENCE_S, STUCK_S, Downloads, shown, size_in_stub, stub_of
from fedspec.files.kernel import NO_LOCKS_HERE, Entry, Kernel, SystemKernel, is_away

# WinError 5, 32, 33: a reader, a virus scanner or a sync client holds the file for a moment.
SHARING_VIOLATIONS = frozenset({5, 32, 33})
RETRY_FOR_S = 2.5
REFUSALS = frozenset({errno.EROFS, errno.EACCES, errno.EPERM})
# A folder where a file should be, or the other way round; a link to itself.
TAKEN = frozenset({errno.EISDIR, errno.ENOTDIR, errno.EEXIST, errno.ELOOP, errno.ENXIO})
TEMPORARY = re.compile(r"~.+\.([0-9a-f]{8})\.tmp")

T = TypeVar("T")
_tags_of_this_process: set[str] = set()


class DiskFiles:
    """Files on a disk or a mounted share.

    Args:
        sleep: waits some seconds before the next try where Windows refuses.
        kernel: the system calls.
        patience_s: how long to wait for an evicted file's download.
    """

    def __init__(
        self, sleep: Callable[[float], None] = time.sleep, kernel: Kernel | None = None, patience_s: float = PATIENCE_S
    ) -> None:
        self.sleep = sleep
        self.kernel: Kernel = kernel or SystemKernel()
        # Several processes may write one derived file at once; their temporary files must not meet.
        self.tag = secrets.token_hex(4)
        _tags_of_this_process.add(self.tag)
        self._downloads = Downloads(self._recalled, patience_s)

    def read(self, path: Path, offset: int = 0, limit: int = -1) -> bytes:
        """The file's bytes from ``offset`` on, at most ``limit`` of them. EAGAIN: it is being downloaded."""
        if self.kernel.evicts and self._is_away(path):
            return self._downloads.fetch(path, offset, limit)
        return self._patiently(partial(self.kernel.read, path, offset, limit))

    def _is_away(self, path: Path) -> bool:
        try:
            return is_away(self._patiently(partial(self.kernel.stat, path)))
        except FileNotFoundError:
            return self._stub_size(path) is not None

    def _stub_size(self, path: Path) -> int | None:
        """The size of a file as its stub tells; None if there is no stub."""
        stub = stub_of(path)
        with suppress(OSError):
            if self.kernel.evicts and self._is_there(stub, stat.S_ISREG):
                return size_in_stub(self._patiently(partial(self.kernel.read, stub, 0, MAX_STUB_BYTES)))
        return None

    def _recalled(self, path: Path, offset: int, limit: int) -> bytes:
        """Read an evicted file, however long that takes."""
        read = partial(self._patiently, partial(self.kernel.read, path, offset, limit))
        if self._stub_size(path) is None:
            return read()
        self.kernel.recall(path)
        for _ in range(int(STUCK_S)):
            if self._stub_size(path) is None:
                return read()
            self.sleep(1.0)
        raise OSError(errno.EAGAIN, "is being downloaded", str(path))

    def size(self, path: Path) -> int | None:
        """Bytes in the file, or None if there is none."""
        size = self._size(path)
        if size is None and self.kernel.evicts:
            size = self._stub_size(path)
            return self._size(path) if size is None else size  # it may just have come
        return size

    def _size(self, path: Path) -> int | None:
        size = None
        with _absent(path):
            size = self._patiently(partial(self.kernel.stat, path)).st_size
        return size  # noqa: RET504 - mypy takes what follows a returning block for unreachable

    def names(self, folder: Path) -> list[str]:
        """Names of the files in ``folder``, sorted."""
        return sorted({name for entry in self._listed(folder) if (name := self._name(entry.name)) and entry.is_file()})

    def has_files(self, folder: Path) -> bool:
        """Whether there are any in ``folder``."""
        names: list[str] = []
        with _absent(folder):
            names = self._patiently(partial(self.kernel.names, folder))
        for name in filter(self._name, names):
            with suppress(OSError):  # a link that leads to itself, say
                if self._is_there(folder / name, stat.S_ISREG):
                    return True
        return False

    def _name(self, name: str) -> str | None:
        """The name of the file that an entry of this name stands for, if it may be one of ours."""
        return shown(name) if self.kernel.evicts or not name.startswith(".") else None

    def sizes(self, folder: Path) -> dict[str, int]:
        """Names of the files in ``folder``, sorted, each with its size."""
        return self._sizes(folder, frozenset())

    def sizes_beyond(self, folder: Path, known: Set[str]) -> dict[str, int]:
        """Names of the files in ``folder`` that are not ``known``, sorted, each with its size."""
        names: list[str] = []
        with _absent(folder):
            names = self._patiently(partial(self.kernel.names, folder))
        # Asked every few seconds of folders with thousands of names: almost always there is nothing new.
        fresh = filterfalse(known.__contains__, names)
        return self._sizes(folder, known) if any((name := self._name(n)) and name not in known for n in fresh) else {}

    def _sizes(self, folder: Path, known: Set[str]) -> dict[str, int]:
        sizes = {}
        with _explained(folder, verb="read"):
            for entry in self._listed(folder):
                name = self._name(entry.name)
                with suppress(FileNotFoundError):  # deleted since
                    if not name or name in known or not entry.is_file():
                        continue
                    if name == entry.name:
                        sizes[name] = self._patiently(entry.stat).st_size
                    elif name not in sizes and (size := self._stub_size(folder / name)) is not None:
                        sizes[name] = size
        return dict(sorted(sizes.items()))

    def folders(self, folder: Path) -> list[str]:
        """Names of the folders in ``folder``, sorted."""
        return sorted(entry.name for entry in self._listed(folder) if entry.is_dir())

    def _listed(self, folder: Path) -> list[Entry]:
        entries: list[Entry] = []
        with _absent(folder):
            entries = self._patiently(partial(self.kernel.listed, folder))
        return entries  # noqa: RET504 - as above

    def write(self, path: Path, data: bytes, *, durable: bool = True) -> None:
        """Write a temporary file in the same folder, sync it, and put it in the file's place."""
        # A name that iCloud never syncs and that no pattern of ours matches.
        temporary = path.with_name(f"~{path.name}.{self.tag}.tmp")
        with _explained(path):
            try:
                self._put(self._opened(self.kernel.create, temporary), data, durable=durable)
                self._patiently(partial(self.kernel.rename, temporary, path))
            except BaseException:
                with suppress(OSError):
                    self.kernel.unlink(temporary)
                raise
            if durable:
                self.kernel.sync_folder(path.parent)

    def append(self, path: Path, data: bytes) -> None:
        """Open, write, sync, close: a sync client sees the file at rest between two lines."""
        fresh = self.size(path) is None
        with _explained(path):
            if not fresh and self.kernel.evicts and not self._is_there(path, stat.S_ISREG):
                # Where only the stub is, another file would begin, and one of the two would be lost.
                raise OSError(errno.EAGAIN, "is not on this disk", str(path))
            self._put(self._opened(self.kernel.extend, path), data, durable=True)
            if fresh:
                self.kernel.sync_folder(path.parent)

    def remove(self, path: Path) -> None:
        """Delete the file; an absent one is no error."""
        with _explained(path), suppress(FileNotFoundError):
            self._patiently(partial(self.kernel.unlink, path))

    def move(self, path: Path, target: Path) -> None:
        """Rename within the workspace, replacing ``target``."""
        with _explained(target, FileNotFoundError):
            self._make(target.parent)
            self._patiently(partial(self.kernel.rename, path, target))
            # The new name first: between the two a power cut may leave both, and never none.
            self.kernel.sync_folder(target.parent)
            self.kernel.sync_folder(path.parent)

    @contextmanager
    def lock(self, path: Path, timeout_s: float) -> Iterator[bool | None]:
        """Hold the file lock ``path`` if it can be had in time; None where there are no locks."""
        release, alone = None, None
        with _explained(path):
            self._make(path.parent)
            try:
                release = self.kernel.lock(path, timeout_s)
                alone = release is not None
            except OSError as error:
                if error.errno not in NO_LOCKS_HERE:
                    raise
        try:
            yield alone
        finally:
            if release is not None:
                release()

    def hold(self, path: Path) -> Callable[[], None] | None:
        """Take the lock for as long as this process lives, or return None if another holds it."""
        with _explained(path):
            self._make(path.parent)
            return self.kernel.lock(path, 0.0)

    def remove_orphans(self, folder: Path, older_than_s: float) -> list[str]:
        """Delete temporary files that killed processes have left."""
        with _explained(folder):
            names = [entry.name for entry in self._listed(folder) if self._is_foreign(entry.name)]
            if not names:
                return []
            now = self._folder_s(folder)
            return sorted(name for name in names if self._is_removed(folder / name, now - older_than_s))

    def _is_foreign(self, name: str) -> bool:
        match = TEMPORARY.fullmatch(name)
        return match is not None and match[1] not in _tags_of_this_process

    def _folder_s(self, folder: Path) -> float:
        """What the folder's own clock says; a file server's may differ from ours by hours."""
        probe = folder / f"~now.{self.tag}.tmp"
        self.kernel.close(self._opened(self.kernel.create, probe))
        try:
            return self._patiently(partial(self.kernel.stat, probe)).st_mtime
        finally:
            self._patiently(partial(self.kernel.unlink, probe))

    def _is_removed(self, path: Path, before_s: float) -> bool:
        try:
            if self.kernel.stat(path).st_mtime >= before_s:
                return False
            self._patiently(partial(self.kernel.unlink, path))
        except (FileNotFoundError, PermissionError):
            return False  # another was faster, or somebody holds it
        return True

    def free_bytes(self, folder: Path) -> int:
        """Bytes that can still be written in ``folder`` or the nearest folder above it that exists."""
        try:
            return self.kernel.free_bytes(folder)
        except (FileNotFoundError, NotADirectoryError):
            if folder == folder.parent:
                raise
            return self.free_bytes(folder.parent)

    def _opened(self, open_: Callable[[Path], int], path: Path) -> int:
        try:
            return self._patiently(partial(open_, path))
        except FileNotFoundError:
            self._make(path.parent)
            return self._patiently(partial(open_, path))

    def _put(self, handle: int, data: bytes, *, durable: bool) -> None:
        """Write it all and close. What Windows refuses in the middle goes on from there: nothing is written twice."""
        try:
            rest = memoryview(data)
            while rest:
                rest = rest[self._patiently(partial(self.kernel.write, handle, rest)) :]
            if durable:
                self.kernel.sync(handle)
        finally:
            self.kernel.close(handle)

    def _make(self, folder: Path) -> None:
        """Make the folder and those above it, for good: a file is only as durable as the name of its folder."""
        if self._is_there(folder):
            return
        if folder != folder.parent:
            self._make(folder.parent)
        with suppress(FileExistsError):  # another process was faster, or it is a file, which the next step will tell
            self._patiently(partial(self.kernel.make_folder, folder))
        self.kernel.sync_folder(folder.parent)

    def _is_there(self, path: Path, kind: Callable[[int], bool] = stat.S_ISDIR) -> bool:
        try:
            return kind(self._patiently(partial(self.kernel.stat, path)).st_mode)
        except FileNotFoundError:
            return False

    def _patiently(self, attempt: Callable[[], T]) -> T:
        return patiently(attempt, self.sleep)


def patiently(attempt: Callable[[], T], sleep: Callable[[float], None]) -> T:
    """Repeat while Windows says that somebody else holds the file, from 50 ms apart, for `RETRY_FOR_S`."""
    waited, pause = 0.0, 0.05
    while True:
        try:
            return attempt()
        except PermissionError as error:
            if getattr(error, "winerror", None) not in SHARING_VIOLATIONS or waited >= RETRY_FOR_S:
                raise
            sleep(pause)
            waited, pause = waited + pause, pause * 2


@contextmanager
def _absent(path: Path) -> Iterator[None]:
    """What is not there is no error."""
    missing = (FileNotFoundError, NotADirectoryError)
    with _explained(path, *missing, verb="read"), suppress(*missing):
        yield


@contextmanager
def _explained(path: Path, *expected: type[OSError], verb: str = "write") -> Iterator[None]:
    """Turn what the system says about a file into what a person can do about it, but for what the caller expects."""
    try:
        yield
    except expected:
        raise
    except OSError as error:
        refused = error.errno in REFUSALS and getattr(error, "winerror", None) not in SHARING_VIOLATIONS
        what = f"Cannot {verb} {path}: {error.strerror or error}."
        if error.errno in TAKEN:
            raise TakenError(what, "Find out who put something else there, and delete or rename it.") from error
        raise FolderError(what, _remedy(error), passing=not refused) from error


def _remedy(error: OSError) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "Free some space there, then run the same command again; what was saved so far is kept."
    if error.errno in REFUSALS:
        return "Make the folder writable for your user, or name another with --workspace."
    return "Check that the shared folder is connected, then run the same command again."

"""The fake folder: files in memory, for processes that may die in the middle of every write."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator, Mapping, MutableMapping, Set
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from types import MappingProxyType

from fedspec.errors import FolderError
from fedspec.files.evicted import shown, size_in_stub, stub_of


class Crash(BaseException):
    """The fake process dies here; not an Exception, so that no handler survives its own death."""


class Tree(MutableMapping[Path, bytes]):
    """Files by path, an absolute one; what is in one folder is found without looking at the others.

    Kept by text: a path is slow to take apart, to hash and to compare.
    """

    def __init__(self, contents: Mapping[Path, bytes] = MappingProxyType({})) -> None:
        self._folders: dict[str, dict[str, bytes]] = {}
        self._listings: dict[str, dict[str, int]] = {}
        self.update(contents)

    def __getitem__(self, path: Path) -> bytes:
        folder, _, name = str(path).rpartition(os.sep)
        return self._folders[folder][name]

    def __setitem__(self, path: Path, data: bytes) -> None:
        folder, _, name = str(path).rpartition(os.sep)
        self._folders.setdefault(folder, {})[name] = data
        self._listings.pop(folder, None)

    def __delitem__(self, path: Path) -> None:
        folder, _, name = str(path).rpartition(os.sep)
        del self._folders[folder][name]
        self._listings.pop(folder, None)

    def __contains__(self, path: object) -> bool:
        folder, _, name = str(path).rpartition(os.sep)
        return name in self._folders.get(folder, ())

    def __iter__(self) -> Iterator[Path]:
        return iter([Path(f"{folder}{os.sep}{name}") for folder, files in self._folders.items() for name in files])

    def __len__(self) -> int:
        return sum(map(len, self._folders.values()))

    def inside(self, folder: Path) -> Mapping[str, bytes]:
        """The files directly in ``folder``, by name."""
        return self._folders.get(_text(folder), {})

    def below(self, root: Path) -> dict[str, bytes]:
        """The files in ``root`` and in all folders below it, by what their paths have after it."""
        start = _text(root) + os.sep
        within = {text: files for text, files in self._folders.items() if f"{text}{os.sep}".startswith(start)}
        return {f"{text}{os.sep}{name}"[len(start) :]: data for text, files in within.items() for name, data in files.items()}

    def listing(self, folder: Path) -> dict[str, int]:
        """Names of the files directly in ``folder``, sorted, each with its size; hidden and temporary ones are left out.

        A stub of iCloud's stands for its file.
        """
        text = _text(folder)
        held = self._listings.get(text)
        if held is None:
            files = self._folders.get(text, {})
            stubs = {real: size_in_stub(files[name]) for name in files if (real := shown(name)) not in (None, name)}
            here = {name: len(data) for name, data in files.items() if shown(name) == name}
            held = self._listings[text] = dict(sorted((stubs | here).items()))
        return held.copy()


def _text(folder: Path) -> str:
    return str(folder).rstrip(os.sep)  # of the root nothing


class MemoryDisk:
    """What fake processes share: the files, and who holds which lock."""

    def __init__(self) -> None:
        self.contents = Tree()
        # The disk's own clock, and when by it each temporary file was written.
        self.now_s = 0.0
        self.began_s: dict[Path, float] = {}
        self.holders: dict[str, str] = {}
        # Files that a stub stands for, once somebody has tried to read them: their download was asked for.
        self.recalled: set[Path] = set()

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
    def contents(self) -> Tree:
        """The disk's files."""
        return self.disk.contents

    def read(self, path: Path, offset: int = 0, limit: int = -1) -> bytes:
        """The file's bytes from ``offset`` on, at most ``limit`` of them."""
        try:
            return self.contents[path][offset : offset + limit if limit >= 0 else None]
        except KeyError:
            if stub_of(path) in self.contents:
                self.disk.recalled.add(path)
                raise OSError(errno.EAGAIN, "is being downloaded", str(path)) from None
            raise FileNotFoundError(errno.ENOENT, "no such file", str(path)) from None

    def size(self, path: Path) -> int | None:
        """Bytes in the file, or None if there is none."""
        data = self.contents.get(path)
        if data is None:
            stub = self.contents.get(stub_of(path))
            return None if stub is None else size_in_stub(stub)
        return len(data)

    def names(self, folder: Path) -> list[str]:
        """Names of the files in ``folder``, sorted."""
        return list(self.sizes(folder))

    def has_files(self, folder: Path) -> bool:
        """Whether there are any in ``folder``."""
        return bool(self.names(folder))

    def sizes(self, folder: Path) -> dict[str, int]:
        """Names of the files in ``folder``, each with its size."""
        return self.contents.listing(folder)

    def sizes_beyond(self, folder: Path, known: Set[str]) -> dict[str, int]:
        """The same for files whose names are not in ``known``."""
        return {name: size for name, size in self.sizes(folder).items() if name not in known}

    def folders(self, folder: Path) -> list[str]:
        """Names of the folders in ``folder``, sorted."""
        below = (path.partition(os.sep) for path in self.contents.below(folder))
        return sorted({name for name, deeper, _ in below if deeper})

    def write(self, path: Path, data: bytes, *, durable: bool = True) -> None:
        """Replace the file; a crash leaves the old bytes, and perhaps a temporary file."""
        temporary = path.with_name(f"~{path.name}.{self.process}.tmp")
        self.before_write(f"write {path.name}")
        self.contents[temporary] = data
        self.disk.began_s[temporary] = self.disk.now_s
        self.before_write(f"rename {path.name}")
        self.contents[path] = self.contents.pop(temporary)
        del self.disk.began_s[temporary]

    def append(self, path: Path, data: bytes) -> None:
        """Add to the end; a crash leaves a part of the bytes."""
        if path not in self.contents and stub_of(path) in self.contents:
            raise FolderError(f"Cannot write {path}: it is not on this disk.", "Let the folder finish syncing.")
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

    def remove_orphans(self, folder: Path, older_than_s: float) -> list[str]:
        """Delete temporary files that other processes have left."""
        removed = []
        for path, began_s in list(self.disk.began_s.items()):
            mine = path.name.endswith(f".{self.process}.tmp")
            if path.parent == folder and not mine and self.disk.now_s - began_s > older_than_s:
                self.remove(path)
                del self.disk.began_s[path]
                removed.append(path.name)
        return sorted(removed)

    def lock(self, path: Path, timeout_s: float) -> AbstractContextManager[bool]:
        """Nothing to do: fake processes take turns, and change hands only between operations."""
        return nullcontext(True)

    def hold(self, path: Path) -> Callable[[], None] | None:
        """Take the lock until released, or until the process ends."""
        text = str(path)
        if text in self.disk.holders:
            return None
        self.disk.holders[text] = self.process

        def release() -> None:
            if self.disk.holders.get(text) == self.process:
                del self.disk.holders[text]

        return release

    def free_bytes(self, folder: Path) -> int:
        """Plenty."""
        return 1 << 40

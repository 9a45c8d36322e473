"""The fake system: files in memory, on a disk that remembers every step and can tell what a power cut leaves after any of them.

The disk keeps what it promised and nothing else: bytes once their file was synced, names once their folder was. One change of
a name is whole or absent, blocks of 512 bytes are, and all else may be lost, kept, torn or full of zeros.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Container, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from fedspec.files.kernel import Entry

BLOCK_BYTES = 512
NAMES = frozenset({"create", "rename", "unlink", "folder"})

# (the file's bytes, how many of them were synced) -> what is on the disk
Bytes = Callable[[bytes, int], bytes]
# number of the change among those that were not synced, from 0 -> whether it is on the disk
Names = Callable[[int], bool]


@dataclass(frozen=True, slots=True)
class Step:
    """One change that a process asked for: a kind of `NAMES`, ``write``, ``sync`` or ``sync_folder``.

    Attributes:
        node: the file itself, whatever its name becomes.
        data: what was written. target: the new name.
    """

    kind: str
    path: Path
    node: int = 0
    data: bytes = b""
    target: Path | None = None

    @property
    def folders(self) -> set[Path]:
        """The folders whose names it changes."""
        return {path.parent for path in (self.path, self.target) if path is not None}


@dataclass(frozen=True, slots=True)
class Remains:
    """What is on a disk."""

    files: Mapping[Path, bytes]
    folders: frozenset[Path]

    @property
    def key(self) -> tuple[frozenset[tuple[Path, bytes]], frozenset[Path]]:
        """Equal for equal disks."""
        return frozenset(self.files.items()), self.folders

    def but_for(self, folder: Path, other: Remains) -> Remains:
        """This disk with ``folder`` as it is in ``other``: the folder is on a disk of its own, with its own power."""
        files = {path: data for path, data in self.files.items() if folder not in path.parents}
        files |= {path: data for path, data in other.files.items() if folder in path.parents}
        folders = {path for path in self.folders if folder not in path.parents}
        return Remains(files, frozenset(folders | {path for path in other.folders if folder in path.parents}))


class LossyKernel:
    """One machine's system, from when it was switched on with ``remains`` on its disk. All its processes may use it.

    ``on_step(n)`` is called after the n-th step.
    """

    evicts = False

    def __init__(self, remains: Remains) -> None:
        self.steps: list[Step] = []
        self.on_step: Callable[[int], None] = lambda steps: None
        self.now_s = 0.0
        self._contents: list[bytes] = []
        self._changed_s: dict[int, float] = {}
        self._paths: dict[int, Path] = {}
        self._handles: dict[int, int] = {}
        self._held: set[Path] = set()
        self._folders: dict[Path, dict[str, int]] = {}
        for folder in sorted(remains.folders | {parent for path in remains.folders for parent in path.parents}):
            self._folders[folder] = {}
        for path, data in remains.files.items():
            self._folders[path.parent][path.name] = self._new(path, data)
        self._at_first = {folder: dict(names) for folder, names in self._folders.items()}
        self.first_contents = list(self._contents)

    # The kernel's port

    def read(self, path: Path, offset: int, limit: int) -> bytes:
        """Bytes from ``offset`` on."""
        return self._contents[self._node(path)][offset : offset + limit if limit >= 0 else None]

    def stat(self, path: Path) -> os.stat_result:
        """Size and time."""
        return _status(None, 0.0) if path in self._folders else self._status(self._node(path))

    def recall(self, path: Path) -> None:
        """Nothing is ever evicted here."""

    def listed(self, folder: Path) -> list[Entry]:
        """What is in the folder."""
        if folder not in self._folders:
            raise _error(errno.ENOENT, folder)
        folders = [_Entry(path.name, _status(None, 0.0)) for path in self._folders if path.parent == folder != path]
        return [*folders, *(_Entry(name, self._status(node)) for name, node in self._folders[folder].items())]

    def names(self, folder: Path) -> list[str]:
        """The same names."""
        return [entry.name for entry in self.listed(folder)]

    def create(self, path: Path) -> int:
        """A handle to an empty file."""
        node = self._new(path)
        self._names_in(path)[path.name] = node
        return self._opened(Step("create", path, node))

    def extend(self, path: Path) -> int:
        """A handle that writes at the file's end."""
        node = self._names_in(path).get(path.name)
        if node is None:
            return self.create(path)
        return self._opened(None, node)

    def write(self, handle: int, data: bytes | memoryview) -> int:
        """Write all of the bytes."""
        node = self._handles[handle]
        self._contents[node] += bytes(data)
        self._changed_s[node] = self.now_s
        self._record(Step("write", self._paths[node], node, bytes(data)))
        return len(data)

    def sync(self, handle: int) -> None:
        """The file's bytes survive from now on."""
        node = self._handles[handle]
        self._record(Step("sync", self._paths[node], node))

    def close(self, handle: int) -> None:
        """Give the handle back."""
        del self._handles[handle]

    def rename(self, path: Path, target: Path) -> None:
        """Give the file another name."""
        node = self._node(path)
        del self._folders[path.parent][path.name]
        self._names_in(target)[target.name] = node
        self._paths[node] = target
        self._record(Step("rename", path, node, target=target))

    def unlink(self, path: Path) -> None:
        """Take the file's name away."""
        node = self._node(path)
        del self._folders[path.parent][path.name]
        self._record(Step("unlink", path, node))

    def make_folder(self, path: Path) -> None:
        """Make one folder."""
        if path in self._folders or path.name in self._names_in(path):
            raise _error(errno.EEXIST, path)
        self._folders[path] = {}
        self._record(Step("folder", path))

    def sync_folder(self, path: Path) -> None:
        """The names in the folder survive from now on."""
        self._record(Step("sync_folder", path))

    def lock(self, path: Path, timeout_s: float) -> Callable[[], None] | None:
        """Take a file lock. Nobody else runs meanwhile, so waiting would not help."""
        if path in self._held:
            return None
        if path.name not in self._names_in(path):
            self.close(self.create(path))
        self._held.add(path)
        return lambda: self._held.discard(path)

    def free_bytes(self, folder: Path) -> int:
        """Plenty."""
        return 1 << 40

    # The power cut

    @property
    def nodes(self) -> int:
        """How many files there ever were."""
        return len(self._contents)

    @property
    def remains(self) -> Remains:
        """What the machine's processes see now."""
        files = {folder / name: node for folder, names in self._folders.items() for name, node in names.items()}
        return Remains({path: self._contents[node] for path, node in files.items()}, frozenset(self._folders))

    def outcomes(self, steps: int) -> Iterator[tuple[str, Remains]]:
        """What may be on the disk after the first ``steps`` steps if the power fails there, in words, each outcome once.

        The first is that of a process that was killed, where nothing is lost; the second the least that may be left.
        """
        seen = set()
        cut = _Cut(self, steps)
        for words, names, data in _losses(cut):
            remains = self._remains(cut, names, data)
            if remains.key not in seen:
                seen.add(remains.key)
                yield words, remains

    def free_locks(self) -> None:
        """The system frees the locks of processes that died."""
        self._held.clear()

    def replace(self, folder: Path, remains: Remains) -> None:
        """Another machine's power cut: what is below ``folder`` is from now on as it is in ``remains``; processes live on.

        `outcomes` tells only of what was before.
        """
        for path in [path for path in self._folders if folder in path.parents]:
            del self._folders[path]
        self._folders[folder] = {}
        for path in sorted(path for path in remains.folders if folder in path.parents):
            self._folders[path] = {}
        for path, data in remains.files.items():
            if folder in path.parents:
                self._folders[path.parent][path.name] = self._new(path, data)

    def _remains(self, cut: _Cut, names: Names, data: Bytes) -> Remains:
        tree = {folder / name: node for folder, files in self._at_first.items() for name, node in files.items()}
        folders = set(self._at_first)
        for number, step in enumerate(self.steps[: cut.steps]):
            if step.kind not in NAMES or (number in cut.pending and not names(cut.pending[number])):
                continue
            if step.kind == "folder":
                folders.add(step.path)
            elif step.kind == "create":
                tree[step.path] = step.node
            else:
                tree.pop(step.path, None)
                if step.target is not None:
                    tree[step.target] = step.node
        # What is in a folder that has no name is nowhere.
        there = frozenset(folder for folder in folders if all(parent in folders for parent in folder.parents))
        return Remains({p: data(cut.contents[n], cut.synced[n]) for p, n in tree.items() if p.parent in there}, there)

    def _record(self, step: Step) -> None:
        self.steps.append(step)
        self.on_step(len(self.steps))

    def _new(self, path: Path, data: bytes = b"") -> int:
        self._contents.append(data)
        node = len(self._contents) - 1
        self._paths[node], self._changed_s[node] = path, self.now_s
        return node

    def _node(self, path: Path) -> int:
        names = self._folders.get(path.parent, {})
        if path.name not in names:
            raise _error(errno.ENOENT, path)
        return names[path.name]

    def _names_in(self, path: Path) -> dict[str, int]:
        if path.parent not in self._folders:
            is_file = path.parent.name in self._folders.get(path.parent.parent, {})
            raise _error(errno.ENOTDIR if is_file else errno.ENOENT, path)
        return self._folders[path.parent]

    def _opened(self, step: Step | None, node: int = 0) -> int:
        if step is not None:
            self._record(step)
            node = step.node
        handle = max(self._handles, default=2) + 1
        self._handles[handle] = node
        return handle

    def _status(self, node: int) -> os.stat_result:
        return _status(len(self._contents[node]), self._changed_s[node])


class _Cut:
    """What is known of each file and each change of a name after the first ``steps`` steps.

    Attributes:
        contents: bytes of each node. synced: how many of them survive for sure.
        pending: changes of names that need not survive: number of the step -> number among them.
    """

    def __init__(self, kernel: LossyKernel, steps: int) -> None:
        self.steps = steps
        first = kernel.first_contents
        self.contents = first + [b""] * (kernel.nodes - len(first))
        self.synced = [len(data) for data in self.contents]
        folders: dict[Path, int] = {}
        for number, step in enumerate(kernel.steps[:steps]):
            if step.kind == "write":
                self.contents[step.node] += step.data
            elif step.kind == "sync":
                self.synced[step.node] = len(self.contents[step.node])
            elif step.kind == "sync_folder":
                folders[step.path] = number
        changes = [(n, step) for n, step in enumerate(kernel.steps[:steps]) if step.kind in NAMES]
        pending = [n for n, step in changes if any(folders.get(folder, -1) < n for folder in step.folders)]
        self.pending = {number: position for position, number in enumerate(pending)}

    @property
    def longest(self) -> int:
        """Bytes of the longest tail that was not synced."""
        return max(len(data) - synced for data, synced in zip(self.contents, self.synced, strict=True))


def _losses(cut: _Cut) -> Iterator[tuple[str, Names, Bytes]]:
    yield "killed", _every, _kept
    yield "nothing but what was synced", _none, _lost
    yield "names without bytes", _every, _lost
    yield "names with zeros for bytes", _every, _zeroed
    yield "bytes without names", _none, _kept
    yield "torn in the middle", _every, _halved
    for block in range(1, cut.longest // BLOCK_BYTES + 2):
        yield f"torn at block {block}", _every, partial(_torn, block, False)
        yield f"zeros from block {block}", _every, partial(_torn, block, True)
    pending = len(cut.pending)
    for count in range(1, pending):
        yield f"the first {count} names, no bytes", partial(_is_among, range(count)), _lost
    for missing in range(pending):
        kept = frozenset(range(pending)) - {missing}
        yield f"all but name {missing}", partial(_is_among, kept), _kept


def _every(number: int) -> bool:
    return True


def _none(number: int) -> bool:
    return False


def _is_among(kept: Container[int], number: int) -> bool:
    return number in kept


def _kept(data: bytes, synced: int) -> bytes:
    return data


def _lost(data: bytes, synced: int) -> bytes:
    return data[:synced]


def _zeroed(data: bytes, synced: int) -> bytes:
    return data[:synced] + bytes(len(data) - synced)


def _halved(data: bytes, synced: int) -> bytes:
    return data[: (synced + len(data)) // 2]


def _torn(block: int, zeros: bool, data: bytes, synced: int) -> bytes:
    """Whole up to the ``block``-th block boundary after what was synced."""
    edge = max(synced, min(len(data), (synced // BLOCK_BYTES + block) * BLOCK_BYTES))
    return _zeroed(data, edge) if zeros else data[:edge]


@dataclass(frozen=True, slots=True)
class _Entry:
    name: str
    status: os.stat_result

    def is_file(self) -> bool:
        return stat.S_ISREG(self.status.st_mode)

    def is_dir(self) -> bool:
        return stat.S_ISDIR(self.status.st_mode)

    def stat(self) -> os.stat_result:
        return self.status


def _status(size: int | None, changed_s: float) -> os.stat_result:
    mode = stat.S_IFDIR if size is None else stat.S_IFREG
    return os.stat_result((mode, 0, 0, 1, 0, 0, size or 0, changed_s, changed_s, changed_s))


def _error(number: int, path: Path) -> OSError:
    return OSError(number, os.strerror(number), str(path))

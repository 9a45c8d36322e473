"""What differs from one system to another: files that others hold, caches of disks, files in the cloud, long paths."""

from __future__ import annotations

import errno
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path, PureWindowsPath
from types import SimpleNamespace
from typing import Any

import pytest
from filekit import Refusing

from fedspec.errors import FolderError
from fedspec.files import DiskFiles, Files
from fedspec.files.disk import RETRY_FOR_S
from fedspec.files.evicted import MANY, MOST, STUCK_S, Downloads
from fedspec.files.kernel import WINDOWS_PATH_LIMIT, Kernel, SystemKernel, extended, is_away

# Windows: somebody else holds the file

OPERATIONS: dict[str, tuple[set[str], Callable[[Files, Path], object]]] = {
    "write": ({"create", "write", "rename"}, lambda files, path: files.write(path, b"new")),
    "append": ({"stat", "extend", "write"}, lambda files, path: files.append(path, b"new")),
    "read": ({"read"}, lambda files, path: files.read(path)),
    "size": ({"stat"}, lambda files, path: files.size(path)),
    "names": ({"listed"}, lambda files, path: files.names(path.parent)),
    "has_files": ({"names", "stat"}, lambda files, path: files.has_files(path.parent)),
    "sizes": ({"listed"}, lambda files, path: files.sizes(path.parent)),
    "folders": ({"listed"}, lambda files, path: files.folders(path.parent)),
    "remove": ({"unlink"}, lambda files, path: files.remove(path)),
    "move": ({"stat", "make_folder", "rename"}, lambda files, path: files.move(path, path.parent / "new" / "b")),
    "make a folder": ({"stat", "make_folder"}, lambda files, path: files.write(path.parent / "new" / "b", b"")),
}
CALLS = [(operation, call) for operation, (calls, _) in OPERATIONS.items() for call in sorted(calls)]


@pytest.mark.parametrize("winerror", [5, 32, 33])
@pytest.mark.parametrize(("operation", "call"), CALLS)
def test_what_windows_refuses_for_a_moment_is_tried_again(operation: str, call: str, winerror: int, tmp_path: Path):
    pauses: list[float] = []
    kernel = Refusing(winerror)
    files = DiskFiles(pauses.append, kernel)
    files.write(tmp_path / "a", b"old")
    kernel.refused, kernel.times = {call}, 2
    OPERATIONS[operation][1](files, tmp_path / "a")
    assert pauses == [0.05, 0.1]


@pytest.mark.parametrize("call", ["create", "write", "rename"])
def test_a_file_that_windows_refuses_for_long_keeps_its_old_content_and_is_told(call: str, tmp_path: Path):
    pauses: list[float] = []
    kernel = Refusing()
    files = DiskFiles(pauses.append, kernel)
    files.write(tmp_path / "a", b"old")
    kernel.refused, kernel.times = {call}, 1000
    with pytest.raises(FolderError):
        files.write(tmp_path / "a", b"new")
    assert RETRY_FOR_S <= sum(pauses) < 2 * RETRY_FOR_S
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    assert (tmp_path / "a").read_bytes() == b"old"


def test_any_other_refusal_is_not_tried_again(tmp_path: Path):
    pauses: list[float] = []
    kernel = Refusing(19)  # write-protected
    kernel.refused, kernel.times = {"rename"}, 1
    with pytest.raises(FolderError):
        DiskFiles(pauses.append, kernel).write(tmp_path / "a", b"new")
    assert not pauses


class Halting(Refusing):
    """A system that takes three bytes at a time and refuses in between, as for a file with a locked part."""

    def write(self, handle: int, data: bytes | memoryview) -> int:
        if self.times % 2:
            self.times -= 1
            error = PermissionError(13, "locked")
            error.winerror = 33  # type: ignore[attr-defined]
            raise error
        self.times -= 1
        return super().write(handle, data[:3])


def test_an_append_that_is_refused_halfway_writes_nothing_twice(tmp_path: Path):
    kernel = Halting()
    kernel.times = 99
    DiskFiles(lambda seconds: None, kernel).append(tmp_path / "a", b"0123456789")
    assert (tmp_path / "a").read_bytes() == b"0123456789"


# Windows: long paths


@pytest.mark.parametrize(
    ("path", "start"),
    [("C:\\w\\" + "x" * 300, "\\\\?\\C:\\w\\x"), ("\\\\nas\\share\\" + "x" * 300, "\\\\?\\UNC\\nas\\share\\x")],
)
def test_a_long_path_is_given_to_windows_in_its_long_form_and_only_once(path: str, start: str):
    long = extended(path)
    assert long.startswith(start)
    assert long.endswith("x" * 300)
    assert extended(long) == long


def test_a_long_path_has_no_dots_and_no_slashes_since_windows_reads_it_as_it_is():
    assert extended("C:/w/../v/" + "x" * 300) == "\\\\?\\C:\\v\\" + "x" * 300


def test_a_short_path_stays_as_it_is():
    for path in ("C:\\w\\a", "\\\\nas\\share\\a", "C:\\" + "x" * (WINDOWS_PATH_LIMIT - 4)):
        assert extended(path) == path
        assert PureWindowsPath(extended(path)) == PureWindowsPath(path)


# macOS: the disk's own cache


@pytest.mark.parametrize("refusal", [None, errno.ENOTSUP, errno.ENOTTY, errno.EINVAL])
def test_the_disk_s_cache_is_emptied_where_the_system_can_and_a_file_is_synced_where_it_cannot(
    refusal: int | None, tmp_path: Path
):
    asked: list[int] = []

    def full_sync(handle: int) -> None:
        asked.append(handle)
        if refusal is not None:
            raise OSError(refusal, "refused")

    files = DiskFiles(kernel=SystemKernel(full_sync))
    files.write(tmp_path / "a", b"1")
    files.append(tmp_path / "a", b"2")
    assert len(asked) == (2 if os.name == "nt" else 3), "the file, its name, and the file again"
    assert files.read(tmp_path / "a") == b"12"


# iCloud, OneDrive: files that are there in name only


class Cloud(SystemKernel):
    """A system whose files are away until somebody has read them, which takes until ``arrives`` is set."""

    def __init__(self) -> None:
        super().__init__()
        self.evicts = True
        self.arrives = threading.Event()
        self.here: set[Path] = set()
        self.reads = 0
        self.offline = False

    def stat(self, path: Path) -> Any:
        status = super().stat(path)
        flags = 0 if path in self.here or path.is_dir() else 0x40000000
        return SimpleNamespace(st_size=status.st_size, st_mode=status.st_mode, st_flags=flags)

    def read(self, path: Path, offset: int, limit: int) -> bytes:
        self.reads += 1
        if path not in self.here:
            assert self.arrives.wait(30.0)
            if self.offline:
                raise OSError(errno.ETIMEDOUT, "offline")
        data = super().read(path, offset, limit)
        self.here.add(path)
        return data


@pytest.fixture
def cloud() -> Iterator[Cloud]:
    kernel = Cloud()
    yield kernel
    kernel.arrives.set()
    for thread in threading.enumerate():
        if thread.name == "download":
            thread.join()


def poll(files: Files, path: Path) -> bytes:
    """As a worker does: a later look finds it."""
    while True:
        try:
            return files.read(path)
        except BlockingIOError:
            threading.Event().wait(0.005)


def test_an_evicted_file_is_downloaded_while_its_reader_goes_on(cloud: Cloud, tmp_path: Path):
    (tmp_path / "a").write_bytes(b"0123456789")
    files = DiskFiles(kernel=cloud, patience_s=0.01)
    for _ in range(3):
        with pytest.raises(OSError, match="is being downloaded") as caught:
            files.read(tmp_path / "a")
        assert caught.value.errno == errno.EAGAIN
    assert cloud.reads == 1, "one download, however often it is asked for"
    assert files.size(tmp_path / "a") == 10
    assert files.names(tmp_path) == ["a"]
    cloud.arrives.set()
    assert poll(files, tmp_path / "a") == b"0123456789"
    assert files.read(tmp_path / "a", 3, 4) == b"3456"


def test_a_download_that_is_quick_is_waited_for(cloud: Cloud, tmp_path: Path):
    (tmp_path / "a").write_bytes(b"0123456789")
    cloud.arrives.set()
    assert DiskFiles(kernel=cloud, patience_s=30.0).read(tmp_path / "a", 3, 4) == b"3456"


def test_a_folder_of_evicted_files_is_waited_for_once_and_takes_few_threads(cloud: Cloud, tmp_path: Path):
    paths = [tmp_path / f"{number}" for number in range(3 * MANY)]
    for path in paths:
        path.write_bytes(b"x")
    files = DiskFiles(kernel=cloud, patience_s=0.01)
    for path in paths:
        with pytest.raises(BlockingIOError):
            files.read(path)
    assert sum(thread.name == "download" for thread in threading.enumerate()) == MANY
    cloud.arrives.set()
    assert [poll(files, path) for path in paths] == [b"x"] * len(paths)


def test_a_download_that_fails_says_why_and_is_tried_again(cloud: Cloud, tmp_path: Path):
    (tmp_path / "a").write_bytes(b"x")
    files = DiskFiles(kernel=cloud, patience_s=30.0)
    cloud.offline = True
    cloud.arrives.set()
    with pytest.raises(TimeoutError):
        files.read(tmp_path / "a")
    cloud.offline = False
    assert files.read(tmp_path / "a") == b"x"


def test_of_an_evicted_file_only_what_was_asked_for_is_held(cloud: Cloud, tmp_path: Path):
    (tmp_path / "beat").write_bytes(b"0123456789")
    asked: list[tuple[int, int]] = []
    read = cloud.read
    cloud.read = lambda path, offset, limit: asked.append((offset, limit)) or read(path, offset, limit)  # type: ignore
    cloud.arrives.set()
    files = DiskFiles(kernel=cloud, patience_s=30.0)
    assert files.read(tmp_path / "beat", 2, 4) == b"2345"
    assert asked == [(2, 4)]


@pytest.mark.parametrize("error", [MemoryError(), ValueError("of another kind"), TimeoutError("offline")])
def test_whatever_ends_a_download_its_reader_is_told_and_never_given_an_empty_file(error: Exception):
    def fail(path: Path, offset: int, limit: int) -> bytes:
        raise error

    with pytest.raises(type(error)):
        Downloads(fail, 30.0).fetch(Path("/a"))


class Stuck:
    """Reads that never return of files in ``gone``, and others that do at once; and a clock."""

    def __init__(self) -> None:
        self.ends, self.now_s, self.fails = threading.Event(), 0.0, False
        self.downloads = Downloads(self.read, 0.5, lambda: self.now_s)

    def read(self, path: Path, offset: int, limit: int) -> bytes:
        if path.parent.name == "gone":
            self.ends.wait(30.0)
            if self.fails:
                raise BlockingIOError(errno.EAGAIN, "is being downloaded")
        return b"x"

    def end(self) -> None:
        """Those that wait come, or fail."""
        self.ends.set()
        for thread in threading.enumerate():
            if thread.name == "download":
                thread.join()
        self.ends.clear()

    def lose(self, count: int, limit: int) -> int:
        """Ask for files that never come; returns how many threads wait."""
        self.downloads.patience_s, patience_s = 0.0, self.downloads.patience_s
        for number in range(count):
            with pytest.raises(BlockingIOError):
                self.downloads.fetch(Path(f"/gone/{limit}.{number}"), 0, limit)
        self.downloads.patience_s = patience_s
        return sum(thread.name == "download" for thread in threading.enumerate())


@pytest.fixture
def stuck() -> Iterator[Stuck]:
    reads = Stuck()
    yield reads
    reads.end()


@pytest.mark.parametrize(("theirs", "ours"), [(-1, 100), (100, -1)])
def test_checkpoints_that_never_come_hold_up_no_journal_and_journals_no_checkpoint(stuck: Stuck, theirs: int, ours: int):
    assert stuck.lose(2 * MANY, theirs) == MANY
    assert stuck.downloads.fetch(Path("/a"), 0, ours) == b"x"


def test_a_download_that_never_ends_makes_room_for_others_after_a_while(stuck: Stuck):
    assert stuck.lose(2 * MANY, 100) == MANY
    with pytest.raises(BlockingIOError):
        stuck.downloads.fetch(Path("/a"), 0, 100)
    stuck.now_s += STUCK_S
    assert stuck.lose(MANY, 100) == MANY, "none is begun twice"
    assert stuck.downloads.fetch(Path("/a"), 0, 100) == b"x"


def test_downloads_that_never_end_become_ever_fewer_and_leave_a_place_for_what_was_not_tried(
    stuck: Stuck, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(sys.modules[Downloads.__module__], "UTMOST", MOST + 5)
    for step in range(2 * MOST // MANY):
        before = stuck.lose(0, 100)
        assert before <= min(MOST + 5, MANY * step)
        assert stuck.lose(2 * MOST, 100) <= max(before + 1, MOST)
        stuck.now_s += STUCK_S
        if MOST <= before < MOST + 4:
            assert stuck.downloads.fetch(Path("/a"), 0, 100) == b"x"
    assert stuck.lose(0, 100) == MOST + 5


def test_what_fails_each_time_keeps_no_other_file_away(stuck: Stuck):
    stuck.fails = True
    for _ in range(3):
        assert stuck.lose(2 * MANY, 100) == MANY
        stuck.end()
    stuck.lose(MANY, 100)
    for _ in range(100):  # on a busy machine even this may take two looks
        with suppress(BlockingIOError):
            assert stuck.downloads.fetch(Path("/a"), 0, 100) == b"x"
            return
    raise AssertionError


def test_a_file_that_comes_at_once_is_read_though_others_are_late(stuck: Stuck):
    stuck.lose(MANY - 1, 100)
    for _ in range(100):  # on a busy machine even this may take two looks
        with suppress(BlockingIOError):
            assert stuck.downloads.fetch(Path("/a"), 0, 100) == b"x"
            return
    raise AssertionError


def test_a_folder_of_files_that_come_one_by_one_is_waited_for_no_longer_than_one_that_does_not_come():
    now_s = [0.0]

    def read(path: Path, offset: int, limit: int) -> bytes:
        time.sleep(0.02)
        now_s[0] += 1.0
        return b"x"

    downloads, late = Downloads(read, 5.0, lambda: now_s[0]), 0
    for number in range(20):
        try:
            downloads.fetch(Path(f"/{number}"), 0, 100)
        except BlockingIOError:
            late += 1
    assert late > 10
    now_s[0] += STUCK_S
    time.sleep(0.2)
    assert downloads.fetch(Path("/a"), 0, 100) == b"x"


def test_eviction_is_told_by_macos_flags_and_windows_attributes():
    assert is_away(SimpleNamespace(st_flags=0x40000000))
    assert is_away(SimpleNamespace(st_file_attributes=0x400000))
    assert is_away(SimpleNamespace(st_file_attributes=0x1000))
    assert not is_away(SimpleNamespace(st_flags=0x40, st_file_attributes=0x20))
    assert not is_away(Path(__file__).stat())


def test_where_no_file_is_ever_evicted_none_is_asked_about(tmp_path: Path):
    class Plain(SystemKernel):
        def stat(self, path: Path) -> os.stat_result:
            raise AssertionError

    kernel: Kernel = Plain()
    kernel.evicts = False
    (tmp_path / "a").write_bytes(b"x")
    assert DiskFiles(kernel=kernel).read(tmp_path / "a") == b"x"

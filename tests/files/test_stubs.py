"""A file of which iCloud has left only a stub is there: it is listed, never taken for absent, and read when it has come."""

from __future__ import annotations

import errno
import plistlib
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedspec.errors import FolderError
from fedspec.files import FencedFiles, Files, MemoryDisk, MemoryFiles, evicted
from fedspec.files.evicted import size_in_stub, stub_of
from fedspec.files.kernel import SystemKernel

DATA = b"0123456789" * 100
STUB = plistlib.dumps({"NSURLNameKey": "a", "NSURLFileSizeKey": len(DATA)}, fmt=plistlib.FMT_BINARY)


class Mac(SystemKernel):
    """A Mac whose iCloud brings ``coming`` when they are asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.evicts = True
        self.asked: list[Path] = []
        self.coming: dict[Path, bytes] = {}

    def recall(self, path: Path) -> None:
        self.asked.append(path)
        if path in self.coming:
            stub_of(path).unlink()
            path.write_bytes(self.coming[path])


@pytest.fixture
def mac() -> Mac:
    return Mac()


@pytest.fixture(params=["disk", "memory"])
def files(request: pytest.FixtureRequest, mac: Mac, tmp_path: Path) -> Iterator[Files]:
    if request.param == "memory":
        yield MemoryFiles(MemoryDisk())
        return
    yield FencedFiles(tmp_path, kernel=mac, patience_s=0.01, sleep=lambda seconds: None)
    for thread in threading.enumerate():
        if thread.name == "download":
            thread.join()


def put(files: Files, path: Path, data: bytes) -> None:
    """As a sync client does."""
    if isinstance(files, MemoryFiles):
        files.contents[path] = data
    else:
        path.write_bytes(data)


@pytest.mark.parametrize("stub", [STUB, b"bplist", b""])
def test_a_stub_stands_for_its_file_in_every_listing(files: Files, tmp_path: Path, stub: bytes):
    size = len(DATA) if stub == STUB else len(stub)
    for hidden in (".DS_Store", ".x.tmp.icloud", "..x.icloud", ".icloud"):
        put(files, tmp_path / hidden, b"x")
    assert not files.has_files(tmp_path)
    put(files, tmp_path / ".a.icloud", stub)
    assert files.has_files(tmp_path)
    put(files, tmp_path / "b", b"here")
    assert files.names(tmp_path) == ["a", "b"]
    assert files.sizes(tmp_path) == {"a": size, "b": 4}
    assert list(files.sizes(tmp_path)) == ["a", "b"]
    assert files.sizes_beyond(tmp_path, {"b"}) == {"a": size}
    assert files.sizes_beyond(tmp_path, {"a"}) == {"b": 4}
    assert files.sizes_beyond(tmp_path, {"a", "b"}) == {}
    assert files.size(tmp_path / "a") == size


def test_a_file_that_is_here_counts_and_not_its_stub(files: Files, tmp_path: Path):
    put(files, tmp_path / ".a.icloud", STUB)
    put(files, tmp_path / "a", b"here")
    assert files.names(tmp_path) == ["a"]
    assert files.sizes(tmp_path) == {"a": 4}
    assert files.size(tmp_path / "a") == 4
    assert files.read(tmp_path / "a") == b"here"


def test_a_stub_is_no_absent_file_for_who_reads_or_appends(files: Files, tmp_path: Path):
    put(files, tmp_path / ".a.icloud", STUB)
    with pytest.raises(OSError, match="is being downloaded") as caught:
        files.read(tmp_path / "a")
    assert caught.value.errno == errno.EAGAIN
    with pytest.raises(FolderError):
        files.append(tmp_path / "a", b"more")
    assert files.size(tmp_path / "a") == len(DATA), "nothing has taken its place"
    with pytest.raises(FileNotFoundError):
        files.read(tmp_path / "c")
    assert files.size(tmp_path / "c") is None


def test_reading_a_stub_s_file_asks_for_its_download_and_finds_it_when_it_has_come(mac: Mac, tmp_path: Path):
    files = FencedFiles(tmp_path, kernel=mac, patience_s=30.0, sleep=lambda seconds: None)
    (tmp_path / ".a.icloud").write_bytes(STUB)
    with pytest.raises(BlockingIOError):
        files.read(tmp_path / "a")
    mac.coming[tmp_path / "a"] = DATA
    assert files.read(tmp_path / "a", 3, 4) == b"3456"
    assert mac.asked == [tmp_path / "a"] * 2
    assert files.read(tmp_path / "a") == DATA


def test_where_no_system_leaves_stubs_none_is_looked_for(tmp_path: Path):
    kernel = Mac()
    kernel.evicts = False
    (tmp_path / ".a.icloud").write_bytes(STUB)
    files = FencedFiles(tmp_path, kernel=kernel)
    assert files.names(tmp_path) == []
    assert files.size(tmp_path / "a") is None


def test_a_stub_s_name_tells_its_file_s():
    assert evicted(".work_queue.json.icloud") == "work_queue.json"
    assert [evicted(name) for name in ("work_queue.json", ".icloud", "x.icloud", ".x.icloud.y")] == [None] * 4


ODD: list[Callable[[], bytes]] = [
    lambda: plistlib.dumps({"NSURLFileSizeKey": -1}),
    lambda: plistlib.dumps({"NSURLFileSizeKey": "9"}),
    lambda: plistlib.dumps([1]),
    lambda: b"<?xml version='1.0'?><!DOCTYPE a [<!ENTITY b 'c'>]><plist>&b;</plist>",
]


@pytest.mark.parametrize("data", [odd() for odd in ODD])
def test_an_odd_stub_has_a_size_too(data: bytes):
    assert size_in_stub(data) == len(data)


@given(st.binary(max_size=100))
def test_any_bytes_of_a_stub_are_borne(data: bytes):
    assert size_in_stub(b"bplist00" + data) >= 0

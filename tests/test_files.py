"""Files on a disk, on a share and their fake behave alike; a write is whole or absent; what goes wrong tells what to do."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fedspec.errors import FolderError
from fedspec.files import Crash, DiskFiles, Files, MemoryDisk, MemoryFiles
from fedspec.files.disk import RETRY_FOR_S

NewProcess = Callable[[], Files]


@pytest.fixture(params=["disk", "memory", "samba"])
def process(request: pytest.FixtureRequest) -> Iterator[NewProcess]:
    """Each call is another process that uses the same files."""
    if request.param == "disk":
        yield DiskFiles
    elif request.param == "memory":
        disk, names = MemoryDisk(), iter(range(100))
        yield lambda: MemoryFiles(disk, f"process{next(names)}")
    else:
        share = request.getfixturevalue("share")
        from smbfiles import SmbFiles

        with ExitStack() as ended:
            yield lambda: ended.enter_context(closing(SmbFiles(share, share.folder)))


@pytest.fixture
def files(process: NewProcess) -> Files:
    return process()


# All alike


def test_what_was_written_is_read_from_any_offset(files: Files, tmp_path: Path):
    path = tmp_path / "new" / "folder" / "a.bin"
    files.write(path, b"0123456789")
    for offset in (0, 4, 10, 99):
        assert files.read(path, offset) == b"0123456789"[offset:]
    assert files.size(path) == 10


@pytest.mark.parametrize("durable", [True, False])
def test_a_write_replaces_the_whole_file(files: Files, tmp_path: Path, durable: bool):
    for data in (b"a longer text", b"short", b""):
        files.write(tmp_path / "a", data, durable=durable)
        assert files.read(tmp_path / "a") == data


def test_files_and_folders_are_listed_apart_in_order_and_without_temporary_ones(files: Files, tmp_path: Path):
    for name in ("b", "a", "~a.1.tmp", "deep/er/c", "empty-not/d"):
        files.write(tmp_path / name, b"x")
    assert files.names(tmp_path) == ["a", "b"]
    assert list(files.sizes(tmp_path)) == ["a", "b"]
    assert files.sizes(tmp_path)["a"] == len(files.read(tmp_path / "a"))
    assert files.read(tmp_path / "a", 0, 1) == files.read(tmp_path / "a")[:1]
    assert files.folders(tmp_path) == ["deep", "empty-not"]
    assert files.names(tmp_path / "none") == files.folders(tmp_path / "none") == []


@given(pieces=st.lists(st.binary(max_size=20), max_size=5))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])  # each example has a folder of its own
def test_appended_pieces_add_up(files: Files, pieces: list[bytes], tmp_path_factory: pytest.TempPathFactory):
    path = tmp_path_factory.mktemp("append") / "folder" / "a"
    for piece in pieces:
        files.append(path, piece)
    assert (files.read(path) if pieces else b"") == b"".join(pieces)


def test_what_is_not_there_is_no_size_no_name_and_an_error_to_read(files: Files, tmp_path: Path):
    gone = tmp_path / "gone"
    assert files.size(gone) is None
    assert files.names(gone) == []
    files.remove(gone)
    with pytest.raises(FileNotFoundError):
        files.read(gone)
    with pytest.raises(FileNotFoundError):
        files.move(gone, tmp_path / "target")


def test_names_are_those_of_the_files_in_the_folder_sorted_without_temporary_ones(files: Files, tmp_path: Path):
    for name in ("b", "a", "~x.1.tmp", "sub/c"):
        files.write(tmp_path / name, b"")
    assert files.names(tmp_path) == ["a", "b"]


def test_a_file_moves_and_replaces_its_target(files: Files, tmp_path: Path):
    source, target = tmp_path / "a", tmp_path / "quarantine" / "b"
    files.write(target, b"old")
    files.write(source, b"new")
    files.move(source, target)
    assert files.read(target) == b"new"
    assert files.size(source) is None


def test_a_removed_file_is_gone(files: Files, tmp_path: Path):
    files.write(tmp_path / "a", b"x")
    files.remove(tmp_path / "a")
    assert files.names(tmp_path) == []


def test_a_lock_that_is_held_is_nobody_else_s_until_it_is_released(process: NewProcess, tmp_path: Path):
    path = tmp_path / "locks" / "a.lock"
    release = process().hold(path)
    assert release is not None
    assert process().hold(path) is None
    release()
    again = process().hold(path)
    assert again is not None
    again()


def test_a_lock_can_be_had_one_after_the_other(process: NewProcess, tmp_path: Path):
    for _ in range(2):
        with process().lock(tmp_path / "locks" / "a.lock", 1.0) as alone:
            assert alone


def test_there_is_room(files: Files, tmp_path: Path):
    assert files.free_bytes(tmp_path / "not" / "there" / "yet") > 0


# The disk


def test_a_lock_that_cannot_be_had_in_time_is_done_without(tmp_path: Path):
    release = DiskFiles().hold(tmp_path / "a.lock")
    assert release is not None
    with DiskFiles().lock(tmp_path / "a.lock", 0.0) as alone:
        assert not alone
    release()


def test_the_lock_of_a_killed_process_is_free(tmp_path: Path):
    path = tmp_path / "a.lock"
    hold = f"from pathlib import Path; from fedspec.files import DiskFiles; h = DiskFiles().hold(Path({str(path)!r})); "
    child = subprocess.Popen([sys.executable, "-c", hold + "print(h is not None, flush=True); input()"],
                             stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)  # fmt: skip
    with child:
        assert child.stdout is not None
        assert child.stdout.readline() == "True\n"
        assert DiskFiles().hold(path) is None
        child.kill()
        child.wait()
    release = DiskFiles().hold(path)
    assert release is not None
    release()


def test_two_processes_that_replace_one_file_never_share_a_temporary_one(tmp_path: Path):
    assert DiskFiles().tag != DiskFiles().tag


class Held(type(Path())):  # type: ignore[misc]
    """A path that Windows refuses to replace, read or delete, ``times`` times: somebody else holds the file."""

    times = 0
    winerror = 32

    def _refuse(self) -> None:
        if Held.times > 0:
            Held.times -= 1
            error = PermissionError(13, "The process cannot access the file")
            error.winerror = Held.winerror  # type: ignore[attr-defined]
            raise error

    def replace(self, target: Path) -> Path:
        self._refuse()
        return super().replace(target)

    def unlink(self, missing_ok: bool = False) -> None:
        self._refuse()
        super().unlink(missing_ok)

    def open(self, *args: object, **more: object) -> object:
        if "rb" in args:
            self._refuse()
        return super().open(*args, **more)


@pytest.fixture
def held(tmp_path: Path) -> Iterator[Held]:
    yield Held(tmp_path / "a")
    Held.times, Held.winerror = 0, 32


OPERATIONS: dict[str, Callable[[Files, Path], object]] = {
    "write": lambda files, path: files.write(path, b"new"),
    "read": lambda files, path: files.read(path),
    "remove": lambda files, path: files.remove(path),
    "move": lambda files, path: files.move(path, path.with_name("b")),
}


@pytest.mark.parametrize("winerror", [5, 32, 33])
@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_file_that_windows_refuses_for_a_moment_is_tried_again(held: Held, operation: str, winerror: int):
    pauses: list[float] = []
    files = DiskFiles(sleep=pauses.append)
    files.write(held, b"old")
    Held.times, Held.winerror = 2, winerror
    OPERATIONS[operation](files, held)
    assert pauses == [0.05, 0.1]


def test_a_file_that_windows_refuses_for_long_keeps_its_old_content_and_is_told(held: Held):
    pauses: list[float] = []
    files = DiskFiles(sleep=pauses.append)
    files.write(held, b"old")
    Held.times = 1000
    with pytest.raises(FolderError):
        files.write(held, b"new")
    Held.times = 0
    assert RETRY_FOR_S <= sum(pauses) < 2 * RETRY_FOR_S
    assert files.read(held) == b"old"


def test_any_other_refusal_is_not_tried_again(held: Held):
    pauses: list[float] = []
    files = DiskFiles(sleep=pauses.append)
    files.write(held, b"old")
    Held.times, Held.winerror = 1, 19  # write-protected
    with pytest.raises(FolderError):
        files.write(held, b"new")
    assert not pauses


def test_a_process_that_dies_between_temporary_file_and_rename_leaves_the_old_content(tmp_path: Path):
    class Dying(Held):
        def replace(self, target: Path) -> Path:
            raise Crash

    path = tmp_path / "a"
    DiskFiles().write(path, b"old")
    with pytest.raises(Crash):
        DiskFiles().write(Dying(path), b"new")
    assert path.read_bytes() == b"old"
    assert DiskFiles().names(tmp_path) == ["a"]


def test_a_file_where_a_folder_should_be_is_explained(tmp_path: Path):
    (tmp_path / "file").write_bytes(b"")
    for change in (lambda p: DiskFiles().write(p, b""), lambda p: DiskFiles().append(p, b"")):
        with pytest.raises(FolderError, match="Cannot write") as caught:
            change(tmp_path / "file" / "a")
        assert caught.value.fix
        assert caught.value.exit_code == 3


# Folders that take no writes


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Callable[..., Path]]:
    """Mounts something on a folder for the length of the test; needs the right to do so."""
    points: list[Path] = []

    def mount(*options: str) -> Path:
        point = tmp_path / f"mount{len(points)}"
        point.mkdir()
        result = subprocess.run(["mount", *options, str(point)], capture_output=True, text=True, check=False)
        if result.returncode:
            pytest.skip(f"needs the right to mount: {result.stderr.strip()}")
        points.append(point)
        return point

    if sys.platform != "linux" or os.geteuid() != 0:
        pytest.skip("needs Linux and the right to mount")
    yield mount
    for point in points:
        subprocess.run(["umount", str(point)], check=True)


def test_a_full_disk_keeps_the_old_content_and_says_what_to_do(mounted: Callable[..., Path]):
    folder = mounted("-t", "tmpfs", "-o", "size=64k", "tmpfs")
    files = DiskFiles()
    files.write(folder / "a", b"old")
    for change in (lambda: files.write(folder / "a", bytes(1 << 20)), lambda: files.append(folder / "b", bytes(1 << 20))):
        with pytest.raises(FolderError, match="No space left") as caught:
            change()
        assert "Free some space" in caught.value.fix
    assert files.read(folder / "a") == b"old"
    assert "a" in files.names(folder)
    assert not list(folder.glob("*.tmp"))


def test_a_read_only_folder_says_what_to_do_and_stays_readable(mounted: Callable[..., Path], tmp_path: Path):
    source = tmp_path / "source"
    files = DiskFiles()
    files.write(source / "a", b"old")
    folder = mounted("--bind", "-o", "ro", str(source))
    changes: list[Callable[[], object]] = [
        lambda: files.write(folder / "a", b"new"),
        lambda: files.append(folder / "a", b"new"),
        lambda: files.remove(folder / "a"),
        lambda: files.move(folder / "a", folder / "b"),
        lambda: files.hold(folder / "a.lock"),
        lambda: files.lock(folder / "a.lock", 0.0).__enter__(),
    ]
    for change in changes:
        with pytest.raises(FolderError) as caught:
            change()
        assert "--workspace" in caught.value.fix
    assert files.read(folder / "a") == b"old"


# The fake's own promises


@pytest.mark.parametrize("fatal", range(4))
def test_a_fake_process_dies_where_it_is_told_and_leaves_what_a_real_one_would(fatal: int):
    steps = iter(range(100))

    def die(step: str) -> None:
        if next(steps) == fatal:
            raise Crash

    disk, path = MemoryDisk(), Path("/a")
    disk.contents[path] = b"old"
    files = MemoryFiles(disk, before_write=die)

    def change() -> None:
        files.write(path, b"new")
        files.append(path, b"ly!!")

    with pytest.raises(Crash):
        change()
    assert disk.contents[path] == [b"old", b"old", b"new", b"newly"][fatal]


def test_the_locks_of_a_fake_process_that_ended_are_free():
    disk = MemoryDisk()
    assert MemoryFiles(disk, "one").hold(Path("/lock")) is not None
    assert MemoryFiles(disk, "other").hold(Path("/lock")) is None
    disk.end("one")
    assert MemoryFiles(disk, "other").hold(Path("/lock")) is not None

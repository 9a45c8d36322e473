"""A disk keeps old content until the new is whole; what goes wrong tells what to do."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fedspec.errors import FolderError, TakenError
from fedspec.files import Crash, DiskFiles, FencedFiles
from fedspec.files.kernel import SystemKernel


def test_a_lock_that_cannot_be_had_in_time_is_done_without(tmp_path: Path):
    release = DiskFiles().hold(tmp_path / "a.lock")
    assert release is not None
    with DiskFiles().lock(tmp_path / "a.lock", 0.0) as alone:
        assert alone is False
    release()


@pytest.mark.parametrize("reason", [errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK])
def test_where_there_are_no_locks_nobody_is_taken_for_a_holder(tmp_path: Path, reason: int):
    class NoLocks(SystemKernel):
        def lock(self, path: Path, timeout_s: float) -> Callable[[], None] | None:
            raise OSError(reason, os.strerror(reason), str(path))

    with FencedFiles(tmp_path, kernel=NoLocks()).lock(tmp_path / "a.lock", 1.0) as alone:
        assert alone is None


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


class Dying(SystemKernel):
    """A process that dies before it renames."""

    def rename(self, path: Path, target: Path) -> None:
        raise Crash

    def unlink(self, path: Path) -> None:
        raise Crash


def test_a_process_that_dies_between_temporary_file_and_rename_leaves_the_old_content(tmp_path: Path):
    path = tmp_path / "a"
    DiskFiles().write(path, b"old")
    with pytest.raises(Crash):
        DiskFiles(kernel=Dying()).write(path, b"new")
    assert path.read_bytes() == b"old"
    assert DiskFiles().names(tmp_path) == ["a"]


def test_what_other_programs_leave_and_what_this_process_writes_is_no_orphan(tmp_path: Path):
    names = ["~$table.xlsx", "~WRL0001.tmp", "a.tmp", f"~a.{DiskFiles().tag}.tmp", "~now.00000000.txt"]
    for name in names:
        (tmp_path / name).write_bytes(b"")
        os.utime(tmp_path / name, (0.0, 0.0))
    assert DiskFiles().remove_orphans(tmp_path, 1.0) == []
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(names)


class Elsewhere(SystemKernel):
    """A file server whose clock is a year behind."""

    def stat(self, path: Path) -> os.stat_result:
        status = super().stat(path)
        return os.stat_result((*status[:7], status.st_atime, status.st_mtime - 3e7, status.st_ctime))


def test_an_orphan_s_age_is_told_by_the_folder_s_own_clock(tmp_path: Path):
    (tmp_path / "~a.0badcafe.tmp").write_bytes(b"")
    assert time.time() - Elsewhere().stat(tmp_path / "~a.0badcafe.tmp").st_mtime > 1e7
    assert DiskFiles(kernel=Elsewhere()).remove_orphans(tmp_path, 1000.0) == []
    assert [path.name for path in tmp_path.iterdir()] == ["~a.0badcafe.tmp"], "no probe is left"


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


@pytest.mark.parametrize("way", ["a link", "a link to a link", "dots", "dots behind what is not there"])
@pytest.mark.parametrize("depth", [0, 2])
def test_nothing_is_written_outside_the_shared_folder(way: str, depth: int, tmp_path: Path):
    root, outside = tmp_path / "shared", tmp_path / "outside"
    inner = root.joinpath(*"ab"[:depth])
    inner.mkdir(parents=True)
    outside.mkdir()
    if way.startswith("dots"):
        place = inner.joinpath("missing", "..") if way != "dots" else inner
        place = place.joinpath(*[".."] * (depth + 1), "outside")
    else:
        place = inner / "link"
        place.symlink_to(outside if way == "a link" else inner / "other")
        (inner / "other").symlink_to(outside)
    files = FencedFiles(root)
    with pytest.raises(TakenError, match="leads out"):
        files.write(place / "x", b"x")
    with pytest.raises(TakenError, match="leads out"):
        files.append(place / "deep" / "x", b"x")
    assert list(outside.iterdir()) == []


def test_a_link_that_stays_in_the_shared_folder_is_followed(tmp_path: Path):
    (tmp_path / "there").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "there")
    FencedFiles(tmp_path).write(tmp_path / "link" / "x", b"x")
    assert (tmp_path / "there" / "x").read_bytes() == b"x"

"""Files on a disk, on a real SMB share and their fakes behave alike."""

from __future__ import annotations

from pathlib import Path

import pytest
from filekit import KINDS, NewProcess, Orphan, processes
from hypothesis import given
from hypothesis import strategies as st

from fedspec.files import Files


@pytest.fixture(params=[*KINDS, "samba"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


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
    files.remove(tmp_path / "b")
    assert files.has_files(tmp_path)
    files.remove(tmp_path / "a")
    assert not files.has_files(tmp_path)
    assert not files.has_files(tmp_path / "none")


@given(pieces=st.lists(st.binary(max_size=20), max_size=5))
@pytest.mark.parametrize("kind", KINDS)
def test_appended_pieces_add_up(kind: str, pieces: list[bytes], tmp_path_factory: pytest.TempPathFactory):
    folder = tmp_path_factory.mktemp("append")
    files, path = processes(kind, folder)(), folder / "folder" / "a"
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


@pytest.mark.parametrize("kind", KINDS)
def test_a_killed_process_s_temporary_file_goes_when_it_is_old_enough(process: NewProcess, orphan: Orphan, tmp_path: Path):
    files = process()
    files.write(tmp_path / "a", b"kept")
    young, old = orphan(tmp_path / "b", 10.0), orphan(tmp_path / "c", 5000.0)
    assert files.remove_orphans(tmp_path, 1000.0) == [old]
    assert files.remove_orphans(tmp_path, 1000.0) == []
    assert files.remove_orphans(tmp_path, 1.0) == [young]
    assert files.names(tmp_path) == ["a"]
    assert files.remove_orphans(tmp_path / "none", 0.0) == []

"""The fake's own promises: what a real process would leave behind."""

from __future__ import annotations

from pathlib import Path

import pytest

from fedspec.files import Crash, MemoryDisk, MemoryFiles


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

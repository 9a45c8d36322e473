"""The disk that loses power keeps what it promised, and may lose all else; it is asked for the same steps as a real one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fedspec.files import DiskFiles, Files
from fedspec.files.kernel import SystemKernel
from fedspec.files.powercut import BLOCK_BYTES, LossyKernel, Remains

SHARE = Path("/share")
A, B = SHARE / "a", SHARE / "b"


def disk(**files: bytes) -> LossyKernel:
    return LossyKernel(Remains({SHARE / name: data for name, data in files.items()}, frozenset({SHARE})))


def left(kernel: LossyKernel, path: Path, steps: int | None = None) -> set[bytes | None]:
    """What may be in the file after the power cut; None: it is not there."""
    outcomes = kernel.outcomes(len(kernel.steps) if steps is None else steps)
    return {remains.files.get(path) for _, remains in outcomes}


def test_a_durable_write_is_the_old_or_the_new_content_at_every_step_and_the_new_one_in_the_end():
    kernel = disk(a=b"old")
    DiskFiles(kernel=kernel).write(A, b"new" * 1000)
    for steps in range(len(kernel.steps)):
        assert left(kernel, A, steps) <= {b"old", b"new" * 1000}
    assert left(kernel, A) == {b"new" * 1000}


def test_a_write_that_is_not_durable_may_be_lost_torn_or_full_of_zeros():
    kernel = disk(a=b"old")
    new = b"x" * (2 * BLOCK_BYTES + 100)
    DiskFiles(kernel=kernel).write(A, new, durable=False)
    wanted = {b"old", b"", new, bytes(len(new)), new[:BLOCK_BYTES], new[:BLOCK_BYTES] + bytes(BLOCK_BYTES + 100)}
    assert wanted <= left(kernel, A)


def test_an_append_keeps_what_was_there_and_is_whole_when_it_returns():
    kernel = disk(a=b"old")
    DiskFiles(kernel=kernel).append(A, b"new" * 1000)
    for steps in range(len(kernel.steps)):
        assert all(data is not None and data.startswith(b"old") for data in left(kernel, A, steps))
    assert left(kernel, A) == {b"old" + b"new" * 1000}


@pytest.mark.parametrize("change", ["write", "append"])
def test_a_file_in_a_new_folder_is_as_durable_as_one_in_an_old_folder(change: str):
    kernel = disk()
    path = SHARE / "new" / "folder" / "a"
    getattr(DiskFiles(kernel=kernel), change)(path, b"new")
    assert left(kernel, path) == {b"new"}


def test_a_removed_file_may_come_back_and_a_moved_one_is_never_nowhere():
    kernel = disk(a=b"1", b=b"2")
    files = DiskFiles(kernel=kernel)
    files.remove(B)
    assert left(kernel, B) == {None, b"2"}
    files.move(A, SHARE / "aside" / "a")
    for steps in range(len(kernel.steps) + 1):
        for _, remains in kernel.outcomes(steps):
            assert b"1" in remains.files.values()
    assert left(kernel, A) == {None}


def test_what_is_in_a_folder_that_was_lost_is_lost():
    kernel = disk()
    kernel.make_folder(SHARE / "new")
    handle = kernel.create(SHARE / "new" / "a")
    kernel.sync(handle)
    kernel.sync_folder(SHARE / "new")
    assert left(kernel, SHARE / "new" / "a") == {None, b""}


def test_names_may_be_kept_out_of_order_and_each_outcome_comes_once():
    kernel = disk()
    for path in (A, B):
        DiskFiles(kernel=kernel).write(path, b"x", durable=False)
    outcomes = [remains.key for _, remains in kernel.outcomes(len(kernel.steps))]
    assert len(outcomes) == len(set(outcomes))
    both = {(A in files, B in files) for files in (dict(key[0]) for key in outcomes)}
    assert both == {(False, False), (True, False), (False, True), (True, True)}


def test_a_disk_without_its_share_is_the_rest_of_the_one_and_the_share_of_the_other():
    one = Remains({A: b"1", Path("/local/x"): b"1"}, frozenset({SHARE, Path("/local")}))
    other = Remains({A: b"2", Path("/local/x"): b"2"}, frozenset({SHARE, Path("/local")}))
    assert one.but_for(SHARE, other).files == {A: b"2", Path("/local/x"): b"1"}


class Recording(SystemKernel):
    """The real system, which keeps what it was asked for."""

    WATCHED = ("create", "extend", "write", "sync", "rename", "unlink", "make_folder", "sync_folder")

    inside = False

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Any, ...]] = []
        for name in self.WATCHED:
            setattr(self, name, self._recorded(name, getattr(self, name)))

    def _recorded(self, name: str, call: Any) -> Any:
        def recorded(*arguments: Any) -> Any:
            if self.inside:  # one step asks for another
                return call(*arguments)
            self.inside = True
            shown = tuple(a.name if isinstance(a, Path) else bytes(a) for a in arguments if not isinstance(a, int))
            self.calls.append((name, *shown))
            try:
                return call(*arguments)
            finally:
                self.inside = False

        return recorded


class RecordingFake(LossyKernel, Recording):  # type: ignore[misc]
    """The fake, which does so as well."""

    def __init__(self, remains: Remains) -> None:
        LossyKernel.__init__(self, remains)
        self.calls = []
        for name in self.WATCHED:
            setattr(self, name, self._recorded(name, getattr(self, name)))


def a_life(files: Files, folder: Path) -> None:
    for _ in range(2):
        files.write(folder / "new" / "a", b"1")
        files.write(folder / "new" / "b", b"2", durable=False)
        files.append(folder / "new" / "c", b"3")
    files.move(folder / "new" / "a", folder / "aside" / "a")
    files.remove(folder / "new" / "b")
    with files.lock(folder / "locks" / "x.lock", 1.0):
        pass


def test_the_fake_and_a_real_disk_are_asked_for_the_same_steps(tmp_path: Path):
    real, fake = Recording(), RecordingFake(Remains({}, frozenset({tmp_path})))
    for kernel in (real, fake):
        files = DiskFiles(kernel=kernel)
        files.tag = "0badcafe"
        a_life(files, tmp_path)
    assert real.calls == [call for call in fake.calls if call[:2] != ("create", "x.lock")]
    assert {name for name, *_ in real.calls} == set(Recording.WATCHED)

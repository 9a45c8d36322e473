"""What was read while a sync client was still at it is read again: the right bytes may come without another size or end."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from queuekit import ALICE, BOB, WORKSPACE, Author

from fedspec.files import MemoryDisk, MemoryFiles
from fedspec.files.evicted import stub_of
from fedspec.workqueue.records import Claim, Yield
from fedspec.workqueue.store import DOUBTED_POLLS, MAX_DOUBTED_BYTES, Beat, Store
from fedspec.workqueue.tail import MARK_BYTES, MAX_WAIT_POLLS, WEIGHED_BYTES

JOURNAL = WORKSPACE.journal(ALICE, 0)
LONG = "x" * (2 * MARK_BYTES)


class CountingFiles(MemoryFiles):
    """Counts the bytes of journals that were read. ``listed``: what a listing says of journals, if it is an old one."""

    def __init__(self, disk: MemoryDisk) -> None:
        super().__init__(disk)
        self.read_bytes = 0
        self.listed: dict[str, int] | None = None

    def sizes(self, folder: Path) -> dict[str, int]:
        old = self.listed if folder == WORKSPACE.journals else None
        return super().sizes(folder) if old is None else dict(old)

    def read(self, path: Path, offset: int = 0, limit: int = -1) -> bytes:
        data = super().read(path, offset, limit)
        self.read_bytes += len(data) if path.parent == WORKSPACE.journals else 0
        return data


@pytest.fixture
def disk() -> MemoryDisk:
    return MemoryDisk()


@pytest.fixture
def files(disk: MemoryDisk) -> CountingFiles:
    return CountingFiles(disk)


@pytest.fixture
def store(files: CountingFiles) -> Store:
    return Store(files, WORKSPACE)


def journal(worker: str = ALICE, claims: int = 3) -> bytes:
    """Some lines, the last longer than what is remembered of a file's end."""
    pen = Author(worker)
    for attempt in range(1, claims + 1):
        pen.write(Claim, item="i", attempt=attempt)
    pen.write(Yield, item="i", attempt=claims, reason=LONG)
    return b"".join(line + b"\n" for line in pen.lines)


RIGHT = journal()


def polls(store: Store, count: int = DOUBTED_POLLS + 1) -> None:
    for _ in range(count):
        store.refresh()


@pytest.mark.parametrize("here", [0, 1, 300, len(RIGHT) - 1])
def test_a_file_of_its_final_size_that_is_filled_later_is_read_when_it_is(store: Store, disk: MemoryDisk, here: int):
    disk.contents[JOURNAL] = RIGHT[:here] + bytes(len(RIGHT) - here)
    store.refresh()
    disk.contents[JOURNAL] = RIGHT
    polls(store)
    assert store.length(ALICE) == 4
    assert not store.damaged


def test_a_block_that_was_wrong_before_a_long_line_is_read_when_it_is_right(store: Store, disk: MemoryDisk):
    end = RIGHT.rindex(b"\n", 0, -1)
    disk.contents[JOURNAL] = bytes(end) + RIGHT[end:]
    store.refresh()
    assert store.damaged
    disk.contents[JOURNAL] = RIGHT
    polls(store)
    assert store.length(ALICE) == 4
    assert not store.damaged, "what is right again is told no more"


@given(st.integers(0, len(RIGHT)), st.integers(0, len(RIGHT)), st.sampled_from([0, 10, 65]), st.integers(1, len(RIGHT)))
def test_whatever_bytes_a_file_had_for_a_while_its_lines_are_read_in_the_end(begin: int, length: int, byte: int, size: int):
    disk = MemoryDisk()
    store = Store(MemoryFiles(disk), WORKSPACE)
    wrong = bytearray(RIGHT)
    wrong[begin : begin + length] = bytes([byte]) * len(RIGHT[begin : begin + length])
    disk.contents[JOURNAL] = bytes(wrong[:size])
    polls(store, 3)
    disk.contents[JOURNAL] = RIGHT
    polls(store, 2 * DOUBTED_POLLS)
    assert store.length(ALICE) == 4


def test_a_worker_whose_beat_tells_of_more_is_read_again_though_its_file_looked_whole(store: Store, disk: MemoryDisk):
    disk.contents[JOURNAL] = journal(BOB)
    store.refresh()
    disk.contents[JOURNAL] = RIGHT
    polls(store, 2 * MAX_WAIT_POLLS)
    assert store.length(ALICE) == 0
    disk.contents[WORKSPACE.beat(ALICE)] = msgspec.json.encode(Beat(worker=ALICE, n=1, seq=4))
    store.read_beats()
    polls(store)
    assert store.length(ALICE) == 4


def test_a_file_that_stays_damaged_is_read_ever_more_rarely(store: Store, files: CountingFiles, disk: MemoryDisk):
    disk.contents[JOURNAL] = RIGHT + b"garbage\n"
    polls(store, 10 * MAX_WAIT_POLLS)
    assert 10 * len(RIGHT) < files.read_bytes < 16 * len(RIGHT)


def test_of_a_journal_with_a_torn_end_only_the_end_is_read_again(store: Store, files: CountingFiles, disk: MemoryDisk):
    disk.contents[JOURNAL] = RIGHT + b"the begin of a line"
    store.refresh()
    files.read_bytes = 0
    polls(store, 10 * MAX_WAIT_POLLS)
    assert 0 < files.read_bytes < 16 * (MARK_BYTES + 20)


def test_what_a_peer_has_others_read_again_and_again_is_bounded(store: Store, files: CountingFiles, disk: MemoryDisk):
    for number in range(40):
        disk.contents[WORKSPACE.journals / f"{number}"] = b"\n" + b"x" * (2 << 20)
    disk.contents[WORKSPACE.journals / "large"] = b"\n" + b"x" * (3 * MAX_DOUBTED_BYTES)
    polls(store, 3)
    most = 0
    for _ in range(200):
        files.read_bytes = 0
        store.refresh()
        most = max(most, files.read_bytes)
    assert most < 4.1 * MAX_DOUBTED_BYTES, "some small ones, or one that is large"
    files.read_bytes = 0
    polls(store, 200)
    assert files.read_bytes < 41 * 200 * WEIGHED_BYTES / MAX_WAIT_POLLS * 1.2


@pytest.mark.parametrize("listed", [{}, {JOURNAL.name: 0}, {JOURNAL.name: 300}])
def test_what_an_older_listing_does_not_show_is_neither_lost_nor_read_again(
    store: Store, files: CountingFiles, disk: MemoryDisk, listed: dict[str, int]
):
    disk.contents[JOURNAL] = RIGHT[:-10]
    store.refresh()
    files.listed, files.read_bytes = listed, 0
    polls(store, 10)
    assert files.read_bytes <= 10 * MARK_BYTES
    assert not store.short
    disk.contents[JOURNAL] = RIGHT
    files.listed = None
    store.refresh()
    assert store.length(ALICE) == 4


def test_what_is_not_here_to_be_read_is_not_lost(store: Store, disk: MemoryDisk):
    disk.contents[JOURNAL] = RIGHT
    store.refresh()
    del disk.contents[JOURNAL]
    disk.contents[stub_of(JOURNAL)] = b"tells no size"
    store.refresh()
    assert not store.short
    del disk.contents[stub_of(JOURNAL)]
    store.refresh()
    assert store.short == {JOURNAL.name: len(RIGHT)}

"""Reading what others write is bounded: in memory, in time, and in how often it is tried again; honest lines are still read."""

from __future__ import annotations

import json
import tracemalloc
import zlib
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from queuekit import ALICE, BOB, WORKSPACE, Author, item

from fedspec.files import DiskFiles, MemoryDisk, MemoryFiles
from fedspec.plan import encoded
from fedspec.workqueue import store as reading
from fedspec.workqueue.histories import MAX_EARLY_BYTES_IN_ALL
from fedspec.workqueue.records import MAX_LINE_BYTES, Claim
from fedspec.workqueue.store import Beat, Store
from fedspec.workqueue.tail import MAX_DAMAGED_LINES, PIECE_BYTES
from fedspec.workspace import Workspace

ITEM = item()
EVIL = WORKSPACE.journals / "evil.jsonl"


class CountingFiles(MemoryFiles):
    """Remembers what was asked of the folder."""

    def __init__(self, disk: MemoryDisk) -> None:
        super().__init__(disk)
        self.asked: list[tuple[str, str]] = []
        self.largest = 0

    def read(self, path: Path, offset: int = 0, limit: int = -1) -> bytes:
        self.asked.append(("read", path.name))
        data = super().read(path, offset, limit)
        self.largest = max(self.largest, len(data))
        return data

    def size(self, path: Path) -> int | None:
        self.asked.append(("size", path.name))
        return super().size(path)

    def sizes(self, folder: Path) -> dict[str, int]:
        self.asked.append(("sizes", folder.name))
        return super().sizes(folder)


@pytest.fixture
def disk() -> MemoryDisk:
    return MemoryDisk()


@pytest.fixture
def files(disk: MemoryDisk) -> CountingFiles:
    return CountingFiles(disk)


@pytest.fixture
def store(files: CountingFiles) -> Store:
    return Store(files, WORKSPACE)


def text(*lines: bytes) -> bytes:
    return b"".join(line + b"\n" for line in lines)


def written(count: int = 3, worker: str = ALICE) -> list[bytes]:
    pen = Author(worker)
    for attempt in range(1, count + 1):
        pen.write(Claim, item="i", attempt=attempt)
    return pen.lines


def test_a_look_with_nothing_new_is_one_listing_of_each_folder_and_no_read(
    store: Store, files: CountingFiles, disk: MemoryDisk
):
    store.write_plan(ITEM)
    for number in range(50):
        disk.contents[WORKSPACE.journals / f"{number}"] = text(*written()) + b"the begin of a line"
    store.refresh()
    files.asked.clear()
    store.refresh()
    assert files.asked == [("sizes", "plan"), ("sizes", "journal")]


def test_a_journal_that_grew_is_read_from_where_it_ended(store: Store, files: CountingFiles, disk: MemoryDisk):
    lines = written(2000)
    disk.contents[EVIL] = text(*lines[:-1])
    store.refresh()
    files.asked.clear()
    files.largest = 0
    disk.contents[EVIL] = text(*lines)
    store.refresh()
    assert store.length(ALICE) == 2000
    assert files.asked.count(("read", EVIL.name)) == 1
    assert files.largest < 1000


@pytest.mark.parametrize("before", [0, 3])
@pytest.mark.parametrize("length", [MAX_LINE_BYTES, PIECE_BYTES, PIECE_BYTES + 1, 3 * PIECE_BYTES - 1])
def test_a_line_without_an_end_is_skipped_in_pieces_and_what_follows_it_is_read(
    store: Store, files: CountingFiles, disk: MemoryDisk, before: int, length: int
):
    lines = written(6)
    endless = text(*lines[:before]) + bytes(length)
    disk.contents[EVIL] = endless
    for _ in range(3):
        store.refresh()
    assert store.length(ALICE) == before
    assert files.largest <= PIECE_BYTES + 1000
    files.asked.clear()
    store.refresh()
    assert ("read", EVIL.name) not in files.asked, "it is not read again"
    disk.contents[EVIL] = endless + b"\n" + text(*lines[before:])
    store.refresh()
    assert store.length(ALICE) == 6
    assert list(store.damaged) == [EVIL.name]


@given(st.lists(st.one_of(st.integers(0, 5), st.binary(max_size=40), st.just(b"x" * 600)), max_size=12), st.data())
@settings(max_examples=60)
def test_however_a_journal_grows_lines_between_garbage_are_read(parts: list[int | bytes], data: st.DataObject):
    """With small pieces and lines: what is read is every whole line of the file, in whatever steps it came."""
    lines = written(6)
    whole = b"\n".join(lines[part] if isinstance(part, int) else part for part in parts) + b"\n"
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=5)))
    disk = MemoryDisk()
    store = Store(MemoryFiles(disk), WORKSPACE)
    for cut in [*cuts, len(whole)]:
        disk.contents[EVIL] = whole[:cut]
        store.refresh()
    reference = Store(MemoryFiles(disk), WORKSPACE)
    reference.refresh()
    expected = set(whole.split(b"\n"))
    prefix = next((n for n, line in enumerate(lines) if line not in expected), len(lines))
    assert store.length(ALICE) == reference.length(ALICE) == prefix


def test_a_sparse_gibibyte_is_read_once_and_never_held(tmp_path: Path):
    place = Workspace(tmp_path)
    place.journals.mkdir(parents=True)
    (place.journals / "honest").write_bytes(text(*written()))
    with (place.journals / "endless").open("wb") as file:
        file.truncate(1 << 30)
    store = Store(DiskFiles(), place)
    tracemalloc.start()
    try:
        for _ in range(40):
            store.refresh()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert store.length(ALICE) == 3
    assert peak < 8 * PIECE_BYTES


def test_whatever_lies_there_one_look_reads_so_much_and_honest_lines_first(tmp_path: Path):
    class Counting(DiskFiles):
        read_bytes = 0

        def read(self, path: Path, offset: int = 0, limit: int = -1) -> bytes:
            data = super().read(path, offset, limit)
            self.read_bytes += len(data)
            return data

    place, files = Workspace(tmp_path), Counting()
    place.journals.mkdir(parents=True)
    for number in range(3):
        with (place.journals / f"endless {number}").open("wb") as file:
            file.truncate(1 << 30)
    (place.journals / "honest").write_bytes(text(*written()))
    store = Store(files, place)
    for _ in range(3):
        files.read_bytes = 0
        store.refresh()
        assert files.read_bytes <= reading.MAX_POLL_BYTES / reading.VAIN + PIECE_BYTES + 2000
        assert store.length(ALICE) == 3


def test_lines_without_their_predecessors_are_kept_within_bounds_and_told(tmp_path: Path):
    place = Workspace(tmp_path)
    place.journals.mkdir(parents=True)
    for worker in range(20):
        lines = []
        for seq in range(1, 10):
            body = {"v": 1, "worker": f"{worker:08x}-000001", "seq": seq, "lam": 1, "prev": "", "wall": "", "type": "odd"}
            data = json.dumps({**body, "x": "y" * 900_000}, separators=(",", ":")).encode()
            lines.append(b"%08x %s" % (zlib.crc32(data), data))
        (place.journals / f"{worker}").write_bytes(text(*lines))
    (place.journals / "honest").write_bytes(text(*written()))
    store = Store(DiskFiles(), place)
    tracemalloc.start()
    try:
        for _ in range(6):
            store.refresh()
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < MAX_EARLY_BYTES_IN_ALL
    assert store.length(ALICE) == 3
    assert "predecessors" in store.notes()[0]


def test_lines_that_were_too_many_are_read_when_their_predecessors_are_here(store: Store, disk: MemoryDisk):
    pen = Author(ALICE)
    for attempt in range(1, 41):
        pen.write(Claim, item="i" * 500_000, attempt=attempt)
    disk.contents[WORKSPACE.journals / "later"] = text(*pen.lines[10:])
    store.refresh()
    assert store.notes()
    disk.contents[WORKSPACE.journals / "sooner"] = text(*pen.lines[:10])
    for _ in range(200):
        store.refresh()
    assert store.length(ALICE) == 40
    assert not store.notes()


def test_a_file_of_garbage_lines_is_given_up_and_not_read_to_its_end(store: Store, files: CountingFiles, disk: MemoryDisk):
    disk.contents[EVIL] = b"x\n" * (2 * PIECE_BYTES)
    disk.contents[WORKSPACE.journals / "honest"] = text(*written())
    store.refresh()
    assert store.length(ALICE) == 3
    assert files.asked.count(("read", EVIL.name)) <= 2
    disk.contents[EVIL] += text(*written(1, BOB))
    store.refresh()
    assert store.length(BOB) == 0
    disk.contents[EVIL] = text(*written(1, BOB))
    store.refresh()
    assert store.length(BOB) == 1, "another file has its name now"


def test_a_spoilt_journal_is_still_read_behind_what_is_spoilt(store: Store, disk: MemoryDisk):
    lines = written(4)
    disk.contents[EVIL] = text(*lines[:2], *[b"spoilt"] * (MAX_DAMAGED_LINES - 1), *lines[2:])
    store.refresh()
    assert store.length(ALICE) == 4


def test_a_longer_file_in_a_journals_place_is_read_from_its_start(store: Store, disk: MemoryDisk):
    disk.contents[EVIL] = text(*written(3))
    store.refresh()
    disk.contents[EVIL] = text(*written(9, BOB))
    store.refresh()
    assert (store.length(ALICE), store.length(BOB)) == (3, 9)


def test_thousands_of_odd_files_are_read_ever_more_rarely(store: Store, files: CountingFiles, disk: MemoryDisk):
    for number in range(3000):
        for folder in (WORKSPACE.plans, WORKSPACE.journals, WORKSPACE.beats):
            disk.contents[folder / f"p-{number:012x}.json"] = b"{}"
    store.write_plan(ITEM)
    for _ in range(100):
        store.refresh()
        store.read_beats()
    assert store.items == {ITEM.id: ITEM}
    assert len(files.asked) < 3000 * 3 * 12
    assert len(store.notes()) == reading.MAX_NOTES + 1


def test_a_plan_file_is_read_once_and_one_too_large_never(store: Store, files: CountingFiles, disk: MemoryDisk):
    disk.contents[WORKSPACE.plan(ITEM.id)] = encoded(ITEM)
    disk.contents[WORKSPACE.plans / "p-large.json"] = bytes(reading.MAX_PLAN_BYTES + 1)
    files.asked.clear()
    for _ in range(20):
        store.refresh()
    assert [name for what, name in files.asked if what == "read"] == [WORKSPACE.plan(ITEM.id).name]


def test_a_beat_that_is_too_large_is_no_sign_of_life(store: Store, files: CountingFiles, disk: MemoryDisk):
    evil = {"worker": ALICE, "n": 9, "seq": 0, "clients": "x" * reading.MAX_BEAT_BYTES}
    disk.contents[WORKSPACE.beats / "x"] = json.dumps(evil).encode()
    store.read_beats()
    assert not store.beats
    assert files.largest <= reading.MAX_BEAT_BYTES + 1


def test_thousands_of_invented_workers_hide_no_honest_beat(store: Store, files: CountingFiles, disk: MemoryDisk):
    disk.contents[EVIL] = text(*written(1, ALICE))
    store.refresh()
    for number in range(3000):
        beat = Beat(worker=f"0000{number:04x}-000001", n=1, seq=0)
        disk.contents[WORKSPACE.beats / f"0{number}"] = msgspec.json.encode(beat)
    store.write_beat(Beat(worker=ALICE, n=7, seq=1))
    files.asked.clear()
    store.read_beats()
    assert store.beats[ALICE].n == 7
    assert [what for what, _ in files.asked].count("read") == reading.MAX_BEATS


def test_a_beat_acknowledges_fewer_before_it_is_too_large_to_be_read(store: Store):
    seen = {f"{number:08x}-000001": 1 for number in range(60_000)}
    store.write_beat(Beat(worker=ALICE, n=1, seq=0, seen=seen))
    store.read_beats()
    assert store.beats[ALICE].n == 1


@given(st.binary(max_size=200), st.sampled_from([WORKSPACE.journals, WORKSPACE.plans, WORKSPACE.beats]), st.text(max_size=20))
@settings(max_examples=200)
def test_any_bytes_in_any_file_are_borne(data: bytes, folder: Path, name: str):
    disk = MemoryDisk()
    store = Store(MemoryFiles(disk), WORKSPACE)
    store.write_plan(ITEM)
    disk.contents[folder / (name.replace("/", "") + ".json")] = data
    framed = b"%08x %s\n" % (zlib.crc32(data), data)
    disk.contents[EVIL] = framed + text(*written())
    store.refresh()
    store.read_beats()
    assert store.items == {ITEM.id: ITEM}
    assert store.length(ALICE) == 3

"""Machines that meet in a folder find out the truth about it: whether its locks exclude them, and how long news takes."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from datetime import timedelta
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedspec.clock import FakeClock
from fedspec.errors import FolderError, SetupError
from fedspec.files import MemoryDisk, MemoryFiles
from fedspec.workqueue import pairing
from fedspec.workqueue.encounter import Encounter
from fedspec.workqueue.pairing import Side, Word
from fedspec.workspace import Workspace

SHARE = Workspace(Path("/share"))
MAC, PC, LAPTOP = "aaaaaaaa", "bbbbbbbb", "cccccccc"
STEP_S = 0.1


class NoLocks(MemoryFiles):
    """A file system without locks."""

    def hold(self, path: Path) -> Callable[[], None] | None:
        raise FolderError(f"Cannot write {path}: no locks available.", "")


class DeafLocks(MemoryFiles):
    """A file system that never gives a lock twice, nor to anybody else once it was held."""

    def hold(self, path: Path) -> Callable[[], None] | None:
        release = super().hold(path)
        return None if release is None else lambda: None


class Courier:
    """A sync client between disks: what changes on one arrives on the others after a while, locks never."""

    def __init__(self, disks: Iterable[MemoryDisk], delay_s: float) -> None:
        self.disks, self.delay_s = list(disks), delay_s
        self.known: list[dict[Path, bytes]] = [{} for _ in self.disks]
        self.on_the_way: list[tuple[float, int, Path, bytes | None]] = []

    def carry(self, now: float) -> None:
        for number, disk in enumerate(self.disks):
            here, before = dict(disk.contents), self.known[number]
            for path in here.keys() | before.keys():
                if here.get(path) != before.get(path):
                    self.on_the_way.append((now + self.delay_s, number, path, here.get(path)))
            self.known[number] = here
        for parcel in [parcel for parcel in self.on_the_way if parcel[0] <= now]:
            self.on_the_way.remove(parcel)
            _, sender, path, data = parcel
            for number, disk in enumerate(self.disks):
                if number != sender:
                    self._deliver(number, disk, path, data)

    def _deliver(self, number: int, disk: MemoryDisk, path: Path, data: bytes | None) -> None:
        if data is None:
            disk.contents.pop(path, None)
            self.known[number].pop(path, None)
        else:
            disk.contents[path] = self.known[number][path] = data


class Room:
    """Machines that poll in turns, each by a clock of its own."""

    def __init__(self, courier: Courier | None = None) -> None:
        self.courier, self.now = courier, 0.0
        self.clocks: dict[str, FakeClock] = {}
        self.there: dict[str, Encounter] = {}
        self.over: dict[str, Encounter] = {}
        self.sessions = itertools.count(1)

    def enter(
        self, machine: str, files: MemoryFiles, name: str = "", others: int = 1, skew: timedelta = timedelta(0)
    ) -> Encounter:
        clock = self.clocks[machine] = FakeClock(skew)
        clock.seconds = 1000.0 * len(self.clocks)
        new_hex = lambda count: next(self.sessions).to_bytes(count, "big").hex()  # noqa: E731
        encounter = Encounter(files, clock, SHARE, machine, name or machine, others, new_hex=new_hex)
        self.there[machine] = encounter
        return encounter

    def die(self, machine: str) -> None:
        """Killed: its files stay, the system frees its locks."""
        encounter = self.there.pop(machine)
        encounter.files.disk.end(encounter.files.process)  # type: ignore[attr-defined]

    def leave(self, machine: str) -> None:
        self.there.pop(machine).close()

    def run(self, seconds: float, until: Callable[[], bool] = lambda: False) -> None:
        end = self.now + seconds
        while self.there and self.now < end and not until():
            self.now += STEP_S
            for clock in self.clocks.values():
                clock.advance(STEP_S)
            for machine, encounter in list(self.there.items()):
                if encounter.poll():
                    self.over[machine] = self.there.pop(machine)
                    encounter.close()
            if self.courier:
                self.courier.carry(self.now)

    def verdicts(self) -> dict[str, dict[str, bool | None]]:
        """What each machine that has finished found out about each other one."""
        return {
            machine: {pair.machine: pair.excludes for pair in encounter.found_out} for machine, encounter in self.over.items()
        }


def hands(disk: MemoryDisk, process: str, kind: type[MemoryFiles] = MemoryFiles) -> MemoryFiles:
    return kind(disk, process)


# One disk


def test_on_one_disk_locks_exclude_and_both_sides_know_it():
    disk, room = MemoryDisk(), Room()
    room.enter(PC, hands(disk, "pc"))
    room.run(5)
    room.enter(MAC, hands(disk, "mac"))
    room.run(60)
    assert room.verdicts() == {MAC: {PC: True}, PC: {MAC: True}}
    assert not disk.contents
    assert not disk.holders


def test_round_trips_are_as_long_as_the_polls():
    disk, room = MemoryDisk(), Room()
    for machine in (MAC, PC):
        room.enter(machine, hands(disk, machine))
    room.run(60)
    for encounter in room.over.values():
        lag = pairing.lag_of(encounter.found_out[0].lags)
        assert lag is not None
        assert lag.samples >= pairing.ENOUGH_TRIPS
        assert STEP_S * 0.5 < lag.median <= lag.p95 <= lag.p99 <= lag.max < 4 * STEP_S


@pytest.mark.parametrize("kind", [NoLocks, DeafLocks])
def test_a_folder_without_working_locks_is_found_out(kind: type[MemoryFiles]):
    disk, room = MemoryDisk(), Room()
    for machine in (MAC, PC):
        room.enter(machine, hands(disk, machine, kind))
    room.run(120)
    assert room.verdicts() == {MAC: {PC: False}, PC: {MAC: False}}


def test_one_machine_without_locks_is_enough_for_a_no():
    disk, room = MemoryDisk(), Room()
    room.enter(MAC, hands(disk, "mac", NoLocks))
    room.enter(PC, hands(disk, "pc"))
    room.run(120)
    assert room.verdicts() == {MAC: {PC: False}, PC: {MAC: False}}


@pytest.mark.parametrize("hours", [-12, 0, 12])
def test_wrong_clocks_change_nothing_but_what_people_are_told_of_them(hours: int):
    disk, room = MemoryDisk(), Room()
    room.enter(MAC, hands(disk, "mac"))
    room.enter(PC, hands(disk, "pc"), skew=timedelta(hours=hours) - timedelta(seconds=1000))
    room.run(60)
    assert room.verdicts() == {MAC: {PC: True}, PC: {MAC: True}}
    apart = room.over[MAC].found_out[0].apart
    assert apart is not None
    assert abs(apart.seconds - 3600 * hours) <= apart.error_s + STEP_S
    assert apart.error_s < 1


# Copies that meet later


@pytest.mark.parametrize("delay_s", [0.5, 5.0, 30.0])
def test_where_copies_meet_later_locks_exclude_nobody_and_the_lag_is_the_way_there_and_back(delay_s: float):
    disks = [MemoryDisk(), MemoryDisk()]
    room = Room(Courier(disks, delay_s))
    room.enter(MAC, hands(disks[0], "mac"))
    room.enter(PC, hands(disks[1], "pc"))
    room.run(3600)
    assert room.verdicts() == {MAC: {PC: False}, PC: {MAC: False}}
    for encounter in room.over.values():
        lag = pairing.lag_of(encounter.found_out[0].lags)
        assert lag is not None
        assert lag.samples >= pairing.FEWER_TRIPS
        assert 2 * delay_s <= lag.median <= 2 * delay_s + 5 * STEP_S
    room.courier.carry(room.now + 2 * delay_s)  # type: ignore[union-attr]
    room.courier.carry(room.now + 4 * delay_s)  # type: ignore[union-attr]
    assert not any(disk.contents for disk in disks)


# Who is there, and who is not


def test_nobody_is_met_in_an_empty_folder_and_nothing_is_left_there():
    disk, room = MemoryDisk(), Room()
    alone = room.enter(MAC, hands(disk, "mac"))
    room.run(30)
    assert not alone.met
    room.leave(MAC)
    assert not disk.contents


def test_a_file_of_last_week_is_nobody():
    """It speaks of processes that have long ended, even of this machine's."""
    disk, room = MemoryDisk(), Room()
    word = Word(session="0000ee", ping=7, pong=1, at="2025-12-24T00:00:00.000+00:00", hold="held", take="got")
    old = Side(machine=PC, session="00beef", name="PC", n=4, wall="", done=True, words={MAC: word})
    disk.contents[SHARE.pair(PC)] = msgspec.json.encode(old)
    alone = room.enter(MAC, hands(disk, "mac"))
    room.run(30)
    assert not alone.met
    room.leave(MAC)
    assert list(disk.contents) == [SHARE.pair(PC)]


def test_a_file_of_last_week_disturbs_nobody_who_is_there():
    disk, room = MemoryDisk(), Room()
    for machine in (PC, LAPTOP):
        old = Side(machine=machine, session="00beef", name="PC", n=1 << 40, wall="", done=True)
        disk.contents[SHARE.pair(machine)] = msgspec.json.encode(old)
    room.enter(MAC, hands(disk, "mac"))
    room.enter(PC, hands(disk, "pc"))
    room.run(60)
    assert room.verdicts() == {MAC: {PC: True}, PC: {MAC: True}}


def test_a_machine_that_comes_back_overwrites_what_its_last_process_left():
    disk, room = MemoryDisk(), Room()
    room.enter(MAC, hands(disk, "mac"))
    room.enter(PC, hands(disk, "pc"))
    room.run(1)
    room.die(PC)
    room.enter(PC, hands(disk, "pc 2"))
    room.run(120)
    assert room.verdicts() == {MAC: {PC: True}, PC: {MAC: True}}
    assert not disk.contents


def test_a_holder_that_dies_gives_no_verdict():
    """The system frees its lock, and the other gets it: that must not read as a lock that excludes nobody."""
    disk, room = MemoryDisk(), Room()
    mac = room.enter(MAC, hands(disk, "mac"))
    pc = room.enter(PC, hands(disk, "pc"))
    room.run(60, until=lambda: PC in mac.pairs and mac.pairs[PC].word.hold == "held")
    room.die(MAC)
    room.run(60)
    assert pc.pairs[MAC].word.take == "got"
    assert pc.pairs[MAC].excludes is None
    assert not room.over


def test_a_lock_counts_as_refused_only_while_its_holder_shows_life():
    disk, room = MemoryDisk(), Room()
    mac = room.enter(MAC, hands(disk, "mac"))
    pc = room.enter(PC, hands(disk, "pc"))
    room.run(60, until=lambda: PC in mac.pairs and mac.pairs[PC].word.hold == "held")
    stopped = room.there.pop(MAC)
    room.run(30)
    assert pc.pairs[MAC].word.take == ""
    room.there[MAC] = stopped
    room.run(60)
    assert room.verdicts() == {MAC: {PC: True}, PC: {MAC: True}}


def test_an_older_version_of_a_peer_s_file_takes_nothing_back():
    clock = FakeClock()
    said = [
        Side(machine=PC, session="00beef", name="PC", n=n, wall="", words={MAC: Word(session="00cafe", hold=hold)})
        for n, hold in ((5, "held"), (9, "released"))
    ]
    pair = pairing.begin(said[0], 0.0, clock.now())
    for side in (said[1], said[0]):
        pair = pairing.hear(pair, side, MAC, "00cafe", 1.0, clock.now(), "")
        assert pair.n == 9
        assert pair.theirs is not None
        assert pair.theirs.hold == "released"


def test_a_lost_peer_is_silent_and_holds_up_only_those_that_need_it():
    disk, room = MemoryDisk(), Room()
    for machine in (MAC, PC, LAPTOP):
        room.enter(machine, hands(disk, machine))
    room.run(1)
    room.die(LAPTOP)
    room.run(pairing.SILENT_S + 30)
    assert room.verdicts() == {MAC: {PC: True}, PC: {MAC: True}}


def test_a_peer_that_leaves_too_early_is_waited_for_again():
    disk, room = MemoryDisk(), Room()
    mac = room.enter(MAC, hands(disk, "mac"))
    room.enter(PC, hands(disk, "pc"))
    room.run(1)
    assert mac.met
    room.leave(PC)
    room.run(5)
    assert not mac.met
    room.enter(PC, hands(disk, "pc"))
    room.run(60)
    assert room.verdicts() == {MAC: {PC: True}, PC: {MAC: True}}


def test_three_machines_find_out_about_each_other():
    disk, room = MemoryDisk(), Room()
    for machine in (MAC, PC, LAPTOP):
        room.enter(machine, hands(disk, machine), others=2)
        room.run(3)
    room.run(120)
    assert room.verdicts() == {
        MAC: {PC: True, LAPTOP: True},
        PC: {MAC: True, LAPTOP: True},
        LAPTOP: {MAC: True, PC: True},
    }
    assert not disk.contents


def test_two_that_are_at_it_also_finish_with_a_third_that_joins_them():
    disk, room = MemoryDisk(), Room()
    for machine in (MAC, PC, LAPTOP):
        room.enter(machine, hands(disk, machine), others=1)
        room.run(0.5)
    room.run(120)
    assert {machine: set(others) for machine, others in room.verdicts().items()} == {
        MAC: {PC, LAPTOP},
        PC: {MAC, LAPTOP},
        LAPTOP: {MAC, PC},
    }


def test_of_three_machines_the_one_on_a_copy_is_told_apart():
    """Two share a disk; a sync client carries it to the third."""
    disks = [MemoryDisk(), MemoryDisk()]
    room = Room(Courier(disks, 2.0))
    for machine, disk in zip((MAC, PC, LAPTOP), (disks[0], disks[0], disks[1]), strict=True):
        room.enter(machine, hands(disk, machine), others=2)
    room.run(600)
    assert room.verdicts() == {
        MAC: {PC: True, LAPTOP: False},
        PC: {MAC: True, LAPTOP: False},
        LAPTOP: {MAC: False, PC: False},
    }


# What does not belong there


GARBAGE = [
    b"",
    b"{",
    b"\xff\xfe",
    b"[" * 100_000,
    b'{"v": 1, "machine": "bbbbbbbb", "session": 7, "name": "PC", "n": 1, "wall": ""}',
    msgspec.json.encode(Side(machine="../../xx", session="000001", name="", n=0, wall="")),
    msgspec.json.encode(Side(machine=PC, session="00/..1", name="", n=0, wall="")),
    msgspec.json.encode(Side(machine=PC, session="000001", name="", n=-1, wall="")),
    msgspec.json.encode({"v": 2, "machine": PC, "session": "000001", "name": "", "n": 0, "wall": ""}),
]


@pytest.mark.parametrize("data", GARBAGE, ids=range(len(GARBAGE)))
def test_garbage_is_nobody_s_word(data: bytes):
    disk, room = MemoryDisk(), Room()
    disk.contents[SHARE.pair(PC)] = data
    mac = room.enter(MAC, hands(disk, "mac"))
    room.run(5)
    assert not mac.pairs
    room.enter(LAPTOP, hands(disk, "laptop"))
    room.run(60)
    assert room.verdicts() == {MAC: {LAPTOP: True}, LAPTOP: {MAC: True}}


@given(st.binary(max_size=200))
def test_no_bytes_disturb_a_look(data: bytes):
    disk, room = MemoryDisk(), Room()
    disk.contents[SHARE.pair(PC)] = data
    mac = room.enter(MAC, hands(disk, "mac"))
    room.run(0.5)
    assert not mac.met


def test_a_conflict_copy_of_a_peer_s_file_says_nothing():
    disk, room = MemoryDisk(), Room()
    side = Side(machine=PC, session="00beef", name="PC", n=9, wall="")
    disk.contents[SHARE.pairs / f"{PC}.sync-conflict-20260101-120000-ABCDEFG.json"] = msgspec.json.encode(side)
    mac = room.enter(MAC, hands(disk, "mac"))
    room.run(5)
    assert not mac.pairs


def test_the_answer_s_wall_time_may_be_anything():
    disk, room = MemoryDisk(), Room()
    mac = room.enter(MAC, hands(disk, "mac"))
    for n, at in enumerate(["", "yesterday", "9999-12-31T23:59:59", "0001-01-01T00:00:00+00:00", "2026-01-01"], 1):
        word = Word(session=mac.session, ping=n, pong=n, at=at)
        disk.contents[SHARE.pair(PC)] = msgspec.json.encode(
            Side(machine=PC, session="00beef", name="\x1b[31mP\nC" + "x" * 99, n=n, wall="", words={MAC: word})
        )
        room.run(0.3)
    assert len(mac.pairs[PC].lags) >= 4
    assert mac.pairs[PC].name == "[31mPC" + "x" * (pairing.MAX_NAME - 6)


def test_another_computer_with_the_same_id_is_an_error_with_a_remedy():
    disk, room = MemoryDisk(), Room()
    room.enter(MAC, hands(disk, "mac"))
    room.run(1)
    clone = Encounter(hands(disk, "clone"), room.clocks[MAC], SHARE, MAC, "Mac", new_hex=lambda count: "ff" * count)

    def both() -> None:
        for _ in range(100):
            room.run(STEP_S)
            clone.poll()

    with pytest.raises(SetupError, match="goes by this one's id, aaaaaaaa"):
        both()


def test_an_old_version_of_the_own_file_that_a_sync_client_brings_back_is_written_over():
    disk, room = MemoryDisk(), Room()
    mac = room.enter(MAC, hands(disk, "mac"))
    room.run(1)
    for back in (None, msgspec.json.encode(Side(machine=MAC, session="0000ff", name="Mac", n=4, wall=""))):
        if back is None:
            del disk.contents[SHARE.pair(MAC)]
        else:
            disk.contents[SHARE.pair(MAC)] = back
        room.run(STEP_S)
        said = msgspec.json.decode(disk.contents[SHARE.pair(MAC)], type=Side)
        assert said.session == mac.session


# The pure steps


@given(st.lists(st.floats(0, 1e4), min_size=1, max_size=200))
def test_the_shares_of_a_lag_are_in_order_and_among_the_samples(seconds: list[float]):
    lag = pairing.lag_of(seconds)
    assert lag is not None
    assert lag.median <= lag.p95 <= lag.p99 <= lag.max == round(max(seconds), 3)
    assert {lag.median, lag.p95, lag.p99} <= {round(second, 3) for second in seconds}
    assert sum(second <= lag.p95 + 0.001 for second in seconds) >= 0.95 * len(seconds)


def test_no_samples_no_lag():
    assert pairing.lag_of([]) is None


HOLDS: list[pairing.Hold] = ["", "held", "released", "broken"]
TAKES: list[pairing.Take] = ["", "got", "refused", "freed", "stuck", "broken"]


@pytest.mark.parametrize(("hold", "take"), list(itertools.product(HOLDS, TAKES)))
def test_a_lock_excludes_only_if_it_was_refused_while_held_and_given_afterwards(hold: pairing.Hold, take: pairing.Take):
    found = pairing.verdict(hold, take)
    assert (found is True) == (take == "freed" and hold != "broken")
    if take == "got" and hold == "held":
        assert found is None, "its holder may have died"

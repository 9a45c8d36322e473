"""How a folder is used: a person's word before what was measured, that before the path, and no lock trusted on hearsay."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedspec.errors import UsageError
from fedspec.files import MemoryDisk, MemoryFiles
from fedspec.folders import LOCAL, FolderKind
from fedspec.workqueue.liveness import LOCAL_DISK, LONGEST_DEAD_S, LONGEST_SETTLE_S, NETWORK_SHARE, SYNC_FOLDER
from fedspec.workqueue.modes import Measured, Met, Notes, choose
from fedspec.workqueue.pairing import LagSpread
from fedspec.workspace import LocalState, Workspace

SHARE = FolderKind("network share (smbfs)", "network")
SYNCED = FolderKind("Dropbox", "sync")
KINDS = [LOCAL, SHARE, SYNCED]
PLACE = Workspace(Path("/share"))


def measured(mode: str = "lock", kind: FolderKind = SHARE, lag_s: float = 0.2) -> Measured:
    lag = LagSpread(median=lag_s, p95=lag_s, p99=lag_s, max=lag_s, samples=20)
    peers = [Met(machine=name * 8, name=name, locks=mode == "lock", lag_s=lag) for name in "ab"]
    return Measured(mode=mode, kind=kind.label, lag_s=lag, peers=peers, wall="2026-01-05T09:41:07Z")  # type: ignore[arg-type]


@pytest.fixture
def notes() -> Notes:
    return Notes(PLACE, LocalState(Path("/local")), MemoryFiles(MemoryDisk()))


def test_without_notes_the_path_decides_and_only_local_locks_are_trusted():
    chosen = [choose(kind, None) for kind in KINDS]
    assert [choice.mode for choice in chosen] == ["local", "network", "sync"]
    assert [choice.locks for choice in chosen] == [True, False, False]
    times = [choice.timing() for choice in chosen]
    assert times[0] == LOCAL_DISK
    assert times[2] == SYNC_FOLDER
    assert (times[1].beat, times[1].settle, times[1].dead) == (NETWORK_SHARE.beat, NETWORK_SHARE.settle, NETWORK_SHARE.dead)
    assert not times[1].locks
    assert not times[1].syncs


def test_a_share_whose_locks_were_seen_to_exclude_is_a_network_share_with_locks():
    assert choose(SHARE, measured()).timing() == NETWORK_SHARE


@pytest.mark.parametrize("kind", KINDS)
def test_what_was_measured_goes_before_the_path(kind: FolderKind):
    assert (choose(kind, measured("lock", kind)).mode, choose(kind, measured("lock", kind)).locks) == ("network", True)
    no = choose(kind, measured("sync", kind))
    assert (no.mode, no.locks) == ("network" if kind is SHARE else "sync", False)
    assert no.source == "measured with a and b on 2026-01-05"


@pytest.mark.parametrize("kind", KINDS)
def test_of_another_kind_of_folder_what_was_measured_says_nothing(kind: FolderKind):
    other = next(k for k in KINDS if k is not kind)
    choice = choose(kind, measured("lock", other, lag_s=100))
    assert choice.outdated is not None
    assert (choice.mode, choice.locks, choice.timing()) == (
        (plain := choose(kind, None)).mode,
        plain.locks,
        plain.timing(),
    )


@given(st.sampled_from(KINDS), st.sampled_from([None, "lock", "sync"]), st.sampled_from(["local", "network", "sync"]))
def test_a_person_s_word_decides_the_mode_but_makes_no_share_s_lock_trusted(kind: FolderKind, mode: str | None, word: str):
    found = None if mode is None else measured(mode, kind)
    for choice in (choose(kind, found, word), choose(kind, found, "sync", word)):
        assert choice.mode == word
        assert choice.locks == (word == "local" or (word == "network" and mode == "lock"))


def test_auto_is_no_word_and_in_the_environment_it_covers_the_one_that_was_set():
    assert choose(SHARE, None, "auto") == choose(SHARE, None)
    assert choose(SHARE, None, "sync", "auto") == choose(SHARE, None)


@given(st.sampled_from(KINDS), st.sampled_from(["lock", "sync"]), st.floats(0, 1e6), st.floats(0.01, 10))
def test_lag_makes_waiting_longer_never_shorter_and_not_without_end(kind: FolderKind, mode: str, lag_s: float, scale: float):
    choice = choose(kind, measured(mode, kind, lag_s))
    base = {"local": LOCAL_DISK, "network": NETWORK_SHARE, "sync": SYNC_FOLDER}[choice.mode].scaled(scale)
    timing = choice.timing(scale)
    lag_s = 0.0 if choice.mode == "local" else lag_s
    assert max(base.settle, LONGEST_SETTLE_S * scale) >= timing.settle >= base.settle
    assert max(base.dead, LONGEST_DEAD_S * scale) >= timing.dead >= base.dead
    assert (timing.beat, timing.poll, timing.scale) == (base.beat, base.poll, base.scale)
    assert timing.settle >= min(1.5 * lag_s, LONGEST_SETTLE_S * scale)
    assert timing.dead >= min(6 * lag_s, LONGEST_DEAD_S * scale)


def test_a_slow_sync_client_is_given_the_time_that_it_takes():
    timing = choose(SYNCED, measured("sync", SYNCED, lag_s=200)).timing()
    assert (timing.settle, timing.dead) == (300, 1200)


def test_notes_are_kept_by_workspace(notes: Notes):
    notes.keep(measured())
    notes.choose("sync")
    assert notes.measured == measured()
    assert notes.chosen == "sync"
    other = Notes(Workspace(Path("/other")), notes.local, notes.files)
    assert (other.measured, other.chosen) == (None, "")
    notes.choose("auto")
    assert notes.chosen == ""


@pytest.mark.parametrize("damage", [b"", b"{", b"\xff", b"[]", b'{"v": 2, "mode": "lock"}', b'{"mode": "telepathy"}'])
def test_damaged_notes_are_none(notes: Notes, damage: bytes):
    for path in (notes.local.measured(PLACE), notes.local.chosen_mode(PLACE)):
        notes.files.write(path, damage)
    assert (notes.measured, notes.chosen) == (None, "")
    assert notes.choice({}).mode == "local"


def test_a_mode_that_does_not_exist_is_refused(notes: Notes):
    with pytest.raises(UsageError, match="--mode: there is no mode 'smb'"):
        notes.choose("smb")
    with pytest.raises(UsageError, match="FEDSPEC_MODE: there is no mode 'smb'"):
        notes.choice({"FEDSPEC_MODE": "smb"})
    assert notes.choice({"FEDSPEC_MODE": "sync"}).source == "set by FEDSPEC_MODE"

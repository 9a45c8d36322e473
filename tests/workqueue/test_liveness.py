"""A peer is dead only when this process has watched it not change for long enough, on its own clock."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedspec.workqueue.liveness import GAP_FACTOR, LOCAL_DISK, MIN_UNCHANGED_POLLS, NETWORK_SHARE, SYNC_FOLDER, Timing, Watch

TIMINGS = [LOCAL_DISK, NETWORK_SHARE, SYNC_FOLDER]
SIGN = {"peer": (3, 7)}


def watched(timing: Timing, gaps: list[float]) -> tuple[Watch, float]:
    """A watch that polled after each of these many seconds while the peer stood still, and the time it is then."""
    watch, now = Watch(timing), 1000.0
    watch.poll(now, SIGN)
    for gap in gaps:
        now += gap
        watch.poll(now, SIGN)
    return watch, now


@pytest.mark.parametrize("timing", TIMINGS)
def test_a_silent_peer_is_presumed_dead_after_its_time_and_not_before(timing: Timing):
    polls = int(timing.dead / timing.poll)
    assert not watched(timing, [timing.poll] * (polls - 1))[0].presumed_dead()
    assert watched(timing, [timing.poll] * polls)[0].presumed_dead() == {"peer"}


@given(st.lists(st.floats(0.0, 1e6), max_size=40))
def test_a_poll_adds_at_most_two_poll_intervals(gaps: list[float]):
    watch, _ = watched(LOCAL_DISK, gaps)
    assert watch.age("peer") <= 2 * LOCAL_DISK.poll * len(gaps)


def test_nobody_is_dead_before_ten_unchanged_polls_however_short_the_time_is():
    hasty = Timing(beat=1.0, poll=10.0, settle=0.0, dead=20.0)
    for polls in range(1, 2 * MIN_UNCHANGED_POLLS):
        assert bool(watched(hasty, [20.0] * polls)[0].presumed_dead()) == (polls >= MIN_UNCHANGED_POLLS)


@given(st.lists(st.floats(0.0, 4.0), max_size=30), st.floats(0.0, 1e9), st.integers(0, 30))
def test_our_own_sleep_makes_nobody_older_than_two_polls(gaps: list[float], sleep_s: float, at: int):
    awake, _ = watched(LOCAL_DISK, gaps)
    slept, _ = watched(LOCAL_DISK, [*gaps[:at], sleep_s, *gaps[at:]])
    assert slept.age("peer") <= awake.age("peer") + 2 * LOCAL_DISK.poll + 1e-6


@pytest.mark.parametrize("sign", [(4, 7), (3, 8), (2, 7), (3, 1)])
def test_any_change_is_a_sign_of_life(sign: tuple[int, int]):
    watch, now = watched(LOCAL_DISK, [LOCAL_DISK.poll] * 100)
    assert watch.presumed_dead()
    watch.poll(now + 1, {"peer": sign})
    assert watch.age("peer") == 0
    assert not watch.presumed_dead()


def test_a_peer_that_was_closed_is_watched_no_longer():
    watch, now = watched(LOCAL_DISK, [LOCAL_DISK.poll] * 100)
    watch.poll(now + 1, {})
    assert not watch.presumed_dead()
    assert watch.age("peer") == 0


@given(st.floats(0, 1e9))
def test_where_the_clock_started_changes_nothing(start: float):
    watch = Watch(LOCAL_DISK)
    for number in range(40):
        watch.poll(start + number * LOCAL_DISK.poll, SIGN)
    assert watch.presumed_dead() == {"peer"}


def test_after_a_gap_the_folder_needs_its_settle_time():
    watch, now = watched(SYNC_FOLDER, [SYNC_FOLDER.poll] * 3)
    assert watch.settled(now)
    now += GAP_FACTOR * SYNC_FOLDER.poll + 1
    watch.poll(now, SIGN)
    assert not watch.settled(now)
    assert not watch.settled(now + 1)
    for _ in range(int(SYNC_FOLDER.settle / SYNC_FOLDER.poll)):
        now += SYNC_FOLDER.poll
        watch.poll(now, SIGN)
    assert watch.settled(now)


def test_who_wakes_up_has_not_settled_even_before_its_first_poll():
    watch, now = watched(LOCAL_DISK, [LOCAL_DISK.poll])
    now += GAP_FACTOR * LOCAL_DISK.poll + 1
    assert not watch.settled(now)
    watch.poll(now, SIGN)
    assert watch.settled(now)  # a local disk has nothing to wait for


def test_a_process_that_has_just_begun_has_slept_through_nothing():
    assert Watch(SYNC_FOLDER).settled(1e6)


@given(st.sampled_from(TIMINGS), st.floats(0.01, 10))
def test_one_factor_scales_every_waiting_time(timing: Timing, factor: float):
    scaled = timing.scaled(factor)
    for name in ("beat", "poll", "settle", "dead", "scale"):
        assert getattr(scaled, name) == pytest.approx(getattr(timing, name) * factor)
    assert scaled.syncs == timing.syncs


@pytest.mark.parametrize("timing", TIMINGS)
def test_a_peer_that_beats_in_time_can_never_be_presumed_dead(timing: Timing):
    # Even one that polls and beats as slowly as it may, seen by one that polls as slowly as it may.
    assert timing.dead > 2 * (timing.beat + timing.poll)
    assert timing.dead >= MIN_UNCHANGED_POLLS * timing.poll

"""Time as one process sees it: a monotonic clock that never goes back, a wall clock for people, and their fake."""

from __future__ import annotations

import sys
import threading
import time
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedspec.clock import Clock, FakeClock, SystemClock, timestamp
from fedspec.workqueue.wording import elapsed_s

SECONDS = st.floats(0, 1e6)


@pytest.mark.parametrize("clock", [SystemClock(), FakeClock()], ids=["system", "fake"])
def test_a_clock_never_goes_back_and_its_wall_clock_is_in_utc(clock: Clock):
    before, asleep, wall = clock.monotonic(), clock.awake_or_asleep(), clock.now()
    clock.sleep(0)
    assert clock.monotonic() >= before
    assert clock.awake_or_asleep() >= asleep
    assert wall.utcoffset() == timedelta(0)


@pytest.mark.parametrize("clock", [SystemClock(), FakeClock()], ids=["system", "fake"])
def test_a_sleep_ends_when_it_is_woken(clock: Clock):
    wake = threading.Event()
    wake.set()
    before = clock.monotonic()
    clock.sleep(3600, wake)
    assert clock.monotonic() - before < 60


@given(st.lists(SECONDS, max_size=5), st.integers(-12, 12))
def test_the_fake_moves_only_when_told_to_and_by_as_much_whatever_its_skew(steps: list[float], skew_h: int):
    clock, right = FakeClock(timedelta(hours=skew_h)), FakeClock()
    for step in steps:
        clock.advance(step)
        right.sleep(step)
    assert clock.monotonic() == clock.monotonic() == pytest.approx(sum(steps))
    assert clock.now() - right.now() == timedelta(hours=skew_h)


@given(st.datetimes(datetime(1970, 1, 2), datetime(9000, 1, 1), timezones=st.just(UTC)), SECONDS)
def test_a_moment_that_was_written_can_be_told_from_another(moment: datetime, seconds: float):
    age = elapsed_s(timestamp(moment), moment + timedelta(seconds=seconds))
    assert age is not None
    assert seconds - 0.001 <= age < seconds + 1.001


def test_a_moment_is_written_in_utc_wherever_it_was_taken():
    assert timestamp(datetime(2026, 1, 5, 11, 41, 7, tzinfo=timezone(timedelta(hours=2)))) == "2026-01-05T09:41:07Z"


@pytest.mark.skipif(sys.platform != "linux", reason="compares with Linux' own clock")
def test_the_clock_that_tells_of_sleep_is_the_one_that_runs_in_it():
    before = time.clock_gettime(time.CLOCK_BOOTTIME)
    assert before <= SystemClock().awake_or_asleep() <= time.clock_gettime(time.CLOCK_BOOTTIME)

"""The queue's promises on simulated machines and folders in which everything fails that can."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter

import pytest

from fedspec.simulation.invariants import violations
from fedspec.simulation.profiles import PROFILES
from fedspec.simulation.schedule import run_schedule

# Of each profile, in CI.
SHORT = 3


@pytest.mark.parametrize("name", sorted(PROFILES))
def test_whatever_strikes_every_item_ends_with_the_one_right_result(name: str) -> None:
    _run(name, range(SHORT))


@pytest.mark.long
@pytest.mark.parametrize("name", sorted(PROFILES))
def test_whatever_strikes_every_item_ends_with_the_one_right_result_long(name: str) -> None:
    _run(name, range(1000, 1400))


# Schedules that broke a promise of an earlier version.
ONCE_BROKEN = [("brutal", 10), ("brutal", 102745), ("brutal", 103225)]


@pytest.mark.parametrize(("name", "seed"), ONCE_BROKEN)
def test_a_schedule_that_once_broke_a_promise_holds(name: str, seed: int) -> None:
    _run(name, range(seed, seed + 1))


@pytest.mark.parametrize("name", ["brutal", "smb"])
def test_the_same_seed_gives_the_identical_course(name: str) -> None:
    one, other = run_schedule(7, PROFILES[name]), run_schedule(7, PROFILES[name])
    assert one.world.trace == other.world.trace
    assert [m.ground.disk.contents for m in one.machines] == [m.ground.disk.contents for m in other.machines]


@pytest.mark.parametrize("name", ["smb", "syncthing"])
def test_the_same_seed_gives_the_identical_course_in_another_process(name: str) -> None:
    """Whatever order sets have there."""
    script = (
        "from fedspec.simulation.campaign import profile_of, run_schedule\n"
        f"print(*run_schedule(3, profile_of(3, {name!r}), machines=2).world.trace, sep='\\n')"
    )
    told = [
        subprocess.run(
            [sys.executable, "-c", script], env={**os.environ, "PYTHONHASHSEED": hashes}, capture_output=True, check=True
        ).stdout
        for hashes in ("0", "1")
    ]
    assert told[0] == told[1] != b""


def test_other_wall_clocks_give_the_identical_course() -> None:
    """I10: no decision reads a wall clock."""
    courses = [run_schedule(11, PROFILES["brutal"], clocks=clocks) for clocks in range(3)]
    told = [[line for line in course.world.trace if "saved by" not in line] for course in courses]
    assert told[0] == told[1] == told[2]


def _run(name: str, seeds: range) -> Counter[str]:
    struck: Counter[str] = Counter()
    for seed in seeds:
        course = run_schedule(seed, PROFILES[name])
        assert violations(course) == [], "\n".join([f"{name} {seed}", *course.world.trace[-30:]])
        struck += course.counts
    return struck

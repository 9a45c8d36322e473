"""Many schedules on all cores: what struck, what it cost, and what was broken, with a seed to see it again."""

from __future__ import annotations

import gc
import multiprocessing
import re
import signal
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

from fedspec.simulation.profiles import PROFILES, Profile
from fedspec.simulation.schedule import Course, run_schedule

# Schedules that one process runs before it hands its results in.
BATCH = 4
MOST_LINES = 60


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one schedule.

    Attributes:
        broken: violated invariants, in words. trace: what led there, shortened; empty if nothing is broken.
        repeated, rounds: rounds saved beyond one of each item, and how many there are.
        naive: what the naive way lost in the same weather; empty unless asked for.
    """

    profile: str
    seed: int
    machines: int
    broken: tuple[str, ...]
    trace: tuple[str, ...]
    struck: Counter[str]
    repeated: int
    rounds: int
    naive: Counter[str] = field(default_factory=Counter)


@dataclass(slots=True)
class Tally:
    """What many outcomes add up to; ``broken`` holds of each that broke a promise its profile, its seed and the promises."""

    schedules: int = 0
    broken: list[tuple[str, int, tuple[str, ...]]] = field(default_factory=list)
    struck: Counter[str] = field(default_factory=Counter)
    repeated: int = 0
    rounds: int = 0
    naive: Counter[str] = field(default_factory=Counter)

    def add(self, outcome: Outcome) -> None:
        """Count one more."""
        self.schedules += 1
        if outcome.broken:
            self.broken.append((outcome.profile, outcome.seed, outcome.broken))
        self.struck.update(outcome.struck)
        self.repeated += outcome.repeated
        self.rounds += outcome.rounds
        self.naive.update(outcome.naive)


def profile_of(seed: int, name: str | None) -> Profile:
    """The named profile, or the one that the seed stands for when all take turns."""
    names = sorted(PROFILES)
    return PROFILES[name or names[seed % len(names)]]


def run_one(seed: int, name: str | None = None, machines: int | None = None, compare: bool = False) -> Outcome:
    """Run and judge one schedule."""
    from fedspec.simulation.invariants import Ending
    from fedspec.simulation.naive import run_naive

    profile = profile_of(seed, name)
    course = run_schedule(seed, profile, machines=machines)
    ending = Ending(course)
    broken = tuple(ending.violations())
    repeated, rounds = ending.duplicate_rounds()
    trace = tuple(shortened(course, broken)) if broken else ()
    naive = run_naive(seed, profile, machines) if compare else Counter[str]()
    return Outcome(profile.name, seed, len(course.machines), broken, trace, course.counts, repeated, rounds, naive)


def run_many(
    seeds: Sequence[int], name: str | None, machines: int | None, processes: int, compare: bool = False
) -> Iterator[Outcome]:
    """Run schedules in so many processes; outcomes come in the order of the seeds."""
    one = partial(run_one, name=name, machines=machines, compare=compare)
    if processes == 1:
        yield from map(one, seeds)
        return
    # Forked from a server that has imported the libraries; never from this process, which may have threads.
    context = multiprocessing.get_context("forkserver" if sys.platform == "linux" else "spawn")
    if sys.platform == "linux":
        context.set_forkserver_preload(["torch", "fedspec.simulation.invariants", "fedspec.simulation.naive"])
    with context.Pool(processes, _settle_in) as pool:
        yield from pool.imap(one, seeds, chunksize=BATCH)


def _settle_in() -> None:
    # Of Ctrl-C the first process hears, and ends the others.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # The libraries stay; a schedule leaves few cycles. Looking through all of it again and again took a twentieth of the time.
    gc.freeze()
    gc.set_threshold(100_000, 50, 100)


def shortened(course: Course, broken: Sequence[str]) -> list[str]:
    """The lines of a trace that have to do with what is broken: faults, and what names the same items and files."""
    names = {word for text in broken for word in re.findall(r"[\w.-]{6,}", text)}
    items = {item.exp for item in course.items if any(item.exp in text for text in broken)}
    telling = [
        line for line in course.world.trace if "--" in line or any(name in line for name in items) or names & set(line.split())
    ]
    lines = telling or course.world.trace
    skipped = [f"... {len(lines) - MOST_LINES} lines before"] if len(lines) > MOST_LINES else []
    return skipped + lines[-MOST_LINES:]

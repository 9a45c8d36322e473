"""The mutation gate: each known mistake, put in on purpose, breaks a promise within a stated number of schedules.

A schedule is made for its mistake: only the faults that bring it out, and as little work as does. The production code keeps
that promise in the very schedules that the mistake breaks it in.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Any

import mistakes
import pytest

from fedspec.checkpoints import CheckpointManager
from fedspec.simulation.invariants import duplicate_rounds, violations
from fedspec.simulation.profiles import FAULTS, PROFILES, Profile, Weather, fair_weather
from fedspec.simulation.schedule import Course, run_schedule
from fedspec.workqueue.distributor import WorkDistributor

# A mistake that so many schedules do not show has survived.
PATIENCE = 20
LONG = range(1000, 1060)
# Who still waits after so many hours of fair weather waits for ever: a dead peer's item is taken over after a quarter.
WAIT_H = 2.0
# Each item is one machine's: what two run together has no rivals.
WORK = {"items": 2, "pairs": 0, "rounds": 2}


def only(name: str = "syncthing", machines: int = 2, **faults_and_work: Any) -> Profile:
    """That kind of folder with these faults and no others."""
    never: dict[str, float] = dict.fromkeys(FAULTS, 0.0)
    return replace(PROFILES[name], **{**never, **WORK, "machines": (machines, machines), **faults_and_work})


def steady(delay_s: float, machines: int = 2, **work: Any) -> Profile:
    """No faults, and everything arrives after about that time."""
    return replace(fair_weather(PROFILES["syncthing"], delay_s), **{**WORK, "machines": (machines, machines), **work})


CRASHES = only(crash=0.01)
DEATHS = only(machines=3, items=3, crash=0.02, death=1.0)
# Two machines claim the one item before they know of each other.
RIVALS = steady(100, items=1, rounds=12)
RIVAL_RESULTS = only(weather=Weather(delay=150.0, late=0.4, late_s=1200.0), rounds=1)
AWAY = only(offline=6.0, days=0.2)
# Who was away hears of a worker that is gone only after it has heard others.
LATECOMERS = only(
    machines=3, items=4, rounds=1, crash=0.005, unreadable=0.02, offline=6.0, days=0.2,
    weather=Weather(delay=45.0, late=0.2, late_s=1800.0, torn=0.2),
)  # fmt: skip
# Two machines hear of each other only from the third.
APART = only(machines=3, rounds=1, apart=1.0)
# All go home, and some begin again where they hear nothing of the others.
EVENINGS = only(rounds=3, client_s=150.0, evening=1.0)
# A person gives a command, or writes into the queue for people.
PEOPLE = only(items=4, rounds=10, client_s=150.0, person=1.0)
RETIRED = only(machines=3, items=4, rounds=10, client_s=150.0, retire=1.0)
# Of two versions of a file one vanishes without a copy.
SILENT = replace(steady(20, items=4, rounds=4), weather=Weather(delay=20.0, steady=True, silent=1.0))
# An author is gone for good while its event is there and what it wrote beside it is not, or the other way round.
ORPHANS = only(
    machines=4, items=8, rounds=1, client_s=30.0, crash=0.02, death=1.0, weather=Weather(delay=10.0, late=0.4, late_s=3600.0)
)
# Heartbeats overtake journals.
OVERTAKING = only(machines=4, items=8, rounds=1, weather=Weather(delay=100.0, late=0.5, late_s=900.0))
PUT_BACK = only(items=3, rounds=4, client_s=300.0, crash=0.01, restore=1.0, reboot_s=90.0)
SKEWED = only(machines=3, rounds=3, skew_h=12.0)


@dataclass(frozen=True)
class Mistake:
    """A mistake, the schedules that bring it out, and what it breaks there, as `violations` says it."""

    kind: type[WorkDistributor] | type[CheckpointManager]
    profile: Profile
    breaks: str

    def run(self, seed: int, *, correct: bool = False) -> list[str]:
        """The sentences about the promise after one schedule."""
        kind = {} if correct else {_role(self.kind): self.kind}
        course = run_schedule(seed, self.profile, patience_h=WAIT_H, **kind)
        return [broken for broken in violations(course) if re.match(self.breaks, broken)]


def _role(kind: type) -> str:
    return "checkpoints" if issubclass(kind, CheckpointManager) else "distributor"


MISTAKES = [
    Mistake(mistakes.RowsBeside, ORPHANS, "I3: .* no rows"),
    Mistake(mistakes.PublishesOnce, RIVAL_RESULTS, "I3: .* is not the canonical result"),
    Mistake(mistakes.Reopens, CRASHES, "I5: .*jsonl was written by"),
    Mistake(mistakes.SharesOneJournal, CRASHES, "I5: all.jsonl was written by"),
    Mistake(mistakes.SharesOneJournal, SILENT, "I11: .* of the .* records"),
    Mistake(mistakes.ForgetsWhoLeft, PUT_BACK, "I11: "),
    Mistake(mistakes.NoGate, RIVALS, "I6: .* wrote Ckpt though it was taken over"),
    Mistake(mistakes.NoGate, RIVALS, "I7: "),
    Mistake(mistakes.NoTakeover, DEATHS, "I1: somebody was still waiting"),
    Mistake(mistakes.ByTheWallClock, SKEWED, "I13: "),
    Mistake(mistakes.ByItsOwnSleep, only(items=1, rounds=12, client_s=120.0, sleep=6.0), "I13: "),
    Mistake(mistakes.IgnoresPeers, steady(20, items=4, rounds=4), "I7: "),
    Mistake(mistakes.BothYield, RIVALS, "I2: .* yielded .* to each other"),
    Mistake(mistakes.ProgressDecides, steady(210, items=1, rounds=16), "I7: "),
    Mistake(mistakes.HearsSayBeforeReading, OVERTAKING, "I8: .* had not read"),
    Mistake(mistakes.AcknowledgesUnread, RIVAL_RESULTS, "I14: "),
    Mistake(mistakes.SealsByProcess, DEATHS, "I1: somebody was still waiting"),
    Mistake(mistakes.SealsWithoutTheAbsent, AWAY, "I8: "),
    Mistake(mistakes.SealsUnlikeTheOthers, LATECOMERS, "I8: "),
    Mistake(mistakes.SealsDespiteStrangers, APART, "I8: "),
    Mistake(mistakes.SealsBeforeItHasMetThem, EVENINGS, "I8: "),
    Mistake(mistakes.StaysDisowned, RETIRED, "I1: time stands still"),
    Mistake(mistakes.IgnoresPeople, PEOPLE, "I16: "),
    Mistake(mistakes.WritesOverEdits, PEOPLE, "I16: "),
    Mistake(mistakes.RemembersTheDead, DEATHS, "I15: "),
    Mistake(mistakes.GathersNobody, only(machines=3, pairs=1), "I12: "),
    Mistake(mistakes.OneFixedName, CRASHES, "I5: .*pt was written by"),
    Mistake(mistakes.EventFirst, CRASHES, "I9: .* before it was on disk"),
    Mistake(mistakes.PrunesAtOnce, steady(20, items=4, rounds=4), "I9: .* was deleted, the best"),
]  # fmt: skip
NAMES = [f"{mistake.kind.__name__}-{mistake.breaks.partition(':')[0]}" for mistake in MISTAKES]


@pytest.mark.parametrize("mistake", MISTAKES, ids=NAMES)
def test_a_known_mistake_breaks_its_promise_and_the_production_code_does_not(mistake: Mistake) -> None:
    caught = next((seed for seed in range(PATIENCE) if mistake.run(seed)), None)
    assert caught is not None, f"{mistake.kind.__name__} survives {PATIENCE} schedules"
    assert mistake.run(caught, correct=True) == []


@pytest.mark.long
@pytest.mark.parametrize("mistake", MISTAKES, ids=NAMES)
def test_a_known_mistake_is_no_matter_of_luck(mistake: Mistake) -> None:
    """Fresh seeds: about as often as in the short form."""
    caught = [seed for seed in LONG if mistake.run(seed)]
    assert len(caught) >= len(LONG) // PATIENCE
    assert [broken for seed in caught for broken in mistake.run(seed, correct=True)] == []


BUSY = steady(40, machines=3, items=6, rounds=2, client_s=10.0)


def test_who_asks_before_it_begins_repeats_far_fewer_rounds_where_nothing_fails() -> None:
    """The cost of the protocol itself: a claim that is not acknowledged wastes what its rival trains."""
    asking, hasty = (
        sum(duplicate_rounds(run_schedule(seed, BUSY, distributor=kind))[0] for seed in range(10))
        for kind in (WorkDistributor, mistakes.DoesNotAsk)
    )
    assert 3 * asking < hasty


def test_who_goes_by_the_wall_clock_does_other_things_by_other_clocks() -> None:
    """I10: its counterpart in `test_schedules` finds no difference."""
    one, other = (events(run_schedule(0, SKEWED, distributor=mistakes.ByTheWallClock, clocks=clocks)) for clocks in range(2))
    assert one != other


def events(course: Course) -> list[str]:
    return [line for line in course.world.trace if "saved by" not in line]

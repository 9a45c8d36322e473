"""The queue's promises on simulated machines that crash and are stopped in the middle of writes, and known mistakes caught."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest

from fedspec.checkpoints import CheckpointManager, Generation
from fedspec.files import MemoryFiles
from fedspec.simulation.invariants import violations
from fedspec.simulation.schedule import Profile, run_schedule
from fedspec.workqueue.distributor import Held, WorkDistributor
from fedspec.workqueue.rules import Situation

# A mistake must be seen within so many schedules.
PATIENCE = 40
# Few waits, so that a schedule in which nobody takes over ends soon.
BRUTAL = Profile(crash=0.02, stop=0.02)


def test_whatever_crashes_or_stops_every_item_ends_with_the_one_right_result() -> None:
    struck = _run_all(range(40), Profile()) + _run_all(range(40, 60), BRUTAL)
    assert struck["crash"] > 200
    assert struck["stop"] > 200
    assert struck["death"] > 20


@pytest.mark.long
def test_whatever_crashes_or_stops_every_item_ends_with_the_one_right_result_long() -> None:
    _run_all(range(1000, 2000), Profile())
    _run_all(range(2000, 3000), BRUTAL)


def test_the_same_seed_gives_the_identical_course() -> None:
    one, other = run_schedule(7, BRUTAL), run_schedule(7, BRUTAL)
    assert one.reports == other.reports
    assert one.world.disk.contents == other.world.disk.contents


def test_wrong_wall_clocks_change_no_decision() -> None:
    def decisions(course_reports: list[str]) -> list[str]:
        return [line for line in course_reports if "saved by" not in line]

    one, other = run_schedule(11, Profile(skew_h=0.0)), run_schedule(11, Profile(skew_h=12.0))
    assert decisions(one.reports) == decisions(other.reports)


class NoGate(WorkDistributor):
    """Takeover without the gate: whoever lost its item goes on."""

    def must_stop(self, held: Held) -> str | None:
        return None

    @property
    def stop_reason(self) -> str | None:
        return None


class NoTakeover(WorkDistributor):
    """Nobody is ever presumed dead."""

    def _situation(self, only: Collection[str] | None) -> Situation:
        return replace(super()._situation(only), dead=frozenset())


class JournalFirst(CheckpointManager):
    """The checkpoint's event before its file."""

    def save(self, exp: str, item_id: str, round_: int, attempt: int, worker: str, *rest: Any) -> Generation:
        files, self.files = self.files, MemoryFiles(type(self.files.disk)())  # type: ignore[attr-defined]
        try:
            self.late = super().save(exp, item_id, round_, attempt, worker, *rest)
        finally:
            self.files = files
        return self.late

    def derive(self, exp: str, generation: Generation, facts: Mapping[str, Any]) -> None:
        self.files.write(self.paths.generation(exp, generation.file), generation.data)
        super().derive(exp, generation, facts)


@pytest.mark.parametrize(
    ("mistake", "complaint"),
    [
        ({"distributor": NoGate}, "wrote"),
        ({"distributor": NoTakeover}, "still waiting"),
        ({"checkpoints": JournalFirst}, "before it was on disk"),
    ],
    ids=["no gate", "no takeover", "journal before file"],
)
def test_a_known_mistake_is_caught(mistake: dict[str, Any], complaint: str) -> None:
    found: Sequence[str] = []
    for seed in range(PATIENCE):
        found = violations(run_schedule(seed, BRUTAL, **mistake))
        if found:
            break
    assert any(complaint in violation for violation in found)


def _run_all(seeds: range, profile: Profile) -> Any:
    from collections import Counter

    struck: Counter[str] = Counter()
    for seed in seeds:
        course = run_schedule(seed, profile)
        assert violations(course) == [], f"seed {seed}: {course.reports[-20:]}"
        struck += course.counts
    return struck

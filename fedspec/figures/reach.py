"""How many bytes a method sends until it is as good as FedAvg ends up: described, and not tested.

Whoever never gets there has no number, so that there is no mean, no interval and no t test: only how many runs do, and the
median over all of them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import median

import numpy as np

from fedspec.figures.comparisons import BASELINE
from fedspec.figures.families import Family
from fedspec.figures.runs import Run
from fedspec.figures.style import in_order

# Below what one test image changes, and above what the mean of equal accuracies differs from them by.
TOLERANCE = 1e-9


@dataclass(frozen=True, slots=True)
class Reach:
    """A method at one alpha, paired by seed with FedAvg, whose level is the mean accuracy of its last rounds with that seed.

    Attributes:
        reached: how many of the ``seeds`` runs have that accuracy in a round.
        median_bytes: sent and received by all clients up to that round; None where half of the runs or more never get there.
        median_ratio: to what FedAvg itself needed with that seed; None likewise.
    """

    alpha: float | None
    method: str
    reached: int
    seeds: int
    median_bytes: float | None
    median_ratio: float | None


def reach(family: Family) -> tuple[Reach, ...]:
    """Every method at every alpha, FedAvg first; empty where FedAvg or the count of bytes is missing."""
    methods = in_order({run.method for run in family.runs})
    found = (_reach(family, alpha, method) for alpha in family.alphas for method in methods)
    return tuple(one for one in found if one is not None)


def _reach(family: Family, alpha: float | None, method: str) -> Reach | None:
    theirs = {run.seed: run for run in family.cell(BASELINE, alpha) if family.is_finished(run)}
    ours = [run for run in family.cell(method, alpha) if run.seed in theirs and family.is_finished(run)]
    needed = [(_bytes_to(run, level := theirs[run.seed].late("accuracy")), _bytes_to(theirs[run.seed], level)) for run in ours]
    if not needed or not all(mine > 0 and its > 0 for mine, its in needed):
        return None
    return Reach(
        alpha=alpha,
        method=method,
        reached=sum(mine < math.inf for mine, _ in needed),
        seeds=len(needed),
        median_bytes=_finite(median(mine for mine, _ in needed)),
        median_ratio=_finite(median(mine / its for mine, its in needed)),
    )


def _bytes_to(run: Run, level: float) -> float:
    """The bytes up to the first round with that accuracy, infinitely many if there is none."""
    there = run.values("accuracy") >= level - TOLERANCE
    return float(np.cumsum(run.values("communication_bytes"))[there].min()) if there.any() else math.inf


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None

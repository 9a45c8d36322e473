"""What is compared with what in a family of runs, and what comes out of it, in numbers; the words for them are `summary`'s.

Every method is paired by seed with FedAvg, and each claim with its control: FedSpec with FedAvg's own product, re-balanced, and
the residual with FedEx, which folds the same into the base. All comparisons of a family are corrected together. Nobody is
picked for having won: whether the best mean is the best method is a question of its own.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from fedspec.figures.families import REFERENCES, Family
from fedspec.figures.inference import THRESHOLD, Paired, holm, mean_interval, paired
from fedspec.figures.runs import Run
from fedspec.figures.style import in_order
from fedspec.results import LAST_ROUNDS

BASELINE, CONTROL, CLAIM = "fedavg", "fedavg_rebalanced", "fedspec"
# Gaps below it, relative to the update, are those of float64.
ROUNDING = 1e-9
CONTROLS = ((CLAIM, CONTROL), ("fedspec_residual", "fedex"))


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run is judged by: the mean of a column's last rounds, in [0, 1]."""

    column: str
    label: str


ACCURACY = Outcome("accuracy", "test accuracy")
WORST_CLIENT = Outcome("worst_client_accuracy", "test accuracy of the worst client")
OUTCOMES = (ACCURACY, WORST_CLIENT)


@dataclass(frozen=True, slots=True)
class Level:
    """A method's outcome in [0, 1], the mean over ``seeds``; ``half_width`` of its 95 % t interval, None with one seed."""

    method: str
    mean: float
    half_width: float | None
    seeds: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Comparison:
    """``method`` minus ``baseline`` at one alpha, paired by seed, in percentage points.

    Attributes:
        relative_percent: the mean difference relative to the baseline's mean; None if that is 0.
        paired: the differences' mean, intervals and p value, of this comparison alone.
        adjusted_p: Holm's, over the ``among`` comparisons of the family that can be tested; None where this one cannot.
    """

    alpha: float | None
    method: str
    baseline: str
    relative_percent: float | None
    paired: Paired
    adjusted_p: float | None
    among: int

    @property
    def points(self) -> float:
        """The mean difference."""
        return self.paired.mean

    @property
    def significant(self) -> bool:
        """Whether it is, after the correction."""
        return self.adjusted_p is not None and self.adjusted_p < THRESHOLD

    @property
    def verdict(self) -> str:
        """``better``, ``worse`` or ``not significant``."""
        return ("better" if self.points > 0 else "worse") if self.significant else "not significant"


@dataclass(frozen=True, slots=True)
class Best:
    """The method with the best mean at one alpha, and whether it is better than each of its rivals.

    The intersection-union test: it is, if its paired t test against each single one says so, so that the largest p counts
    (R. L. Berger, *Technometrics* 1982); two-sided, since who leads was picked from the data (S. Gutmann and Z. Maymin, *Annals
    of Statistics* 1987).

    Attributes:
        closest: the rival with the largest p.
        points: what the best is ahead of it, by the seeds that both have.
        p: that p; 1 if the rival is ahead there, None where a rival cannot be tested.
        adjusted_p: Holm's, over the ``among`` alphas at which there is such a p.
    """

    method: str
    closest: str
    rivals: int
    points: float
    p: float | None
    adjusted_p: float | None
    among: int

    @property
    def significant(self) -> bool:
        """Whether it is better than each, after the correction."""
        return self.adjusted_p is not None and self.adjusted_p < THRESHOLD


@dataclass(frozen=True, slots=True)
class AlphaStudy:
    """One alpha of a family.

    Attributes:
        best: None where there is one method only.
        gap_ratio: FedSpec's Frobenius gap over the one that FedAvg would have left on the same updates, the mean over seeds;
            None where the rows do not have both.
    """

    alpha: float | None
    levels: tuple[Level, ...]
    comparisons: tuple[Comparison, ...]
    best: Best | None
    gap_ratio: float | None

    def level(self, method: str) -> Level | None:
        """The outcome of one method."""
        return next((level for level in self.levels if level.method == method), None)


@dataclass(frozen=True, slots=True)
class Study:
    """What one family's finished runs say about one outcome: those that reached the round that the furthest of them reached.

    Attributes:
        title: the family in words.
        first_round: of those that are averaged, ``last_round`` the last.
        references: the levels of what is trained without clients.
        unfinished: runs that are not counted, each with how far it is.
    """

    title: str
    outcome: Outcome
    first_round: int
    last_round: int
    alphas: tuple[AlphaStudy, ...]
    references: tuple[Level, ...]
    unfinished: tuple[str, ...]

    @property
    def comparisons(self) -> tuple[Comparison, ...]:
        """Those of all alphas."""
        return tuple(comparison for alpha in self.alphas for comparison in alpha.comparisons)

    @property
    def methods(self) -> list[str]:
        """The federated methods with a level, in the registry's order."""
        return in_order({level.method for alpha in self.alphas for level in alpha.levels})


# A method's outcome by seed.
Scores = Mapping[int, float]


def study(family: Family, outcome: Outcome = ACCURACY) -> Study:
    """Compare the methods of a family. Runs without a value of the outcome have no part in it."""
    alphas = {alpha: _scores(family, alpha, outcome) for alpha in family.alphas}
    alphas = {alpha: cells for alpha, cells in alphas.items() if cells}
    compared = _compared(alphas)
    leaders = _leaders(alphas)
    references = {method: _by_seed(family, family.cell(method, None), outcome) for method in REFERENCES}
    last = family.last_round
    return Study(
        title=family.key.title,
        outcome=outcome,
        first_round=max(last - LAST_ROUNDS + 1, min(run.rows[0].round for run in family.runs)),
        last_round=last,
        alphas=tuple(
            AlphaStudy(
                alpha=alpha,
                levels=tuple(_level(method, scores) for method, scores in cells.items()),
                comparisons=tuple(found for found in compared if found.alpha == alpha),
                best=leaders.get(alpha),
                gap_ratio=_gap_ratio([run for run in family.cell(CLAIM, alpha) if family.is_finished(run)]),
            )
            for alpha, cells in alphas.items()
        ),
        references=tuple(_level(method, scores) for method, scores in references.items() if scores),
        unfinished=tuple(
            f"{run.name} ({run.last_round} of {last} rounds)"
            for run in (*family.runs, *family.references)
            if not family.is_finished(run)
        ),
    )


def _scores(family: Family, alpha: float | None, outcome: Outcome) -> dict[str, Scores]:
    cells = {method: family.cell(method, alpha) for method in in_order({run.method for run in family.runs})}
    return {method: scores for method, runs in cells.items() if (scores := _by_seed(family, runs, outcome))}


def _by_seed(family: Family, runs: Sequence[Run], outcome: Outcome) -> Scores:
    values = {run.seed: run.late(outcome.column) for run in runs if family.is_finished(run)}
    return {seed: value for seed, value in sorted(values.items()) if math.isfinite(value)}


def _level(method: str, scores: Scores) -> Level:
    mean, half = mean_interval(list(scores.values()))
    return Level(method, float(mean), None if half is None else float(half), tuple(scores))


def _differences(ours: Scores, theirs: Scores) -> list[float]:
    """In points, of the seeds that both have."""
    return [100 * (value - theirs[seed]) for seed, value in ours.items() if seed in theirs]


def _compared(alphas: Mapping[float | None, Mapping[str, Scores]]) -> list[Comparison]:
    pairs = [
        (alpha, method, baseline)
        for alpha, cells in alphas.items()
        for method, baseline in (*((method, BASELINE) for method in cells if method != BASELINE), *CONTROLS)
        if _differences(cells.get(method, {}), cells.get(baseline, {}))
    ]
    differences = [_differences(alphas[alpha][method], alphas[alpha][baseline]) for alpha, method, baseline in pairs]
    among = sum(len(found) > 1 for found in differences)
    results = [paired(found, max(among, 1)) for found in differences]
    adjusted = _adjusted([result.p for result in results])
    return [
        Comparison(alpha, method, baseline, _relative(result.mean, alphas[alpha], method, baseline), result, p, among)
        for (alpha, method, baseline), result, p in zip(pairs, results, adjusted, strict=True)
    ]


def _relative(points: float, cells: Mapping[str, Scores], method: str, baseline: str) -> float | None:
    level = 100 * float(np.mean([value for seed, value in cells[baseline].items() if seed in cells[method]]))
    return 100 * points / level if level else None


def _leaders(alphas: Mapping[float | None, Mapping[str, Scores]]) -> dict[float | None, Best]:
    ahead = {alpha: leader(cells) for alpha, cells in alphas.items() if len(cells) > 1}
    adjusted = _adjusted([p for *_, p in ahead.values()])
    among = sum(p is not None for p in adjusted)
    return {
        alpha: Best(method, closest, len(alphas[alpha]) - 1, points, p, corrected, among)
        for (alpha, (method, closest, points, p)), corrected in zip(ahead.items(), adjusted, strict=True)
    }


def leader(cells: Mapping[str, Scores]) -> tuple[str, str, float, float | None]:
    """The method with the best mean of two or more, its closest rival, the points between them, and the p value (`Best`)."""
    best = max(cells, key=lambda method: float(np.mean(list(cells[method].values()))))
    tests: list[tuple[bool, float, str, float, float | None]] = []
    for rival in cells.keys() - {best}:
        differences = _differences(cells[best], cells[rival])
        result = paired(differences) if differences else Paired(math.nan, None, None, None, 0)
        p = 1.0 if result.p is not None and result.mean <= 0 else result.p
        tests.append((p is None, p or 0.0, rival, result.mean, p))
    *_, closest, points, p = max(tests)
    return best, closest, points, p


def _adjusted(p_values: Sequence[float | None]) -> list[float | None]:
    """Holm's, of those that there are."""
    known = iter(holm([p for p in p_values if p is not None]))
    return [None if p is None else next(known) for p in p_values]


def gap_over_fedavg(run: Run) -> float:
    """The run's gap in its last rounds over the one that FedAvg would have left on the same client updates.

    Runs of FedAvg see other updates, so that their gap is no match. NaN where FedAvg leaves none either (which it does where
    clients share a factor, as FFA-LoRA's), but for what the sums of floats leave.
    """
    ours, theirs, whole = (run.late(column) for column in ("frobenius_gap", "cf_gap_fedavg", "ideal_norm"))
    return ours / theirs if theirs > max(0.0, 0.0 if math.isnan(whole) else ROUNDING * whole) else math.nan


def _gap_ratio(runs: Sequence[Run]) -> float | None:
    ratios = [ratio for run in runs if math.isfinite(ratio := gap_over_fedavg(run))]
    return float(np.mean(ratios)) if ratios else None

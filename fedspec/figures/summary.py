"""What the results say, in numbers and in sentences, all of it computed from the rows and none of it louder than they are."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fedspec.figures.families import CENTRALIZED, Family, group
from fedspec.figures.intervals import mean_interval
from fedspec.figures.runs import Run, load_runs, runs_of
from fedspec.figures.style import in_order, label

if TYPE_CHECKING:
    import pandas as pd

BASELINE, CONTROL, CLAIM = "fedavg", "fedavg_rebalanced", "fedspec"
LAST_ROUNDS = 5
# In points: below what one test image can change in any test set here, and above what sums of floats differ by.
NO_VARIANCE = 1e-9


@dataclass(frozen=True, slots=True)
class Level:
    """A method's test accuracy in [0, 1]: mean of the last rounds, then over ``seeds``."""

    method: str
    accuracy: float
    seeds: tuple[int, ...]

    def words(self, *, with_seeds: bool) -> str:
        """``0.4046``, or ``0.4046 (3 seeds)``."""
        count = f" ({len(self.seeds)} seed{'' if len(self.seeds) == 1 else 's'})" if with_seeds else ""
        return f"{self.accuracy:.4f}{count}"


@dataclass(frozen=True, slots=True)
class Comparison:
    """``method`` minus ``baseline``, paired by seed.

    Attributes:
        points: mean difference in percentage points.
        relative_percent: the same, relative to the baseline's accuracy; None if that is 0.
        half_width: of the 95 % paired t interval in points, not corrected for the number of comparisons; None with one seed,
            and where the seeds differ by nothing at all, which says nothing about other seeds either.
    """

    method: str
    baseline: str
    points: float
    relative_percent: float | None
    half_width: float | None
    seeds: int

    @property
    def significant(self) -> bool:
        """Whether there is an interval and 0 is outside it."""
        return self.half_width is not None and abs(self.points) > self.half_width

    def sentence(self) -> str:
        """The comparison as one line, with its verdict."""
        relative = "" if self.relative_percent is None else f" ({self.relative_percent:+.2f} % relative)"
        text = f"{label(self.method)} - {label(self.baseline)}: {self.points:+.2f} points{relative}"
        if self.half_width is None:
            reason = "1 seed: no interval" if self.seeds == 1 else f"{self.seeds} seeds without variance: no interval"
            return f"{text}, {reason}, not significant"
        low, high = self.points - self.half_width, self.points + self.half_width
        verdict = (
            f"{label(self.method)} is {'better' if self.points > 0 else 'worse'}" if self.significant else "not significant"
        )
        return f"{text}, 95 % interval {low:+.2f} to {high:+.2f}, {self.seeds} seeds: {verdict}"


@dataclass(frozen=True, slots=True)
class AlphaSummary:
    """One alpha of a family.

    Attributes:
        gap_ratio: FedSpec's Frobenius gap over the one that FedAvg would have left on the same updates; None where the rows
            do not have both.
    """

    alpha: float | None
    levels: tuple[Level, ...]
    comparisons: tuple[Comparison, ...]
    gap_ratio: float | None

    def sentences(self) -> list[str]:
        """The levels in one line, then a line per comparison, and what the gap is and is not."""
        uneven = _uneven(self.levels)
        levels = ", ".join(f"{label(level.method)} {level.words(with_seeds=uneven)}" for level in self.levels)
        lines = [f"{'iid' if self.alpha is None else f'alpha {self.alpha!r}'}: {levels}"]
        lines += [f"  {comparison.sentence()}" for comparison in self.comparisons]
        if self.gap_ratio is not None:
            lines.append(
                f"  On the same updates {label(CLAIM)}'s Frobenius gap is {self.gap_ratio:.2f} times {label(BASELINE)}'s"
                " (a theorem says at most 1; it is not a result)"
            )
        return lines


@dataclass(frozen=True, slots=True)
class FamilySummary:
    """What one family's finished runs say: those that reached the round that the furthest of them reached."""

    title: str
    first_round: int
    last_round: int
    alphas: tuple[AlphaSummary, ...]
    centralized: Level | None
    unfinished: tuple[str, ...]

    def sentences(self) -> list[str]:
        """The summary as lines of plain text."""
        span = (
            f"round {self.last_round}"
            if self.first_round == self.last_round
            else (f"rounds {self.first_round} to {self.last_round}")
        )
        lines = [f"{self.title}: test accuracy, mean of {span}"]
        lines += [line for alpha in self.alphas for line in alpha.sentences()]
        if self.centralized is not None:
            uneven = _uneven([self.centralized, *(level for alpha in self.alphas for level in alpha.levels)])
            lines.append(f"{label(CENTRALIZED)}: {self.centralized.words(with_seeds=uneven)}")
        if self.unfinished:
            lines.append(f"Not counted, unfinished: {', '.join(self.unfinished)}")
        if (count := self.intervals) > 1:
            lines.append(f"Intervals are not corrected for the number of comparisons ({count}).")
        return lines

    @property
    def intervals(self) -> int:
        """How many comparisons have an interval: only those can be called significant by chance."""
        return sum(comparison.half_width is not None for alpha in self.alphas for comparison in alpha.comparisons)


def summarize(results: pd.DataFrame) -> tuple[FamilySummary, ...]:
    """Summarize results as `fedspec.results.load_results` loads them, a summary per family, the largest first."""
    return _summaries(runs_of(results))


def summarize_files(where: Path | Iterable[Path]) -> tuple[FamilySummary, ...]:
    """Summarize a folder of result CSVs, or some CSVs; damaged ones are left out, as `fedspec.figures.draw_all` says.

    Raises:
        SetupError: there are no results.
    """
    return _summaries(load_runs(where)[0])


def _summaries(runs: Iterable[Run]) -> tuple[FamilySummary, ...]:
    return tuple(_family(family) for family in group(runs).families)


def _family(family: Family) -> FamilySummary:
    last = max(run.last_round for run in family.runs)
    methods = in_order({run.method for run in family.runs})
    alphas = []
    for alpha in family.alphas:
        cells = {method: _finished(family.cell(method, alpha), last) for method in methods}
        if any(cells.values()):
            alphas.append(_alpha(alpha, {method: runs for method, runs in cells.items() if runs}))
    centralized = _finished(family.centralized, last)
    late = [run for run in (*family.runs, *family.centralized) if run.last_round < last]
    return FamilySummary(
        title=family.key.title,
        first_round=max(last - LAST_ROUNDS + 1, int(min(run.table["round"].iloc[0] for run in family.runs))),
        last_round=last,
        alphas=tuple(alphas),
        centralized=_level(centralized) if centralized else None,
        unfinished=tuple(f"{run.name} ({run.last_round} of {last} rounds)" for run in late),
    )


def _alpha(alpha: float | None, cells: dict[str, Sequence[Run]]) -> AlphaSummary:
    # The control beside the claim: how much of a gain comes from re-balancing, and how much exactness adds to that.
    pairs = [(method, BASELINE) for method in cells if method != BASELINE] + [(CLAIM, CONTROL)]
    found = [_compare(cells.get(method, ()), cells.get(baseline, ())) for method, baseline in pairs]
    return AlphaSummary(
        alpha=alpha,
        levels=tuple(_level(runs) for runs in cells.values()),
        comparisons=tuple(comparison for comparison in found if comparison is not None),
        gap_ratio=_gap_ratio(cells.get(CLAIM, ())),
    )


def _compare(runs: Sequence[Run], baseline: Sequence[Run]) -> Comparison | None:
    """Pair by seed; None where no seed is in both."""
    ours, theirs = ({run.seed: _late(run, "accuracy") for run in side} for side in (runs, baseline))
    seeds = sorted(ours.keys() & theirs.keys())
    if not seeds:
        return None
    mean, half = mean_interval([100 * (ours[seed] - theirs[seed]) for seed in seeds])
    level = 100 * float(np.mean([theirs[seed] for seed in seeds]))
    return Comparison(
        method=runs[0].method,
        baseline=baseline[0].method,
        points=float(mean),
        relative_percent=100 * float(mean) / level if level else None,
        half_width=None if half is None or half < NO_VARIANCE else float(half),
        seeds=len(seeds),
    )


def _gap_ratio(runs: Sequence[Run]) -> float | None:
    """The gap of these runs over FedAvg's on their own updates: runs of FedAvg see other updates, so their gap is no match."""
    pairs = [(_late(run, "frobenius_gap"), _late(run, "cf_gap_fedavg")) for run in runs]
    known = [pair for pair in pairs if np.isfinite(pair).all()]
    ours, theirs = (sum(side) for side in zip(*known, strict=True)) if known else (0.0, 0.0)
    return ours / theirs if theirs > 0 else None


def _uneven(levels: Iterable[Level]) -> bool:
    return len({level.seeds for level in levels}) > 1


def _finished(runs: Sequence[Run], last: int) -> tuple[Run, ...]:
    return tuple(run for run in runs if run.last_round >= last)


def _level(runs: Sequence[Run]) -> Level:
    seeds = tuple(sorted(run.seed for run in runs))
    return Level(runs[0].method, float(np.mean([_late(run, "accuracy") for run in runs])), seeds)


def _late(run: Run, column: str) -> float:
    """The mean of the run's last rounds: one round alone wobbles by more than methods differ."""
    return float(run.series(column).iloc[-LAST_ROUNDS:].mean())

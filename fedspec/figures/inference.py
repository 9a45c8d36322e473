"""What seeds tell of other seeds: means with t intervals, paired tests and Holm's correction, and no word of what is compared.

Figures, tables and sentences share it, so that none of them infers what another does not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

# An adjusted p below it is called significant; intervals have the level that goes with it.
THRESHOLD = 0.05
# In points: below what one test image can change in any test set here, and above what sums of floats differ by.
NO_VARIANCE = 1e-9


@dataclass(frozen=True, slots=True)
class Paired:
    """The mean of differences that are paired by seed, and what it says about other seeds.

    Attributes:
        mean: of the differences.
        half_width: of its 95 % t interval; None with one seed, and where the seeds differ by nothing at all, which says nothing
            about other seeds either.
        simultaneous: the half width with which all of ``comparisons`` intervals hold together in 95 % (Bonferroni).
        p: of the two-sided paired t test; None with one seed. Without any variance t is 0/0 or infinite: 1, so that nobody
            concludes from rounding.
        seeds: how many pairs.
    """

    mean: float
    half_width: float | None
    simultaneous: float | None
    p: float | None
    seeds: int


def mean_interval(values: ArrayLike, comparisons: int = 1) -> tuple[NDArray[np.float64], NDArray[np.float64] | None]:
    """The mean over seeds and half the width of its 95 % interval (Student, *Biometrika* 1908).

    Args:
        values: (seeds, ...) float, at least one seed.
        comparisons: how many intervals shall hold at once: each then has the level 1 - 0.05 / comparisons (Bonferroni).

    Returns:
        (...) mean and (...) half width, t(1 - 0.025 / comparisons, seeds - 1) * s / sqrt(seeds); None with a single seed, which
        says nothing about others. Without any variance the half width is 0.
    """
    # scipy.stats takes a second to import, for these few numbers.
    from scipy.special import stdtrit

    array = np.asarray(values, dtype=np.float64)
    seeds = array.shape[0]
    mean: NDArray[np.float64] = np.asarray(array.mean(axis=0))
    if seeds < 2:
        return mean, None
    t = float(stdtrit(seeds - 1, 1 - THRESHOLD / (2 * comparisons)))
    return mean, np.asarray(t * array.std(axis=0, ddof=1) / np.sqrt(seeds))


def paired(differences: Sequence[float], comparisons: int = 1) -> Paired:
    """What differences by seed say, one of ``comparisons`` that are looked at together; ``p`` is of this one alone."""
    from scipy.special import stdtr

    seeds = len(differences)
    mean, half = mean_interval(differences)
    if half is None:
        return Paired(float(mean), None, None, None, seeds)
    if half < NO_VARIANCE:
        return Paired(float(mean), None, None, 1.0, seeds)
    wide = mean_interval(differences, comparisons)[1]
    assert wide is not None
    t = float(mean) / (float(np.std(differences, ddof=1)) / np.sqrt(seeds))
    return Paired(float(mean), float(half), float(wide), 2 * float(stdtr(seeds - 1, -abs(t))), seeds)


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted p values: rejecting those below a level errs anywhere among them with at most that probability.

    Holm's step-down method (S. Holm, *Scandinavian Journal of Statistics* 1979), whatever the dependence between the tests:
    with p(1) <= ... <= p(m), the i-th becomes max over j <= i of min(1, (m - j + 1) p(j)).
    """
    order = sorted(range(len(p_values)), key=lambda place: p_values[place])
    adjusted = [1.0] * len(p_values)
    least = 0.0
    for rank, place in enumerate(order):
        least = max(least, min(1.0, (len(p_values) - rank) * p_values[place]))
        adjusted[place] = least
    return adjusted

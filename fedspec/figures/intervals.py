"""Means over seeds and their Student t intervals, the one piece of statistics that figures and summary share."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

LEVEL = 0.95


def mean_interval(values: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64] | None]:
    """The mean over seeds and half the width of its 95 % interval (Student, *Biometrika* 1908).

    Args:
        values: (seeds, ...) float, at least one seed.

    Returns:
        (...) mean and (...) half width, t(0.975, seeds - 1) * s / sqrt(seeds); None with a single seed, which says nothing
        about others. Without any variance the half width is 0.
    """
    # scipy.stats takes a second to import, for this one number.
    from scipy.special import stdtrit

    array = np.asarray(values, dtype=np.float64)
    seeds = array.shape[0]
    mean: NDArray[np.float64] = np.asarray(array.mean(axis=0))
    if seeds < 2:
        return mean, None
    t = float(stdtrit(seeds - 1, (1 + LEVEL) / 2))
    return mean, np.asarray(t * array.std(axis=0, ddof=1) / np.sqrt(seeds))

"""Test accuracy against communication rounds."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fedspec.figures.curves import draw_curves
from fedspec.figures.families import Family

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def draw(family: Family) -> Figure | None:
    """Draw the family's test accuracy in per cent, on one scale for all alphas."""
    return draw_curves(family, "accuracy", "Test accuracy (%)", scale=100.0, limits=_within_per_cent, share_y=True)


def _within_per_cent(low: float, high: float) -> tuple[float, float]:
    # An interval may reach beyond what an accuracy can be.
    return max(low, 0.0), min(high, 100.0)

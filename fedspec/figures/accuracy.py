"""Test accuracy against communication rounds."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fedspec.figures.curves import draw_curves, within_per_cent
from fedspec.figures.families import Family

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def draw(family: Family) -> Figure:
    """Draw the family's test accuracy in per cent, on one scale for all alphas."""
    return draw_curves(family, "accuracy", "Test accuracy (%)", scale=100.0, limits=within_per_cent, share_y=True)

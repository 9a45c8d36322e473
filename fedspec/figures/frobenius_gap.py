"""The Frobenius gap between the ideal and the installed update against communication rounds."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fedspec.figures.curves import draw_curves, from_zero
from fedspec.figures.families import Family

if TYPE_CHECKING:
    from matplotlib.figure import Figure

YLABEL = r"Frobenius gap $\Vert\Delta W^{*} - \Delta W\Vert_F$"


def draw(family: Family) -> Figure:
    """Draw the family's gaps, each alpha on its own scale: they differ by more than the methods do."""
    return draw_curves(family, "frobenius_gap", YLABEL, limits=from_zero, share_y=False)

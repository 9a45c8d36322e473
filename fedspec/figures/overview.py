"""Accuracy, gap, rank and bytes of one alpha in a figure of two by two panels, as one looks at a run that has just ended."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fedspec.config import FederatedConfig
from fedspec.figures.accuracy_by_bytes import unit_of
from fedspec.figures.curves import curves, draw_lines, from_zero, interval_entry, value_axes, within_per_cent
from fedspec.figures.families import Family
from fedspec.figures.frobenius_gap import YLABEL
from fedspec.figures.panels import NothingToDraw, legend, line_entries, panel_title, round_axis, rows_of_panels
from fedspec.figures.style import styles

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def draw(family: Family) -> Figure:
    """Draw the alpha that experiments have by default if it is there, else the middle one.

    Raises:
        NothingToDraw: there is no federated run.
    """
    alphas = family.alphas
    alpha = FederatedConfig().alpha if FederatedConfig().alpha in alphas else alphas[(len(alphas) - 1) // 2]
    sent = curves(family, "communication_bytes", alpha, total=True)
    unit, unit_name = unit_of(max((float(line.mean[-1]) for line in sent), default=0.0))
    panels = (
        (curves(family, "accuracy", alpha), "Test accuracy (%)", 100.0, within_per_cent),
        (curves(family, "frobenius_gap", alpha), YLABEL, 1.0, from_zero),
        ([line for line in curves(family, "rank", alpha) if not line.is_reference], "Rank in use", 1.0, from_zero),
        ([line for line in sent if not line.is_reference], f"Sent and received ({unit_name})", 1 / unit, from_zero),
    )
    if all(line.is_reference for lines, *_ in panels for line in lines):
        raise NothingToDraw("no federated run here has values for it")
    looks = styles({line.method for lines, *_ in panels for line in lines})
    figure, grid = rows_of_panels(2, 2, len(looks))
    for axes, (lines, ylabel, scale, limits) in zip((axes for row in grid for axes in row), panels, strict=True):
        draw_lines(axes, lines, looks, scale)
        round_axis(axes, max((line.rounds[-1] for line in lines), default=1))
        value_axes([axes], limits)
        axes.set_ylabel(ylabel)
    for axes in grid[0]:
        axes.set_xlabel("")
    title = panel_title(alpha, (line.seeds for line in panels[0][0] if not line.is_reference))
    for axes in grid[1]:
        axes.set_xlabel(f"Communication round, {title}")
    legend(figure, [*line_entries(looks), *interval_entry(looks, [lines for lines, *_ in panels if lines])])
    return figure

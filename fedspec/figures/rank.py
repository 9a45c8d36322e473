"""Rank and spectrum: the rank in use, the effective rank of the ideal update, and what lies beyond the rank, over rounds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from fedspec.figures.curves import Curve, curves, draw_lines, from_zero, interval_entry, value_axes
from fedspec.figures.families import Family
from fedspec.figures.panels import (
    Entry,
    NothingToDraw,
    is_leftmost,
    legend,
    line_entries,
    panel_title,
    round_axis,
    rows_of_panels,
)
from fedspec.figures.style import LineStyle, styles

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


class Quantity(NamedTuple):
    """A row of panels: a column of the results, its axis, and the factor from the column's unit to the axis's."""

    column: str
    ylabel: str
    scale: float


QUANTITIES = (
    Quantity("effective_rank", "Effective rank", 1.0),
    Quantity("tail_nuclear", "Tail, nuclear norm (%)", 100.0),
    Quantity("tail_energy_sq", "Tail energy (% of movement)", 100.0),
)
HEIGHT_IN, TICKS = 1.6, 5
RANK_COLOR, RANK_WIDTH = "#555555", 0.8


def draw(family: Family) -> Figure:
    """Draw them in three rows, a column of panels per alpha: exp of the entropy of the singular values' shares (with the rank
    in use as a thin line), the share of the nuclear norm beyond the rank, and the squares beyond it over the round's movement.

    Raises:
        NothingToDraw: no run has a spectrum.
    """
    found = {(part, alpha): _federated(family, part.column, alpha) for part in QUANTITIES for alpha in family.alphas}
    alphas = [alpha for alpha in family.alphas if any(found[part, alpha] for part in QUANTITIES)]
    if not alphas:
        raise NothingToDraw("no run here has a spectrum")
    looks = styles({line.method for lines in found.values() for line in lines})
    figure, grid = rows_of_panels(len(QUANTITIES), len(alphas), len(looks), height=HEIGHT_IN, share_y="row")
    for row, part in zip(grid, QUANTITIES, strict=True):
        for axes, alpha in zip(row, alphas, strict=True):
            lines = found[part, alpha]
            draw_lines(axes, lines, looks, part.scale)
            if part is QUANTITIES[0]:
                draw_ranks(axes, _federated(family, "rank", alpha), looks)
                axes.set_title(panel_title(alpha, (line.seeds for line in lines)))
            round_axis(axes, max((line.rounds[-1] for line in lines), default=1))
            if row is not grid[-1]:
                axes.set_xlabel("")
            if is_leftmost(axes):
                axes.set_ylabel(part.ylabel)
        value_axes(row, _from_one if part is QUANTITIES[0] else from_zero, TICKS)
    panels = [found[part, alpha] for part in QUANTITIES for alpha in alphas if found[part, alpha]]
    legend(figure, [*line_entries(looks), rank_entry(), *interval_entry(looks, panels)])
    return figure


def draw_ranks(axes: Axes, ranks: Sequence[Curve], looks: Mapping[str, LineStyle]) -> None:
    """The ranks in use as thin steps: one grey line where all methods have the same, else each in its method's colour."""
    same = len({tuple(line.mean) for line in ranks}) == 1
    for line in ranks[:1] if same else ranks:
        color = RANK_COLOR if same else looks[line.method].color
        axes.step(line.rounds, line.mean, where="mid", color=color, linewidth=RANK_WIDTH, zorder=2.2)


def _from_one(low: float, high: float) -> tuple[float, float]:
    # No matrix but zero has less.
    return min(low, 1.0), high


def rank_entry() -> Entry:
    """What the legend says of `draw_ranks`."""
    from matplotlib.lines import Line2D

    return Line2D([], [], color=RANK_COLOR, linewidth=RANK_WIDTH), "rank in use"


def _federated(family: Family, column: str, alpha: float | None) -> list[Curve]:
    return [line for line in curves(family, column, alpha) if not line.is_reference]

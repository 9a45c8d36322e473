"""The Frobenius gap of the last rounds by alpha: as it is, relative to the round's movement, and against FedAvg's."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from fedspec.figures.comparisons import gap_over_fedavg
from fedspec.figures.curves import from_zero, value_axes
from fedspec.figures.families import Family
from fedspec.figures.inference import mean_interval
from fedspec.figures.panels import NothingToDraw, aside, legend, marker_entries, sheet
from fedspec.figures.runs import Run
from fedspec.figures.style import LineStyle, in_order, styles

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_STEP, ROOM = 9.0, 34.0


class Measure(NamedTuple):
    """A panel: its axis, and a run's value, NaN where it has none."""

    ylabel: str
    of: Callable[[Run], float]


MEASURES = (
    Measure("Frobenius gap", lambda run: run.late("frobenius_gap")),
    Measure("Gap / the round's movement", lambda run: run.late("gap_over_move")),
    Measure("Gap / FedAvg's on these updates", gap_over_fedavg),
)


def draw(family: Family) -> Figure:
    """Draw the means over seeds with their 95 % intervals, a panel per measure; all axes begin at 0, since ratios are read.

    Raises:
        NothingToDraw: no federated run has a gap.
    """
    methods = in_order({run.method for run in family.runs})
    values = {
        (measure, method, alpha): found
        for measure in MEASURES
        for method in methods
        for alpha in family.alphas
        if (found := _values(family, measure, method, alpha))
    }
    measures = [measure for measure in MEASURES if any(key[0] is measure for key in values)]
    if not measures:
        raise NothingToDraw("no federated run here has a gap")
    looks = styles({method for _, method, _ in values})
    figure, grid = sheet(len(measures), len(looks))
    for axes, measure in zip(grid, measures, strict=True):
        for order, (method, look) in enumerate(looks.items()):
            cells = [(place, values.get((measure, method, alpha))) for place, alpha in enumerate(family.alphas)]
            drawn = _draw_method(axes, [(place, cell) for place, cell in cells if cell], look)
            aside(axes, drawn, order, len(looks), min(MOST_STEP, ROOM / len(looks)))
        axes.set_ylabel(measure.ylabel)
        axes.set_xlabel(r"Dirichlet $\alpha$")
        axes.set_xticks(range(len(family.alphas)), ["iid" if alpha is None else repr(alpha) for alpha in family.alphas])
        axes.set_xlim(-0.6, len(family.alphas) - 0.4)
    value_axes(grid, from_zero)
    legend(figure, marker_entries(looks))
    return figure


def _values(family: Family, measure: Measure, method: str, alpha: float | None) -> list[float]:
    values = [measure.of(run) for run in family.cell(method, alpha) if family.is_finished(run)]
    return [value for value in values if math.isfinite(value)]


def _draw_method(axes: Axes, cells: list[tuple[int, list[float]]], look: LineStyle) -> list[Any]:
    artists: list[Any] = []
    for place, values in cells:
        mean, half = mean_interval(values)
        shape = {**look.line(), "linestyle": ""}
        artists += axes.errorbar(place, float(mean), half, elinewidth=0.9, **shape).get_children()
    return artists

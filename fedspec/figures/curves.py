"""Means over seeds as lines: of a column against rounds, a panel per alpha, a line and a band per method."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fedspec.figures.families import REFERENCES, Family
from fedspec.figures.inference import mean_interval
from fedspec.figures.panels import (
    BAND_ALPHA,
    MANY_LINES,
    Entry,
    NothingToDraw,
    band_entry,
    bar_entry,
    is_leftmost,
    legend,
    line_entries,
    panel_title,
    round_axis,
    sheet,
)
from fedspec.figures.runs import Run
from fedspec.figures.style import LineStyle, in_order, styles

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MARKERS_A_LINE = 7
# Room between what is drawn and the ends of an axis that begins at 0, as a share of the axis.
AT_ZERO = 0.02
# Between the bars at the end of many lines, as a share of the rounds.
BAR_STEP = 0.018


@dataclass(frozen=True, slots=True)
class Curve:
    """A method's mean over seeds. ``rounds``, ``mean``, ``half_width``: (rounds,); no half width with a single seed."""

    method: str
    rounds: NDArray[np.int64]
    mean: NDArray[np.float64]
    half_width: NDArray[np.float64] | None
    seeds: int

    @property
    def is_reference(self) -> bool:
        """Whether it was trained without clients."""
        return self.method in REFERENCES


def curve(runs: Sequence[Run], column: str, *, total: bool = False) -> Curve | None:
    """The mean of ``column`` over the runs that got as far as the furthest, or None where it has no values.

    An unfinished run is left out: with it the mean would jump in the round after its last.

    Args:
        total: of the column's sum over the rounds so far.
    """
    series = [(run.rounds[seen], values[seen]) for run in runs if (seen := ~np.isnan(values := run.values(column))).any()]
    if not series:
        return None
    furthest = max(rounds[-1] for rounds, _ in series)
    finished = [(rounds, np.cumsum(values) if total else values) for rounds, values in series if rounds[-1] == furthest]
    common = reduce(np.intersect1d, [rounds for rounds, _ in finished])
    mean, half_width = mean_interval(np.array([values[np.isin(rounds, common)] for rounds, values in finished]))
    return Curve(runs[0].method, common, mean, half_width, len(finished))


def curves(family: Family, column: str, alpha: float | None, *, total: bool = False) -> list[Curve]:
    """The lines of one panel in drawing order, references last."""
    methods = in_order({run.method for run in (*family.runs, *family.references)})
    cells = [family.cell(method, alpha) for method in methods]
    return [found for cell in cells if cell and (found := curve(cell, column, total=total)) is not None]


def draw_curves(
    family: Family,
    column: str,
    ylabel: str,
    *,
    scale: float = 1.0,
    limits: Callable[[float, float], tuple[float, float]],
    share_y: bool,
) -> Figure:
    """Draw ``column`` times ``scale`` against rounds.

    Args:
        family: the runs to draw.
        column: a column of `fedspec.results`.
        ylabel: what it is, with its unit.
        scale: from the column's unit to the label's.
        limits: from the lowest and the highest value drawn, with a margin, to the ends of the y axis.
        share_y: whether the panels are read against one another.

    Raises:
        NothingToDraw: no federated run has values.
    """
    panels = {alpha: curves(family, column, alpha) for alpha in family.alphas}
    panels = {alpha: lines for alpha, lines in panels.items() if not all(line.is_reference for line in lines)}
    if not panels:
        raise NothingToDraw("no federated run here has values for it")
    looks = styles({line.method for lines in panels.values() for line in lines})
    figure, grid = sheet(len(panels), len(looks), share_y=share_y)
    for axes, (alpha, lines) in zip(grid, panels.items(), strict=True):
        draw_lines(axes, lines, looks, scale)
        axes.set_title(panel_title(alpha, (line.seeds for line in lines if not line.is_reference)))
        round_axis(axes, max(line.rounds[-1] for line in lines))
        if is_leftmost(axes):
            axes.set_ylabel(ylabel)
    value_axes(grid, limits)
    legend(figure, [*line_entries(looks), *interval_entry(looks, panels.values())])
    return figure


def value_axes(panels: Iterable[Axes], limits: Callable[[float, float], tuple[float, float]], ticks: int = 8) -> None:
    """Y axes with at most so many round ``ticks``; ``limits``: as in `draw_curves`.

    After everything is drawn in all of them: panels that share an axis have the ends of the first one that is given ends.
    """
    from matplotlib.ticker import MaxNLocator

    for axes, (low, high) in [(axes, axes.get_ylim()) for axes in panels]:
        axes.yaxis.set_major_locator(MaxNLocator(nbins=ticks, steps=[1, 2, 5, 10]))
        axes.set_ylim(*limits(low, high))


def interval_entry(looks: Mapping[str, LineStyle], panels: Collection[Sequence[Curve]]) -> list[Entry]:
    """What the legend says of the intervals in ``panels``."""
    methods = {line.method for lines in panels for line in lines if line.half_width is not None}
    seen = [look for method, look in looks.items() if method in methods]
    has_bands, has_bars = ({len(lines) > MANY_LINES for lines in panels} >= {many} for many in (False, True))
    bands = band_entry(seen) if has_bands else []
    return [*bands, *(bar_entry(seen, "95 % interval, last round") if has_bars else [])]


def draw_lines(axes: Axes, lines: Sequence[Curve], looks: Mapping[str, LineStyle], scale: float) -> None:
    """Curves times ``scale`` with their bands; of many the intervals of the last round, side by side at the end."""
    for order, line in enumerate(lines):
        draw_line(axes, line, looks[line.method], scale, order, band=len(lines) <= MANY_LINES)
    if len(lines) > MANY_LINES:
        _bars_at_the_end(axes, lines, looks, scale)


def _bars_at_the_end(axes: Axes, lines: Sequence[Curve], looks: Mapping[str, LineStyle], scale: float) -> None:
    first, last = (edge(line.rounds[place] for line in lines) for edge, place in ((min, 0), (max, -1)))
    step = BAR_STEP * max(1, last - first)
    ends = [(line, 0.0 if line.half_width is None else float(line.half_width[-1])) for line in lines]
    for place, (line, half) in enumerate(ends if any(half for _, half in ends) else []):
        axes.errorbar(
            last + (place + 1.5) * step, line.mean[-1] * scale, half * scale, color=looks[line.method].color, elinewidth=1.2
        )


def draw_line(
    axes: Axes,
    line: Curve,
    look: LineStyle,
    scale: float,
    order: int,
    *,
    band: bool = True,
    x: NDArray[np.float64] | None = None,
) -> None:
    """A curve times ``scale``, the ``order``-th of its panel; ``x``: (rounds,), the rounds by default."""
    place = line.rounds if x is None else x
    step = max(1, math.ceil(len(place) / MARKERS_A_LINE))
    # Lines that lie on one another show their markers in turn.
    marks = (order % step, step) if len(place) > step else None
    mean = line.mean * scale
    zorder = 2.0 if line.is_reference else 3.0 + order
    if len(mean) == 1 and line.is_reference:
        level_line(axes, float(mean[0]), look)
        return
    axes.plot(place, mean, markevery=marks, zorder=zorder, **look.line())
    if band and line.half_width is not None:
        half = line.half_width * scale
        axes.fill_between(place, mean - half, mean + half, color=look.color, alpha=BAND_ALPHA, linewidth=0, zorder=1.5)


def level_line(axes: Axes, value: float, look: LineStyle) -> None:
    """A level that does not depend on x."""
    axes.axhline(value, color=look.color, linestyle=(0, look.dashes), zorder=2.0)


def within_per_cent(low: float, high: float) -> tuple[float, float]:
    """The ends of an axis of accuracies in per cent: an interval may reach beyond what an accuracy can be."""
    return max(low, 0.0), min(high, 100.0)


def from_zero(low: float, high: float) -> tuple[float, float]:
    """The ends of an axis of what is read as a ratio: one that starts elsewhere would exaggerate."""
    # A line at 0 keeps its width, as exact methods have no gap at all; and so does a point at the upper end.
    high = max(high, 1e-12)
    return -AT_ZERO * high, (1 + AT_ZERO) * high

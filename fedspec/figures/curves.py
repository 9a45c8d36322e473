"""Figures of one column against rounds: a panel per alpha, a line and a band per method."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fedspec.figures.families import REFERENCES, Family
from fedspec.figures.inference import mean_interval
from fedspec.figures.runs import Run
from fedspec.figures.style import COLUMN_IN, PAGE_IN, PANEL_HEIGHT_IN, LineStyle, in_order, label, styles

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MARKERS_A_LINE = 7
BAND_ALPHA = 0.18


@dataclass(frozen=True, slots=True)
class Curve:
    """A method's mean over seeds. ``rounds``, ``mean``, ``half_width``: (rounds,); no half width with a single seed."""

    method: str
    rounds: NDArray[np.int64]
    mean: NDArray[np.float64]
    half_width: NDArray[np.float64] | None
    seeds: int


def curve(runs: Sequence[Run], column: str) -> Curve | None:
    """The mean of ``column`` over the runs that got as far as the furthest, or None where it has no values.

    An unfinished run is left out: with it the mean would jump in the round after its last.
    """
    import pandas as pd

    series = [run.series(column).dropna() for run in runs]
    furthest = max((values.index[-1] for values in series if len(values)), default=None)
    if furthest is None:
        return None
    finished = [values for values in series if len(values) and values.index[-1] == furthest]
    table = pd.concat(finished, axis=1, join="inner").sort_index()
    mean, half_width = mean_interval(table.to_numpy(dtype=np.float64).T)
    return Curve(runs[0].method, table.index.to_numpy(), mean, half_width, len(finished))


def curves(family: Family, column: str, alpha: float | None) -> list[Curve]:
    """The lines of one panel in drawing order, centralized last."""
    methods = in_order({run.method for run in family.runs})
    cells = [*(family.cell(method, alpha) for method in methods), *(family.cell(method, alpha) for method in REFERENCES)]
    return [found for cell in cells if cell and (found := curve(cell, column)) is not None]


def draw_curves(
    family: Family,
    column: str,
    ylabel: str,
    *,
    scale: float = 1.0,
    limits: Callable[[float, float], tuple[float, float]],
    share_y: bool,
) -> Figure | None:
    """Draw ``column`` times ``scale`` against rounds, or nothing where no federated run has values.

    Args:
        family: the runs to draw.
        column: a column of `fedspec.results`.
        ylabel: what it is, with its unit.
        scale: from the column's unit to the label's.
        limits: from the lowest and the highest value drawn, with a margin, to the ends of the y axis.
        share_y: whether the panels are read against one another.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    panels = {alpha: curves(family, column, alpha) for alpha in family.alphas}
    panels = {alpha: lines for alpha, lines in panels.items() if any(line.method not in REFERENCES for line in lines)}
    if not panels:
        return None
    columns = {1: 1, 2: 2, 4: 2}.get(len(panels), 3)
    rows = math.ceil(len(panels) / columns)
    figure = Figure(figsize=(COLUMN_IN if columns == 1 else PAGE_IN, PANEL_HEIGHT_IN * rows))
    FigureCanvasAgg(figure)
    grid = figure.subplots(rows, columns, squeeze=False, sharey="all" if share_y else False).ravel()
    for spare in grid[len(panels) :]:
        spare.remove()
    looks = styles({line.method for lines in panels.values() for line in lines})
    for place, (axes, (alpha, lines)) in enumerate(zip(grid, panels.items(), strict=False)):
        for order, line in enumerate(lines):
            _draw(axes, line, looks[line.method], scale, order)
        axes.set_title(_panel_title(alpha, lines))
        axes.set_xlabel("Communication round")
        axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True, min_n_ticks=1))
        axes.yaxis.set_major_locator(MaxNLocator(nbins=8, steps=[1, 2, 5, 10]))
        if not share_y or place % columns == 0:
            axes.set_ylabel(ylabel if place % columns == 0 else "")
        low, high = axes.get_ylim()
        axes.set_ylim(*limits(low, high))
    banded = {line.method for lines in panels.values() for line in lines if line.half_width is not None}
    _legend(figure, looks, [look for method, look in looks.items() if method in banded])
    return figure


def _draw(axes: Axes, line: Curve, look: LineStyle, scale: float, order: int) -> None:
    step = max(1, math.ceil(len(line.rounds) / MARKERS_A_LINE))
    # Lines that lie on one another show their markers in turn.
    marks = (order % step, step) if len(line.rounds) > step else None
    mean = line.mean * scale
    zorder = 2.0 if line.method in REFERENCES else 3.0 + order
    if len(mean) == 1 and line.method in REFERENCES:
        axes.axhline(float(mean[0]), color=look.color, linestyle=(0, look.dashes), zorder=zorder)
        return
    axes.plot(line.rounds, mean, markevery=marks, zorder=zorder, **look.line())
    if line.half_width is not None:
        half = line.half_width * scale
        axes.fill_between(line.rounds, mean - half, mean + half, color=look.color, alpha=BAND_ALPHA, linewidth=0, zorder=1.5)


def _panel_title(alpha: float | None, lines: Sequence[Curve]) -> str:
    """``alpha = 0.5 (3 seeds)``; centralized runs are no part of the count."""
    seeds = sorted({line.seeds for line in lines if line.method not in REFERENCES})
    count = str(seeds[0]) if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]}"
    name = "iid" if alpha is None else rf"$\alpha$ = {alpha!r}"
    return f"{name} ({count} seed{'' if seeds == [1] else 's'})"


def _legend(figure: Figure, looks: dict[str, LineStyle], banded: Sequence[LineStyle]) -> None:
    """One legend above all panels, in as few rows as fit, so that it never lies on a line.

    The interval has the tints of all ``banded`` lines, side by side: one tint would be read as one line's.
    """
    from matplotlib.legend_handler import HandlerTuple
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    labels = [textwrap.fill(label(method), 40) for method in looks]
    handles: list[Any] = [Line2D([], [], **look.line()) for look in looks.values()]
    if banded:
        labels.append("95 % interval")
        handles.append(tuple(Patch(facecolor=look.color, alpha=BAND_ALPHA, linewidth=0) for look in banded))
    for rows in range(1, len(handles) + 1):
        legend = figure.legend(
            handles,
            labels,
            handler_map={tuple: HandlerTuple(ndivide=None, pad=0)},
            loc="outside upper center",
            ncols=math.ceil(len(handles) / rows),
        )
        extent = legend.get_window_extent()
        if extent.width <= figure.bbox.width or rows == len(handles):
            break
        legend.remove()
    # The panels keep their height, however many methods there are.
    width, height = figure.get_size_inches()
    figure.set_size_inches(width, height + extent.height / figure.dpi)

"""Validation accuracy against learning rate, a line per method: whether each was tuned, and how much that matters."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

import numpy as np

from fedspec.figures.curves import value_axes, within_per_cent
from fedspec.figures.families import REFERENCES, Family, is_search
from fedspec.figures.inference import mean_interval
from fedspec.figures.panels import NothingToDraw, aside, is_leftmost, legend, line_entries, panel_title, sheet
from fedspec.figures.runs import Run
from fedspec.figures.style import LineStyle, in_order, styles

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

RING = 8.5
# Between two methods at one rate, in points, and for all of them.
MOST_STEP, ROOM = 3.5, 28.0
# Runs of one method at one alpha by learning rate.
Sweep = dict[float, list[Run]]


def draw(family: Family) -> Figure:
    """Draw the mean of the last rounds' validation accuracy with its 95 % interval over seeds, a panel per alpha.

    A ring marks the rate that the family's other figures show. The test part is not looked at: no rate is chosen on it.

    Raises:
        NothingToDraw: no method has runs with several learning rates, or none has a validation accuracy.
    """
    panels = {alpha: _sweeps(family, alpha) for alpha in family.alphas}
    panels = {alpha: sweeps for alpha, sweeps in panels.items() if any(len(sweep) > 1 for sweep in sweeps.values())}
    if not panels:
        raise NothingToDraw("no method here has runs with several learning rates and a validation accuracy")
    looks = styles({method for sweeps in panels.values() for method in sweeps})
    shown = {run.method: float(run.first("lr")) for run in (*family.runs, *family.references)}
    figure, grid = sheet(len(panels), len(looks), share_x=True, share_y=True)
    for axes, (alpha, sweeps) in zip(grid, panels.items(), strict=True):
        axes.margins(x=0.08)
        for order, (method, sweep) in enumerate(sweeps.items()):
            drawn = _draw_method(axes, sweep, looks[method], shown.get(method))
            aside(axes, drawn, order, len(sweeps), min(MOST_STEP, ROOM / len(sweeps)))
        axes.set_title(panel_title(alpha, (len(runs) for sweep in sweeps.values() for runs in sweep.values())))
        axes.set_xlabel("Learning rate")
        _rates_axis(axes, sorted({rate for sweep in sweeps.values() for rate in sweep}))
        if is_leftmost(axes):
            axes.set_ylabel("Validation accuracy (%)")
    value_axes(grid, within_per_cent)
    legend(figure, [*line_entries(looks), (_ring("#555555"), "the rate that other figures show")])
    return figure


def _sweeps(family: Family, alpha: float | None) -> dict[str, Sweep]:
    """The finished runs with a validation accuracy, by method; of a reference those with any alpha, since it has none."""
    sweeps: dict[str, Sweep] = defaultdict(lambda: defaultdict(list))
    for run in (*family.runs, *family.references, *family.swept):
        here = run.method in REFERENCES or run.alpha == alpha
        if here and family.is_finished(run) and np.isfinite(run.late("validation_accuracy")):
            sweeps[run.method][float(run.first("lr"))].append(run)
    for method, sweep in sweeps.items():
        # Where there was a search, the rate that it chose has more runs than the others, on seeds of their own.
        if any(is_search(run) for runs in sweep.values() for run in runs):
            own = {rate: [run for run in runs if is_search(run)] for rate, runs in sweep.items()}
            sweeps[method] = {rate: runs for rate, runs in own.items() if runs}
    # A reference with a single rate is a level and no sweep.
    return {method: sweeps[method] for method in in_order(sweeps) if method not in REFERENCES or len(sweeps[method]) > 1}


def _draw_method(axes: Axes, sweep: Sweep, look: LineStyle, shown: float | None) -> list[Artist]:
    rates = sorted(sweep)
    cells = [mean_interval([100 * run.late("validation_accuracy") for run in sweep[rate]]) for rate in rates]
    means = [float(mean) for mean, _ in cells]
    halves = [0.0 if half is None else float(half) for _, half in cells]
    artists = axes.errorbar(rates, means, halves, elinewidth=0.8, **look.line()).get_children()
    if shown in rates:
        artists += axes.plot([shown], [means[rates.index(shown)]], **{**_RING, "color": look.color}, zorder=2.5)
    return artists


def _rates_axis(axes: Axes, rates: list[float]) -> None:
    """Logarithmic, with the rates themselves as ticks where they have room."""
    from matplotlib.ticker import FixedLocator, NullLocator

    axes.set_xscale("log")
    axes.xaxis.set_major_locator(FixedLocator(rates))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(lambda rate, _: f"{rate:g}")


_RING: dict[str, Any] = {"marker": "o", "markersize": RING, "markerfacecolor": "none", "markeredgewidth": 0.8, "linestyle": ""}


def _ring(color: str) -> Any:
    from matplotlib.lines import Line2D

    return Line2D([], [], **_RING, color=color)

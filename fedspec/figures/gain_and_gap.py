"""Whether a smaller gap makes a better model: the gain in test accuracy against the reduction of the Frobenius gap.

Each point is a run. Its gain is over FedAvg's run with the same alpha and seed; its reduction is measured on its own client
updates, against the gap that FedAvg would have left on them, so that it says what the method does and not where it went.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fedspec.figures.comparisons import BASELINE, gap_over_fedavg
from fedspec.figures.families import Family
from fedspec.figures.inference import mean_interval
from fedspec.figures.panels import NothingToDraw, aside, is_leftmost, legend, marker_entries, panel_title, sheet
from fedspec.figures.style import LineStyle, in_order, styles

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

RUN_ALPHA = 0.55
# Reductions in per cent that are drawn as one; between two methods there in points, and for all of them; and the room that
# this takes at the ends of the axis, as a share of what is drawn.
ALIKE, MOST_STEP, ROOM, MARGIN = 1e-6, 8.0, 32.0, 0.16
# A gap that a method widens can be any number of times as wide: what is below minus this many per cent lies on a logarithmic
# scale, if anything is that far below it.
WHOLE, FAR = 100.0, 2.0


def draw(family: Family) -> Figure:
    """Draw gains in points against reductions in per cent, a panel per alpha on one scale; means with their 95 % intervals.

    Raises:
        NothingToDraw: no run has both, and a run of FedAvg to hold against.
    """
    methods = [method for method in in_order({run.method for run in family.runs}) if method != BASELINE]
    panels = {
        alpha: {method: found for method in methods if len(found := _points(family, method, alpha))} for alpha in family.alphas
    }
    panels = {alpha: points for alpha, points in panels.items() if points}
    if not panels:
        raise NothingToDraw("no run here has a gap on the same updates as FedAvg's and a run of FedAvg with its alpha and seed")
    looks = styles({method for points in panels.values() for method in points})
    figure, grid = sheet(len(panels), len(looks), share_x=True, share_y=True)
    for axes, (alpha, points) in zip(grid, panels.items(), strict=True):
        axes.margins(x=MARGIN)
        axes.axhline(0, color="black", linewidth=0.6, zorder=1.5)
        axes.axvline(0, color="black", linewidth=0.6, zorder=1.5)
        for method, cloud in points.items():
            # Exact methods all have a reduction of 100: side by side, around it.
            alike = [other for other, its in points.items() if abs(its[:, 0].mean() - cloud[:, 0].mean()) < ALIKE]
            aside(
                axes,
                _draw_method(axes, cloud, looks[method]),
                alike.index(method),
                len(alike),
                min(MOST_STEP, ROOM / len(alike)),
            )
        axes.set_title(panel_title(alpha, (len(cloud) for cloud in points.values())))
        axes.set_xlabel("Reduction of the gap (%)")
        if is_leftmost(axes):
            axes.set_ylabel("Gain over FedAvg (points)")
    lowest = min(float(cloud[:, 0].min()) for points in panels.values() for cloud in points.values())
    for axes in grid:
        _reduction_axis(axes, lowest)
    legend(figure, marker_entries(looks))
    return figure


def _reduction_axis(axes: Axes, lowest: float) -> None:
    """Ticks up to 100 per cent, beyond which there is nothing, and a scale on which the usual is not pressed together."""
    from matplotlib.ticker import FixedLocator, NullLocator, StrMethodFormatter

    if lowest < -FAR * WHOLE:
        axes.set_xscale("symlog", linthresh=WHOLE, linscale=1.5)
        decades = [-WHOLE * 10.0**power for power in range(1, math.ceil(math.log10(-lowest / WHOLE)) + 1)]
        axes.xaxis.set_major_locator(FixedLocator([*reversed(decades), -WHOLE, 0, WHOLE]))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    else:
        ticks = [tick for tick in axes.get_xticks() if tick <= WHOLE]
        axes.xaxis.set_major_locator(FixedLocator(ticks))


def _points(family: Family, method: str, alpha: float | None) -> NDArray[np.float64]:
    """(runs, 2) float64: reduction in per cent and gain in points of each finished run."""
    theirs = {run.seed: run.late("accuracy") for run in family.cell(BASELINE, alpha) if family.is_finished(run)}
    ours = [run for run in family.cell(method, alpha) if run.seed in theirs and family.is_finished(run)]
    points = [(100 * (1 - gap_over_fedavg(run)), 100 * (run.late("accuracy") - theirs[run.seed])) for run in ours]
    return np.array([point for point in points if not math.isnan(point[0])]).reshape(-1, 2)


def _draw_method(axes: Axes, cloud: NDArray[np.float64], look: LineStyle) -> list[Artist]:
    shape: dict[str, Any] = {"marker": look.marker, "linestyle": "", "color": look.color}
    runs = axes.plot(cloud[:, 0], cloud[:, 1], markersize=3, alpha=RUN_ALPHA, markeredgewidth=0, zorder=3, **shape)
    (x, y), half = mean_interval(cloud)
    across, along = (None, None) if half is None else (half[0], half[1])
    face = look.color if look.filled else "white"
    mean = axes.errorbar(x, y, along, across, markerfacecolor=face, elinewidth=0.9, markersize=5, zorder=4, **shape)
    return [*runs, *mean.get_children()]

"""Panels and the legend above them: the sheet that every figure is drawn on, whatever is drawn."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from fedspec.figures.style import COLUMN_IN, PAGE_IN, PANEL_HEIGHT_IN, LineStyle, label

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

POINTS_AN_INCH = 72
BAND_ALPHA = 0.18
# Of more lines in a panel the bands would hide one another, and the panel must be higher.
MANY_LINES = 5
MOST_HEIGHT = 1.6
LABEL_WIDTH = 40
# Which panels have one y axis.
Share = Literal["none", "row", "all"]
# A legend's entry: what it looks like, and its name.
Entry = tuple[Any, str]


class NothingToDraw(Exception):  # noqa: N818 - it is an answer, not an error
    """A figure has nothing to show of a family; the reason is a sentence without its capital and its full stop."""


def blank(width: float, height: float) -> Figure:
    """An empty figure of this size in inches, which no window shows."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height))
    FigureCanvasAgg(figure)
    return figure


def sheet(count: int, methods: int = 1, *, share_x: bool = False, share_y: bool = False) -> tuple[Figure, list[Axes]]:
    """A figure of ``count`` panels with ``methods`` each: one fills a column, more a page, at most three in a row."""
    columns = {1: 1, 2: 2, 4: 2}.get(count, 3)
    share: Share = "all" if share_y else "none"
    figure, grid = rows_of_panels(math.ceil(count / columns), columns, methods, share_x=share_x, share_y=share)
    panels = [axes for row in grid for axes in row]
    for spare in panels[count:]:
        spare.remove()
    return figure, panels[:count]


def rows_of_panels(
    rows: int,
    columns: int,
    methods: int = 1,
    *,
    height: float = PANEL_HEIGHT_IN,
    share_x: bool = False,
    share_y: Share = "none",
) -> tuple[Figure, list[list[Axes]]]:
    """A figure of ``rows`` times ``columns`` panels of ``height`` inches; ``share_y``: which are read against one another."""
    stretched = height * min(MOST_HEIGHT, 1 + 0.07 * max(0, methods - MANY_LINES))
    figure = blank(COLUMN_IN if columns == 1 else PAGE_IN, stretched * rows)
    grid: Any = figure.subplots(rows, columns, squeeze=False, sharex="all" if share_x else False, sharey=share_y)
    return figure, grid.tolist()


def aside(axes: Axes, artists: Iterable[Artist], place: int, count: int, step: float) -> None:
    """Move what is drawn: the ``place``-th of ``count`` things at one x, which lie side by side, ``step`` points apart."""
    from matplotlib.transforms import ScaledTranslation

    shift = (place - (count - 1) / 2) * step / POINTS_AN_INCH
    figure = axes.get_figure(root=True)
    assert figure is not None
    for artist in artists:
        # After the axes have taken its data into their limits, which they would not find behind the shift.
        artist.set_transform(axes.transData + ScaledTranslation(shift, 0, figure.dpi_scale_trans))


def is_leftmost(axes: Axes) -> bool:
    """Whether a panel is the first of its row: only there the y axis need be named."""
    place = axes.get_subplotspec()
    return place is not None and place.is_first_col()


def round_axis(axes: Axes, last: int) -> None:
    """The x axis counts rounds up to the ``last``; what is drawn to the right of it is in none."""
    from matplotlib.ticker import MaxNLocator

    axes.set_xlabel("Communication round")
    low, _ = axes.get_xlim()
    ticks = MaxNLocator(nbins=6, integer=True, min_n_ticks=1).tick_values(max(low, 0), last)
    axes.set_xticks([tick for tick in ticks if low <= tick <= last])


def log_axis(axes: Axes) -> None:
    """A logarithmic x axis, with numbers that need no powers of ten."""
    from matplotlib.ticker import LogLocator, NullLocator

    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")


def alpha_words(alpha: float | None) -> str:
    """An alpha as a panel's title names it."""
    return "iid" if alpha is None else rf"$\alpha$ = {alpha!r}"


def panel_title(alpha: float | None, seeds: Iterable[int]) -> str:
    """``alpha = 0.5 (3 seeds)``; of several numbers of seeds, from the least to the most."""
    numbers = sorted(set(seeds))
    count = str(numbers[0]) if len(numbers) == 1 else f"{numbers[0]} to {numbers[-1]}"
    return f"{alpha_words(alpha)} ({count} seed{'' if numbers == [1] else 's'})"


def line_entries(looks: Mapping[str, LineStyle]) -> list[Entry]:
    """The legend of methods that are drawn as lines."""
    from matplotlib.lines import Line2D

    return [(Line2D([], [], **look.line()), label(method)) for method, look in looks.items()]


def marker_entries(looks: Mapping[str, LineStyle]) -> list[Entry]:
    """The legend of methods that are drawn as points."""
    from matplotlib.lines import Line2D

    return [(Line2D([], [], **{**look.line(), "linestyle": ""}), label(method)) for method, look in looks.items()]


def band_entry(banded: Sequence[LineStyle]) -> list[Entry]:
    """The interval's entry has the tints of all ``banded`` lines, side by side: one tint would be read as one line's."""
    from matplotlib.patches import Patch

    tints = tuple(Patch(facecolor=look.color, alpha=BAND_ALPHA, linewidth=0) for look in banded)
    return [(tints, "95 % interval")] if tints else []


def bar_entry(barred: Sequence[LineStyle], name: str) -> list[Entry]:
    """The entry of intervals that are drawn as bars, with the colours of all ``barred`` methods."""
    from matplotlib.lines import Line2D

    bars = tuple(
        Line2D([], [], color=look.color, marker="|", markersize=7, markeredgewidth=1.2, linestyle="") for look in barred
    )
    return [(bars, name)] if bars else []


def legend(figure: Figure, entries: Sequence[Entry]) -> None:
    """One legend above all panels, in as few rows as fit, so that it never lies on what is drawn."""
    from matplotlib.legend_handler import HandlerTuple

    handles, names = [handle for handle, _ in entries], [textwrap.fill(name, LABEL_WIDTH) for _, name in entries]
    for rows in range(1, len(entries) + 1):
        drawn = figure.legend(
            handles,
            names,
            handler_map={tuple: HandlerTuple(ndivide=None, pad=0)},
            loc="outside upper center",
            ncols=math.ceil(len(entries) / rows),
        )
        extent = drawn.get_window_extent()
        if extent.width <= figure.bbox.width or rows == len(entries):
            break
        drawn.remove()
    # The panels keep their height, however many methods there are.
    width, height = figure.get_size_inches()
    figure.set_size_inches(width, height + extent.height / figure.dpi)

"""Paired differences by alpha as a forest plot: each comparison's interval, the simultaneous one, and the verdict."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fedspec.figures.comparisons import Comparison, Study, study
from fedspec.figures.families import Family
from fedspec.figures.panels import Entry, NothingToDraw, alpha_words, blank, legend
from fedspec.figures.style import PAGE_IN, label, styles
from fedspec.figures.summary import p_value

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ROW_IN = 0.165
# In points from the plot's edges: where the names end, and where the numbers begin.
NAMES, NUMBERS, P_VALUES = -6, 8, 108
# How far beyond the intervals the simultaneous ones may take the x axis, as a share of its width.
BEYOND = 0.35
GREY, MINUS = "#555555", "\N{MINUS SIGN}"


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the plot: a heading, or a comparison under its name."""

    name: str
    comparison: Comparison | None = None


def draw(family: Family) -> Figure:
    """Draw the differences in test accuracy between methods, in points, a group of lines per alpha on one scale.

    Raises:
        NothingToDraw: nothing is compared.
    """
    found = study(family)
    if not found.comparisons:
        raise NothingToDraw("no two methods that are compared have a seed in common")
    rows = list(_rows(found))
    figure = blank(PAGE_IN, ROW_IN * (len(rows) + 1) + 0.55)
    axes = figure.subplots()
    axes.axvline(0, color="black", linewidth=0.6, zorder=1.5)
    looks = styles({comparison.method for comparison in found.comparisons})
    low, high = _span(found)
    axes.set_xlim(low, high)
    axes.set_ylim(len(rows) - 0.4, -1.4)
    for place, row in enumerate(rows):
        if row.comparison is None:
            _text(axes, NAMES, place, row.name, weight="bold")
        else:
            _text(axes, NAMES, place, row.name)
            _interval(axes, place, row.comparison, looks[row.comparison.method].color)
            _text(axes, NUMBERS, place, _numbers(row.comparison))
            _text(axes, P_VALUES, place, _p_words(row.comparison))
    _text(axes, NUMBERS, -1, "points [95 % interval]", weight="bold")
    _text(axes, P_VALUES, -1, "corrected p", weight="bold")
    axes.set_yticks([])
    axes.grid(visible=False, axis="y")
    axes.spines["left"].set_visible(False)
    axes.set_xlabel("Difference in test accuracy (percentage points)")
    legend(figure, _entries(max(comparison.among for comparison in found.comparisons)))
    return figure


def _rows(found: Study) -> Iterator[Row]:
    for alpha in found.alphas:
        if alpha.comparisons:
            yield Row(alpha_words(alpha.alpha))
            yield from (Row(f"{label(each.method)} {MINUS} {label(each.baseline)}", each) for each in alpha.comparisons)


def _interval(axes: Axes, place: float, found: Comparison, color: str) -> None:
    """A point, filled if significant; a thick line for its own interval, a thin one for the simultaneous one."""
    from matplotlib.markers import CARETLEFTBASE, CARETRIGHTBASE

    low, high = axes.get_xlim()
    for half, width in ((found.paired.simultaneous, 0.7), (found.paired.half_width, 2.2)):
        if half is not None:
            left, right = found.points - half, found.points + half
            axes.plot(
                [max(left, low), min(right, high)], [place] * 2, color=color, linewidth=width, solid_capstyle="butt", zorder=2
            )
            for beyond, edge, marker in ((left < low, low, CARETLEFTBASE), (right > high, high, CARETRIGHTBASE)):
                if beyond:
                    axes.plot([edge], [place], color=color, marker=marker, markersize=3.5, zorder=2, clip_on=False)
    face = color if found.significant else "white"
    axes.plot([found.points], [place], color=color, marker="s", markersize=4.4, markerfacecolor=face, zorder=3)


def _span(found: Study) -> tuple[float, float]:
    """The x axis: all own intervals, and of the simultaneous ones as much as does not press the rest together."""
    own = [(each.points, each.paired.half_width or 0.0, each.paired.simultaneous or 0.0) for each in found.comparisons]
    low, high = (edge([0.0, *(p + sign * half for p, half, _ in own)]) for edge, sign in ((min, -1), (max, 1)))
    width = max(high - low, 0.1)
    wide = [p + sign * half for p, _, half in own for sign in (-1, 1)]
    margin = 0.04 * width
    return max(min(low, *wide), low - BEYOND * width) - margin, min(max(high, *wide), high + BEYOND * width) + margin


def _numbers(found: Comparison) -> str:
    half = found.paired.half_width
    interval = "no interval" if half is None else f"[{found.points - half:+.2f}, {found.points + half:+.2f}]"
    return f"{found.points + 0.0:+.2f} {interval}".replace("-", MINUS)


def _p_words(found: Comparison) -> str:
    words = p_value(found.adjusted_p).removeprefix("= ")
    return f"{words} {found.verdict}" if found.significant else words


def _text(axes: Axes, offset: float, place: float, text: str, *, weight: str = "normal") -> None:
    """A text ``offset`` points to the right of the plot, or to the left of it, in the line ``place``."""
    edge, side = (0, "right") if offset < 0 else (1, "left")
    axes.annotate(
        text,
        (edge, place),
        (offset, 0),
        xycoords=axes.get_yaxis_transform(),
        textcoords="offset points",
        annotation_clip=False,
        ha=side,
        va="center",
        fontsize=8,
        fontweight=weight,
    )


def _entries(among: int) -> list[Entry]:
    from matplotlib.lines import Line2D

    own = [(Line2D([], [], color=GREY, linewidth=2.2), "95 % interval")]
    if among > 1:
        own.append((Line2D([], [], color=GREY, linewidth=0.7), f"95 %, all {among} at once (Bonferroni)"))
    over = f" (Holm over {among})" if among > 1 else ""
    for face, words in ((GREY, f"significant{over}"), ("white", "not significant")):
        own.append((Line2D([], [], color=GREY, marker="s", markersize=4.4, markerfacecolor=face, linestyle=""), words))
    return own

"""Test accuracy against the bytes that all clients have sent and received so far."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fedspec.figures.curves import Curve, curve, curves, draw_line, interval_entry, level_line, value_axes, within_per_cent
from fedspec.figures.families import Family
from fedspec.figures.panels import MANY_LINES, NothingToDraw, is_leftmost, legend, line_entries, log_axis, panel_title, sheet
from fedspec.figures.style import styles

if TYPE_CHECKING:
    from matplotlib.figure import Figure

UNITS = ((1e9, "GB"), (1e6, "MB"), (1e3, "kB"), (1.0, "bytes"))
# Where the dearest method sends that many times what the cheapest does, a linear axis would show the cheap ones on its edge.
LOGARITHMIC_FROM = 4.0


def draw(family: Family) -> Figure:
    """Draw accuracy in per cent against the sum of the rounds' bytes, a panel per alpha; references as their last level.

    Raises:
        NothingToDraw: no federated run counts its bytes.
    """
    panels = {alpha: _lines(family, alpha) for alpha in family.alphas}
    panels = {alpha: lines for alpha, lines in panels.items() if lines}
    if not panels:
        raise NothingToDraw("no federated run here counts its bytes")
    totals = [float(sent.mean[-1]) for lines in panels.values() for _, sent in lines]
    unit, unit_name = unit_of(max(totals))
    references = [found for found in curves(family, "accuracy", family.alphas[0]) if found.is_reference]
    looks = styles({line.method for line in (*references, *(line for lines in panels.values() for line, _ in lines))})
    figure, grid = sheet(len(panels), len(looks), share_x=True, share_y=True)
    many = len(looks) > MANY_LINES
    for axes, (alpha, lines) in zip(grid, panels.items(), strict=True):
        for order, (line, sent) in enumerate(lines):
            draw_line(axes, line, looks[line.method], 100.0, order, band=not many, x=sent.mean / unit)
        for line in references:
            level_line(axes, 100 * float(line.mean[-1]), looks[line.method])
        axes.set_title(panel_title(alpha, (line.seeds for line, _ in lines)))
        axes.set_xlabel(f"Sent and received ({unit_name})")
        if max(totals) >= LOGARITHMIC_FROM * min(totals):
            log_axis(axes)
        if is_leftmost(axes):
            axes.set_ylabel("Test accuracy (%)")
    value_axes(grid, within_per_cent)
    bands = [] if many else interval_entry(looks, [[line for line, _ in lines] for lines in panels.values()])
    legend(figure, [*line_entries(looks), *bands])
    return figure


def unit_of(most: float) -> tuple[float, str]:
    """How many bytes a unit has, and its name, for an axis that goes up to ``most`` bytes."""
    return next(((size, name) for size, name in UNITS if most >= size), UNITS[-1])


def _lines(family: Family, alpha: float | None) -> list[tuple[Curve, Curve]]:
    """Each method's accuracy, and its bytes so far, at one alpha; both have all rounds of the finished runs."""
    found = []
    for line in curves(family, "accuracy", alpha):
        sent = None if line.is_reference else curve(family.cell(line.method, alpha), "communication_bytes", total=True)
        if sent is not None and sent.mean[-1] > 0:
            found.append((line, sent))
    return found

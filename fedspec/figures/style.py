"""How figures look: sizes, fonts, and each method's colour, marker and dashes; and figures as bytes."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fedspec.figures.families import CENTRALIZED, LINEAR_PROBE, REFERENCES
from fedspec.registry import Entry

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLUMN_IN, PAGE_IN, PANEL_HEIGHT_IN = 3.5, 7.0, 2.2
PNG_DPI = 300
# Both fonts ship with matplotlib, so that every machine draws the same bytes.
RC: dict[Any, Any] = {
    "font.family": "STIXGeneral",
    "mathtext.fontset": "stix",
    "font.size": 9.0,
    "axes.titlesize": 9.0,
    "axes.labelsize": 9.0,
    "xtick.labelsize": 8.0,
    "ytick.labelsize": 8.0,
    "legend.fontsize": 8.5,
    "legend.frameon": False,
    "legend.handlelength": 2.4,
    "legend.columnspacing": 1.4,
    "axes.linewidth": 0.6,
    "axes.xmargin": 0.03,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#DDDDDD",
    "grid.linewidth": 0.5,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "lines.linewidth": 1.2,
    "lines.markersize": 3.6,
    "figure.constrained_layout.use": True,
    # Text stays text: journals refuse Type 3 fonts.
    "pdf.fonttype": 42,
    # Else its names are drawn by lot.
    "svg.hashsalt": "fedspec",
}


@dataclass(frozen=True, slots=True)
class LineStyle:
    """How one method is drawn; any two methods differ in colour, and in marker or dashes."""

    color: str
    marker: str
    dashes: tuple[float, ...] = ()
    filled: bool = True

    def line(self) -> dict[str, Any]:
        """Keyword arguments of a matplotlib line."""
        face = self.color if self.filled else "white"
        return {
            "color": self.color,
            "marker": self.marker,
            "markerfacecolor": face,
            "linestyle": (0, self.dashes) if self.dashes else "-",
        }


LABELS = {CENTRALIZED: "Centralized", LINEAR_PROBE: "Linear probe"}
FIXED_STYLES = {
    CENTRALIZED: LineStyle("#000000", "", (1, 1.2)),
    LINEAR_PROBE: LineStyle("#6B6B6B", "", (5, 1.5, 1, 1.5)),
    "fedavg": LineStyle("#0072B2", "o", (3.5, 1.5), filled=False),
    "fedspec": LineStyle("#E69F00", "s"),
}
# For the other methods in the order of their registry: the rest of the palette of Okabe and Ito (2008), first those that
# stay apart from the two above in grey; then colours that were searched for, each as far from all before it as can be, to
# the normal eye and to the three kinds of colour blindness.
OTHER_STYLES = (
    LineStyle("#009E73", "^", (4, 1.2, 1, 1.2)),
    LineStyle("#CC79A7", "D", (1.5, 1)),
    LineStyle("#D55E00", "v", (5, 1, 1, 1, 1, 1), filled=False),
    LineStyle("#56B4E9", "P", (8, 2)),
    LineStyle("#5B12CE", "X", (2, 2)),
    LineStyle("#642C0A", "<", (6, 1, 2, 1), filled=False),
    LineStyle("#99BA67", ">", (4, 1, 1, 1)),
    LineStyle("#1A2B52", "p", (1, 2)),
    LineStyle("#9B5D2F", "*", (3, 1)),
    LineStyle("#410C7B", "h", (7, 1, 1, 1), filled=False),
    LineStyle("#4148B9", "d", (2.5, 2.5)),
    LineStyle("#4F5876", "^", (10, 1), filled=False),
    LineStyle("#593F42", "s", (1, 1), filled=False),
    LineStyle("#4D746D", "D", (5, 3), filled=False),
    LineStyle("#875E47", "v", (2, 1, 5, 1)),
    LineStyle("#5B3982", "o", (3, 1, 3, 3)),
)


@contextmanager
def paper_style() -> Iterator[None]:
    """Draw and render within: a person's own matplotlibrc has no say, or two machines would draw two figures."""
    import matplotlib as mpl

    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(RC)
        yield


def _aggregators() -> Mapping[str, Entry]:
    from fedspec.federated.aggregators import AGGREGATORS

    return AGGREGATORS


def in_order(methods: Iterable[str]) -> list[str]:
    """The methods in the order of the registry, then unknown ones, then the references."""
    known = [*_aggregators(), "", *REFERENCES]
    return sorted(methods, key=lambda method: (known.index(method if method in known else ""), method))


def label(method: str) -> str:
    """The method's name for people."""
    registry = _aggregators()
    return registry[method].label if method in registry else LABELS.get(method, method.replace("_", " "))


def styles(methods: Iterable[str]) -> dict[str, LineStyle]:
    """The methods' styles; a registered method has the same one in every figure, whoever else is in it."""
    methods = list(methods)
    others = [method for method in in_order({*_aggregators(), *methods}) if method not in FIXED_STYLES]
    chosen = {method: OTHER_STYLES[place % len(OTHER_STYLES)] for place, method in enumerate(others)} | FIXED_STYLES
    return {method: chosen[method] for method in in_order(methods)}


# What matplotlib would say of itself and of the time.
_METADATA: dict[str, dict[str, str | None]] = {
    "pdf": {"Creator": "fedspec", "Producer": None, "CreationDate": None},
    "png": {"Software": None},
    "svg": {"Creator": "fedspec", "Date": None},
}


def render(figure: Figure, kind: str, title: str) -> bytes:
    """The figure as the bytes of a ``pdf``, ``png`` or ``svg``: the same for the same data, whenever and wherever drawn."""
    metadata: dict[str, Any] = {"Title": title, **_METADATA[kind]}
    out = io.BytesIO()
    figure.savefig(out, format=kind, dpi=PNG_DPI, metadata=metadata)
    return out.getvalue()

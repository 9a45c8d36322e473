"""Paper figures: the registry, and drawing what it holds from a folder of result CSVs.

A figure is one file with ``draw(family) -> Figure`` and one line here; it raises `panels.NothingToDraw` where the family has
nothing for it. Importing this package imports neither pandas nor matplotlib.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from fedspec.errors import UsageError
from fedspec.registry import Entry

if TYPE_CHECKING:
    from fedspec.figures.families import Family
    from fedspec.figures.runs import Results
    from fedspec.files import Files
    from fedspec.plan import Item

# What a figure may be besides: drawn at the end of each run, since it is quick and what one looks at first; or in need of the
# data set itself, so that its function is ``draw(family, data)``.
FIRST, DATA = frozenset({"first"}), frozenset({"data"})

# The label says what is drawn; scripts, captions and the files' titles have it from here.
FIGURES: dict[str, Entry] = {
    "accuracy": Entry("fedspec.figures.accuracy:draw", "Test accuracy against communication rounds", FIRST),
    "frobenius_gap": Entry("fedspec.figures.frobenius_gap:draw", "Frobenius gap against communication rounds", FIRST),
    "differences": Entry("fedspec.figures.differences:draw", "Differences in test accuracy, paired by seed", FIRST),
    "gain_and_gap": Entry("fedspec.figures.gain_and_gap:draw", "Gain in test accuracy against reduction of the Frobenius gap"),
    "learning_rate": Entry("fedspec.figures.learning_rate:draw", "Validation accuracy against learning rate"),
    "accuracy_by_bytes": Entry("fedspec.figures.accuracy_by_bytes:draw", "Test accuracy against bytes sent"),
    "rank": Entry("fedspec.figures.rank:draw", "Rank, effective rank and tails of the spectrum against communication rounds"),
    "gap_by_alpha": Entry("fedspec.figures.gap_by_alpha:draw", "Frobenius gap by alpha"),
    "client_labels": Entry("fedspec.figures.client_labels:draw", "Labels of each client", DATA),
    "overview": Entry("fedspec.figures.overview:draw", "Accuracy, gap, rank and bytes at one alpha"),
}


@dataclass(frozen=True, slots=True)
class Data:
    """Where figures that show the data find it.

    Attributes:
        root: the folder of the data sets that do not come with the package.
        items: the queue's experiments by their id, whose settings say what rows do not.
    """

    root: Path | None = None
    items: Mapping[str, Item] = field(default_factory=dict)


def known(names: Sequence[str] | None) -> list[str]:
    """The names of figures to draw, all by default. Raises UsageError: there is no figure of that name."""
    for name in names or ():
        if name not in FIGURES:
            raise UsageError(f"There is no figure {name!r}.", f"Choose from: {', '.join(FIGURES)}.")
    return list(FIGURES) if names is None else list(names)


def draw_all(
    results: Results,
    out: Path,
    names: Sequence[str] | None = None,
    *,
    data: Data | None = None,
    warn: Callable[[str], None] = lambda message: None,
    files: Files | None = None,
) -> list[Path]:
    """Draw figures of all results as ``<name>.pdf`` and ``<name>.png``.

    Experiments that may not be compared are never in one figure: ``<name>`` shows those with the most runs, and where there
    are several families each has its own ``<name>_<family>`` besides.

    Args:
        results: the folder of result CSVs, some CSVs, or the runs of some.
        out: the folder for the figures; it is made if need be.
        names: keys of `FIGURES`; all by default.
        data: for the figures that show the data.
        warn: told, in a sentence, of each file or run that was left out, and of each figure with nothing to show, and why.
        files: the hands that write.

    Returns:
        The files written, in the order of their drawing.

    Raises:
        UsageError: there is no figure of that name.
        SetupError: there are no results.
    """
    from fedspec.figures.panels import NothingToDraw

    names = known(names)
    targets = _families(results, warn)
    written: list[Path] = []
    for name in names:
        for family, ending in targets:
            try:
                written += draw_family(name, family, out / f"{name}{ending}", data=data, files=files)
            except NothingToDraw as nothing:
                warn(f"{name}{ending} is not drawn: {nothing}.")
    return written


def write_tables(
    results: Results,
    out: Path,
    *,
    warn: Callable[[str], None] = lambda message: None,
    files: Files | None = None,
) -> list[Path]:
    """Write the tables of all results as ``<name>.csv``, ``.md`` and ``.tex``, named and told as by `draw_all`.

    Raises:
        SetupError: there are no results.
        FolderError: the folder refused a write.
    """
    from fedspec.figures.tables import tables
    from fedspec.figures.typeset import FORMS
    from fedspec.files import DiskFiles

    written = {}
    for family, ending in _families(results, warn):
        for table in tables(family):
            for kind, form in FORMS.items():
                written[out / f"{table.name}{ending}.{kind}"] = form(table)
    for path, data in written.items():
        (files or DiskFiles()).write(path, data, durable=False)
    return list(written)


def _families(results: Results, warn: Callable[[str], None]) -> list[tuple[Family, str]]:
    """The families that there are, each with the ending of its files' names; of several the largest without one too."""
    from fedspec.figures.families import group
    from fedspec.figures.runs import load_runs

    loaded = load_runs(results)
    grouping = group(loaded.runs)
    for note in (*loaded.notes, *grouping.notes):
        warn(note)
    families = grouping.families
    endings = [(family, f"_{family.key.slug}") for family in families] if len(families) > 1 else []
    return [*((family, "") for family in families[:1]), *endings]


def draw_family(
    name: str,
    family: Family,
    target: Path,
    kinds: Sequence[str] = ("pdf", "png"),
    *,
    data: Data | None = None,
    files: Files | None = None,
) -> list[Path]:
    """Draw one figure of one family as ``<target>.<kind>``.

    Raises:
        NothingToDraw: the family has nothing for it, and nothing was written.
        FolderError: the folder refused a write.
    """
    from fedspec.files import DiskFiles

    images = draw_images(name, family, kinds, data)
    contents = {target.parent / f"{target.name}.{kind}": image for kind, image in zip(kinds, images, strict=True)}
    for path, image in contents.items():
        (files or DiskFiles()).write(path, image, durable=False)
    return list(contents)


def draw_images(name: str, family: Family, kinds: Sequence[str], data: Data | None = None) -> list[bytes]:
    """One figure of one family as the bytes of each of ``kinds``: ``pdf``, ``png``, ``svg``.

    Raises:
        NothingToDraw: the family has nothing for it.
    """
    from matplotlib import rcParams

    from fedspec.figures.style import paper_style, render

    entry = FIGURES[name]
    with paper_style():
        draw = entry.load()
        figure = draw(family, data or Data()) if "data" in entry.traits else draw(family)
        # Where everything lies is found out once. An engine for it, even one that does nothing, has each kind drawn twice, and
        # saving takes up the one of the settings again.
        figure.draw_without_rendering()
        rcParams["figure.constrained_layout.use"] = False
        figure.set_layout_engine(None)
        return [render(figure, kind, f"{entry.label}: {family.key.title}") for kind in kinds]

"""Paper figures: the registry, and drawing what it holds from a folder of result CSVs.

A figure is one file with ``draw(family) -> Figure | None`` and one line here. Importing this package imports neither pandas
nor matplotlib.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from fedspec.errors import UsageError
from fedspec.registry import Entry

if TYPE_CHECKING:
    from fedspec.figures.families import Family
    from fedspec.files import Files

FIGURES: dict[str, Entry] = {
    "accuracy": Entry("fedspec.figures.accuracy:draw", "Test accuracy"),
    "frobenius_gap": Entry("fedspec.figures.frobenius_gap:draw", "Frobenius gap"),
}


def draw_all(
    results: Path | Iterable[Path],
    out: Path,
    names: Sequence[str] | None = None,
    *,
    warn: Callable[[str], None] = lambda message: None,
    files: Files | None = None,
) -> list[Path]:
    """Draw figures of all results as ``<name>.pdf`` and ``<name>.png``.

    Experiments that may not be compared are never in one figure: ``<name>`` shows those with the most runs, and where there
    are several families each has its own ``<name>_<family>`` besides.

    Args:
        results: the folder of result CSVs, or some CSVs.
        out: the folder for the figures; it is made if need be.
        names: keys of `FIGURES`; all by default.
        warn: told, in a sentence, of each file or run that was left out, and of each figure without data.

        files: the hands that write.

    Returns:
        The files written, in the order of their drawing.

    Raises:
        UsageError: there is no figure of that name.
        SetupError: there are no results.
    """
    from fedspec.figures.families import group
    from fedspec.figures.runs import load_runs

    names = list(FIGURES) if names is None else list(names)
    for name in names:
        if name not in FIGURES:
            raise UsageError(f"There is no figure {name!r}.", f"Choose from: {', '.join(FIGURES)}.")
    runs, damaged = load_runs(results)
    grouping = group(runs)
    for note in (*damaged, *grouping.notes):
        warn(note)
    families = grouping.families
    targets = [(family, f"_{family.key.slug}") for family in families] if len(families) > 1 else []
    targets[:0] = [(family, "") for family in families[:1]]
    written: list[Path] = []
    for name in names:
        drawn = [path for family, ending in targets for path in draw_family(name, family, out / f"{name}{ending}", files=files)]
        if not drawn:
            warn(f"Nothing to draw for {name}: no federated run here has values for it.")
        written += drawn
    return written


def draw_family(
    name: str, family: Family, target: Path, kinds: Sequence[str] = ("pdf", "png"), files: Files | None = None
) -> list[Path]:
    """Draw one figure of one family as ``<target>.<kind>``; nothing is drawn, and no file listed, where it has no data.

    Raises:
        FolderError: the folder refused a write.
    """
    from fedspec.figures.style import paper_style, render
    from fedspec.files import DiskFiles

    with paper_style():
        figure = FIGURES[name].load()(family)
        if figure is None:
            return []
        title = f"{FIGURES[name].label}: {family.key.title}"
        contents = {target.parent / f"{target.name}.{kind}": render(figure, kind, title) for kind in kinds}
    for path, data in contents.items():
        (files or DiskFiles()).write(path, data, durable=False)
    return list(contents)

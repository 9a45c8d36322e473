"""``fedspec plot``: paper figures and the summary from the results that are there."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fedspec.cli.console import busy, emit_json, near, say
from fedspec.cli.options import JsonOption, WorkspaceOption
from fedspec.figures import FIGURES

if TYPE_CHECKING:
    from fedspec.workqueue.distributor import WorkDistributor


# Figures; of more only the folder is named.
MOST_NAMED = 3


def plot(
    figures: Annotated[
        list[str] | None,
        typer.Argument(metavar="[FIGURE]...", help=f"{', '.join(FIGURES)} (default: all).", show_default=False),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FOLDER", help="Where the figures go.", show_default=False)
    ] = None,
    json: JsonOption = False,
    workspace: WorkspaceOption = None,
) -> None:
    """Draw paper figures (PDF and PNG) and print the summary."""
    from fedspec.cli.opening import open_queue
    from fedspec.figures import Data, draw_all, known
    from fedspec.figures.runs import load_runs
    from fedspec.figures.summary import summarize_files
    from fedspec.workspace import data_root

    names = known(figures or None)
    queue = open_queue(workspace)
    queue.refresh()
    queue.caretaker.publish(thorough=True)
    place, out = queue.workspace, output or queue.workspace.figures
    data = Data(data_root(), queue.store.items)
    with busy("Drawing the figures") as tell:
        found = load_runs(place.results)
        written = draw_all(found, out, names, data=data, warn=tell, files=queue.files)
    sentences = summarize_files(found)
    if json:
        emit_json({"figures": [str(path) for path in written], "summary": sentences})
    else:
        _tell(sentences)
        _name(written)


def closing(queue: WorkDistributor, experiments: Sequence[str]) -> None:
    """How a run ends: the summary of its experiments, the figures that one looks at first, and where the others are."""
    from fedspec.figures import draw_all
    from fedspec.figures.runs import load_runs
    from fedspec.figures.summary import summarize_files

    place = queue.workspace
    if experiments:
        first = [name for name, entry in FIGURES.items() if "first" in entry.traits]
        found, mine = load_runs(place.results), {place.result(name).stem for name in experiments}
        _tell(summarize_files(found._replace(runs=tuple(run for run in found.runs if run.name in mine))))
        # Figures always show all results of the folder: a small run must not replace a paper's figures by its own.
        with busy("Drawing the figures") as tell:
            written = draw_all(found, place.figures, first, warn=tell, files=queue.files)
        _name(written)
        say(f"More:    fedspec report     all {len(FIGURES)} figures and the tables on one page ('fedspec plot': as PDFs)")


def _tell(sentences: Iterable[str]) -> None:
    for sentence in sentences:
        say(sentence)


def _name(written: Sequence[Path]) -> None:
    pdfs = [path for path in written if path.suffix == ".pdf"]
    if len(pdfs) > MOST_NAMED:
        say(f"Figures: {near(pdfs[0].parent)} ({len(pdfs)} as PDF and as PNG)")
    else:
        say(f"Figures: {', '.join(map(near, pdfs))}" if pdfs else "Figures: none; no result has values for them.")

"""``fedspec plot``: paper figures and the summary from the results that are there."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fedspec.cli.console import JsonOption, WorkspaceOption, emit_json, stdout, warn

if TYPE_CHECKING:
    from fedspec.workqueue.distributor import WorkDistributor


def plot(
    figures: Annotated[list[str] | None, typer.Argument(help="Figures to draw (default: all).", show_default=False)] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Folder for the figures.", show_default=False)] = None,
    json: JsonOption = False,
    workspace: WorkspaceOption = None,
) -> None:
    """Draw paper figures (PDF and PNG) and print the summary."""
    from fedspec.cli.opening import open_queue
    from fedspec.figures import draw_all
    from fedspec.figures.summary import summarize_files

    queue = open_queue(workspace)
    queue.refresh()
    queue.publisher.publish(check_all=True)
    place = queue.workspace
    written = draw_all(place.results, output or place.figures, figures or None, warn=warn)
    sentences = [line for family in summarize_files(place.results) for line in family.sentences()]
    if json:
        emit_json(figures=[str(path) for path in written], summary=sentences)
        return
    for sentence in sentences:
        stdout().print(sentence, soft_wrap=True, markup=False)
    stdout().print(f"Figures: {', '.join(str(path) for path in written if path.suffix == '.pdf')}", soft_wrap=True)


def closing(queue: WorkDistributor, experiments: Sequence[str], plan: str) -> None:
    """How a run ends: the summary of its experiments, where the figures are, and what to do next."""
    from fedspec.figures import draw_all
    from fedspec.figures.summary import summarize_files

    place = queue.workspace
    paths = [place.result(name) for name in experiments]
    if not paths:
        return
    written = draw_all(paths, place.figures, warn=warn)
    out = stdout()
    for family in summarize_files(paths):
        for sentence in family.sentences():
            out.print(sentence, soft_wrap=True, markup=False)
    shown = ", ".join(str(path.relative_to(place.root)) for path in written if path.suffix == ".pdf")
    out.print(f"Figures: {shown}", soft_wrap=True)
    if plan == "quick":
        out.print("Next:    fedspec run distributed     on this and any other machine that shares this folder", soft_wrap=True)

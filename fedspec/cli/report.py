"""``fedspec report``: everything that the results say on one page."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fedspec.cli.console import busy, emit_json, near, say
from fedspec.cli.options import JsonOption, WorkspaceOption

if TYPE_CHECKING:
    from fedspec.plan import Item
    from fedspec.workqueue.distributor import WorkDistributor


def report(
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="The page (default: report.html).", show_default=False)
    ] = None,
    json: JsonOption = False,
    workspace: WorkspaceOption = None,
) -> None:
    """Write one HTML page with all results, and tables for papers.

    The page has what was run, figures, tables, what may be concluded, what is missing, and how to make it again. It
    needs no network and can be sent to anybody. Beside it: tables as CSV, Markdown and LaTeX.
    """
    from fedspec.cli.opening import open_queue
    from fedspec.figures import Data, write_tables
    from fedspec.figures.report import Sources, report
    from fedspec.figures.summary import summarize_files
    from fedspec.workspace import data_root

    queue = open_queue(workspace)
    queue.refresh()
    queue.caretaker.publish(thorough=True)
    place = queue.workspace
    sources = Sources(
        folder=place.root.name,
        unfinished=tuple(_unfinished(queue)),
        plans=_plans(),
        data=Data(data_root(), queue.store.items),
    )
    page = output or place.report
    with busy("Drawing the figures of the page"):
        content = report(place.results, sources)
    queue.files.write(page, content, durable=False)
    with busy("Writing the tables") as tell:
        tables = write_tables(place.results, place.tables, warn=tell, files=queue.files)
    if json:
        emit_json({"report": str(page), "tables": [str(path) for path in tables], "summary": summarize_files(place.results)})
    else:
        say(f"Report: {near(page)}")
        say(f"Tables: {near(place.tables)} ({len(tables)} files)")


def _unfinished(queue: WorkDistributor) -> Iterator[str]:
    for line in queue.progress().lines:
        if line.state not in ("done", "sealed"):
            about = f", round {line.round} of {line.rounds}" if line.round else ""
            yield f"{line.experiment}: {line.condition or line.state}{about}{f' ({line.why})' if line.why else ''}"


def _plans() -> dict[str, tuple[Item, ...]]:
    """The experiments of each plan that has a name here."""
    from fedspec import plan
    from fedspec.cli.plans import plans_by_name
    from fedspec.errors import FedspecError
    from fedspec.jobs import VOCABULARY

    found = {}
    for name, path in plans_by_name().items():
        with suppress(FedspecError):
            found[name] = plan.load(path, VOCABULARY).items
    return found

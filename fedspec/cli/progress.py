"""``fedspec progress``: who does what, and how long it will take."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from fedspec.cli.console import JsonOption, TimeScaleOption, WorkspaceOption, emit_json, stdout

if TYPE_CHECKING:
    from rich.console import RenderableType

    from fedspec.workqueue.distributor import WorkDistributor
    from fedspec.workqueue.progress import ItemLine, Progress

WATCH_EVERY_S = 2.0


def progress(
    item: Annotated[str | None, typer.Argument(help="One experiment, in detail.", show_default=False)] = None,
    watch: Annotated[bool, typer.Option("--watch", help="Keep showing it until Ctrl-C.")] = False,
    json: JsonOption = False,
    workspace: WorkspaceOption = None,
    time_scale: TimeScaleOption = 1.0,
) -> None:
    """Show who does what, and how long it will take."""
    from fedspec.cli.opening import open_queue

    queue = open_queue(workspace, time_scale)
    queue.require_queue()
    if item is not None:
        _detail(queue, item, json)
    elif watch:
        _watch(queue)
    else:
        state = queue.progress()
        if json:
            emit_json(items=[asdict(line) for line in state.lines], notes=list(state.notes))
        else:
            stdout().print(_page(state))


def _watch(queue: WorkDistributor) -> None:
    import time

    from rich.live import Live

    with Live(_page(queue.progress()), console=stdout(), auto_refresh=False) as live:
        try:
            while True:
                time.sleep(WATCH_EVERY_S)
                live.update(_page(queue.progress()), refresh=True)
        except KeyboardInterrupt:
            return


def _page(state: Progress) -> RenderableType:
    """The original's block, the table (7 columns, 80 wide), and what to know."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("Item", overflow="fold", no_wrap=False)
    table.add_column("State")
    table.add_column("Machine")
    for name in ("Round", "Acc.", "Beat", "ETA"):
        table.add_column(name, justify="right", no_wrap=True)
    for line in state.lines:
        table.add_row(*_cells(line), style={"stale": "yellow", "failed": "red"}.get(line.state, ""))
    return Group(Text(state.block()), table, *(Text(note) for note in state.notes))


def _cells(line: ItemLine) -> list[str]:
    from fedspec.workqueue.progress import in_words

    return [
        line.experiment,
        line.state,
        line.machine,
        f"{line.round}/{line.rounds}" if line.round or line.state in ("running", "stale") else "",
        "" if line.accuracy is None else f"{line.accuracy:.3f}",
        "" if line.beat_age_s is None else "~" + in_words(line.beat_age_s),
        "" if line.eta_s is None else in_words(line.eta_s),
    ]


def _detail(queue: WorkDistributor, name: str, json: bool) -> None:
    item = queue.find_item(name)
    line = next(line for line in queue.progress().lines if line.id == item.id)
    if json:
        emit_json(item=asdict(line), config=item.config, needs=item.needs)
        return
    out = stdout()
    out.print(f"{line.experiment}  {line.state}  (item {item.id})")
    if line.machine:
        out.print(f"  machine   {line.machine}, worker {line.worker}, attempt {line.attempt}")
    out.print(f"  round     {line.round} of {line.rounds}")
    if line.accuracy is not None:
        out.print(f"  accuracy  {line.accuracy:.4f}")
    if line.why:
        out.print(f"  why       {line.why}")
    out.print("  " + "  ".join(f"{key}={value}" for key, value in item.config.items()), soft_wrap=True)

"""``fedspec work``: join, and take whatever this folder's queue offers."""

from __future__ import annotations

from typing import Annotated

import typer

from fedspec.cli.console import NameOption, TimeScaleOption, WorkspaceOption

WorkersOption = Annotated[
    int, typer.Option("--workers", "-n", envvar="FEDSPEC_WORKERS", help="Worker processes on this machine.")
]


def work(
    workers: WorkersOption = 1,
    name: NameOption = None,
    workspace: WorkspaceOption = None,
    time_scale: TimeScaleOption = 1.0,
) -> None:
    """Join: take whatever this folder's queue offers, until all of it is done."""
    from fedspec.cli.opening import open_queue
    from fedspec.cli.session import work_on

    queue = open_queue(workspace, time_scale)
    queue.require_queue()
    raise typer.Exit(work_on(queue, None, workers, name))

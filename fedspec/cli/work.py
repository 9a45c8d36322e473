"""``fedspec work``: join, and take whatever this folder's queue offers."""

from __future__ import annotations

import typer

from fedspec.cli.options import NameOption, TimeScaleOption, WorkersOption, WorkspaceOption


def work(
    workers: WorkersOption = 1,
    name: NameOption = None,
    workspace: WorkspaceOption = None,
    time_scale: TimeScaleOption = 1.0,
) -> None:
    """Join: take whatever this folder's queue offers, until all of it is done.

    Ctrl-C stops after the round; its work is kept, and any machine can go on with it.
    """
    from fedspec.cli.console import say, stderr
    from fedspec.cli.opening import open_queue, tell_news
    from fedspec.cli.session import checked_workers, conclude, work_on

    checked_workers(workers)
    queue = open_queue(workspace, time_scale)
    queue.caretaker.adopt()
    tell_news(queue)
    queue.require_queue()
    code = work_on(queue, None, workers, name)
    code = conclude(queue.progress().lines, code)
    if code == 0:
        say("Every item in the queue is done. Next: fedspec plot", stderr())
    raise typer.Exit(code)

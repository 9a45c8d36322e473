"""``fedspec queue``: look into the queue and change it, from any machine, while workers run."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from fedspec.cli.console import JsonOption, WorkspaceOption, emit_json, stdout
from fedspec.cli.opening import open_queue
from fedspec.errors import UsageError

app = typer.Typer(help="Add, retry, release, cancel and explain items.", no_args_is_help=True)

ItemArgument = Annotated[str, typer.Argument(help="An experiment's name or an item's id.", show_default=False)]


@app.command("list")
def list_(json: JsonOption = False, workspace: WorkspaceOption = None) -> None:
    """List all items with their state."""
    queue = open_queue(workspace)
    queue.require_queue()
    lines = queue.progress().lines
    if json:
        emit_json(items=[asdict(line) for line in lines])
        return
    for line in lines:
        stdout().print(f"{line.id}  {line.state:<9}  {line.experiment}", soft_wrap=True)


@app.command()
def why(item: ItemArgument, json: JsonOption = False, workspace: WorkspaceOption = None) -> None:
    """Say in plain words why an item is not running, or who has it and since when."""
    from fedspec.workqueue.explain import explain

    queue = open_queue(workspace)
    found = queue.find_item(item)
    words = explain(queue, found)
    if json:
        emit_json(item=found.id, why=words)
    else:
        stdout().print(words, soft_wrap=True)


@app.command()
def add(
    plan: Annotated[str, typer.Argument(help="quick, distributed, paper or a TOML file.")], workspace: WorkspaceOption = None
) -> None:
    """Enqueue what a plan lacks in the queue, without working on it."""
    from fedspec.cli.plans import read_plan

    chosen, added = open_queue(workspace).enqueue(read_plan(plan, {}).items)
    stdout().print(f"Added {added} of {len(chosen)} items. Work on them with 'fedspec work' on any machine.")


@app.command()
def retry(item: ItemArgument, workspace: WorkspaceOption = None) -> None:
    """Try a failed item again, as if it had never failed."""
    _control("retry", item, workspace, {"failed", "pending"}, "will be tried again")


@app.command()
def release(item: ItemArgument, workspace: WorkspaceOption = None) -> None:
    """Take an item away from whoever has it, so that any worker can claim it at once."""
    _control("release", item, workspace, {"running", "stale"}, "is free to be claimed; its saved rounds are kept")


@app.command()
def cancel(item: ItemArgument, workspace: WorkspaceOption = None) -> None:
    """Do not run an item; whoever runs it stops after the current client."""
    _control(
        "cancel", item, workspace, {"pending", "running", "stale", "failed"}, "is cancelled; 'fedspec queue resume' undoes it"
    )


@app.command()
def resume(item: ItemArgument, workspace: WorkspaceOption = None) -> None:
    """Undo cancel."""
    _control("resume", item, workspace, {"cancelled"}, "can be claimed again")


def _control(op: str, name: str, workspace: Path | None, states: set[str], outcome: str) -> None:
    queue = open_queue(workspace)
    item = queue.find_item(name)
    line = next(line for line in queue.progress().lines if line.id == item.id)
    if line.state not in states:
        raise UsageError(
            f"{line.experiment} is {line.state}; {op} is for items that are {' or '.join(sorted(states))}.",
            f"See 'fedspec queue why {line.experiment}'.",
        )
    queue.control(op, item)
    stdout().print(f"{line.experiment} {outcome}.", soft_wrap=True)

"""``fedspec queue``: look into the queue and change it, from any machine, while workers run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import typer

from fedspec.cli.console import emit_json, say, stdout, table, terminal_width
from fedspec.cli.opening import open_queue
from fedspec.cli.options import ItemArgument, ItemArguments, JsonOption, PlanArgument, WorkspaceOption
from fedspec.cli.plans import takes_plan_flags
from fedspec.errors import UsageError

app = typer.Typer(help="Add, retry, release, cancel and explain items.")


@app.callback(invoke_without_command=True)
def _begin(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        say(context.get_help())


@app.command("list")
def list_(json: JsonOption = False, workspace: WorkspaceOption = None) -> None:
    """List all items with their state and id."""
    queue = open_queue(workspace)
    queue.require_queue()
    lines = queue.progress().lines
    if json:
        emit_json({"items": [asdict(line) for line in lines]})
    else:
        rows = [(line.experiment, line.state, line.id) for line in lines]
        say("\n".join(table(("Item", "State", "Id"), rows, width=terminal_width(stdout()))))


@app.command()
def why(item: ItemArgument, json: JsonOption = False, workspace: WorkspaceOption = None) -> None:
    """Say who has an item, or why nobody has."""
    from fedspec.workqueue.explain import explain

    queue = open_queue(workspace)
    found = queue.find_item(item)
    words = explain(queue, found)
    if json:
        emit_json({"item": found.id, "why": words})
    else:
        say(words)


@app.command()
@takes_plan_flags
def add(plan: PlanArgument, json: JsonOption = False, workspace: WorkspaceOption = None, **flags: Any) -> None:
    """Enqueue a plan without working on it.

    What the queue has already is left alone. The flags below change the plan.
    """
    from fedspec.cli.plans import read_plan

    chosen, added = open_queue(workspace).enqueue(read_plan(plan, flags).items)
    if json:
        emit_json({"added": added, "items": [{"id": item.id, "experiment": item.exp} for item in chosen]})
    else:
        say(f"Added {added} of {len(chosen)} items. Work on them with 'fedspec work' on any machine.")


@app.command()
def retry(items: ItemArguments, workspace: WorkspaceOption = None) -> None:
    """Try failed items again, as if they had never failed."""
    _control("retry", items, workspace, ("failed", "pending"), "will be tried again")


@app.command()
def release(items: ItemArguments, workspace: WorkspaceOption = None) -> None:
    """Take items from whoever has them; saved rounds stay.

    Any worker can claim them at once. Whoever had them, and comes back, drops them.
    """
    _control("release", items, workspace, ("running", "stale"), "is free to be claimed; its saved rounds are kept")


@app.command()
def cancel(items: ItemArguments, workspace: WorkspaceOption = None) -> None:
    """Do not run items; a worker on one stops after the client."""
    outcome = "is cancelled; 'fedspec queue resume' undoes it"
    _control("cancel", items, workspace, ("pending", "running", "stale", "failed"), outcome)


@app.command()
def resume(items: ItemArguments, workspace: WorkspaceOption = None) -> None:
    """Undo cancel."""
    _control("resume", items, workspace, ("cancelled",), "can be claimed again")


def _control(op: str, names: Sequence[str], workspace: Path | None, states: Sequence[str], outcome: str) -> None:
    """Check all items before changing any."""
    queue = open_queue(workspace)
    queue.require_queue()
    lines = {line.id: line for line in queue.progress().lines}
    items = {item.id: item for item in map(queue.find_item, names)}
    for item_id in items:
        line = lines[item_id]
        if line.state not in states:
            raise UsageError(
                f"{line.experiment} is {line.state}; {op} is for items that are {' or '.join(states)}.",
                f"See 'fedspec queue why {line.experiment}'.",
            )
    for item_id, item in items.items():
        queue.control(op, item)
        say(f"{lines[item_id].experiment} {outcome}.")

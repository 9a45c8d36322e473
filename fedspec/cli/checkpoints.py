"""``fedspec checkpoints``: what can be resumed."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from fedspec.cli.console import emit_json, say, stdout, table, terminal_width
from fedspec.cli.options import JsonOption, WorkspaceOption


def checkpoints(
    every: Annotated[bool, typer.Option("--all", help="Those of finished experiments too.")] = False,
    json: JsonOption = False,
    workspace: WorkspaceOption = None,
) -> None:
    """Show what can be resumed: experiments with saved rounds that are not finished."""
    from fedspec.checkpoints import CheckpointManager
    from fedspec.workspace import Workspace

    place = Workspace.find(workspace)
    found = CheckpointManager(place.checkpoints).list_checkpoints()
    listed = [about for about in found if every or not _finished(about)]
    if json:
        emit_json({"checkpoints": listed})
    elif listed:
        rows = [_cells(about) for about in listed]
        header = ("Experiment", "Round", "Acc.", "Saved by")
        say("\n".join(table(header, rows, "12", terminal_width(stdout()))))
    elif found:
        say(f"Nothing to resume: all {len(found)} experiments with checkpoints are finished ('--all' lists them).")
    else:
        say(f"No checkpoints in {place.checkpoints}: nothing has begun, or the folder has not synced yet.")


def _finished(about: dict[str, Any]) -> bool:
    return "rounds" in about and about.get("round") == about["rounds"]


def _cells(about: dict[str, Any]) -> list[str]:
    from fedspec.workqueue.wording import one_line

    accuracy = about.get("accuracy")
    return [
        one_line(about["experiment"]),
        f"{about.get('round', '?')}/{about.get('rounds', '?')}",
        f"{accuracy:.3f}" if isinstance(accuracy, float) else "",
        one_line(about.get("machine", about.get("worker", "")), 60),
    ]

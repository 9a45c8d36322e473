"""``fedspec checkpoints``: what can be resumed."""

from __future__ import annotations

from fedspec.cli.console import JsonOption, WorkspaceOption, emit_json, stdout


def checkpoints(json: JsonOption = False, workspace: WorkspaceOption = None) -> None:
    """Show what can be resumed."""
    from fedspec.checkpoints import CheckpointManager
    from fedspec.workspace import Workspace

    place = Workspace.find(workspace)
    listed = CheckpointManager(place.checkpoints).list_checkpoints()
    if json:
        emit_json(checkpoints=listed)
        return
    if not listed:
        stdout().print(f"No checkpoints in {place.checkpoints}: nothing is in progress.", soft_wrap=True)
        return
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for name in ("Experiment", "Round", "Acc.", "Saved by"):
        table.add_column(name, justify="left" if name in ("Experiment", "Saved by") else "right")
    for about in listed:
        accuracy = about.get("accuracy")
        table.add_row(
            str(about["experiment"]),
            f"{about.get('round', '?')}/{about.get('rounds', '?')}",
            f"{accuracy:.3f}" if isinstance(accuracy, float) else "",
            str(about.get("machine", about.get("worker", ""))),
        )
    stdout().print(table)

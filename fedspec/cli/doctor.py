"""``fedspec doctor``: check this machine and the shared folder, find out with others what it does, or say how to use it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fedspec.cli.console import emit_json, say
from fedspec.cli.findings import Finding, conclusion, show
from fedspec.cli.options import JsonOption, NameOption, TimeScaleOption, WorkspaceOption, given
from fedspec.errors import FedspecError, UsageError

if TYPE_CHECKING:
    from fedspec.workqueue.modes import Choice

SETUP_PROBLEM = 3
PAIR_MINUTES = 10.0
PAIR_HELP = "Find out with other machines, which run the same, what the folder does"

EPILOG = """\
\b
Examples:
  fedspec doctor                    check; every complaint names its fix
  fedspec doctor --pair             on two machines at about the same time:
                                    do the folder's locks exclude them, and
                                    how long does news take?
  fedspec doctor --pair --machines 3
  fedspec doctor --mode sync        use this folder so, whatever it looks like
  fedspec doctor --mode auto        ... no more

\b
What goes before what: FEDSPEC_MODE, --mode, the result of --pair, the path.
Exit codes: 0 all is well or has a warning, 3 something must be fixed,
130 aborted.
"""


def doctor(
    context: typer.Context,
    pair: Annotated[bool, typer.Option("--pair", help=f"{PAIR_HELP}.")] = False,
    machines: Annotated[int, typer.Option("--machines", metavar="N", help="How many machines take part in --pair.")] = 2,
    timeout: Annotated[
        float, typer.Option("--timeout", metavar="MINUTES", help="How long --pair waits for a sign of the others.")
    ] = PAIR_MINUTES,
    mode: Annotated[
        str | None,
        typer.Option("--mode", metavar="MODE", help="Use this folder as local, network, sync or auto.", show_default=False),
    ] = None,
    name: NameOption = None,
    json: JsonOption = False,
    workspace: WorkspaceOption = None,
    time_scale: TimeScaleOption = 1.0,
) -> None:
    """Check this machine and the shared folder; every complaint names its fix.

    Where peers are at work it listens for a few seconds to compare clocks.
    """
    if not pair and (idle := given(context, "machines", "timeout", "name")):
        raise UsageError(f"{idle[0]} is for --pair.", "Leave it out, or add --pair.")
    if pair:
        from fedspec.cli.pair import pair as meet

        if mode is not None:
            raise UsageError("--pair finds the mode out, --mode sets it.", "Use one of them at a time.")
        meet(workspace, name, machines, timeout, time_scale, json=json)
    elif mode is not None:
        _set_mode(mode, workspace, json=json)
    else:
        _check(workspace, time_scale, json=json)


def _check(workspace: Path | None, time_scale: float, *, json: bool) -> None:
    findings: list[Finding] = []
    folder: dict[str, Any] = {}
    for finding in _all(workspace, time_scale, folder):
        findings.append(finding)
        if not json:
            show(finding)
    if json:
        emit_json({"folder": folder or None, "findings": [asdict(finding) for finding in findings]})
    else:
        say()
        say(conclusion(findings))
    if any(finding.level == "error" for finding in findings):
        raise typer.Exit(SETUP_PROBLEM)


def _all(workspace: Path | None, time_scale: float, folder: dict[str, Any]) -> Iterator[Finding]:
    """Everything there is to say; ``folder`` is filled with what programs want to know of it."""
    from fedspec.cli import checks
    from fedspec.cli.opening import open_queue
    from fedspec.cli.peers import peers
    from fedspec.cli.power import sleeping
    from fedspec.workqueue.modes import Notes

    yield from checks.machine()
    yield from sleeping()
    try:
        queue = open_queue(workspace, time_scale)
        choice = Notes(queue.workspace, queue.slots.local, queue.files).choice()
        folder |= as_json(queue.workspace.root, choice, time_scale)
        yield from checks.folder(queue, choice, named_explicitly=workspace is not None)
        yield from checks.traces(queue, choice)
        yield from checks.queue(queue)
        yield from peers(queue, choice)
    except FedspecError as error:
        yield Finding("error", "folder", error.what, error.fix)


def _set_mode(mode: str, workspace: Path | None, *, json: bool) -> None:
    from fedspec.cli.checks import modes
    from fedspec.workqueue.modes import AUTO, Notes
    from fedspec.workspace import Workspace

    notes = Notes(Workspace.find(workspace))
    notes.choose(mode)
    choice = notes.choice()
    if json:
        emit_json({"folder": as_json(notes.workspace.root, choice)})
        return
    for finding in modes(notes.workspace.root, choice):
        show(finding)
    if mode != AUTO:
        say()
        say("Set on this machine only; the others keep theirs. Undo: fedspec doctor --mode auto")


def as_json(root: Path, choice: Choice, scale: float = 1.0) -> dict[str, Any]:
    """How a folder is used, for programs: its path, kind and mode, the waiting times in seconds, what was measured."""
    timing = choice.timing(scale)
    return {
        "path": str(root),
        "kind": choice.kind.label,
        "mode": choice.mode,
        "locks": choice.locks,
        "source": choice.source,
        "timing_s": {"beat": timing.beat, "poll": timing.poll, "settle": timing.settle, "dead": timing.dead},
        "measured": choice.measured,
    }

"""Options that several commands have, written once so that they read and behave alike."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

WorkspaceOption = Annotated[
    Path | None,
    typer.Option(
        "--workspace",
        "-w",
        metavar="FOLDER",
        help="The shared folder (default: FEDSPEC_WORKSPACE, else the nearest one above, else the checkout).",
        show_default=False,
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print machine-readable JSON (docs/formats.md).")]
NameOption = Annotated[
    str | None,
    typer.Option(
        "--name", metavar="NAME", envvar="FEDSPEC_NAME", help="What people call this machine, such as Mac.", show_default=False
    ),
]
WorkersOption = Annotated[
    int, typer.Option("--workers", "-n", metavar="N", envvar="FEDSPEC_WORKERS", help="Worker processes on this machine.")
]
TimeScaleOption = Annotated[
    float,
    typer.Option(
        "--time-scale", envvar="FEDSPEC_TIME_SCALE", help="Factor on all waiting times; tests use small ones.", hidden=True
    ),
]
PlanArgument = Annotated[
    str, typer.Argument(metavar="PLAN", help="quick, distributed, paper, or a TOML file of yours.", show_default=False)
]
ItemArgument = Annotated[str, typer.Argument(metavar="ITEM", help="An experiment's name or an item's id.", show_default=False)]
ItemArguments = Annotated[
    list[str], typer.Argument(metavar="ITEM...", help="Experiments' names or items' ids.", show_default=False)
]
AnyItemArguments = Annotated[
    list[str] | None, typer.Argument(metavar="[ITEM]...", help="Experiments' names or items' ids.", show_default=False)
]
MachineOption = Annotated[
    str | None,
    typer.Option("--machine", metavar="MACHINE", help="Only this machine, by name or id (default: all).", show_default=False),
]

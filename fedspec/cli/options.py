"""Options that several commands have, written once so that they read and behave alike."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

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
    list[str], typer.Argument(metavar="ITEM...", help="Names, ids, or patterns such as 'fedavg_*'.", show_default=False)
]
AnyItemArguments = Annotated[
    list[str] | None,
    typer.Argument(metavar="[ITEM]...", help="Names, ids, or patterns such as 'fedavg_*'.", show_default=False),
]
MachineOption = Annotated[
    str | None,
    typer.Option("--machine", metavar="MACHINE", help="Only this machine, by name or id (default: all).", show_default=False),
]


def given(context: typer.Context, *names: str) -> list[str]:
    """Those of the parameters that the command line gives, as they are typed there."""
    typed = {param.name: max(param.opts, key=len) for param in context.command.params}
    return [typed[name] for name in names if (source := context.get_parameter_source(name)) and source.name == "COMMANDLINE"]


_NEGATIVE = re.compile(r"-\d+")


class NegativeNumbers(TyperCommand):
    """A command whose arguments may be negative numbers, which the parser takes for options; any other stays an error."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """As the parser does, with ``-5`` as an argument."""
        known = {name for param in self.get_params(ctx) for name in (*param.opts, *param.secondary_opts)}
        dashed = [arg for arg in args if arg.startswith("-") and arg not in ("-", "--")]
        others = [arg for arg in dashed if not _NEGATIVE.fullmatch(arg)]
        if all(arg.partition("=")[0] in known or arg[:2] in known for arg in others):
            ctx.ignore_unknown_options = len(others) < len(dashed)
        else:
            # It is refused for the option that there is not, and not for the number before it.
            args = [arg.lstrip("-") if _NEGATIVE.fullmatch(arg) else arg for arg in args]
        return super().parse_args(ctx, args)

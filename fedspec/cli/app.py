"""The commands' index: what ``fedspec`` alone says, and where each command is."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

import fedspec
from fedspec.cli import checkpoints, doctor, export, plot, progress, queue, report, run, simulate, work

TEACH = """\
fedspec - run federated experiments on the machines you have

  Start     doctor       Check this machine and the shared folder
            run          Work on a set: quick, distributed, paper or your own
            work         Join: take whatever this folder's queue offers
  Watch     progress     Who does what, and how long it will take
            checkpoints  What can be resumed
  Results   plot         Paper figures (PDF); report: everything on one page
  Repair    queue        Add, retry, release, cancel, explain items
  Trust     simulate     Try the queue on simulated machines in faulty folders

Begin with 'fedspec run quick'; each command has --help.
"""

app = typer.Typer(
    name="fedspec",
    help="Run federated experiments on the machines you have.",
    add_completion=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback(invoke_without_command=True)
def _begin(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show a traceback with every error.")] = False,
) -> None:
    if version:
        sys.stdout.write(f"fedspec {fedspec.__version__}\n")
    elif context.invoked_subcommand is None:
        sys.stdout.write(TEACH)


app.command(epilog=doctor.EPILOG)(doctor.doctor)
app.command(epilog=run.EPILOG)(run.run)
app.command()(work.work)
app.command(epilog=progress.EPILOG)(progress.progress)
app.command()(checkpoints.checkpoints)
app.command()(plot.plot)
app.command()(report.report)
app.command()(export.export)
app.command()(simulate.simulate)
app.add_typer(queue.app, name="queue")

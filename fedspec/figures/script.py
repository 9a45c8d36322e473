"""The command line of the scripts in ``plots/``, with the options that their users know."""

from __future__ import annotations

import argparse
import io
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from fedspec.errors import FedspecError, SetupError, UsageError
from fedspec.federated.aggregators import AGGREGATORS
from fedspec.figures import FIGURES, Data, draw_all, draw_family
from fedspec.figures.families import CENTRALIZED, group
from fedspec.figures.panels import NothingToDraw
from fedspec.figures.runs import load_runs
from fedspec.workspace import Workspace, data_root

KINDS = ("pdf", "png")


class _Parser(argparse.ArgumentParser):
    """A parser whose complaints are errors like all others."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message[:1].upper()}{message[1:].rstrip('.')}.", f"See 'python {self.prog} --help'.")


def main(name: str, arguments: Sequence[str] | None = None) -> int:
    """Draw one figure and print the files written; returns the exit code."""
    for stream in (sys.stdout, sys.stderr):
        # A piped Windows console dies on the first letter that its code page lacks.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding="utf-8", errors="replace")
    try:
        written = _draw(name, _parser(name).parse_args(arguments))
    except FedspecError as error:
        _say(f"error: {error.what}\n  fix: {error.fix}")
        return error.exit_code
    sys.stdout.write("".join(f"{path}\n" for path in written))
    return 0


def _parser(name: str) -> argparse.ArgumentParser:
    parser = _Parser(
        prog=f"plots/plot_{name}.py",
        description=f"{FIGURES[name].label}, as PDF and PNG.",
        epilog="Without options: all results in paper_results/, drawn into paper_results/figures/.",
    )
    for method in _methods():
        parser.add_argument(
            f"--{method}", metavar="FILE", nargs="+", type=Path, default=[], help=f"CSVs of {method} runs, one a seed"
        )
    parser.add_argument("--output", metavar="FILE", type=Path, help="the figure to write, .pdf or .png")
    parser.add_argument("--all", action="store_true", help="all alphas and methods that there are (as without options)")
    return parser


def _methods() -> tuple[str, ...]:
    return (*AGGREGATORS, CENTRALIZED)


def _draw(name: str, options: argparse.Namespace) -> list[Path]:
    named: dict[str, list[Path]] = {method: getattr(options, method) for method in _methods()}
    files = [path for paths in named.values() for path in paths]
    output: Path | None = options.output
    if output is not None and output.suffix.lower().lstrip(".") not in KINDS:
        raise UsageError(f"--output {output} is neither a PDF nor a PNG.", "End its name in .pdf or .png.")
    if files and options.all:
        raise UsageError("--all draws all results, and files are named as well.", "Leave out either --all or the files.")
    workspace = Workspace.find(None)
    if output is None and not files:
        return draw_all(workspace.results, workspace.figures, [name], data=Data(data_root()), warn=_warn)
    runs, notes = load_runs(files or workspace.results)
    grouping = group(runs, by_name=not files)
    for note in (*notes, *grouping.notes):
        _warn(note)
    for method, paths in named.items():
        for run in runs:
            if run.name in {path.stem for path in paths} and run.method != method:
                raise UsageError(f"{run.name}.csv is a run of {run.method}.", f"Name a CSV of {method} after --{method}.")
    if not grouping.families:
        raise SetupError("There is no federated run to draw.", "Name a CSV with --fedspec or --fedavg.")
    family, *others = grouping.families
    if others:
        titles = "; ".join(found.key.title for found in grouping.families)
        raise UsageError(
            f"These runs may not be compared: {titles}.", "Name the CSVs of one experiment; without --output each is drawn."
        )
    target = workspace.figures / name if output is None else output.with_suffix("")
    kinds = KINDS if output is None else (output.suffix.lower().lstrip("."),)
    try:
        return draw_family(name, family, target, kinds, data=Data(data_root()))
    except NothingToDraw as nothing:
        raise SetupError(f"{name} cannot be drawn: {nothing}.", "Name CSVs of runs that have what it shows.") from nothing


def _warn(message: str) -> None:
    _say(f"warning: {message}")


def _say(message: str) -> None:
    sys.stderr.write(message + "\n")

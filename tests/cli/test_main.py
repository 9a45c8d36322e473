"""The command line as a whole: what it teaches, and how it answers what it does not understand."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

import fedspec
from fedspec.cli import main
from tests.cli.conftest import Place

COMMANDS = ["doctor", "run", "work", "progress", "checkpoints", "plot", "report", "queue", "simulate"]


def test_alone_it_teaches_in_a_few_lines_that_fit_any_terminal(place: Place):
    said = place.fedspec()
    assert said.code == 0
    assert said.out.startswith("fedspec - run federated experiments on the machines you have\n")
    assert "Begin with 'fedspec run quick'" in said.out
    assert all(command in said.out for command in COMMANDS)
    assert len(said.out.splitlines()) <= 12
    assert max(map(len, said.out.splitlines())) <= 80


def test_version(place: Place):
    assert place.fedspec("--version").out == f"fedspec {fedspec.__version__}\n"


@pytest.mark.parametrize("command", [*COMMANDS, "export", "queue add", "queue why", "queue release"])
def test_every_command_has_help_that_fits_80_columns(place: Place, monkeypatch: pytest.MonkeyPatch, command: str):
    monkeypatch.setenv("COLUMNS", "80")
    said = place.fedspec(*command.split(), "--help")
    assert said.code == 0
    assert f"Usage: fedspec {command}" in said.out
    assert "..." not in said.out.partition("Commands:")[2]  # no summary is cut off
    assert max(map(len, said.out.splitlines())) <= 80


def test_the_help_of_run_gives_examples_and_exit_codes(place: Place):
    said = place.fedspec("run", "--help")
    assert "fedspec run distributed --workers 2" in said.out
    assert "4 stopped on request" in said.out


def test_queue_alone_shows_its_help(place: Place):
    said = place.fedspec("queue")
    assert (said.code, said.err) == (0, "")
    assert "release   Take items from whoever has them" in said.out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["qeue"], "error: There is no command 'qeue'.\n  fix: Did you mean queue? 'fedspec' lists all commands.\n"),
        (
            ["queue", "lst"],
            "error: There is no command 'lst'.\n  fix: Did you mean list? 'fedspec queue' lists all commands.\n",
        ),
        (["--json"], "error: fedspec has no option --json.\n  fix: See 'fedspec --help'.\n"),
        (
            ["run", "quick", "--round", "1"],
            "error: fedspec run has no option --round.\n  fix: Did you mean --rounds? See 'fedspec run --help'.\n",
        ),
        (["run"], "error: fedspec run needs a PLAN.\n  fix: See 'fedspec run --help'.\n"),
        (["queue", "retry"], "error: fedspec queue retry needs an ITEM.\n  fix: See 'fedspec queue retry --help'.\n"),
        (["work", "--workers", "x"], "error: --workers must be a whole number.\n  fix: See 'fedspec work --help'.\n"),
        (["work", "--time-scale", "x"], "error: --time-scale must be a number.\n  fix: See 'fedspec work --help'.\n"),
        (
            ["run", "quick", "--workers", "99"],
            "error: --workers must be between 1 and 64, not 99.\n  fix: One for each CPU core is plenty.\n",
        ),
        (
            ["progress", "--time-scale", "0"],
            "error: --time-scale must be greater than 0, not 0.0.\n  fix: Leave it out, or use a value such as 0.1.\n",
        ),
    ],
)
def test_wrong_usage_says_what_is_wrong_and_what_to_do(place: Place, arguments: list[str], words: str):
    said = place.fedspec(*arguments)
    assert (said.code, said.out, said.err) == (2, "", words)
    assert not list(place.root.iterdir())


def test_a_wrong_environment_variable_is_named(place: Place, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("FEDSPEC_WORKERS", "many")
    assert place.fedspec("work").err.startswith("error: FEDSPEC_WORKERS must be a whole number.\n")


def test_a_workspace_that_is_not_there_is_never_made(place: Place):
    said = place.fedspec("progress", "-w", str(place.root / "elsewhere"))
    assert said.code == 3
    assert "fix: Connect the share or wait for it to sync" in said.err
    assert not (place.root / "elsewhere").exists()


def test_an_interrupt_ends_with_130(place: Place, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("fedspec.workspace.Workspace.find", _raise(KeyboardInterrupt()))
    assert place.fedspec("checkpoints").code == 130


def test_a_bug_says_how_to_report_it_and_hides_the_traceback_without_debug(place: Place, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("fedspec.workspace.Workspace.find", _raise(ZeroDivisionError("oops")))
    said = place.fedspec("checkpoints")
    assert said.code == 1
    assert said.err.startswith("error: fedspec hit a bug: ZeroDivisionError: oops.\n  fix: Run the command again with --debug")
    with pytest.raises(ZeroDivisionError):
        main(["checkpoints", "--debug"])


def test_debug_shows_the_traceback_of_an_error_too(place: Place):
    said = place.fedspec("progress", "--debug")
    assert "Traceback" in said.err
    assert said.err.endswith("or wait for the folder to sync.\n")


def test_a_reader_that_has_gone_is_no_error(place: Place, monkeypatch: pytest.MonkeyPatch):
    # As in `fedspec progress | head`: the command replaces the output, and the test puts it back.
    monkeypatch.setattr(sys, "stdout", sys.stdout)
    monkeypatch.setattr("fedspec.workspace.Workspace.find", _raise(BrokenPipeError()))
    assert main(["checkpoints"]) == 0
    sys.stdout.close()


def _raise(error: BaseException):
    def find(*_: object, **__: object) -> None:
        raise error

    return find


def test_numpy_gets_one_thread_whatever_the_machine_has():
    """Its last bits hang on their number, and on several ones small products take many times as long."""
    code = (
        "import sys; from fedspec.cli import main; assert main(['--version']) == 0; assert 'numpy' not in sys.modules\n"
        "import numpy, scipy.linalg, threadpoolctl\n"
        "pools = [pool for pool in threadpoolctl.threadpool_info() if pool['internal_api'] == 'openblas']\n"
        "assert all(pool['num_threads'] == 1 for pool in pools), pools\n"
    )
    inherited = {name: value for name, value in os.environ.items() if not name.endswith("_NUM_THREADS")}
    subprocess.run([sys.executable, "-c", code], check=True, env=inherited)

"""A worker's voice: the status line at any width, the log without a terminal, and the two steps of Ctrl-C."""

from __future__ import annotations

import io
import signal
import threading

import pytest
from rich.console import Console

from fedspec.cli.live import TerminalReporter, fitted, stoppable
from fedspec.worker import StopSignal

STATUS = "fedavg_dirichlet_alpha0.5_c5_r10   Round 4/10, training 5 clients   accuracy 0.792   left 0:12"


@pytest.mark.parametrize(
    ("width", "shown"),
    [
        (100, STATUS),
        (80, "fedavg_dirichlet_alpha0.5_c5_r10   Round 4/10   accuracy 0.792   left 0:12"),
        (60, "fedavg_d..._c5_r10   Round 4/10   accuracy 0.792   left 0:12"),
        (40, "feda...r10   Round 4/10   accuracy 0.792"),
        (10, "feda...r10"),
    ],
)
def test_a_status_fits_any_terminal_and_keeps_what_matters_most(width: int, shown: str):
    assert fitted(STATUS, width) == shown


@pytest.mark.parametrize("width", range(1, 110))
def test_a_status_never_wraps(width: int):
    assert len(fitted(STATUS, width)) <= width


def test_without_a_terminal_the_status_is_printed_now_and_then(capsys: pytest.CaptureFixture[str]):
    reporter = TerminalReporter()
    with reporter.live():
        for number in range(100):
            reporter.status(f"x   Round {number} | y   Round {number}")
        reporter.event("x completed")
    assert capsys.readouterr() == ("", "x   Round 0\ny   Round 0\nx completed\n")


def test_on_a_terminal_each_worker_has_a_line_that_goes_away():
    reporter = TerminalReporter()
    file = io.StringIO()
    reporter.console = Console(file=file, force_terminal=True, width=80, height=24, color_system=None)
    with reporter.live():
        reporter.status("x   Round 1 | y   Round 2")
        reporter.event("z completed")
    text = file.getvalue()
    assert "x   Round 1\n" in text.replace("\r", "")
    assert "z completed\n" in text
    assert "\x1b[2K" in text  # the last lines are erased


def pressed(number: int = signal.SIGINT) -> None:
    signal.raise_signal(number)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_ctrl_c_asks_to_stop_and_says_how_to_abort(capsys: pytest.CaptureFixture[str], number: int):
    before = signal.getsignal(signal.SIGINT)
    stop = StopSignal()
    with stoppable(stop, TerminalReporter(), lambda: "round 5"):
        pressed(number)
        assert stop.wake.wait(5)
    assert capsys.readouterr().err == "Stopping after round 5. Press Ctrl-C again to abort now.\n"
    assert signal.getsignal(signal.SIGINT) is before


def test_the_second_ctrl_c_aborts_and_a_second_termination_does_not():
    with stoppable(StopSignal(), TerminalReporter(), lambda: "round 5"):
        pressed()
        pressed(signal.SIGTERM)
        with pytest.raises(KeyboardInterrupt):
            pressed()


def test_ctrl_c_does_not_wait_for_a_lock_that_its_own_thread_holds():
    # As when it comes while the worker is about to wait for the very signal.
    stop = StopSignal()
    with stoppable(stop, TerminalReporter(), lambda: "this step"):
        condition = stop.wake._cond  # type: ignore[attr-defined]
        done = threading.Timer(10, condition.release)
        with condition:
            done.start()
            pressed()
            assert not stop.requested
            done.cancel()
        assert stop.wake.wait(5)

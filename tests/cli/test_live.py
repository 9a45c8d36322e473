"""A worker's voice: the status line at any width, the log without a terminal, and the two steps of Ctrl-C."""

from __future__ import annotations

import io
import re
import signal
import threading

import pytest
from rich.console import Console

from fedspec.cli.live import TerminalReporter, fitted, stoppable
from fedspec.worker import StopSignal, teller

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
    out, err = capsys.readouterr()
    assert out == ""
    assert re.fullmatch(r"x   Round (\d+)\ny   Round \1\nx completed\n", err)


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


class Stopped(io.StringIO):
    """A terminal, or a pipe, that takes nothing until it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.going = threading.Event()

    def write(self, text: str) -> int:
        assert self.going.wait(60)
        return super().write(text)


@pytest.mark.parametrize("terminal", [True, False])
def test_a_terminal_that_is_stopped_stops_nobody_and_loses_no_event(terminal: bool, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(teller, "FLUSH_S", 0.1)
    reporter, file = TerminalReporter(), Stopped()
    reporter.console = Console(file=file, force_terminal=terminal, width=80, height=24, color_system=None)
    with reporter.live():
        for number in range(500):
            reporter.status(f"x   Round {number}")
            reporter.event(f"event {number}.")
    (thread,) = [thread for thread in threading.enumerate() if thread.name == "teller"]
    assert not file.getvalue()
    file.going.set()
    thread.join(60)
    assert re.findall(r"event (\d+)\.", file.getvalue()) == [str(number) for number in range(500)]


def test_a_terminal_that_is_stopped_keeps_the_latest_status_only():
    reporter, file = TerminalReporter(), Stopped()
    reporter.console = Console(file=file, force_terminal=True, width=80, height=24, color_system=None)
    with reporter.live():
        for number in range(5000):
            reporter.status(f"x   Round {number}")
        file.going.set()
    assert "Round 4999" in file.getvalue()
    assert file.getvalue().count("Round") < 50


def test_of_a_terminal_that_is_stopped_for_days_the_latest_events_wait(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(teller, "MOST", 10)
    reporter, file = TerminalReporter(), Stopped()
    reporter.console = Console(file=file, width=80)
    with reporter.live():
        for number in range(100):
            reporter.event(f"event {number}.")
        file.going.set()
    told = re.findall(r"event (\d+)\.", file.getvalue())
    assert told[-9:] == [str(number) for number in range(91, 100)]
    assert len(told) <= 12


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

"""What all commands share: where text goes, how errors look, options that recur, and the two steps of Ctrl-C."""

from __future__ import annotations

import io
import json
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console
    from rich.live import Live

    from fedspec.worker import StopSignal

SCHEMA = 1
STATUS_EVERY_S = 2.0

WorkspaceOption = Annotated[
    Path | None,
    typer.Option(
        "--workspace", "-w", help="The shared folder (default: the nearest one above, else the checkout).", show_default=False
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print machine-readable JSON (docs/formats.md).")]
NameOption = Annotated[
    str | None,
    typer.Option("--name", envvar="FEDSPEC_NAME", help="What this machine is called in progress.", show_default=False),
]
TimeScaleOption = Annotated[
    float,
    typer.Option(
        "--time-scale", envvar="FEDSPEC_TIME_SCALE", help="Factor on all waiting times; tests use small ones.", hidden=True
    ),
]


def utf8() -> None:
    """A piped run on Windows would die on the first α without this."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding="utf-8", errors="replace")


def complain(what: str, fix: str) -> None:
    """The one form of every error."""
    stderr().print(f"[bold red]error:[/] {_plain(what)}\n[bold]  fix:[/] {_plain(fix)}", highlight=False, soft_wrap=True)


def warn(what: str) -> None:
    """Something to know that stops nothing."""
    stderr().print(f"[yellow]warn[/]   {_plain(what)}", highlight=False, soft_wrap=True)


def stdout() -> Console:
    """The console for data. Colour only on a terminal, and never with NO_COLOR."""
    from rich.console import Console

    return Console(highlight=False)


def stderr() -> Console:
    """The console for messages."""
    from rich.console import Console

    return Console(stderr=True, highlight=False)


def emit_json(**body: Any) -> None:
    """Print one JSON document with its schema number and the time."""
    document = {"schema": SCHEMA, "time": datetime.now(UTC).isoformat(timespec="seconds"), **body}
    sys.stdout.write(json.dumps(document, indent=2, ensure_ascii=False) + "\n")


class TerminalReporter:
    """A worker's voice: events scroll, the status stays on the last line.

    Without a terminal the status is printed now and then, so that a log shows progress too.
    """

    def __init__(self, *, quiet: bool = False) -> None:
        self.console = stderr()
        self.quiet = quiet
        self._live: Live | None = None
        self._shown_at = 0.0
        self._shown = ""

    def event(self, text: str) -> None:
        """One line that stays."""
        style = {"error:": "red", "warn:": "yellow"}.get(text.partition(" ")[0], "")
        self.console.print(_plain(text), style=style, soft_wrap=True)

    def status(self, text: str) -> None:
        """The line that says what is going on."""
        if self._live is not None:
            from rich.text import Text

            self._live.update(Text(text, no_wrap=True, overflow="ellipsis"))
        elif not self.quiet and text != self._shown and time.monotonic() - self._shown_at >= STATUS_EVERY_S:
            self._shown, self._shown_at = text, time.monotonic()
            self.console.print(_plain(text), soft_wrap=True)

    @contextmanager
    def live(self) -> Iterator[None]:
        """Keep the last line of the terminal for the status."""
        if not self.console.is_terminal:
            yield
            return
        from rich.live import Live

        with Live("", console=self.console, transient=True, refresh_per_second=8) as self._live:
            try:
                yield
            finally:
                self._live = None


@contextmanager
def stoppable(stop: StopSignal, reporter: TerminalReporter) -> Iterator[None]:
    """Ctrl-C once finishes the round; twice aborts now. A termination signal counts as the first."""

    def first(number: int, frame: FrameType | None) -> None:
        if stop.requested and number == signal.SIGINT:
            raise KeyboardInterrupt
        stop.request()
        reporter.event("Stopping after this round. Press Ctrl-C again to abort now.")

    numbers = [signal.SIGINT, signal.SIGTERM]
    before = {number: signal.signal(number, first) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _plain(text: str) -> str:
    from rich.markup import escape

    return escape(text)

"""A worker's voice on the terminal, and the two steps of Ctrl-C."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING

from fedspec.cli.console import say, stderr

if TYPE_CHECKING:
    from rich.live import Live

    from fedspec.worker import StopSignal
    from fedspec.worker.teller import Teller

# In a log, where every status stays.
STATUS_EVERY_S = 10.0
# What the worker puts between the fields of a status, and the supervisor between the statuses of several workers.
FIELDS, WORKERS = "   ", " | "
SHORTEST_NAME = 9
# A terminal writes ^C behind the status; where that wrapped, the status could not be taken back.
ECHO = len("^C") + 1


class TerminalReporter:
    """Events scroll; the status, a line a worker, stays below them.

    Without a terminal the status is printed now and then, so that a log shows progress too. While it is `live`, nobody who has
    something to say waits for the terminal.
    """

    def __init__(self) -> None:
        self.console = stderr()
        self._teller: Teller[str] | None = None
        self._live: Live | None = None
        self._shown_at = float("-inf")
        self._shown = ""

    def event(self, text: str) -> None:
        """Something that stays."""
        (self._say if self._teller is None else self._teller.event)(text)

    def status(self, text: str) -> None:
        """What is going on."""
        (self._show if self._teller is None else self._teller.status)(text)

    @contextmanager
    def live(self) -> Iterator[None]:
        """Speak in a thread, and keep the last lines of the terminal for the status."""
        from fedspec.worker.teller import Teller

        with Teller(self._say, self._show, self._last_lines()) as self._teller:
            try:
                yield
            finally:
                self._teller = None

    def _say(self, text: str) -> None:
        say(text, self.console)

    def _show(self, text: str) -> None:
        if self._live is not None:
            from rich.text import Text

            from fedspec.workqueue.wording import readable

            lines = [fitted(line, self.console.width - ECHO) for line in readable(text).split(WORKERS)]
            self._live.update(Text("\n".join(lines), no_wrap=True, overflow="crop"))
        elif not self.console.is_terminal and text != self._shown and time.monotonic() - self._shown_at >= STATUS_EVERY_S:
            self._shown, self._shown_at = text, time.monotonic()
            self._say(text.replace(WORKERS, "\n"))

    @contextmanager
    def _last_lines(self) -> Iterator[None]:
        if not self.console.is_terminal:
            yield
            return
        from rich.live import Live

        # What goes to stdout is data, which must not depend on whether this terminal takes anything.
        with Live("", console=self.console, transient=True, refresh_per_second=4, redirect_stdout=False) as self._live:
            try:
                yield
            finally:
                self._live = None


def fitted(status: str, width: int) -> str:
    """A status that fits one line. What gives way, in this order: what follows a comma, the name's middle, the last fields."""
    name, *fields = status.split(FIELDS)
    if len(status) > width:
        fields = [field.partition(",")[0] for field in fields]
    while fields:
        rest = FIELDS.join(["", *fields])
        if width - len(rest) >= min(len(name), SHORTEST_NAME):
            return _shortened(name, width - len(rest)) + rest
        fields.pop()
    return _shortened(name, width)


def _shortened(text: str, width: int) -> str:
    if len(text) <= width or width <= 3:
        return text[: max(0, width)]
    tail = (width - 3) // 2
    return text[: width - 3 - tail] + "..." + text[len(text) - tail :]


@contextmanager
def stoppable(stop: StopSignal, reporter: TerminalReporter, current: Callable[[], str]) -> Iterator[None]:
    """Ctrl-C once finishes the round; twice aborts now. A termination signal counts as the first.

    Args:
        current: what will be finished first, in words.
    """
    asked = False

    def handle(number: int, frame: FrameType | None) -> None:
        nonlocal asked
        if asked and number == signal.SIGINT:
            raise KeyboardInterrupt
        if not asked:
            asked = True
            # From another thread: this one may be holding the very lock that setting the event takes.
            threading.Thread(target=stop.request).start()
            reporter.event(f"Stopping after {current()}. Press Ctrl-C again to abort now.")

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

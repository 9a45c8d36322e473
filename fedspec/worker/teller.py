"""Telling a person or a parent process what happens, without ever waiting for them.

A terminal that is stopped (Ctrl-S, a selection in a Windows console) and a pipe that nobody reads block whoever writes to them:
the trainer would stand still while its heart beats on, and no peer would take over.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, suppress
from functools import partial
from queue import Empty, SimpleQueue
from types import TracebackType
from typing import Generic, TypeVar

# How long the end waits for what was not told yet.
FLUSH_S = 5.0
# Events that may wait; beyond that the oldest give way. A worker's log has them all.
MOST = 10_000

T = TypeVar("T")


class Teller(Generic[T]):
    """A thread that tells all events, in their order, and of the statuses the latest.

    It is no daemon: what was not told within `FLUSH_S` is told as soon as the other side listens again, and the process stays
    for that long.

    Args:
        say: tells an event; may block.
        show: tells a status; may block.
        around: entered by the thread before the first word, left after the last.
    """

    def __init__(
        self, say: Callable[[T], None], show: Callable[[T], None], around: AbstractContextManager[object] | None = None
    ) -> None:
        self._say, self._show, self._around = say, show, around or nullcontext()
        # A signal's handler speaks too, whatever it has interrupted: these two never wait for a lock of its own thread.
        self._jobs: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._status: deque[T] = deque(maxlen=1)
        self._thread = threading.Thread(target=self._run, name="teller")

    def __enter__(self) -> Teller[T]:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._jobs.put(None)
        self._thread.join(FLUSH_S)

    def event(self, what: T) -> None:
        """Something to be told as soon as that is possible."""
        if self._jobs.qsize() >= MOST:
            with suppress(Empty):
                self._jobs.get_nowait()
        self._jobs.put(partial(self._say, what))

    def status(self, what: T) -> None:
        """What to tell unless another one comes before that is possible."""
        self._status.append(what)
        # After each job the thread looks for a status: only where it has none it must be woken.
        if self._jobs.empty():
            self._jobs.put(self._show_latest)

    def _show_latest(self) -> None:
        with suppress(IndexError):
            self._show(self._status.pop())

    def _run(self) -> None:
        # A terminal or a pipe that has gone hears nothing any more; nothing that goes wrong in telling is worth an experiment.
        with suppress(OSError, ValueError), self._around:
            while (job := self._jobs.get()) is not None:
                for tell in (job, self._show_latest):
                    with suppress(Exception):
                        tell()

"""What a worker shares with whoever drives it: where it says what it does, and how it is told to stop."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import Protocol


class Reporter(Protocol):
    """Where a worker says what it does. Both take one line of text."""

    def event(self, text: str) -> None:
        """Something that happened, to be kept."""
        ...

    def status(self, text: str) -> None:
        """What is going on now; replaces the last one."""
        ...


@dataclass(slots=True)
class StopSignal:
    """A person's wish to stop after the current round."""

    wake: threading.Event = field(default_factory=threading.Event)

    @property
    def requested(self) -> bool:
        """Whether to stop."""
        return self.wake.is_set()

    def request(self) -> None:
        """Ask for it."""
        self.wake.set()


class Stopped(Exception):  # noqa: N818 - a person's decision, not an error
    """The worker stopped on request; work remains."""

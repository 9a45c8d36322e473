"""The time port: a monotonic clock for decisions, a wall clock for people, and its fake.

No decision in `fedspec` reads the wall clock: machines that share a folder may disagree about it by hours.
"""

from __future__ import annotations

import sys
import threading
import time
from datetime import UTC, datetime, timedelta
from typing import Protocol

FORM = "%Y-%m-%dT%H:%M:%SZ"


class Clock(Protocol):
    """Time as one process sees it. Nothing is promised about how two processes' clocks relate."""

    def monotonic(self) -> float:
        """Seconds since some fixed moment; never goes backwards. Whether it runs while the machine sleeps is not promised."""
        ...

    def awake_or_asleep(self) -> float:
        """Like `monotonic`, but it runs while the machine sleeps too: how a process learns that it was away."""
        ...

    def now(self) -> datetime:
        """The wall clock in UTC, for display only."""
        ...

    def sleep(self, seconds: float, wake: threading.Event | None = None) -> None:
        """Wait for ``seconds``, or until ``wake`` is set."""
        ...


class SystemClock:
    """The machine's own clock."""

    def monotonic(self) -> float:
        """Seconds since some fixed moment; on most systems it stands still while the machine sleeps."""
        return time.monotonic()

    def awake_or_asleep(self) -> float:
        """Linux has a clock of its own for it, macOS another one under a common name; on Windows every clock is one."""
        name = {"linux": "CLOCK_BOOTTIME", "darwin": "CLOCK_MONOTONIC"}.get(sys.platform, "")
        return time.clock_gettime(getattr(time, name)) if hasattr(time, name) else time.monotonic()

    def now(self) -> datetime:
        """The wall clock in UTC."""
        return datetime.now(UTC)

    def sleep(self, seconds: float, wake: threading.Event | None = None) -> None:
        """Wait for ``seconds``, or until ``wake`` is set."""
        if wake is None:
            time.sleep(seconds)
        else:
            wake.wait(seconds)


class FakeClock:
    """A clock that moves only when told to; its wall clock may be wrong by ``skew``."""

    def __init__(self, skew: timedelta = timedelta(0)) -> None:
        self.seconds = 0.0
        self.skew = skew

    def monotonic(self) -> float:
        """Seconds that `advance` and `sleep` have added up."""
        return self.seconds

    def awake_or_asleep(self) -> float:
        """The same."""
        return self.seconds

    def now(self) -> datetime:
        """An arbitrary fixed date, plus the seconds that have passed, plus the skew."""
        return datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=self.seconds) + self.skew

    def sleep(self, seconds: float, wake: threading.Event | None = None) -> None:
        """Let ``seconds`` pass at once."""
        if wake is None or not wake.is_set():
            self.advance(seconds)

    def advance(self, seconds: float) -> None:
        """Let ``seconds`` pass."""
        self.seconds += seconds


def timestamp(moment: datetime) -> str:
    """``2026-01-05T09:41:07Z``: how moments are written in every file."""
    return f"{moment.astimezone(UTC).isoformat(timespec='seconds')[:19]}Z"


def moment(text: str) -> datetime | None:
    """The inverse of `timestamp`; None for what is no time."""
    try:
        return datetime.strptime(text, FORM).replace(tzinfo=UTC)
    except ValueError:
        return None

"""Fetching what is not on this machine: once for all of its workers, with a remedy where it fails. What and from where is the
caller's.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

from filelock import FileLock

from fedspec.errors import CapabilityError, FedspecError, brief

# A large model over a slow line; whoever waits longer says so and takes another item.
WAIT_SECONDS = 1800
TEXT_EXTRA = 'pip install "fedspec[text]"'


_OFFLINE: ContextVar[bool] = ContextVar("offline", default=False)


@contextmanager
def offline() -> Iterator[None]:
    """Within, nothing is fetched: whoever only looks at results must not start a download."""
    token = _OFFLINE.set(True)
    try:
        yield
    finally:
        _OFFLINE.reset(token)


@contextmanager
def fetching(what: str, lock: Path | None, by_hand: str) -> Iterator[None]:
    """Hold ``lock`` while the caller fetches ``what``: several workers may find it missing at the same time.

    Args:
        what: such as ``The data set MNIST``.
        lock: a file that need not be there; None where what fetches has locks of its own.
        by_hand: how else to get it here, as the beginning of a sentence.

    Raises:
        CapabilityError: it could not be fetched, or may not be (`offline`).
    """
    if _OFFLINE.get():
        raise CapabilityError(f"{what} is not here.", f"{by_hand}, or run an experiment with it on this machine first.")
    try:
        if lock is None:
            yield
            return
        lock.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(lock, timeout=WAIT_SECONDS):
            yield
    except FedspecError:
        raise
    except Exception as error:  # each library has classes of its own for a network that does not answer
        fix = f"{by_hand}, or run once with a network connection (the download failed: {brief(error)})."
        raise CapabilityError(f"{what} is not here.", fix) from error

"""How commands open a workspace: the queue with the right waiting times, and this machine's name."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from fedspec.cli.console import say, stderr
from fedspec.errors import UsageError
from fedspec.workspace import Workspace

if TYPE_CHECKING:
    from fedspec.workqueue.distributor import WorkDistributor

PLATFORM_NAMES = {"Darwin": "Mac", "Windows": "Windows", "Linux": "Linux"}


def open_queue(workspace: Path | None, time_scale: float = 1.0) -> WorkDistributor:
    """The queue of a workspace. Raises UsageError for a scale that is not positive."""
    # Not above: `fedspec --help` loads all commands, and no queue.
    from fedspec.workqueue.distributor import WorkDistributor
    from fedspec.workqueue.modes import Notes

    scale = checked_scale(time_scale)
    place = Workspace.find(workspace)
    return WorkDistributor(place, timing=Notes(place).choice().timing(scale))


@contextmanager
def looking(workspace: Path | None, time_scale: float = 1.0) -> Iterator[WorkDistributor]:
    """The queue for a command that only looks: of a long one it goes on from what the last such command has read."""
    from fedspec.workqueue.snapshot import Snapshot

    queue = open_queue(workspace, time_scale)
    snapshot = Snapshot(queue.files, queue.slots.local, queue.workspace)
    snapshot.resume(queue.store)
    yield queue
    snapshot.keep(queue.store)


def checked_scale(scale: float) -> float:
    """``scale``, if waiting times can be multiplied by it. Raises UsageError."""
    if not 0 < scale <= 1000:
        raise UsageError(f"--time-scale must be greater than 0, not {scale}.", "Leave it out, or use a value such as 0.1.")
    return scale


def tell_news(queue: WorkDistributor) -> None:
    """Say what was taken in of what people wrote into the queue's file."""
    for note in queue.caretaker.news():
        say(note, stderr())


def machine_name(given: str | None) -> str:
    """What people call this machine: ``--name``, else its platform."""
    return given or PLATFORM_NAMES.get(platform.system(), platform.system() or "machine")

"""How commands open a workspace: the queue with the right waiting times, and this machine's name."""

from __future__ import annotations

import platform
from pathlib import Path

from fedspec.cli.console import say, stderr
from fedspec.errors import UsageError
from fedspec.folders import folder_kind
from fedspec.workqueue.board import TIMINGS
from fedspec.workqueue.distributor import WorkDistributor
from fedspec.workspace import Workspace

PLATFORM_NAMES = {"Darwin": "Mac", "Windows": "Windows", "Linux": "Linux"}


def open_queue(workspace: Path | None, time_scale: float = 1.0) -> WorkDistributor:
    """The queue of a workspace. Raises UsageError for a scale that is not positive."""
    if not 0 < time_scale <= 1000:
        raise UsageError(f"--time-scale must be greater than 0, not {time_scale}.", "Leave it out, or use a value such as 0.1.")
    place = Workspace.find(workspace)
    return WorkDistributor(place, timing=TIMINGS[folder_kind(place.root).mode].scaled(time_scale))


def tell_news(queue: WorkDistributor) -> None:
    """Say what was taken in of what people wrote into the queue's file."""
    for note in queue.caretaker.news():
        say(note, stderr())


def machine_name(given: str | None) -> str:
    """What people call this machine: ``--name``, else its platform."""
    return given or PLATFORM_NAMES.get(platform.system(), platform.system() or "machine")

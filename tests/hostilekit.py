"""A workspace on a real disk into which anybody may have put anything, an honest worker that works in it, and what lies around.

The worker is the production one; its job trains nothing (`tests.test_worker.FakeJob`), so that a whole run takes a blink.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from fedspec.checkpoints import CheckpointManager
from fedspec.clock import FakeClock
from fedspec.plan import Item
from fedspec.supervisor import LoggingReporter
from fedspec.worker import StopSignal, Worker
from fedspec.workqueue.distributor import WorkDistributor
from fedspec.workqueue.liveness import LOCAL_DISK, Timing
from fedspec.workspace import LocalState, Workspace
from tests.test_worker import FakeJob, expected, item_of, strip_times

ITEM = item_of(rounds=2)
MANY_STEPS = 400
_numbers = itertools.count(1)


@dataclass
class Ground:
    """A workspace ``share`` beside ``home``, which belongs to the person and to nobody else."""

    base: Path
    timing: Timing = LOCAL_DISK
    events: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        for folder in (self.share, self.home):
            folder.mkdir(parents=True)
        (self.home / "diary.txt").write_bytes(b"private\n")
        (self.home / "empty").mkdir()

    @property
    def share(self) -> Path:
        return self.base / "share"

    @property
    def home(self) -> Path:
        return self.base / "home"

    @property
    def workspace(self) -> Workspace:
        return Workspace(self.share)

    def at_home(self) -> dict[str, bytes | None]:
        """Everything that nobody may change: names, and the bytes of files."""
        return {str(path): path.read_bytes() if path.is_file() else None for path in sorted(self.home.rglob("*"))}

    def queue(self) -> WorkDistributor:
        local = LocalState(self.base / "state")
        return WorkDistributor(self.workspace, clock=FakeClock(), timing=self.timing, local=local)

    def enqueue(self, *items: Item) -> None:
        self.queue().enqueue(items)

    def work(self, *items: Item) -> None:
        """An honest worker's whole run; its steps are counted, since a hostile folder must not keep it for ever."""
        queue = self.queue()
        queue.join("honest", ["cpu"])

        def open_job(item: Item, base: Mapping[str, torch.Tensor] | None) -> FakeJob:
            return FakeJob(item, base or {"w": torch.ones(3)}, lambda number, client: None)

        checkpoints = CheckpointManager(self.workspace.checkpoints, queue.files)
        reporter = LoggingReporter(self, self.workspace.log(queue.worker), queue.clock, queue.files)
        worker = Worker(queue, checkpoints, open_job, reporter, StopSignal(), {item.id for item in items or (ITEM,)})
        for steps, seconds in enumerate(worker.steps()):
            assert steps < MANY_STEPS, self.events[-5:]
            queue.clock.sleep(seconds)
            queue.tick()
        queue.leave("finished")

    def event(self, text: str) -> None:
        self.events.append(text)

    def status(self, text: str) -> None:
        pass

    def check(self, item: Item = ITEM) -> None:
        """The item has its one whole result."""
        assert strip_times(self.workspace.result(item.exp).read_bytes()) == strip_times(expected(item))


def put(path: Path, data: bytes = b"") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def sparse(path: Path, size: int) -> None:
    """A file of zeros that takes no space."""
    put(path)
    os.truncate(path, size)


def odd(name: bytes) -> Any:
    """A file name as the system has it, which need not be text."""
    return os.fsdecode(name)

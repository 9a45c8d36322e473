"""A workspace of its own for each test, the command line in this process, and other machines to meet in the queue."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from fedspec.cli import main
from fedspec.cli.plans import read_plan
from fedspec.clock import FakeClock
from fedspec.plan import Item
from fedspec.workqueue.distributor import WorkDistributor
from fedspec.workqueue.liveness import LOCAL_DISK
from fedspec.workqueue.rules import Held
from fedspec.workspace import LocalState

# The smallest run that trains: a blink, once torch is imported.
# The engine is named so that nothing is measured: tests of the command line leave the fast way to those that are about it.
TINY = ("--rounds", "1", "--clients", "2", "--method", "fedavg", "--seed", "42", "--engine", "sequential")
TINY_NAME = "fedavg_dirichlet_alpha0.5_c2_r1"


@dataclass(frozen=True)
class Said:
    """How a command ended and what it said."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The document on stdout."""
        return json.loads(self.out)


class OtherClock(FakeClock):
    """Another machine's: its waiting takes no time, and its wall clock is ``behind`` ours."""

    def __init__(self, behind: timedelta) -> None:
        super().__init__()
        self.behind = behind

    def now(self) -> datetime:
        return datetime.now(UTC) - self.behind


@dataclass
class Place:
    """One shared folder, and the command line of the machine that the test runs on."""

    root: Path
    capsys: pytest.CaptureFixture[str]
    others: Path
    machines: list[WorkDistributor] = field(default_factory=list)

    def fedspec(self, *arguments: str) -> Said:
        """Run a command."""
        self.capsys.readouterr()
        code = main(list(arguments))
        said = self.capsys.readouterr()
        return Said(code, said.out, said.err)

    def machine(self, name: str, *, behind: timedelta = timedelta(0)) -> WorkDistributor:
        """Another machine's member of the queue, whose wall clock is ``behind`` ours, or which wrote so long ago."""
        local = LocalState(self.others / name)
        queue = WorkDistributor(self.root, clock=OtherClock(behind), timing=LOCAL_DISK, local=local)
        queue.join(name, ["cpu"], "0.1.0")
        self.machines.append(queue)
        return queue

    def files(self) -> dict[str, bytes]:
        """Everything in the folder."""
        return {str(path): path.read_bytes() for path in self.root.rglob("*") if path.is_file()}


def items(plan: str = "distributed", **flags: Any) -> tuple[Item, ...]:
    """The items of a plan."""
    return read_plan(plan, flags).items


def save(queue: WorkDistributor, held: Held, round_: int, accuracy: float) -> None:
    """Journal a saved round whose file nobody reads."""
    if not queue.store.fold.item(held.item.id).attempts[held.key].start:
        queue.started(held, 0, "0" * 12, "", "cpu")
    queue.saved(held, round_, f"r{round_:04d}.a{held.attempt:02d}.{held.worker}.{'0' * 12}.pt", "0" * 64, "0" * 12, accuracy)
    queue.report.running, queue.report.round = held.item.id, round_


def beat(queue: WorkDistributor) -> None:
    """Write a heartbeat now."""
    queue.clock.sleep(queue.timing.beat)
    queue.tick()


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Place:
    root = tmp_path / "share"
    root.mkdir()
    monkeypatch.chdir(root)
    monkeypatch.setenv("FEDSPEC_WORKSPACE", str(root))
    monkeypatch.setenv("FEDSPEC_STATE", str(tmp_path / "state"))
    return Place(root, capsys, tmp_path / "others")


@pytest.fixture
def claimed(place: Place) -> Callable[..., tuple[WorkDistributor, Held]]:
    """Let another machine claim the first item that is free, of the distributed plan unless the queue has items."""

    def claim(name: str, *, behind: timedelta = timedelta(0)) -> tuple[WorkDistributor, Held]:
        queue = place.machine(name, behind=behind)
        if not queue.progress().lines:
            queue.enqueue(items())
        held = queue.claim()
        assert isinstance(held, Held)
        return queue, held

    return claim

"""Machines that share a folder: every process that a test starts is gone when it ends."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

# The processes find what they run by its module's name.
sys.path.insert(0, str(Path(__file__).parent))

from machines import Machine, enqueue, results, small

from fedspec.plan import Item

NewMachine = Callable[..., Machine]
Undisturbed = Callable[..., dict[str, list[tuple[str, ...]]]]


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    folder = tmp_path / "share"
    folder.mkdir()
    return folder


@pytest.fixture
def new_machine(tmp_path: Path, workspace: Path) -> Iterator[NewMachine]:
    """Makes machines by name; ``at`` another workspace than the test's."""
    made: dict[str, Machine] = {}

    def machine(name: str, at: Path | None = None) -> Machine:
        return made.setdefault(name, Machine(name, tmp_path / name, at or workspace))

    yield machine
    for one in made.values():
        for running in one.started:
            running.end()


@pytest.fixture
def say(capsys: pytest.CaptureFixture[str]) -> Callable[[str], None]:
    """Prints a line past pytest's capture: what a long proof has done so far."""

    def line(text: str) -> None:
        with capsys.disabled():
            sys.stdout.write(f"\n  {text}")
            sys.stdout.flush()

    return line


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    """What items give when nothing happens: results by experiment, each item run once a session."""
    known: dict[str, list[tuple[str, ...]]] = {}

    def run(*items: Item) -> dict[str, list[tuple[str, ...]]]:
        missing = [item for item in items if item.exp not in known]
        if missing:
            folder = tmp_path_factory.mktemp("undisturbed")
            enqueue(folder / "share", missing)
            running = Machine("quiet", folder / "quiet", folder / "share").work()
            try:
                assert running.wait() == 0, running.output
            finally:
                running.end()
            known.update(results(folder / "share"))
        return {item.exp: known[item.exp] for item in items}

    return run


@pytest.fixture(scope="session")
def life(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The moments of a worker's undisturbed life with one `small` item; moment n is ``life[n - 1]``."""
    folder = tmp_path_factory.mktemp("life")
    enqueue(folder / "share", [small()])
    machine = Machine("quiet", folder / "quiet", folder / "share")
    running = machine.work()
    try:
        assert running.wait() == 0, running.output
    finally:
        running.end()
    return machine.moments(running)

"""The power may fail after every step of whatever a worker makes durable: who comes next loses nothing and ends the work."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from crashpoints import ITEMS, LOCAL, NEW, Life, enqueue, work

from fedspec.files.powercut import LossyKernel, Remains

# Points a test in CI's form, at least one in each operation; the long form tries all.
SHORT = 30
# A mistake must be seen within so many points.
CAUGHT_WITHIN = 120


def queued() -> Remains:
    """A share with a queue, and a machine that has never worked."""
    kernel = LossyKernel(NEW)
    enqueue(kernel, "planner")
    return kernel.remains


def one_round(kernel: LossyKernel) -> None:
    """A person stops the worker in its first item."""
    work(kernel, rounds=1)


def enqueue_and_work(kernel: LossyKernel, machine: str) -> None:
    """The same command again."""
    enqueue(kernel, machine)
    work(kernel, machine)


def with_many_capabilities(kernel: LossyKernel) -> None:
    """A `hello` larger than a segment of the journal."""
    work(kernel, capabilities=("cpu", "x" * 300_000))


def killed_before_sharing() -> Remains:
    """A machine whose worker was killed when its last checkpoint's record was in its own copy, and not in the share."""
    life = Life(queued(), work)
    wanted = "journal: ckpt, machine's copy"
    steps = max(n for n, step in enumerate(life.kernel.steps) if step.kind == "sync" and life.operations[n] == wanted)
    return next(life.kernel.outcomes(steps + 1))[1]


LIVES = {
    "a plan is enqueued": lambda: Life(NEW, enqueue, enqueue_and_work),
    "a worker's whole life": lambda: Life(queued(), work),
    "a worker is stopped": lambda: Life(queued(), one_round, only=("journal: yield", "journal: bye", "clean-up", "the end")),
    "a successor": lambda: Life(killed_before_sharing(), work),
    "a new segment": lambda: Life(queued(), with_many_capabilities, only=("rotation",)),
}


def tell(name: str, machine: str, life: Life) -> None:
    """How many crash points were tried."""
    lines = [f"  {count:5}  {operation}" for operation, count in sorted(life.tried.items())]
    sys.stdout.write(f"\n{name}; then {machine}: {sum(life.tried.values())} crash points\n" + "\n".join(lines) + "\n")


@pytest.mark.parametrize("machine", ["mac", "pc"])
@pytest.mark.parametrize("name", LIVES)
def test_whatever_a_power_cut_leaves_the_next_process_loses_nothing_and_ends_the_work(name: str, machine: str):
    life = LIVES[name]()
    wrong = life.recover(machine, SHORT)
    tell(name, machine, life)
    assert not wrong, "\n".join(wrong[:20])
    assert life.tried.keys() == set(life.places)


@pytest.mark.long
@pytest.mark.parametrize("machine", ["mac", "pc"])
@pytest.mark.parametrize("name", LIVES)
def test_whatever_a_power_cut_leaves_the_next_process_loses_nothing_and_ends_the_work_long(name: str, machine: str):
    life = LIVES[name]()
    wrong = life.recover(machine)
    tell(name, machine, life)
    assert not wrong, "\n".join(wrong[:20])


def test_a_worker_survives_the_power_cut_of_the_share_s_own_machine():
    wrong = Life(queued(), work).survive(SHORT)
    assert not wrong, "\n".join(wrong[:20])


@pytest.mark.long
def test_a_worker_survives_the_power_cut_of_the_share_s_own_machine_long():
    wrong = Life(queued(), work).survive()
    assert not wrong, "\n".join(wrong[:20])


# Known mistakes


class NoSync(LossyKernel):
    """Bytes are never made durable."""

    def sync(self, handle: int) -> None:
        pass


class NoNames(LossyKernel):
    """Names are never made durable."""

    def sync_folder(self, path: Path) -> None:
        pass


class NoFolders(LossyKernel):
    """The names of new files are made durable, those of new folders are not."""

    def sync_folder(self, path: Path) -> None:
        if self.steps[-1].kind != "folder":
            super().sync_folder(path)


class LocalOnly(LossyKernel):
    """The machine's own copy is durable, the share is not."""

    def sync(self, handle: int) -> None:
        if LOCAL in self._paths[self._handles[handle]].parents:
            super().sync(handle)


@pytest.mark.parametrize("mistake", [NoSync, NoNames, NoFolders, LocalOnly])
def test_a_known_mistake_is_caught(mistake: type[LossyKernel]):
    life = Life(queued(), work, kernel_of=mistake)
    assert any("lost" in text or "began" in text for text in life.mishaps("pc", CAUGHT_WITHIN))


def test_the_life_that_is_interrupted_has_every_durable_operation():
    life = Life(queued(), work)
    for wanted in ("machine (local)", "base", "generation", "derived copies", "CSV", "work_queue.json", "heartbeat"):
        assert wanted in life.operations
    for kind in ("hello", "claim", "start", "ckpt", "done", "bye"):
        assert {f"journal: {kind}", f"journal: {kind}, machine's copy"} <= set(life.operations)
    assert "recovery of a dead worker's journal" in Life(killed_before_sharing(), work).operations
    assert len(ITEMS) == 2

"""Whatever moment a worker is killed at, another one carries on, and the result is the one of a run that nobody disturbed."""

from __future__ import annotations

import random
import signal
import time
from pathlib import Path

import pytest
from conftest import NewMachine, Undisturbed
from machines import (
    FAST,
    Machine,
    Running,
    Trap,
    enqueue,
    journal,
    moment_of,
    of_kind,
    repeated_rounds,
    results,
    saved_round,
    small,
    until,
    workers,
)

from fedspec.workqueue.liveness import LOCAL_DISK
from fedspec.workqueue.records import Ckpt, Claim, Done, Hello, Start

MOMENTS = 20
SPREAD = [
    "tear claim in share",
    "append start to copy",
    "ClientDone",
    "append ckpt to copy",
    "tear ckpt in copy",
    "append done to share",
]


def kill_at(moment: int, machine: Machine) -> Running:
    """A worker that is killed at this moment of its life."""
    running = machine.work(trap=Trap(moment, signal.SIGKILL))
    assert running.wait() == -signal.SIGKILL, running.output
    return running


def carry_on(workspace: Path, dead: Machine, successor: Machine, undisturbed: Undisturbed) -> None:
    """The successor ends what the dead worker had begun, from where it was."""
    item = small()
    (lost,) = workers(workspace) or [""]
    claimed = bool(of_kind(journal(workspace), Claim, item))
    finished = bool(of_kind(journal(workspace), Done, item))
    saved = saved_round(workspace, item)
    same = dead is successor
    if same:
        known = len(journal(workspace, lost)) if lost else 0
        for copy in dead.local.slots.glob("*.jsonl"):
            saved += sum(b'"type":"ckpt"' in line for line in copy.read_bytes().split(b"\n")[known:-1])
    began = time.monotonic()
    # With the full waiting times a peer would be presumed dead after a minute: this machine's own workers need no wait.
    running = successor.work(scale=1.0 if same else FAST)
    assert running.wait() == 0, running.output

    assert results(workspace) == undisturbed(item)
    starts = of_kind(journal(workspace), Start, item)
    if claimed and not finished:
        if same:
            assert time.monotonic() - began < LOCAL_DISK.dead
            assert any(lost in hello.closes for hello in of_kind(journal(workspace), Hello))
        else:
            assert time.monotonic() - began >= LOCAL_DISK.scaled(FAST).dead
    if starts and starts[-1].worker != lost:
        assert starts[-1].round == saved
    assert not repeated_rounds(workspace, item)


@pytest.mark.parametrize("label", SPREAD)
def test_a_killed_worker_is_carried_on_with_by_its_machine_at_once_or_by_another_after_t_dead(
    label: str, workspace: Path, new_machine: NewMachine, undisturbed: Undisturbed, life: list[str]
):
    enqueue(workspace, [small()])
    mac = new_machine("mac")
    kill_at(moment_of(life, label, 2), mac)
    carry_on(workspace, mac, mac if SPREAD.index(label) % 2 else new_machine("pc"), undisturbed)


@pytest.mark.long
@pytest.mark.parametrize("same", [True, False], ids=["same machine", "another machine"])
@pytest.mark.parametrize("part", range(MOMENTS))
def test_every_part_of_a_life_can_be_the_last(
    part: int, same: bool, workspace: Path, new_machine: NewMachine, undisturbed: Undisturbed, life: list[str]
):
    low, high = (len(life) * edge // MOMENTS for edge in (part, part + 1))
    enqueue(workspace, [small()])
    mac = new_machine("mac")
    kill_at(random.Random(part).randint(low + 1, high), mac)
    carry_on(workspace, mac, mac if same else new_machine("pc"), undisturbed)


def test_two_machines_that_both_crash_both_resume(workspace: Path, new_machine: NewMachine, undisturbed: Undisturbed):
    items = [small(seed, rounds=25, local_epochs=2) for seed in (42, 43)]
    enqueue(workspace, items)
    mac, pc = new_machine("mac"), new_machine("pc")
    first = [mac.work(), pc.work()]
    until(lambda: all(saved_round(workspace, item) >= 2 for item in items))
    for running in first:
        running.send(signal.SIGKILL)
    for running in first:
        assert running.wait() == -signal.SIGKILL, "both were in the middle of their items"
    saved = {item.id: saved_round(workspace, item) for item in items}

    second = [mac.work(), pc.work()]
    assert [running.wait() for running in second] == [0, 0]
    assert results(workspace) == undisturbed(*items)
    for item in items:
        starts = of_kind(journal(workspace), Start, item)
        assert min(start.round for start in starts[1:]) >= saved[item.id] > 0
        assert not repeated_rounds(workspace, item)


def test_a_worker_killed_in_the_middle_of_a_client_costs_its_round_only(
    workspace: Path, new_machine: NewMachine, undisturbed: Undisturbed
):
    item = small(local_epochs=20, rounds=4)
    enqueue(workspace, [item])
    mac = new_machine("mac")
    running = mac.work()
    until(lambda: saved_round(workspace, item) >= 2)
    running.send(signal.SIGKILL)
    assert running.wait() == -signal.SIGKILL
    assert mac.work().wait() == 0
    assert results(workspace) == undisturbed(item)
    first, second = of_kind(journal(workspace), Start, item)
    assert second.round == max(c.round for c in of_kind(journal(workspace), Ckpt, item) if c.attempt == first.attempt)


@pytest.mark.long
@pytest.mark.parametrize("seed", range(4))
def test_killing_at_random_times_for_a_while_ends_in_the_undisturbed_results(
    seed: int, workspace: Path, new_machine: NewMachine, undisturbed: Undisturbed
):
    chance = random.Random(seed)
    items = [small(number, method=method, rounds=12) for number in (42, 43, 44) for method in ("fedavg", "fedspec")]
    enqueue(workspace, items)
    machines = [new_machine("mac"), new_machine("pc")]
    running = [machine.work() for machine in machines]
    for _ in range(12):
        victim = chance.randrange(2)
        # A random moment, but never one before the item's first checkpoint thrice: that would be a worker's killer.
        time.sleep(chance.uniform(0.3, 1.0))
        running[victim].end()
        running[victim] = machines[victim].work()
    assert [one.wait() for one in running] == [0, 0]
    assert results(workspace) == undisturbed(*items)
    assert not [line for item in items for line in repeated_rounds(workspace, item)]

"""How a person, or the system, stops a run: what is saved, who is told, and what the exit code says."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import psutil
import pytest
from conftest import NewMachine, Undisturbed
from machines import (
    Running,
    enqueue,
    journal,
    of_kind,
    plan_file,
    queued,
    repeated_rounds,
    results,
    saved_round,
    small,
    until,
    workers,
)

from fedspec.workqueue.fold import Fold
from fedspec.workqueue.records import Bye, Ckpt, Hello, Start, Yield

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="sends POSIX signals")

# About a second of short rounds: a signal comes in their midst, and the next command has some left.
MANY_ROUNDS = {"rounds": 80, "local_epochs": 2}
# Rounds of seconds: two signals come within one.
LONG_ROUNDS = {"rounds": 2, "local_epochs": 1000}


def wait_for_round(number: int, workspace: Path, running: Running) -> None:
    """Wait until this round of some item is saved."""
    until(lambda: any(saved_round(workspace, item) >= number for item in queued(workspace)), lambda: running.output)


def test_ctrl_c_or_a_termination_finishes_the_round_and_the_same_command_goes_on(
    workspace: Path, new_machine: NewMachine, undisturbed: Undisturbed, tmp_path: Path
):
    mac, plan = new_machine("mac"), plan_file(tmp_path, **MANY_ROUNDS)
    saved = 0
    for attempt, number in enumerate((signal.SIGINT, signal.SIGTERM), start=1):
        running = mac.fedspec("run", plan)
        wait_for_round(saved + 2, workspace, running)
        running.send(number)
        assert running.wait() == 4, running.output
        assert "Stopping after" in running.output
        assert "Resume with the same command" in running.output
        (item,) = queued(workspace)
        records = journal(workspace)
        assert of_kind(records, Start, item)[-1].round == saved
        saved = saved_round(workspace, item)
        assert of_kind(records, Yield, item)[-1].attempt == attempt
        assert Fold(records).owner(item.id) is None
        assert isinstance(records[-1], Bye)

    running = mac.fedspec("run", plan)
    assert running.wait() == 0, running.output
    assert f"Resuming {item.exp} at round {saved + 1} of {item.config['rounds']}" in running.output
    assert results(workspace) == undisturbed(item)
    # Every round was trained once in all three runs together.
    assert [ckpt.round for ckpt in of_kind(journal(workspace), Ckpt, item)] == list(range(1, item.config["rounds"] + 1))


def test_a_second_ctrl_c_aborts_at_once_and_releases_the_claim(workspace: Path, new_machine: NewMachine, tmp_path: Path):
    running = new_machine("mac").fedspec("run", plan_file(tmp_path, **LONG_ROUNDS))
    until(lambda: of_kind(journal(workspace), Start), lambda: running.output)
    running.send(signal.SIGINT)
    until(lambda: "Stopping after" in running.output)
    running.send(signal.SIGINT)
    assert running.wait() == 130, running.output
    (item,) = queued(workspace)
    assert saved_round(workspace, item) == 0, "the round was not waited for"
    assert Fold(journal(workspace)).owner(item.id) is None
    assert "Aborted" in running.output
    assert "Traceback" not in running.output


def test_a_crew_stops_after_its_rounds_and_a_single_worker_goes_on(
    workspace: Path, new_machine: NewMachine, undisturbed: Undisturbed, tmp_path: Path
):
    mac, plan = new_machine("mac"), plan_file(tmp_path, seeds=(42, 43), **MANY_ROUNDS)
    running = mac.fedspec("run", plan, "--workers", "2")
    until(lambda: any(saved_round(workspace, item) for item in queued(workspace)), lambda: running.output)
    running.send(signal.SIGINT)
    assert running.wait() == 4, running.output
    items = queued(workspace)
    fold = Fold(journal(workspace))
    assert [fold.owner(item.id) for item in items] == [None, None]
    assert all(fold.gone(worker) for worker in workers(workspace))
    saved = {item.id: saved_round(workspace, item) for item in items}
    crew = workers(workspace)

    running = mac.fedspec("work")
    assert running.wait() == 0, running.output
    assert results(workspace) == undisturbed(*items)
    for item in items:
        (later,) = [start for start in of_kind(journal(workspace), Start, item) if start.worker not in crew]
        assert later.round == saved[item.id]


@pytest.mark.long
def test_killed_workers_of_a_crew_are_replaced_and_the_work_is_completed(
    workspace: Path, new_machine: NewMachine, undisturbed: Undisturbed, tmp_path: Path
):
    plan = plan_file(tmp_path, seeds=(42, 43), **MANY_ROUNDS)
    running = new_machine("mac").fedspec("run", plan, "--workers", "2")
    until(lambda: any(saved_round(workspace, item) for item in queued(workspace)), lambda: running.output)
    for child in psutil.Process(running.pid).children():
        child.kill()
    assert running.wait() == 0, running.output
    assert running.output.count("ended unexpectedly (signal 9); started again") == 2
    assert results(workspace) == undisturbed(*queued(workspace))
    assert not [line for item in queued(workspace) for line in repeated_rounds(workspace, item)]


def test_the_workers_of_a_killed_crew_finish_their_round_and_leave(workspace: Path, new_machine: NewMachine, tmp_path: Path):
    plan = plan_file(tmp_path, seeds=(42, 43), **{**MANY_ROUNDS, "rounds": 2000})
    running = new_machine("mac").fedspec("run", plan, "--workers", "2")
    until(lambda: len(of_kind(journal(workspace), Start)) == 2, lambda: running.output)
    children = psutil.Process(running.pid).children()
    running.send(signal.SIGKILL)
    assert running.wait() == -signal.SIGKILL
    try:
        _, alive = psutil.wait_procs(children, timeout=60)
        assert not alive
    finally:
        for child in children:
            if child.is_running():
                child.kill()
    records = journal(workspace)
    assert [record.reason for record in of_kind(records, Bye)] == ["stopped on request"] * 2
    assert [record.reason for record in of_kind(records, Yield)] == ["stopped on request"] * 2
    assert "Traceback" not in running.output


@pytest.mark.long
def test_a_second_ctrl_c_aborts_a_whole_crew(workspace: Path, new_machine: NewMachine, tmp_path: Path):
    plan = plan_file(tmp_path, seeds=(42, 43), **LONG_ROUNDS)
    running = new_machine("mac").fedspec("run", plan, "--workers", "2")
    until(lambda: len(of_kind(journal(workspace), Start)) == 2, lambda: running.output)
    children = psutil.Process(running.pid).children()
    running.send(signal.SIGINT)
    until(lambda: "Stopping after" in running.output)
    running.send(signal.SIGINT)
    assert running.wait() == 130, running.output
    assert not any(child.is_running() for child in children)
    fold = Fold(journal(workspace))
    assert [fold.owner(item.id) for item in queued(workspace)] == [None, None]
    assert all(saved_round(workspace, item) == 0 for item in queued(workspace))
    assert "Traceback" not in running.output


def test_an_item_that_fails_for_good_ends_in_exit_code_1_and_the_others_are_done(
    workspace: Path, new_machine: NewMachine, undisturbed: Undisturbed
):
    # More samples for each client than there are: no machine will ever find such a partition.
    good, bad = small(), small(43, min_client_samples=100_000)
    enqueue(workspace, [good, bad])
    running = new_machine("mac").fedspec("work")
    assert running.wait() == 1, running.output
    assert bad.exp in running.output
    assert results(workspace) == undisturbed(good)
    assert len(of_kind(journal(workspace), Hello)) == 1

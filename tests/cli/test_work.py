"""``fedspec work``: join whatever the folder offers; and Ctrl-C on a worker, as a person presses it."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys

import pytest

from tests.cli.conftest import TINY, TINY_NAME, Place


def test_it_takes_what_the_queue_offers_and_says_what_is_next(place: Place):
    place.fedspec("queue", "add", "quick", *TINY)
    said = place.fedspec("work", "--name", "Windows")
    assert (said.code, said.out) == (0, "")
    assert said.err.startswith(f"Joined as Windows.\nStarting {TINY_NAME}: 1 round, 2 clients\n")
    assert said.err.endswith("Every item in the queue is done. Next: fedspec plot\n")


def test_an_item_that_failed_for_good_is_reported_at_the_end(place: Place):
    place.fedspec("queue", "add", "quick", *TINY)
    queue = place.machine("Mac")
    queue.failed(queue.claim(), "final", "it cannot run.")
    said = place.fedspec("work")
    assert said.code == 1
    assert f"error: {TINY_NAME} failed for good: it cannot run.\n  fix: fedspec queue retry {TINY_NAME}\n" in said.err


@pytest.mark.parametrize("workers", [1, 2])
def test_whoever_was_drained_is_told_the_command_that_lets_it_take_items_again(place: Place, workers: int):
    place.fedspec("queue", "add", "quick", *TINY)
    place.fedspec("queue", "drain")
    said = place.fedspec("work", "--name", "Mac", "--workers", str(workers))
    assert said.code == 4
    assert said.err.endswith("To take items again: fedspec queue resume\n")
    assert "same command" not in said.err
    place.fedspec("queue", "resume")
    place.fedspec("queue", "drain", "--machine", "mac")
    said = place.fedspec("work", "--name", "Mac", "--workers", str(workers))
    assert said.err.endswith("To take items again: fedspec queue resume --machine Mac\n")
    assert place.fedspec("queue", "resume", "--machine", "Mac").code == 0
    assert place.fedspec("work", "--name", "Mac").code == 0


@pytest.mark.skipif(sys.platform == "win32", reason="a test cannot press Ctrl-C there")
def test_ctrl_c_finishes_the_round_and_gives_the_item_back(place: Place):
    place.fedspec("queue", "add", "quick", "--rounds", "2000", "--clients", "2", "--method", "fedavg", "--seed", "42")
    command = [sys.executable, "-m", "fedspec.cli", "work", "--name", "Mac"]
    with subprocess.Popen(command, env=dict(os.environ), stderr=subprocess.PIPE, encoding="utf-8") as worker:
        assert worker.stderr is not None
        # The first status; what follows it comes from a worker that trains.
        said = next(line for line in worker.stderr if "Round 1/2000" in line)
        worker.send_signal(signal.SIGINT)
        said += worker.stderr.read()
    assert worker.returncode == 4
    stopping = re.search(r"Stopping after round (\d+)\. Press Ctrl-C again to abort now\.\n", said)
    saved = re.search(r"Round (\d+) saved\. Claim released\. Resume with the same command\.\n$", said)
    assert stopping is not None
    assert saved is not None
    assert 0 <= int(saved[1]) - int(stopping[1]) <= 1
    state = place.fedspec("progress", "--json").json
    assert [(item["state"], item["round"]) for item in state["items"]] == [("pending", int(saved[1]))]


def test_the_original_s_queue_is_taken_in_and_worked_on(place: Place):
    """No plan and no journal: only the list that the original wrote, and a CSV of what it had finished."""
    entry = {"item_id": 0, "alpha": 0.5, "method": "fedavg", "split_type": "dirichlet", "status": "in_progress", "rounds": 1}
    entry |= {"clients": 2, "assigned_to": "windows", "started_at": "2026-01-05", "completed_at": None}
    finished = entry | {"item_id": 1, "alpha": 0.1, "status": "completed"}
    view = place.root / "distributed_work" / "work_queue.json"
    view.parent.mkdir()
    view.write_text(json.dumps([entry, finished], indent=2), encoding="utf-8")
    (place.root / "paper_results").mkdir()
    (place.root / "paper_results" / "fedavg_dirichlet_alpha0.1_c2_r1.csv").write_text("from the original\n", encoding="utf-8")
    assert "taken in by 'fedspec work'" in place.fedspec("progress").err
    said = place.fedspec("work")
    assert said.code == 0, said.err
    assert said.err.startswith("Taken over from work_queue.json: 1 new experiment.\n")
    assert (place.root / "paper_results" / f"{TINY_NAME}.csv").is_file()
    (shown,) = json.loads(view.read_text(encoding="utf-8"))
    assert (shown["experiment"], shown["status"]) == (TINY_NAME, "completed")


def test_run_takes_the_original_s_queue_in_beside_its_plan(place: Place):
    view = place.root / "distributed_work" / "work_queue.json"
    view.parent.mkdir()
    view.write_text('[{"method": "fedspec", "alpha": 0.1, "split_type": "dirichlet", "status": "pending"}]', encoding="utf-8")
    said = place.fedspec("run", "quick", *TINY)
    assert said.code == 0, said.err
    shown = {entry["experiment"]: entry["status"] for entry in json.loads(view.read_text(encoding="utf-8"))}
    assert shown[TINY_NAME] == "completed"
    assert shown["fedspec_dirichlet_alpha0.1"] == "pending"


def test_a_hand_edit_is_obeyed_by_the_next_worker(place: Place):
    place.fedspec("queue", "add", "quick", *TINY)
    view = place.root / "distributed_work" / "work_queue.json"
    entries = json.loads(view.read_text(encoding="utf-8"))
    view.write_text(json.dumps([entry | {"status": "cancelled"} for entry in entries]), encoding="utf-8")
    said = place.fedspec("work")
    assert f"cancel {TINY_NAME}" in said.err
    assert f"{TINY_NAME} is cancelled; 'fedspec queue resume {TINY_NAME}' undoes it." in said.err
    assert said.code == 1

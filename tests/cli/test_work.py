"""``fedspec work``: join whatever the folder offers; and Ctrl-C on a worker, as a person presses it."""

from __future__ import annotations

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

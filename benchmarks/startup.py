"""How long a person waits for an answer: the wall time of commands that only tell, on a queue of fifty items."""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks import Headline, table, write
from fedspec.config import FederatedConfig
from fedspec.plan import make_item
from fedspec.workqueue.distributor import WorkDistributor

ITEMS = 50
# Seconds, by command.
TARGETS = {"--help": 0.5, "progress": 1.0}


def fedspec(workspace: Path, *arguments: str) -> float:
    """Run a command; returns its wall time in seconds."""
    environment = {**os.environ, "FEDSPEC_WORKSPACE": str(workspace), "FEDSPEC_STATE": str(workspace / "machine")}
    began = time.perf_counter()
    command = [sys.executable, "-m", "fedspec.cli", *arguments]
    subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
    return time.perf_counter() - began


def main() -> None:
    """Fill a queue, let a worker do all of it, and time each command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=10)
    options = parser.parse_args()
    results: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        workspace = Path(folder)
        items = [
            make_item("federated", FederatedConfig(seed=seed, clients=2, rounds=20, batch_size=64)) for seed in range(ITEMS)
        ]
        WorkDistributor(workspace).enqueue(items)
        # Full journals: the slowest case.
        fedspec(workspace, "work")
        for command, target in TARGETS.items():
            seconds = [fedspec(workspace, command) for _ in range(options.times)]
            results[command] = {"median_s": statistics.median(seconds), "worst_s": max(seconds), "target_s": target}
    rows = [
        [f"fedspec {command}", *(f"{one[key]:.3f}" for key in ("median_s", "worst_s", "target_s"))]
        for command, one in results.items()
    ]
    print(table(["command", "median s", "worst s", "target s"], rows))
    headlines = [
        Headline(
            f"fedspec {command}, {ITEMS} items",
            f"{one['median_s']:.2f} s",
            f"{one['target_s']:g} s",
            one["median_s"] <= one["target_s"],
        )
        for command, one in results.items()
    ]
    reached = all(headline.reached for headline in headlines)
    print(f"\ntargets {'reached' if reached else 'missed'}; {write('startup', results, headlines)}")


if __name__ == "__main__":
    main()

"""How much faster two workers do a queue than one: each item once, from the first claim to the last result.

The items are real training on one thread, made long enough by a probe. Each worker is a process on a machine of its own.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from datetime import datetime
from pathlib import Path

from benchmarks import Headline, table, write
from fedspec.config import FederatedConfig
from fedspec.jobs import opener
from fedspec.plan import Item, make_item
from fedspec.workqueue.distributor import WorkDistributor
from fedspec.workqueue.records import Claim, Done, Record, decode

TARGET = 0.55
CLIENTS, ROUNDS = 4, 5
# A processor that has warmed up is faster than the probe found it.
PROBE_EPOCHS, RESERVE = 12, 1.25


def item(seed: int, epochs: int) -> Item:
    """A run whose length is set by the passes of a round."""
    return make_item("federated", FederatedConfig(seed=seed, clients=CLIENTS, rounds=ROUNDS, local_epochs=epochs))


def epochs_for(seconds: float) -> int:
    """How many passes a round needs for an item to train for at least so long here."""
    opener(None)(item(0, 1), None)  # imports and data, which a worker pays for once
    fastest = float("inf")
    for _ in range(3):
        job = opener(None)(item(0, PROBE_EPOCHS), None)
        began = time.perf_counter()
        for _ in job.run(None):
            pass
        fastest = min(fastest, time.perf_counter() - began)
    return round(RESERVE * seconds * PROBE_EPOCHS / fastest) + 1


def records(workspace: Path) -> list[Record]:
    """Every record in the folder's journals."""
    segments = (workspace / "distributed_work" / "journal").glob("*.jsonl")
    found = (decode(line) for path in segments for line in path.read_bytes().split(b"\n")[:-1])
    return [record for record in found if record is not None]


def seconds_of(workspace: Path, workers: int, items: list[Item]) -> tuple[float, Counter[str]]:
    """Let so many workers do the items: (seconds from the first claim to the last result, items by worker).

    Raises:
        SystemExit: an item was not done, or claimed twice.
    """
    share = workspace / "share"
    share.mkdir(parents=True)
    WorkDistributor(share).enqueue(items)
    command = [sys.executable, "-m", "fedspec.cli", "work", "-w", str(share)]
    environments = [{**os.environ, "OMP_NUM_THREADS": "1", "FEDSPEC_STATE": str(workspace / f"{n}")} for n in range(workers)]
    processes = [subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL) for environment in environments]
    codes = [process.wait() for process in processes]
    every = records(share)
    claims, done = ([r for r in every if isinstance(r, kind)] for kind in (Claim, Done))
    if any(codes) or Counter(r.item for r in claims) != Counter(i.id for i in items) or len(done) != len(items):
        raise SystemExit(f"exit codes {codes}, {len(claims)} claims and {len(done)} results of {len(items)} items")
    moments = [datetime.fromisoformat(record.wall) for record in [*claims, *done]]
    return (max(moments) - min(moments)).total_seconds(), Counter(record.worker for record in done)


def main() -> None:
    """Run the queue twice, print both times and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, default=48)
    parser.add_argument("--seconds", type=float, default=2.0, help="how long an item trains at least")
    options = parser.parse_args()
    epochs = epochs_for(options.seconds)
    items = [item(seed, epochs) for seed in range(options.items)]
    with tempfile.TemporaryDirectory() as folder:
        alone, _ = seconds_of(Path(folder) / "one", 1, items)
        together, shares = seconds_of(Path(folder) / "two", 2, items)
    ratio = together / alone
    rows = [
        ["1", f"{alone:.0f}", f"{alone / len(items):.2f}", "1.000", str(len(items))],
        ["2", f"{together:.0f}", f"{together / len(items):.2f}", f"{ratio:.3f}", " + ".join(map(str, shares.values()))],
    ]
    print(table(["workers", "seconds", "seconds an item", "of one worker", "items by worker"], rows))
    reached = ratio <= TARGET and alone >= options.seconds * len(items)
    verdict = "reached" if reached else "missed"
    headline = Headline(f"two workers' time over one's, {len(items)} items", f"{ratio:.3f}", f"{TARGET}", reached)
    result = {"items": len(items), "local_epochs": epochs, "one_s": alone, "two_s": together, "ratio": ratio, "target": TARGET}
    print(f"\n{epochs} passes a round; target {TARGET} {verdict}; {write('parallel', result, [headline])}")


if __name__ == "__main__":
    main()

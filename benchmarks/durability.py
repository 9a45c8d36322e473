"""What it costs to save a round so that it would survive a power cut: the generation, the journal and the derived copies."""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks import Headline, table, write
from fedspec.checkpoints import CheckpointManager
from fedspec.config import FederatedConfig
from fedspec.plan import make_item
from fedspec.supervisor import Settings, open_worker
from fedspec.worker import StopSignal, drive
from fedspec.worker.attempt import Attempt
from fedspec.workqueue.distributor import WorkDistributor
from fedspec.workqueue.view import Publisher

TARGET_MS = 5.0
# What is timed, by the name in the table. A round is the first; the next ones are parts of it, the last two come once an item.
PARTS: dict[str, tuple[type, str]] = {
    "a round, in all": (Attempt, "_save"),
    "  generation": (CheckpointManager, "save"),
    "  journal": (WorkDistributor, "saved"),
    "  derived copies": (CheckpointManager, "derive"),
    "  clean-up": (CheckpointManager, "prune"),
    "an item: result into the journal": (WorkDistributor, "done"),
    "an item: CSV": (Publisher, "publish"),
}


class Quiet:
    """A reporter that says nothing."""

    def event(self, text: str) -> None:
        """Nothing."""

    def status(self, text: str) -> None:
        """Nothing."""


def timed(what: Callable[..., Any], into: list[float]) -> Callable[..., Any]:
    """The same function; the seconds of each call are kept."""

    def call(*arguments: Any, **named: Any) -> Any:
        began = time.perf_counter()
        result = what(*arguments, **named)
        into.append(time.perf_counter() - began)
        return result

    return call


def measure(workspace: Path, items: int, rounds: int) -> dict[str, list[float]]:
    """Run some items as a worker does; the seconds of every call, by part."""
    queue = WorkDistributor(workspace)
    queue.enqueue(
        [make_item("federated", FederatedConfig(seed=seed, rounds=rounds, method="fedspec")) for seed in range(items)]
    )
    taken: dict[str, list[float]] = defaultdict(list)
    for part, (owner, name) in PARTS.items():
        setattr(owner, name, timed(getattr(owner, name), taken[part]))
    worker = open_worker(Settings(workspace=str(workspace), name="benchmark"), Quiet(), StopSignal())
    drive(worker)
    # The worker asks after each item and while it waits; only what wrote a file counts.
    taken["an item: CSV"] = sorted(taken["an item: CSV"])[-items:]
    return taken


def main() -> None:
    """Measure, print medians and the worst tenth."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=None, help="on the disk to measure (default: the temporary folder)")
    parser.add_argument("--items", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=20)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        taken = measure(Path(folder), options.items, options.rounds)
    milliseconds = {part: [1000 * seconds for seconds in taken[part]] for part in PARTS}
    rows = [
        [part, str(len(ms)), f"{statistics.median(ms):.2f}", f"{statistics.quantiles(ms, n=10)[-1]:.2f}"]
        for part, ms in milliseconds.items()
    ]
    print(table(["part", "times", "median ms", "9 of 10 within ms"], rows))
    median = statistics.median(milliseconds["a round, in all"])
    verdict = "reached" if median <= TARGET_MS else "missed"
    headline = Headline("saving a round durably", f"{median:.1f} ms", f"{TARGET_MS:g} ms", median <= TARGET_MS)
    result: dict[str, Any] = {part.strip(): {"median_ms": statistics.median(ms)} for part, ms in milliseconds.items()}
    path = write("durability", {**result, "target_ms": TARGET_MS}, [headline])
    print(f"\na round: {median:.2f} ms; target {TARGET_MS} ms {verdict}; {path}")


if __name__ == "__main__":
    main()

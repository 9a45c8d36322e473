"""What a long queue costs: 10,000 items, 50 live workers and 100,000 events, read cold, looked at, claimed from and shown.

Figures are medians. Targets are judged by CPU time, since wall time is also that of whoever else uses the machine and its disk.
The same with a tenth and a hundredth of everything shows how the cost grows.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks import Headline, table, write
from benchmarks.long_queue import Course, NoSync, Pen, Size
from fedspec.files import FencedFiles
from fedspec.files.kernel import SystemKernel
from fedspec.plan import Item
from fedspec.workqueue.distributor import WorkDistributor
from fedspec.workqueue.liveness import LOCAL_DISK
from fedspec.workqueue.records import (
    Ckpt,
)
from fedspec.workqueue.rules import Held
from fedspec.workqueue.store import Store
from fedspec.workqueue.view import render_view
from fedspec.workspace import LocalState, Workspace

# Milliseconds of the largest queue, by part.
TARGETS_MS = {
    "cold fold": 2000.0,
    "refresh": 5.0,
    "catch up": 5.0,
    "gate": 5.0,
    "claim": 50.0,
    "claim, no fsync": 50.0,
    "fedspec progress": 1000.0,
    "fedspec progress --json": 1000.0,
}


class Meter:
    """Milliseconds of CPU and of wall time, by part."""

    def __init__(self) -> None:
        self.taken: dict[str, list[tuple[float, float]]] = {}

    @contextmanager
    def __call__(self, part: str) -> Iterator[None]:
        """Measure what is done inside, once more."""
        gc.collect()
        cpu, wall_s = time.process_time(), time.perf_counter()
        yield
        self.add(part, time.process_time() - cpu, time.perf_counter() - wall_s)

    def add(self, part: str, cpu_s: float, wall_s: float) -> None:
        """Take in what was measured elsewhere."""
        self.taken.setdefault(part, []).append((1000 * cpu_s, 1000 * wall_s))

    def medians(self) -> dict[str, dict[str, float]]:
        """Of each part the median milliseconds."""
        return {
            part: {"cpu_ms": statistics.median(t[0] for t in taken), "wall_ms": statistics.median(t[1] for t in taken)}
            for part, taken in self.taken.items()
        }


def reading(root: Path) -> None:
    """What a fresh process does that reads it all; prints the seconds it took."""
    workspace = Workspace(root)
    store = Store(FencedFiles(root), workspace)
    cpu, wall_s = time.process_time(), time.perf_counter()
    store.refresh()
    print(json.dumps([time.process_time() - cpu, time.perf_counter() - wall_s]))


def as_a_command(meter: Meter, part: str, command: list[str], environment: dict[str, str]) -> str:
    """Run a command to its end; returns what it printed."""
    before, wall_s = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run([sys.executable, *command], env=environment, capture_output=True, check=True, text=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    meter.add(part, cpu, time.perf_counter() - wall_s)
    return done.stdout


def measure(root: Path, size: Size) -> tuple[int, dict[str, dict[str, float]]]:
    """Write a queue of that size and measure every part; returns how many events it has, and the medians."""
    meter = Meter()
    workspace, state = Workspace(root / "share"), root / "state"
    course = Course(workspace, size)
    course.write()
    # As on a machine where the command was used before: Python keeps what it has compiled.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    environment |= {"FEDSPEC_WORKSPACE": str(workspace.root), "FEDSPEC_STATE": str(state)}
    for _ in range(min(size.times, 5)):
        printed = as_a_command(Meter(), "", ["-m", "benchmarks.scale", "--read", str(workspace.root)], environment)
        meter.add("cold fold", *json.loads(printed))
    _as_people_see_it(meter, environment, state, min(size.times, 5))
    queue = joined(workspace, state, FencedFiles(workspace.root))
    _as_a_member(meter, queue, course, size)
    quick = joined(workspace, state, FencedFiles(workspace.root, kernel=NoSync()))
    for _ in range(size.times):
        claim(meter, "claim, no fsync", quick)
    _enqueue(meter, root, course.items)
    return course.events, meter.medians()


def joined(workspace: Workspace, state: Path, files: FencedFiles) -> WorkDistributor:
    """One more member."""
    queue = WorkDistributor(workspace, files=files, timing=LOCAL_DISK, local=LocalState(state / "worker"))
    queue.join("Mac", ["cpu"])
    return queue


def claim(meter: Meter, part: str, queue: WorkDistributor) -> None:
    """Claim an item and give it back."""
    queue.tick()  # whoever has not looked for some polls takes itself for one that slept
    with meter(part):
        held = queue.claim()
    assert isinstance(held, Held), type(held)
    queue.give_back(held, "measured")


def _as_people_see_it(meter: Meter, environment: dict[str, str], state: Path, times: int) -> None:
    for _ in range(times):
        shutil.rmtree(state, ignore_errors=True)
        as_a_command(meter, "fedspec progress, the first time", ["-m", "fedspec.cli", "progress"], environment)
    for _ in range(times):
        as_a_command(meter, "fedspec progress", ["-m", "fedspec.cli", "progress"], environment)
        as_a_command(meter, "fedspec progress --json", ["-m", "fedspec.cli", "progress", "--json"], environment)


def _as_a_member(meter: Meter, queue: WorkDistributor, course: Course, size: Size) -> None:
    store, peer = queue.store, course.live[0]
    held = queue.claim()
    assert isinstance(held, Held), type(held)
    for number in range(size.times):
        with meter("refresh, nothing new"):
            store.refresh()
        for part, look in (("refresh", store.refresh), ("catch up", store.catch_up), ("gate", partial(queue.must_stop, held))):
            peer_says(course, peer, number)
            with meter(part):
                look()
    queue.give_back(held, "measured")
    parts: dict[str, Callable[[], object]] = {
        "tick": queue.tick,
        "seal pass": queue.seal,
        "beats of all": store.read_beats,
        "progress of all": lambda: queue.look().progress(),
        "render work_queue.json": lambda: render_view(store.fold, store.items),
        "publish, nothing new": queue.caretaker.publish,
    }
    queue.caretaker.publish()
    for part, act in parts.items():
        for _ in range(size.times):
            with meter(part):
                act()
    for _ in range(size.times):
        claim(meter, "claim", queue)


def peer_says(course: Course, peer: Pen, number: int) -> None:
    """One more record in one journal."""
    about: dict[str, Any] = {"item": course.items[-size_of(course)].id, "attempt": 1, "round": 4 + number}
    sha = f"{number:064x}"
    before = len(peer.segments)
    peer.write(Ckpt, course.lam, **about, file=f"r{number:04d}.pt", sha256=sha, base="1b5d313e0753", accuracy=0.9)
    assert len(peer.segments) <= before + 1
    peer.put_down()


def size_of(course: Course) -> int:
    """How many items are running."""
    return course.size.workers


def _enqueue(meter: Meter, root: Path, items: list[Item]) -> None:
    for part, kernel in (("enqueue all", SystemKernel()), ("enqueue all, no fsync", NoSync())):
        fresh = Workspace(root / part.replace(" ", "_"))
        fresh.root.mkdir()
        files = FencedFiles(fresh.root, kernel=kernel)
        queue = WorkDistributor(fresh, files=files, timing=LOCAL_DISK, local=LocalState(root / "state" / "planner"))
        with meter(part):
            queue.enqueue(items)
        shutil.rmtree(fresh.root)


def main() -> None:
    """Measure three sizes and print them side by side."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=None, help="on the disk to measure (default: the temporary folder)")
    parser.add_argument("--items", type=int, default=10_000, help="of the largest queue")
    parser.add_argument("--workers", type=int, default=50)
    parser.add_argument("--times", type=int, default=7)
    parser.add_argument("--once", action="store_true", help="only the largest queue")
    parser.add_argument("--read", type=Path, default=None, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.read is not None:
        reading(options.read)
        return
    sizes = [options.items] if options.once else [options.items // 100, options.items // 10, options.items]
    results: dict[int, dict[str, dict[str, float]]] = {}
    events: dict[int, int] = {}
    for items in sizes:
        with tempfile.TemporaryDirectory(dir=options.folder) as folder:
            size = Size(items, min(options.workers, items // 2), options.times)
            events[items], results[items] = measure(Path(folder), size)
    largest = results[sizes[-1]]
    header = ["part", *(f"{items} items, {events[items]} events: CPU / wall ms" for items in sizes), "target ms", ""]
    rows = []
    for part in largest:
        target = TARGETS_MS.get(part)
        verdict = "" if target is None else "reached" if largest[part]["cpu_ms"] <= target else "missed"
        figures = [f"{results[items][part]['cpu_ms']:.1f} / {results[items][part]['wall_ms']:.1f}" for items in sizes]
        rows.append([part, *figures, "" if target is None else f"{target:.0f}", verdict])
    rows += [
        [f"{part}: µs an event", *(f"{1000 * results[i][part]['cpu_ms'] / events[i]:.1f}" for i in sizes), "", ""]
        for part in ("cold fold",)
    ]
    rows += [
        [f"{part}: µs an item", *(f"{1000 * results[i][part]['cpu_ms'] / i:.1f}" for i in sizes), "", ""]
        for part in ("claim, no fsync", "tick", "progress of all", "render work_queue.json")
    ]
    print(table(header, rows))
    body = {str(items): {"events": events[items], "parts": results[items]} for items in sizes}
    headlines = [
        Headline(
            f"{sizes[-1]:,} items: {part}, CPU time",
            f"{largest[part]['cpu_ms']:.1f} ms",
            f"{target:.0f} ms",
            largest[part]["cpu_ms"] <= target,
        )
        for part, target in TARGETS_MS.items()
        if part in largest
    ]
    print(f"\n{write('scale', {'workers': options.workers, 'targets_ms': TARGETS_MS, 'sizes': body}, headlines)}")


if __name__ == "__main__":
    main()

"""Starts each framework in a process of its own, lets them take turns by the round, and prints what a round takes.

Which frameworks there are, and how each is started, is in `FRAMEWORKS`.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import psutil
import torch

from benchmarks import Headline, frameworks, table, write
from benchmarks.frameworks.job import Job
from fedspec.config import FederatedConfig
from fedspec.data import mnist
from fedspec.federated.experiment import prepare
from fedspec.federated.partition import dirichlet

ROOT = Path(__file__).parents[2]
CLIENTS, ALPHA, BATCH, LR, SEED = 10, 0.5, 32, 0.1, 42
# A framework's own cost of a round is much the same whatever the clients do in it: its share is that of short rounds.
IMAGES = (1_000, 10_000, 55_000)
PATIENCE_S = 300.0


@dataclass(frozen=True, slots=True)
class Framework:
    """One line of the table.

    Attributes:
        runner: the module in this folder.
        packages: what it imports.
        processes: how many compute at a time.
        launcher: Python's arguments before the module.
    """

    runner: str
    packages: tuple[str, ...] = ()
    processes: int = 1
    launcher: tuple[str, ...] = ()


TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node")
BARE, FEDSPEC, PFL, FLOWER = "bare loop", "fedspec", "pfl", "Flower"
QUICKSTART = "Flower's quickstart"
FRAMEWORKS = {
    BARE: Framework("bare"),
    FEDSPEC: Framework("engine"),
    f"{PFL}, 1 process": Framework("pfl_simulation", ("pfl",)),
    f"{PFL}, 2 processes": Framework("pfl_simulation", ("pfl",), 2, (*TORCHRUN, "2")),
    f"{FLOWER}, 1 process": Framework("flower", ("flwr", "ray")),
    f"{FLOWER}, 2 processes": Framework("flower", ("flwr", "ray"), 2),
    f"{QUICKSTART}, 1 process": Framework("flower_datasets", ("flwr", "ray", "datasets")),
    f"{QUICKSTART}, 2 processes": Framework("flower_datasets", ("flwr", "ray", "datasets"), 2),
}
# How long fedspec may train, in times of the bare loop; how long a peer's round takes, in times of fedspec's.
MOST = 1.05
TARGETS = {PFL: 1.0, FLOWER: 6.0, QUICKSTART: 6.0}
ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "PYTHONPATH": str(ROOT),
    # Ray gives its workers a low priority, which would tell against it on a machine that does something else as well.
    "RAY_worker_niceness": "0",
    # None tells anybody that it was used.
    "FLWR_TELEMETRY_ENABLED": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
}


@dataclass(slots=True)
class Figures:
    """What was measured of one framework, over all sittings."""

    versions: dict[str, str] = field(default_factory=dict)
    startup_s: list[float] = field(default_factory=list)
    laps: list[dict[str, float]] = field(default_factory=list)
    accuracies: list[float] = field(default_factory=list)

    def seconds(self, what: str) -> list[float]:
        """Of each round."""
        return [lap[what] for lap in self.laps]


class Sitting:
    """A framework's process, which has done its first round and waits for its turn."""

    def __init__(self, name: str, python: str, job: Path, log: IO[str]) -> None:
        self.name, self._log = name, log
        framework = FRAMEWORKS[name]
        command = [*framework.launcher, "-m", f"{frameworks.__name__}.{framework.runner}", str(job)]
        options = ["--processes", str(framework.processes), "--started", str(time.time())]
        self._process = psutil.Popen(
            [python, *command, *options],
            cwd=ROOT,
            env={**os.environ, **ENVIRONMENT},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            encoding="utf-8",
        )
        self.first = self._told()

    def turn(self) -> dict[str, float]:
        """One more round: its seconds, also of CPU time."""
        before = self._cpu_s()
        self._go_on()
        return {**self._told(), "cpu_s": self._cpu_s() - before}

    def end(self) -> None:
        """Let the process finish."""
        self._go_on()
        self._process.communicate(timeout=PATIENCE_S)

    def kill(self) -> None:
        """Whatever it still does, with all that it has started."""
        with suppress(psutil.NoSuchProcess):
            for process in (*self._process.children(recursive=True), self._process):
                with suppress(psutil.NoSuchProcess):
                    process.kill()

    def _go_on(self) -> None:
        print(file=self._process.stdin, flush=True)

    def _told(self) -> dict[str, Any]:
        for line in self._process.stdout:
            if line.startswith("{"):
                told: dict[str, Any] = json.loads(line)
                return told
        self._log.seek(0)
        raise SystemExit(f"{self.name} ended with exit code {self._process.wait()}:\n{self._log.read()[-2000:]}")

    def _cpu_s(self) -> float:
        """User and system time of the process and of those that it has started."""
        total = 0.0
        for process in (self._process, *self._process.children(recursive=True)):
            with suppress(psutil.NoSuchProcess):
                times = process.cpu_times()
                total += times.user + times.system
        return total


def missing(name: str, python: str) -> str | None:
    """Why a framework cannot be measured, if so."""
    packages = FRAMEWORKS[name].packages
    asking = f"import {', '.join(('torch', *packages))}; print(torch.__version__)"
    asked = subprocess.run([python, "-c", asking], capture_output=True, check=False, text=True, encoding="utf-8")
    if asked.returncode:
        return f"{python} cannot import {' and '.join(packages)}; see --help"
    theirs = asked.stdout.split()[-1]
    return None if theirs == torch.__version__ else f"{python} has torch {theirs}, not {torch.__version__}"


def make_jobs(images: int, rounds: int, sittings: int, folder: Path) -> list[Path]:
    """The job once for each sitting: what differs is the seed of the shuffles."""
    root = Path(os.environ["FEDSPEC_DATA"])
    data = mnist.load(root)
    inputs, labels = data.train.inputs[:images], data.train.labels[:images]
    shares = dirichlet(labels.numpy(), alpha=ALPHA, clients=CLIENTS, seed=SEED, min_samples=8).clients
    config = FederatedConfig(dataset="mnist", model="2nn", tune="full", optimizer="sgd", seed=SEED)
    start = prepare(config, device="cpu", data_root=root).base
    paths = []
    for sitting in range(sittings):
        job = Job(
            rounds=rounds,
            epochs=1,
            batch_size=BATCH,
            lr=LR,
            seed=SEED + sitting,
            start=start,
            clients=[(inputs[mine], labels[mine]) for mine in map(torch.from_numpy, shares)],
            test=(data.test.inputs, data.test.labels),
        )
        paths.append(folder / f"{images}-{sitting}.pt")
        job.save(paths[-1])
    return paths


def measure(pythons: dict[str, str], jobs: Sequence[Path], rounds: int) -> dict[str, Figures]:
    """All frameworks in turns, once for each job."""
    found = {name: Figures() for name in pythons}
    for job in jobs:
        with ExitStack() as stack:
            sittings = []
            for name, python in pythons.items():
                log = stack.enter_context(tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace"))
                sittings.append(Sitting(name, python, job, log))
                stack.callback(sittings[-1].kill)
            for number in range(rounds - 1):
                for place in range(len(sittings)):
                    sitting = sittings[(number + place) % len(sittings)]
                    found[sitting.name].laps.append(sitting.turn())
            for sitting in sittings:
                sitting.end()
                figures = found[sitting.name]
                later = statistics.median(figures.seconds("round_s")[1 - rounds :])
                figures.versions = sitting.first["versions"]
                figures.startup_s.append(sitting.first["first_s"] - later)
                figures.accuracies.append(figures.laps[-1]["accuracy"])
    return found


def ratios(figures: Figures, to: Figures, what: str) -> tuple[float, float, float]:
    """Of the turns: the first quartile, the median and the third quartile."""
    # A ratio within a turn: both met the same weather.
    each = [mine / theirs for mine, theirs in zip(figures.seconds(what), to.seconds(what), strict=True)]
    low, middle, high = statistics.quantiles(each, n=4)
    return low, middle, high


def show(images: int, found: dict[str, Figures]) -> None:
    """Print one size's table."""
    bare = found[BARE]
    rows = []
    for name, figures in found.items():
        low, middle, high = ratios(figures, bare, "round_s")
        percent = [100 * accuracy for accuracy in figures.accuracies]
        rows.append(
            [
                name,
                f"{statistics.median(figures.seconds('round_s')):.3f}",
                f"{middle:.2f} ({low:.2f} to {high:.2f})",
                f"{ratios(figures, bare, 'work_s')[1]:.2f}",
                f"{statistics.median(figures.seconds('cpu_s')):.2f} ({ratios(figures, bare, 'cpu_s')[1]:.2f})",
                f"{statistics.median(figures.startup_s):.1f}",
                f"{statistics.fmean(percent):.1f} ({min(percent):.1f} to {max(percent):.1f})",
            ]
        )
    heads = [
        "s/round",
        "over the bare loop (quartiles)",
        "without evaluation",
        "CPU s/round (over bare)",
        "start-up s",
        "accuracy % (range)",
    ]
    print(table([f"{images:,} images", *heads], rows))


def headlines(images: int, found: dict[str, Figures]) -> list[Headline]:
    """What is claimed: training over the bare loop's, and each peer's round over fedspec's, both on one core.

    Fedspec gives each run a core, and does as many at a time as there are cores; what a peer's round takes on two is told too.
    """
    # One process on one thread: its CPU time is what a quiet machine would take.
    over = ratios(found[FEDSPEC], found[BARE], "train_cpu_s")[1]
    what = f"full-weight training over a bare loop, CPU time, {images:,} images"
    claims = [Headline(what, f"{over:.2f}", f"at most {MOST}", over <= MOST)]
    for peer, target in TARGETS.items():
        alone, both = (found.get(f"{peer}, {processes}") for processes in ("1 process", "2 processes"))
        if alone is not None:
            times, cpu = (ratios(alone, found[FEDSPEC], key)[1] for key in ("round_s", "cpu_s"))
            beside = "" if both is None else f", on two cores {ratios(both, found[FEDSPEC], 'round_s')[1]:.2f}"
            what = f"a round of {peer} over fedspec's, {images:,} images"
            claims.append(Headline(what, f"{times:.2f} (CPU time {cpu:.2f}{beside})", f"at least {target:g}", times >= target))
    return claims


def main() -> None:
    """Measure each size, print the tables, write the JSON."""
    parser = argparse.ArgumentParser(description=frameworks.__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", default=sys.executable, help="the peers' interpreter (default: this one)")
    parser.add_argument("--images", type=int, nargs="+", default=IMAGES, help="of MNIST's 55,000 training images")
    parser.add_argument("--rounds", type=int, default=9, help="the first one is start-up")
    parser.add_argument("--sittings", type=int, default=3, help="how often all are started")
    options = parser.parse_args()
    pythons = {}
    for name, framework in FRAMEWORKS.items():
        python = options.python if framework.packages else sys.executable
        if why := missing(name, python):
            print(f"{name}: left out: {why}")
        else:
            pythons[name] = python
    result: dict[str, Any] = {}
    claims: list[Headline] = []
    for images in options.images:
        with tempfile.TemporaryDirectory() as folder:
            jobs = make_jobs(images, options.rounds, options.sittings, Path(folder))
            found = measure(pythons, jobs, options.rounds)
        show(images, found)
        mine = headlines(images, found)
        print(*(f"{claim.what}: {claim.figure}" for claim in mine), sep="\n", end="\n\n")
        claims += mine
        result[str(images)] = {
            name: {"versions": f.versions, "startup_s": f.startup_s, "rounds": f.laps, "accuracies": f.accuracies}
            for name, f in found.items()
        }
    print(write("frameworks", result, claims))


if __name__ == "__main__":
    main()

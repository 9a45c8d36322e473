"""Runs the benchmarks one after the other, each as its own command, and prints one table of what they are about.

A benchmark that needs what this machine does not have is left out, with the reason. All is written to
``benchmarks/results/all.json``.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import psutil

from benchmarks import RESULTS, Headline, table, write


@dataclass(frozen=True, slots=True)
class Benchmark:
    """One line of `BENCHMARKS`.

    Attributes:
        data: whether it needs FEDSPEC_DATA.
        peers: whether it needs an interpreter that has other frameworks.
        asked: whether it runs only if it is named: it takes hours, or measures nothing that is reported.
    """

    data: bool = False
    peers: bool = False
    asked: bool = False

    def missing(self, peers: str | None) -> str | None:
        """Why it cannot run here, if so."""
        if self.data and "FEDSPEC_DATA" not in os.environ:
            return "FEDSPEC_DATA is not set"
        if self.peers and peers is None:
            return "no --peers: the interpreter of an environment with the other frameworks (pip install .[peers])"
        return None

    def arguments(self, peers: str | None) -> Sequence[str]:
        """Of its command."""
        return ("--python", peers) if self.peers and peers else ()


BENCHMARKS = {
    "startup": Benchmark(),
    "durability": Benchmark(),
    "svd": Benchmark(),
    "engine": Benchmark(),
    "frameworks": Benchmark(data=True, peers=True),
    "parallel": Benchmark(),
    "rivals": Benchmark(),
    "scale": Benchmark(),
    "digits_table": Benchmark(),
    "tune_lr": Benchmark(asked=True),
}


def run(name: str, arguments: Sequence[str]) -> list[Headline] | str:
    """What a benchmark found, or how it failed."""
    found = RESULTS / f"{name}.json"
    found.unlink(missing_ok=True)
    done = subprocess.run([sys.executable, "-m", f"benchmarks.{name}", *arguments], check=False)
    # One that has missed a limit ends with an exit code as well, but it has written what it found.
    if not found.exists():
        return f"exit code {done.returncode}"
    return [Headline(**one) for one in json.loads(found.read_text(encoding="utf-8"))["headlines"]]


def main() -> None:
    """Run those that can run, print the table, write the JSON; exit code 1 if one failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(BENCHMARKS)} (default: all but tune_lr)")
    parser.add_argument("--peers", default=None, help="the interpreter of an environment with the other frameworks")
    options = parser.parse_args()
    if unknown := set(options.names) - BENCHMARKS.keys():
        parser.error(f"there is no benchmark called {', '.join(sorted(unknown))}")
    names = options.names or [name for name, benchmark in BENCHMARKS.items() if not benchmark.asked]
    measured: dict[str, Any] = {}
    left_out: dict[str, str] = {}
    failed: dict[str, str] = {}
    rows = []
    for name in names:
        benchmark = BENCHMARKS[name]
        if why := benchmark.missing(options.peers):
            left_out[name] = why
            continue
        print(f"\npython -m benchmarks.{name}", flush=True)
        began = time.perf_counter()
        found = run(name, benchmark.arguments(options.peers))
        if isinstance(found, str):
            failed[name] = found
            continue
        measured[name] = {"seconds": time.perf_counter() - began}
        for one in found:
            verdict = {None: "", True: "reached", False: "MISSED"}[one.reached]
            rows.append([one.what, one.figure, one.target, verdict, f"python -m benchmarks.{name}"])
    machine = {
        "system": platform.platform(),
        "cores": os.cpu_count(),
        "load": psutil.getloadavg()[0],  # of others as well, who make times longer
        "python": platform.python_version(),
        **{package: version(package) for package in ("fedspec", "torch", "numpy")},
    }
    print(f"\n{table(['measured', 'figure', 'target', '', 'command'], rows)}")
    print(f"\n{machine}")
    for name, why in {**left_out, **failed}.items():
        print(f"{name}: {'failed' if name in failed else 'left out'}: {why}")
    result = {"machine": machine, "table": rows, "measured": measured, "left_out": left_out, "failed": failed}
    print(write("all", result))
    if failed:
        raise SystemExit(1)


if __name__ == "__main__":
    main()

"""Measurements, each run as ``python -m benchmarks.<name>``: prints a table and writes its figures as JSON.

What is written goes to ``benchmarks/results/``, which git ignores.
"""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
LAST_ROUNDS = 5


def write(name: str, result: dict[str, Any]) -> Path:
    """Write a benchmark's figures to ``benchmarks/results/<name>.json``."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    return path


def table(header: list[str], rows: list[list[str]]) -> str:
    """A Markdown table with aligned columns."""
    lines = [header, ["-" * len(name) for name in header], *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    padded = (
        (cell.ljust(width, "-" if number == 1 else " ") for cell, width in zip(line, widths, strict=True))
        for number, line in enumerate(lines)
    )
    return "\n".join("| " + " | ".join(cells) + " |" for cells in padded)


def late_mean(accuracies: list[float]) -> float:
    """The mean of a run's last five rounds, in percent: less noise than the last round alone."""
    return 100 * statistics.fmean(accuracies[-LAST_ROUNDS:])

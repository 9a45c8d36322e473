"""Measurements, each run as ``python -m benchmarks.<name>``: prints a table and writes its figures as JSON.

``python -m benchmarks`` runs them one after the other and prints one table of what each is about. What is written goes to
``benchmarks/results/``, which git ignores.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
LAST_ROUNDS = 5


@dataclass(frozen=True, slots=True)
class Headline:
    """What a benchmark is about, in one line of the table of all.

    Attributes:
        what: was measured.
        figure: as it is read, with its unit.
        target: likewise, and whether it was ``reached``; without one, ``None``.
    """

    what: str
    figure: str
    target: str = ""
    reached: bool | None = None


def write(name: str, result: dict[str, Any], headlines: Sequence[Headline] = ()) -> Path:
    """Write a benchmark's figures to ``benchmarks/results/<name>.json``."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    whole = {**result, "headlines": [asdict(headline) for headline in headlines]}
    path.write_text(json.dumps(whole, indent=2) + "\n", encoding="utf-8")
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

"""Result CSVs as runs, one a file; which runs belong together is for `families` to say."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fedspec.errors import DamagedError, SetupError
from fedspec.results import LAST_ROUNDS, Row, read_rows, result_paths


# Without slots, which have no room for what is computed once.
@dataclass(frozen=True, eq=False)
class Run:
    """One experiment with one seed.

    Attributes:
        name: the CSV's name without its suffix.
        rows: one a round, in order; at least one.
    """

    name: str
    rows: tuple[Row, ...]

    @property
    def method(self) -> str:
        """The aggregation method, or a reference's."""
        return self.rows[0].method

    @property
    def alpha(self) -> float | None:
        """Dirichlet concentration; None where there is none (iid, centralized)."""
        alpha = self.rows[0].alpha
        return None if alpha is None or math.isnan(alpha) else alpha

    @property
    def seed(self) -> int:
        """Of everything that is random."""
        return self.rows[0].seed

    @cached_property
    def rounds(self) -> NDArray[np.int64]:
        """The rounds of the rows: (rounds,), increasing."""
        return np.array([row.round for row in self.rows], dtype=np.int64)

    def values(self, column: str) -> NDArray[np.float64]:
        """A column of numbers: (rounds,), NaN where it has no meaning."""
        return np.array([getattr(row, column) for row in self.rows], dtype=np.float64)

    def first(self, column: str) -> Any:
        """The column's value in the first row, for columns that are the same in all."""
        return getattr(self.rows[0], column)

    def late(self, column: str) -> float:
        """The column's mean over the last five rounds, NaN without values: one alone wobbles by more than methods differ."""
        late = (getattr(row, column) for row in self.rows[-LAST_ROUNDS:])
        values = [value for value in late if value is not None and not math.isnan(value)]
        return math.fsum(values) / len(values) if values else math.nan

    @property
    def last_round(self) -> int:
        """The round that the run has reached."""
        return self.rows[-1].round


class Loaded(NamedTuple):
    """What CSVs hold: the runs, and a message for each file that was left out because it is damaged."""

    runs: tuple[Run, ...]
    notes: tuple[str, ...]


# Where runs come from: a folder, some CSVs, or runs that were loaded before.
Results = Path | Iterable[Path] | Loaded


def load_runs(where: Results) -> Loaded:
    """The runs in a folder, or in the CSVs named.

    Raises:
        SetupError: no run is left.
    """
    if isinstance(where, Loaded):
        return where
    runs: list[Run] = []
    notes: list[str] = []
    for path in result_paths(where) if isinstance(where, Path) else where:
        try:
            if rows := read_rows(path):
                runs.append(Run(path.stem, tuple(rows)))
        except DamagedError as error:
            notes.append(f"Left out: {error.what} {error.fix}")
    if runs:
        return Loaded(tuple(runs), tuple(notes))
    place = where if isinstance(where, Path) else "the files named"
    if notes:
        raise SetupError(f"No readable results in {place}. {notes[0]}", "Repair or delete what is damaged, then plot again.")
    raise SetupError(f"No results in {place} yet.", "Run an experiment first: fedspec run quick")

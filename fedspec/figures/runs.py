"""Result CSVs as runs, one a file; which runs belong together is for `families` to say."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from fedspec.errors import DamagedError, SetupError
from fedspec.results import LAST_ROUNDS, Row, read_rows, result_paths, to_frame

if TYPE_CHECKING:
    import pandas as pd


# Without slots, which have no room for what is computed once.
@dataclass(frozen=True, eq=False)
class Run:
    """One experiment with one seed.

    Attributes:
        name: the CSV's name without its suffix.
        alpha: Dirichlet concentration; None where there is none (iid, centralized).
        table: one row a round, in order, with the columns of `fedspec.results`.
    """

    name: str
    method: str
    alpha: float | None
    seed: int
    table: pd.DataFrame

    def series(self, column: str) -> pd.Series[float]:
        """The column's values, (rounds,) float64, indexed by round; NaN where it has no meaning."""
        values: pd.Series[float] = self._by_round[column]
        return values

    @cached_property
    def _by_round(self) -> pd.DataFrame:
        return self.table.set_index("round")

    def first(self, column: str) -> str | float:
        """The column's value in the first row, for columns that are the same in all."""
        value: str | float = self.table[column].iloc[0]
        return value

    def late(self, column: str) -> float:
        """The column's mean over the last five rounds, NaN without values: one alone wobbles by more than methods differ."""
        return float(self.table[column].iloc[-LAST_ROUNDS:].mean())

    @cached_property
    def last_round(self) -> int:
        """The round that the run has reached."""
        return int(self.table["round"].iloc[-1])


def load_runs(where: Path | Iterable[Path]) -> tuple[tuple[Run, ...], tuple[str, ...]]:
    """The runs in a folder, or in the CSVs named, and a message for each file that was left out because it is damaged.

    Raises:
        SetupError: no run is left.
    """
    paths = result_paths(where) if isinstance(where, Path) else list(where)
    read: list[tuple[str, list[Row]]] = []
    notes: list[str] = []
    for path in paths:
        try:
            read.append((path.stem, read_rows(path)))
        except DamagedError as error:
            notes.append(f"Left out: {error.what} {error.fix}")
    if any(rows for _, rows in read):
        return runs_of(to_frame(read)), tuple(notes)
    place = where if isinstance(where, Path) else "the files named"
    if notes:
        raise SetupError(f"No readable results in {place}. {notes[0]}", "Repair or delete what is damaged, then plot again.")
    raise SetupError(f"No results in {place} yet.", "Run an experiment first: fedspec run quick")


def runs_of(results: pd.DataFrame) -> tuple[Run, ...]:
    """The runs in a frame that `fedspec.results.load_results` made of several CSVs."""
    return tuple(_run(table) for _, table in results.groupby("exp", sort=False))


def _run(table: pd.DataFrame) -> Run:
    first = table.iloc[0]
    alpha = None if first["alpha"] != first["alpha"] else float(first["alpha"])
    return Run(str(first["exp"]), str(first["method"]), alpha, int(first["seed"]), table)

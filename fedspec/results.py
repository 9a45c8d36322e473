"""Rows of a run, one a round: their columns, their CSV form, and CSVs as a DataFrame.

The same rows always render to the same bytes, on every machine, so that two machines that publish one result agree.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from fedspec.errors import DamagedError

if TYPE_CHECKING:
    import pandas as pd


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One round of one experiment; the fields are the CSV's columns in their order.

    Units: ``sec_*`` seconds, ``bytes_*`` bytes summed over the clients of the round, accuracies in [0, 1], norms are
    Frobenius norms over all adapted layers. ``None`` (an empty cell) means that the column has no meaning for the run.
    """

    run_id: str = ""
    method: str
    dataset: str
    model: str
    alpha: float | None = None
    seed: int
    n_clients: int
    participating: int
    round: int
    local_epochs: int
    lr: float
    rank: int
    rank_next: int
    accuracy: float
    loss: float
    worst_client_accuracy: float | None = None
    train_loss: float
    frobenius_gap: float | None = None
    gap_relative: float | None = None
    gap_over_move: float | None = None
    cf_gap_fedavg: float | None = None
    cf_gap_fedspec: float | None = None
    ideal_norm: float | None = None
    move_norm: float | None = None
    tail_energy_sq: float | None = None
    tail_nuclear: float | None = None
    effective_rank: float | None = None
    bytes_up: int = 0
    bytes_down: int = 0
    bytes_head: int = 0
    bytes_residual: int = 0
    communication_bytes: int = 0
    sec_train: float = 0.0
    sec_aggregate: float = 0.0
    sec_eval: float = 0.0
    device: str = ""
    torch_version: str = ""
    config_hash: str = ""
    partition_hash: str = ""
    validation_accuracy: float | None = None
    epsilon: float | None = None


# How many of a run's last rounds its outcome is the mean of: one round alone wobbles by more than methods differ.
LAST_ROUNDS = 5
COLUMNS: tuple[str, ...] = Row.__struct_fields__
# What may differ between two runs of one experiment: everything else is bit for bit the same on one kind of device.
MACHINE_COLUMNS = frozenset({"sec_train", "sec_aggregate", "sec_eval", "device", "torch_version"})
_FIELDS = msgspec.structs.fields(Row)
_REQUIRED = tuple(field.name for field in _FIELDS if field.required)
_FLOATS = frozenset(field.name for field in _FIELDS if field.type not in (int, str))
# A run of as many rounds as there can be takes a few MiB.
MAX_CSV_BYTES = 64 << 20
# A diverged run has no finite loss: an empty cell, and NaN in memory.
_MEASURED = frozenset(name for name in _REQUIRED if name in _FLOATS)
_DTYPES: dict[str, str] = {field.name: {int: "int64", str: "str"}.get(field.type, "float64") for field in _FIELDS}


def to_csv(rows: Iterable[Row]) -> bytes:
    """Render rows as CSV (UTF-8, LF, shortest exact floats), the same bytes on every machine."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    for row in rows:
        writer.writerow(["" if value is None else value for value in _cells(row)])
    return out.getvalue().encode()


def to_table(rows: Sequence[Row]) -> dict[str, Any]:
    """Rows as ``{"columns": [...], "rows": [[...], ...]}``: their form inside journals and checkpoints."""
    return {"columns": list(COLUMNS), "rows": [_cells(row) for row in rows]}


def from_table(table: Mapping[str, Any]) -> list[Row]:
    """The inverse of `to_table`; columns this version does not know are left out, missing ones take their default.

    Raises:
        DamagedError: the table is not one that `to_table` writes.
    """
    try:
        names = [str(name) for name in table["columns"]]
        return [_row(dict(zip(names, values, strict=True))) for values in table["rows"]]
    except (KeyError, TypeError, ValueError) as error:
        raise DamagedError(f"A result's rows cannot be read: {error}.", "Run the item again: fedspec queue retry.") from error


def result_paths(folder: Path) -> list[Path]:
    """The result CSVs directly in ``folder``, sorted; what macOS and spreadsheets leave beside them is not one."""
    return sorted(path for path in folder.glob("*.csv") if not path.name.startswith((".", "~")) and _can_be_opened(path))


def _can_be_opened(path: Path) -> bool:
    """Whether it can be opened without waiting for ever, as a pipe would; a folder is one that can be told of."""
    try:
        return path.is_file() or path.is_dir()
    except OSError:
        return False


def read_rows(path: Path) -> list[Row]:
    """The rows of one run from its CSV.

    Raises:
        DamagedError: the file is missing, unreadable, cut short or no CSV of one run.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_CSV_BYTES + 1)
        if len(data) > MAX_CSV_BYTES:
            raise ValueError("it is too large")
        return from_csv(data)
    except FileNotFoundError as error:
        raise DamagedError(f"There is no result file {path}.", "Name a CSV that exists, or run its experiment.") from error
    except OSError as error:
        fix = "Wait for the folder to sync, and check that you may read it."
        raise DamagedError(f"{path} cannot be read: {error.strerror}.", fix) from error
    except ValueError as error:
        fix = f"Delete {path.name}; any worker or 'fedspec plot' writes it again from the journal."
        raise DamagedError(f"{path} is no result CSV: {str(error).rstrip('.')}.", fix) from error


def load_results(where: str | Path | Iterable[str | Path] = "paper_results") -> pd.DataFrame:
    """Load result CSVs into one DataFrame, one row a round, with the file's name in the column ``exp``.

    Args:
        where: a folder (all ``*.csv`` directly in it), one CSV, or several.

    Empty cells of number columns are NaN, those of text columns are "".

    Raises:
        DamagedError: a file is missing, unreadable, cut short or no CSV of one run.
    """
    if isinstance(where, str | Path):
        path = Path(where)
        paths = result_paths(path) if path.is_dir() else [path]
    else:
        paths = [Path(p) for p in where]
    return to_frame((path.stem, read_rows(path)) for path in paths)


def to_frame(runs: Iterable[tuple[str, Sequence[Row]]]) -> pd.DataFrame:
    """Named runs as one DataFrame with the columns ``exp`` and `COLUMNS`; no value is NaN."""
    import pandas as pd

    values = [(exp, *msgspec.structs.astuple(row)) for exp, rows in runs for row in rows]
    return pd.DataFrame(values, columns=["exp", *COLUMNS]).astype({"exp": "str", **_DTYPES})


def _cells(row: Row) -> list[Any]:
    """The row's values; a loss that is no finite number is None, as JSON has no word for it."""
    values = msgspec.structs.astuple(row)
    return [None if isinstance(value, float) and not math.isfinite(value) else value for value in values]


def _row(record: Mapping[str, Any], *, strict: bool = True) -> Row:
    """Make a row; without ``strict`` numbers may be text. Raises ValueError."""
    diverged = {name: math.nan for name in _MEASURED if record.get(name, 0.0) is None}
    return msgspec.convert({**record, **diverged}, Row, strict=strict)


def from_csv(data: bytes) -> list[Row]:
    """The inverse of `to_csv`, for the rows of one run; raises ValueError."""
    # Results that people edit or copy may come back with a byte-order mark and other line ends.
    text = data.decode("utf-8-sig")
    if not text.endswith(("\n", "\r")):
        raise ValueError("it is empty or its last line is cut short")
    lines = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        header, *table = list(lines)
    except csv.Error as error:
        raise ValueError(f"line {lines.line_num}: {error}") from error
    missing = [name for name in _REQUIRED if name not in header]
    if missing:
        raise ValueError(f"no column {', '.join(missing)}")
    if len(set(header)) < len(header):
        raise ValueError("a column is there twice")
    rows: list[Row] = []
    for number, cells in enumerate(table, start=2):
        if len(cells) != len(header):
            raise ValueError(f"line {number} has {len(cells)} cells, not {len(header)}")
        record = {name: None if not cell and name in _FLOATS else cell for name, cell in zip(header, cells, strict=True)}
        rows.append(_row(record, strict=False))
    _check_one_run(rows)
    return rows


def _check_one_run(rows: Sequence[Row]) -> None:
    if any(not 0.0 <= row.accuracy <= 1.0 for row in rows):
        raise ValueError("an accuracy is not a number in [0, 1]")
    if any(isinstance(value, int) and value >= 1 << 63 for row in rows for value in msgspec.structs.astuple(row)):
        raise ValueError("a number is too large")
    if any(late.round <= early.round for early, late in pairwise(rows)):
        raise ValueError("its rounds do not increase")
    for name in ("method", "dataset", "model", "alpha", "seed", "n_clients"):
        if len({getattr(row, name) for row in rows}) > 1:
            raise ValueError(f"it holds more than one {name}")

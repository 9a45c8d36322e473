"""Result rows survive every trip unchanged, and a damaged CSV is refused with its name and a remedy."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedspec.errors import DamagedError
from fedspec.results import COLUMNS, Row, from_table, load_results, result_paths, to_csv, to_table

FINITE = st.floats(allow_nan=False, allow_infinity=False)
# What a CSV cell can hold: everything but what no name, hash or version contains.
TEXT = st.text(st.characters(blacklist_categories=("Cs", "Cc")), min_size=1, max_size=12)
STRATEGIES: dict[Any, st.SearchStrategy[Any]] = {
    int: st.integers(0, 2**53),
    float: FINITE,
    str: TEXT,
    float | None: st.none() | FINITE,
}


def row(**changed: Any) -> Row:
    values: dict[str, Any] = {
        "run_id": "f00d",
        "method": "fedspec", "dataset": "digits", "model": "mlp", "alpha": 0.5, "seed": 1, "n_clients": 5, "participating": 5,
        "round": 1, "local_epochs": 1, "lr": 0.01, "rank": 4, "rank_next": 4, "accuracy": 0.8125, "loss": 0.6,
        "train_loss": 0.7, "frobenius_gap": 0.1,
    }  # fmt: skip
    return Row(**{**values, **changed})


@st.composite
def runs(draw: st.DrawFn) -> list[Row]:
    """The rows of one run: constant where a run is, free where a round is."""
    fields = {field.name: STRATEGIES[field.type] for field in msgspec.structs.fields(Row)}
    fields["accuracy"] = st.floats(0.0, 1.0)
    constant = {name: draw(fields[name]) for name in ("method", "dataset", "model", "alpha", "seed", "n_clients")}
    free = st.fixed_dictionaries({name: fields[name] for name in fields if name not in constant and name != "round"})
    return [Row(**constant, **draw(free), round=number) for number in range(1, draw(st.integers(1, 3)) + 1)]


@given(runs())
def test_rows_survive_a_journal(rows: list[Row]) -> None:
    assert from_table(json.loads(json.dumps(to_table(rows)))) == rows


@given(rows=runs())
def test_rows_survive_a_csv(rows: list[Row], tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("csv") / "run.csv"
    path.write_bytes(to_csv(rows))
    read = load_results(path)
    assert list(read.columns) == ["exp", *COLUMNS]
    for name in COLUMNS:
        cells = [None if isinstance(cell, float) and math.isnan(cell) else cell for cell in read[name].tolist()]
        assert cells == [getattr(one, name) for one in rows], name


@given(runs())
def test_rows_that_went_through_a_journal_render_to_the_same_bytes(rows: list[Row]) -> None:
    assert to_csv(from_table(json.loads(json.dumps(to_table(rows))))) == to_csv(rows)


@pytest.mark.parametrize("loss", [math.nan, math.inf, -math.inf])
def test_a_run_that_diverged_has_no_loss_but_is_still_published(loss: float, tmp_path: Path) -> None:
    rows = [row(loss=loss, train_loss=loss)]
    through_journal = from_table(json.loads(json.dumps(to_table(rows), allow_nan=False)))
    assert to_csv(through_journal) == to_csv(rows)
    (tmp_path / "run.csv").write_bytes(to_csv(rows))
    assert math.isnan(load_results(tmp_path / "run.csv")["loss"].item())


def test_a_table_of_a_later_version_is_read_without_its_new_columns() -> None:
    table = to_table([row()])
    later = {"columns": [*table["columns"], "joules"], "rows": [[*values, 3.0] for values in table["rows"]]}
    assert from_table(later) == [row()]


def test_a_table_of_an_earlier_version_gets_the_defaults() -> None:
    table = to_table([row()])
    without = table["columns"].index("bytes_up")
    earlier = {key: value[:without] + value[without + 1 :] for key, value in (("columns", table["columns"]),)}
    earlier["rows"] = [values[:without] + values[without + 1 :] for values in table["rows"]]
    assert from_table(earlier) == [row()]


@pytest.mark.parametrize(
    "table",
    [
        {},
        {"columns": list(COLUMNS)},
        {"columns": list(COLUMNS), "rows": [[1, 2]]},
        {"columns": 3, "rows": []},
        {"columns": ["method"], "rows": [["fedavg"]]},
        {"columns": list(COLUMNS), "rows": [["x"] * len(COLUMNS)]},
    ],
)
def test_a_damaged_table_is_refused_with_a_remedy(table: dict[str, Any]) -> None:
    with pytest.raises(DamagedError, match="queue retry"):
        from_table(table)


RUN = to_csv([row(round=number) for number in range(1, 4)])
DAMAGED = {
    "empty": b"",
    "blank": b"\n\n",
    "zeros": b"\0" * 4096,
    "garbage": bytes(range(1, 256)) * 4,
    "a picture": b"\x89PNG\r\n\x1a\n" + b"\x00" * 64,
    "half a header": RUN[:40],
    "another table": b"a,b\n1,2\n",
    "a line cut short": RUN[:-40],
    "a last cell cut short": to_csv([row(validation_accuracy=0.8125)])[:-3],
    "a line torn out of the middle": RUN.replace(b",digits,mlp", b"", 1),
    "a word for an accuracy": RUN.replace(b"0.8125", b"good", 1),
    "no accuracy": RUN.replace(b"0.8125", b"", 1),
    "an accuracy in per cent": RUN.replace(b"0.8125", b"81.25", 1),
    "a count beyond 64 bits": RUN.replace(b"0.5,1,5,", b"0.5,1," + b"9" * 19 + b",", 1),
    "no seed": RUN.replace(b"0.5,1,5,", b"0.5,,5,", 1),
    "an open quote": RUN.replace(b"digits", b'"digits', 1),
    "a round twice": RUN + RUN.splitlines(keepends=True)[-1],
    "two runs in one file": RUN + to_csv([row(round=9, seed=2)]).splitlines(keepends=True)[1],
    "a column twice": RUN.replace(b"run_id,", b"method,", 1),
}


@pytest.mark.parametrize("damage", DAMAGED)
def test_a_damaged_csv_is_refused_with_its_name_and_a_remedy(damage: str, tmp_path: Path) -> None:
    path = tmp_path / "fedspec_dirichlet_alpha0.5.csv"
    path.write_bytes(DAMAGED[damage])
    with pytest.raises(DamagedError, match=r"fedspec_dirichlet_alpha0\.5\.csv") as caught:
        load_results(path)
    assert path.name in caught.value.fix


@given(cut=st.integers(0, len(RUN) - 1))
def test_a_csv_cut_anywhere_is_refused_or_holds_only_whole_rounds(cut: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("cut") / "run.csv"
    path.write_bytes(RUN[:cut])
    try:
        read = load_results(path)
    except DamagedError:
        return
    assert RUN[:cut].endswith(b"\n")
    assert read["round"].tolist() == list(range(1, len(read) + 1))
    assert (read["accuracy"] == 0.8125).all()


def test_a_missing_csv_is_named(tmp_path: Path) -> None:
    with pytest.raises(DamagedError, match=r"no result file .*gone\.csv"):
        load_results(tmp_path / "gone.csv")


def test_a_folder_in_a_csvs_place_is_named(tmp_path: Path) -> None:
    (tmp_path / "run.csv").mkdir()
    with pytest.raises(DamagedError, match=r"run\.csv cannot be read"):
        load_results(tmp_path)


@pytest.mark.parametrize(
    "edited",
    [b"\xef\xbb\xbf" + RUN, RUN.replace(b"\n", b"\r\n"), b"\xef\xbb\xbf" + RUN.replace(b"\n", b"\r\n")],
    ids=["byte-order mark", "windows lines", "both"],
)
def test_what_a_spreadsheet_saved_reads_the_same(edited: bytes, tmp_path: Path) -> None:
    (tmp_path / "run.csv").write_bytes(RUN)
    (tmp_path / "edited").mkdir()
    (tmp_path / "edited" / "run.csv").write_bytes(edited)
    assert load_results(tmp_path / "edited").equals(load_results(tmp_path))


def test_names_that_pandas_takes_for_missing_stay_names(tmp_path: Path) -> None:
    (tmp_path / "run.csv").write_bytes(to_csv([row(dataset="NA", model="null", alpha=None)]))
    read = load_results(tmp_path)
    assert (read["dataset"].item(), read["model"].item(), read["device"].item()) == ("NA", "null", "")
    assert math.isnan(read["alpha"].item())


def test_a_folder_is_read_in_the_order_of_names_and_without_what_systems_leave_in_it(tmp_path: Path) -> None:
    for name in ("b.csv", "a.csv"):
        (tmp_path / name).write_bytes(RUN)
    for name in ("._a.csv", "~$a.csv", "a.csv.tmp", "README.md"):
        (tmp_path / name).write_bytes(b"\0")
    (tmp_path / "figures").mkdir()
    assert [path.name for path in result_paths(tmp_path)] == ["a.csv", "b.csv"]
    assert load_results(tmp_path)["exp"].tolist() == ["a"] * 3 + ["b"] * 3


def test_several_paths_are_read_in_their_order(tmp_path: Path) -> None:
    paths = [tmp_path / "b.csv", tmp_path / "a.csv"]
    for path in paths:
        path.write_bytes(RUN)
    assert load_results(str(path) for path in paths)["exp"].unique().tolist() == ["b", "a"]


def test_an_empty_folder_is_an_empty_frame_with_all_columns(tmp_path: Path) -> None:
    read = load_results(tmp_path)
    assert len(read) == 0
    assert list(read.columns) == ["exp", *COLUMNS]


def test_a_run_without_a_round_yet_adds_no_rows(tmp_path: Path) -> None:
    (tmp_path / "new.csv").write_bytes(to_csv([]))
    (tmp_path / "run.csv").write_bytes(RUN)
    assert load_results(tmp_path)["exp"].unique().tolist() == ["run"]

"""Tables hold what the study found, for programs in full and for people with explained marks, and carry no mark-up in."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest

from fedspec.config import CentralizedConfig, FederatedConfig
from fedspec.figures import write_tables
from fedspec.figures.comparisons import study
from fedspec.figures.families import group
from fedspec.figures.reach import reach
from fedspec.figures.runs import load_runs
from fedspec.figures.tables import tables
from fedspec.figures.typeset import BETTER, NONE, PLUS_MINUS, WORSE, Cell, Table, to_csv, to_latex, to_markdown

from .conftest import Folder


def made(folder: Folder) -> dict[str, Table]:
    (family, *_) = group(load_runs(folder.path)[0]).families
    return {table.name: table for table in tables(family)}


def texts(table: Table) -> list[list[str]]:
    return [[cell.text for cell in row] for row in table.rows]


def records(table: Table) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(to_csv(table).decode())))


def test_levels_are_a_line_per_method_and_a_column_per_alpha(folder: Folder) -> None:
    for seed in (1, 2, 3):
        folder.add(CentralizedConfig(rounds=10, seed=seed), 0.95)
    folder.level(10, 0.1, fedavg=[0.7, 0.72, 0.71])
    folder.level(10, 0.5, fedavg=[0.8, 0.8, 0.8], fedspec=[0.7, 0.71, 0.705])
    table = made(folder)["accuracy"]
    assert table.header == ("Method", "α = 0.1", "α = 0.5")
    assert texts(table)[0][1:] == [f"71.00 {PLUS_MINUS} 2.48", f"80.00 {PLUS_MINUS} 0.00"]
    assert texts(table)[1][1:] == [NONE, f"70.50 {PLUS_MINUS} 1.24 {WORSE}"]
    assert texts(table)[2][1:] == [f"95.00 {PLUS_MINUS} 0.00"] * 2


def test_the_seeds_are_counted_where_they_differ(folder: Folder) -> None:
    folder.level(10, 0.5, fedavg=[0.8, 0.81, 0.83], fedspec=[0.7])
    assert texts(made(folder)["accuracy"])[0][1].endswith("(3 seeds)")
    assert texts(made(folder)["accuracy"])[1][1] == "70.00 (1 seed)"


def test_the_best_is_bold_only_where_it_is_better_than_each(folder: Folder) -> None:
    folder.level(10, 0.1, fedavg=[0.70, 0.71, 0.72, 0.70], fedex=[0.80, 0.81, 0.83, 0.80], fedspec=[0.802, 0.811, 0.829, 0.803])
    assert not any(cell.bold for row in made(folder)["accuracy"].rows for cell in row)
    assert "No best mean is shown to be better than each other" in made(folder)["accuracy"].note
    folder.level(10, 0.5, fedavg=[0.80, 0.81, 0.82, 0.80], fedex=[0.70, 0.72, 0.71, 0.70], fedspec=[0.60, 0.63, 0.61, 0.61])
    table = made(folder)["accuracy"]
    assert [[cell.bold for cell in row] for row in table.rows] == [[False, False, True], [False] * 3, [False] * 3]
    assert (
        "Bold: better than each other federated method (intersection-union test, corrected for 2 alphas (Holm))" in table.note
    )


def test_marks_go_by_the_corrected_verdict_against_fedavg(folder: Folder) -> None:
    better, within = [0.84, 0.86, 0.87, 0.85], [0.81, 0.80, 0.83, 0.82]
    folder.level(10, 0.5, fedavg=[0.80, 0.81, 0.83, 0.81], fedavg_rebalanced=within, fedspec=better)
    ends = [row[1].text[-1] for row in made(folder)["accuracy"].rows]
    assert [end == BETTER for end in ends] == [False, False, True]


def test_differences_have_a_line_per_comparison_in_full(folder: Folder) -> None:
    folder.level(10, 0.5, fedavg=[0.80, 0.81, 0.83], fedavg_rebalanced=[0.81, 0.80, 0.83], fedspec=[0.70, 0.72, 0.71])
    table = made(folder)["accuracy_differences"]
    (family,) = group(load_runs(folder.path)[0]).families
    found = study(family).comparisons
    for record, comparison in zip(records(table), found, strict=True):
        assert (record["method"], record["baseline"], record["alpha"]) == (comparison.method, comparison.baseline, "0.5")
        assert float(record["points"]) == comparison.points
        assert float(record["p_holm"]) == comparison.adjusted_p
        assert float(record["high_95"]) == comparison.points + comparison.paired.half_width
        assert float(record["low_95_simultaneous"]) == comparison.points - comparison.paired.simultaneous
        assert (record["verdict"], record["comparisons"]) == (comparison.verdict, "3")
    assert [row[-1] for row in texts(table)] == ["not significant", "worse", "worse"]
    assert texts(table)[1][3] == "\N{MINUS SIGN}10.33"


def test_a_single_seed_leaves_cells_empty(folder: Folder) -> None:
    folder.level(10, None, fedavg=[0.8], fedspec=[0.9])
    table = made(folder)["accuracy_differences"]
    (record,) = records(table)
    assert (record["alpha"], record["low_95"], record["p"], record["p_holm"], record["seeds"]) == ("iid", "", "", "", "1")
    assert texts(table)[0][4:] == [NONE, "+12.50 %", "1", NONE, NONE, "not significant"]


def test_a_second_outcome_says_that_it_is_corrected_by_itself(folder: Folder) -> None:
    for seed in (1, 2, 3):
        folder.add(FederatedConfig(seed=seed), 0.8, worst=0.5)
        folder.add(FederatedConfig(seed=seed, method="fedspec"), 0.8, worst=0.5 + seed / 100)
    found = made(folder)
    for name in ("worst_client_accuracy", "worst_client_accuracy_differences"):
        assert found[name].note.endswith("A second outcome, corrected by itself.")
    assert "second outcome" not in found["accuracy"].note


def test_bytes_are_counted_up_to_fedavgs_last_level(folder: Folder) -> None:
    def add(method: str, seed: int, sent: int, reached: int | None) -> None:
        config = FederatedConfig(method=method, seed=seed, rounds=10)
        folder.add(config, lambda number: 0.8 if reached and number >= reached else 0.5, columns={"communication_bytes": sent})

    for seed in (1, 2, 3):
        add("fedavg", seed, 100, 4)
        add("fedspec", seed, 200, 1 + seed)
        add("fedex", seed, 200, None if seed > 1 else 2)
    (family,) = group(load_runs(folder.path)[0]).families
    found = {one.method: one for one in reach(family)}
    assert (found["fedavg"].median_bytes, found["fedavg"].median_ratio, found["fedavg"].reached) == (400, 1.0, 3)
    assert (found["fedspec"].median_bytes, found["fedspec"].median_ratio) == (600, 1.5)
    assert (found["fedex"].reached, found["fedex"].median_bytes, found["fedex"].median_ratio) == (1, None, None)
    assert texts(made(folder)["bytes_to_level"])[2] == ["0.5", "FedEx-LoRA", "1 of 3", NONE, NONE]


def test_fedavg_reaches_its_own_last_level_whatever_the_sums_of_floats(folder: Folder) -> None:
    folder.add(FederatedConfig(rounds=20), 0.1 + 0.2, columns={"communication_bytes": 1})
    (family,) = group(load_runs(folder.path)[0]).families
    (found,) = reach(family)
    assert (found.reached, found.median_bytes) == (1, 1)


def test_without_fedavg_or_bytes_there_is_no_table_of_bytes(folder: Folder) -> None:
    folder.add(FederatedConfig(method="fedspec"), 0.8, columns={"communication_bytes": 1})
    assert "bytes_to_level" not in made(folder)
    folder.add(FederatedConfig(), 0.8)
    assert "bytes_to_level" not in made(folder)


HOSTILE = "a_&_%b|<script>$x^2~\\input{x}\n**#"


@pytest.fixture
def hostile() -> Table:
    rows = ((Cell(HOSTILE, bold=True), Cell("-1 < 2")),)
    return Table("name", HOSTILE, HOSTILE, ("Method", "x"), rows, 1, ("method",), ((HOSTILE,),))


def test_latex_finds_no_command_and_no_special_character_of_others(hostile: Table) -> None:
    lines = to_latex(hostile).decode().splitlines()
    row = lines[lines.index(r"\midrule") + 1]
    expected = r"a\_\&\_\%b|$<$script$>$\$x\textasciicircum{}2\textasciitilde{}\textbackslash{}input\{x\} **\#"
    assert row == rf"\textbf{{{expected}}} & -1 $<$ 2 \\"
    assert lines[3] == rf"\caption{{{expected}. {expected}}}"
    assert lines[6:8] == [r"\toprule", r"Method & x \\"]


def test_markdown_stays_in_its_cells(hostile: Table) -> None:
    lines = to_markdown(hostile).decode().splitlines()
    assert len(lines) == 7
    assert lines[4].count(" | ") == 1
    assert r"\|\<script\>" in lines[4]


def test_csv_gives_back_what_was_put_in(hostile: Table) -> None:
    (record,) = records(hostile)
    assert record == {"method": HOSTILE}


def test_all_tables_are_written_in_three_forms_for_each_family(folder: Folder, tmp_path: Path) -> None:
    folder.grid({"fedavg": 0.8, "fedspec": 0.85}, seeds=2, rounds=3)
    folder.grid({"fedavg": 0.8, "fedspec": 0.85}, seeds=1, rounds=4)
    told: list[str] = []
    (folder.path / "bad.csv").write_bytes(b"\0")
    written = write_tables(folder.path, tmp_path / "tables", warn=told.append)
    names = {path.name for path in written}
    assert names == {path.name for path in (tmp_path / "tables").iterdir()}
    assert {"accuracy.tex", "accuracy_digits_mlp_c10_r3.csv", "bytes_to_level_digits_mlp_c10_r4.md"} <= names
    assert len(told) == 1


def test_tables_are_the_same_bytes_again(folder: Folder, tmp_path: Path) -> None:
    folder.grid({"fedavg": 0.8, "fedspec": 0.85}, seeds=2, rounds=3)
    one, two = (write_tables(folder.path, tmp_path / name) for name in ("one", "two"))
    assert [path.read_bytes() for path in one] == [path.read_bytes() for path in two]

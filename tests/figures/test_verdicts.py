"""Whichever way the rows go, sentences, tables and the report say the very same, and no more."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass

import pytest

from fedspec.figures.families import group
from fedspec.figures.report import Sources, report
from fedspec.figures.runs import load_runs
from fedspec.figures.summary import summarize_files
from fedspec.figures.tables import tables
from fedspec.figures.typeset import BETTER, WORSE, to_csv, to_latex, to_markdown

from .conftest import Folder
from .test_report import Page


@dataclass(frozen=True)
class Case:
    """Accuracies by method and seed, at one alpha and at another, and what must be said of FedSpec at the first."""

    levels: dict[str, list[float]]
    others: dict[str, list[float]]
    verdict: str
    words: str


CASES = {
    "FedSpec loses": Case(
        {"fedavg": [0.90, 0.91, 0.92], "fedspec": [0.85, 0.862, 0.868]},
        {"fedavg": [0.90, 0.91, 0.92], "fedspec": [0.86, 0.874, 0.876]},
        "worse",
        "FedSpec is worse",
    ),
    "FedSpec wins": Case(
        {"fedavg": [0.85, 0.862, 0.868], "fedspec": [0.90, 0.91, 0.92]},
        {"fedavg": [0.86, 0.874, 0.876], "fedspec": [0.90, 0.91, 0.92]},
        "better",
        "FedSpec is better",
    ),
    "nothing is significant": Case(
        {"fedavg": [0.88, 0.89, 0.90], "fedspec": [0.91, 0.88, 0.90]},
        {"fedavg": [0.88, 0.89, 0.90], "fedspec": [0.90, 0.88, 0.90]},
        "not significant",
        "not significant",
    ),
    "only without the correction": Case(
        {"fedavg": [0.88, 0.89, 0.90], "fedspec": [0.90, 0.900, 0.9150]},
        {"fedavg": [0.88, 0.89, 0.90], "fedspec": [0.90, 0.8975, 0.9169]},
        "not significant",
        "not significant after the correction",
    ),
}


@pytest.fixture(params=CASES.values(), ids=CASES.keys())
def case(request: pytest.FixtureRequest, folder: Folder) -> Case:
    found: Case = request.param
    folder.level(3, 0.5, **found.levels)
    folder.level(3, 0.1, **found.others)
    return found


def test_sentences(case: Case, folder: Folder) -> None:
    (line,) = [line for line in summarize_files(folder.path) if line.startswith("  FedSpec - FedAvg")][1:]
    assert line.endswith(f": {case.words}")
    assert "corrected for 2 comparisons" in line


def test_tables(case: Case, folder: Folder) -> None:
    (family,) = group(load_runs(folder.path)[0]).families
    by_name = {table.name: table for table in tables(family)}
    levels, differences = by_name["accuracy"], by_name["accuracy_differences"]
    (record,) = [one for one in csv.DictReader(io.StringIO(to_csv(differences).decode())) if one["alpha"] == "0.5"]
    assert record["verdict"] == case.verdict
    (cells,) = [row for row in differences.rows if row[0].text == "0.5"]
    assert cells[-1].text == case.verdict
    for text in (to_markdown(differences).decode(), to_latex(differences).decode()):
        rows = [line for line in text.splitlines() if line.startswith(("| 0.5", "0.5"))]
        assert [case.verdict in row for row in rows] == [True]
        assert "corrected for 2 comparisons (Holm)" in text
    mark = {"better": BETTER, "worse": WORSE}.get(case.verdict)
    (spec,) = [row for row in levels.rows if row[0].text == "FedSpec"]
    assert [sign in spec[2].text for sign in (BETTER, WORSE)] == [mark == BETTER, mark == WORSE]


def test_the_report(case: Case, folder: Folder) -> None:
    text = Page(report(folder.path, Sources(folder="share", figures=()))).text
    sentence = text.partition("Alpha 0.5:")[2].partition("FedSpec - FedAvg:")[2]
    assert sentence.partition(": ")[2].startswith(case.words)
    row = text.partition("Differences in test accuracy Alpha")[2].partition("0.5 FedSpec FedAvg")[2]
    assert row.partition(case.verdict)[0].count("%") == 1
    others = {"FedSpec is better", "FedSpec is worse"} - {case.words}
    assert not any(words in text for words in others)

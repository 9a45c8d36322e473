"""Every command that looks at a folder in which a peer wrote what it liked: it answers, in plain text, and runs nothing."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from fedspec.cli.console import emit_json, say
from fedspec.results import to_csv
from fedspec.workqueue.records import FIRST, Claim, Fail, Hello, Start, encode, line_hash
from fedspec.workspace import Workspace
from tests.cli.conftest import Place, Said, items
from tests.test_results import row

ESCAPE = "\x1b]0;owned\x07\x1b[2J\nerror: all is lost\r\u202e\x9b31m[red]$\\frac{"
COMMANDS = (
    ("progress",), ("progress", "--json"), ("progress", "NAME"), ("progress", "NAME", "--json"), ("queue", "list"),
    ("queue", "list", "--json"), ("queue", "why", "NAME"), ("queue", "why", "NAME", "--json"), ("checkpoints", "--all"),
    ("checkpoints", "--json"), ("doctor", "--time-scale", "0.01"), ("doctor", "--json", "--time-scale", "0.01"),
)  # fmt: skip
EVIL = "0badc0de-000001"


def answered(said: Said) -> None:
    """A command's answer: no bug, and nothing that a terminal would obey."""
    assert said.code in (0, 3), said.err
    assert "hit a bug" not in said.err
    text = said.out + said.err
    assert not [c for c in text if c != "\n" and (ord(c) < 32 or 127 <= ord(c) < 160 or c == "\u202e")]
    assert "\nerror: all is lost" not in text


def look(place: Place, name: str) -> None:
    for command in COMMANDS:
        said = place.fedspec(*(name if word == "NAME" else word for word in command))
        answered(said)
        if "--json" in command:
            assert json.loads(said.out)["schema"] == 1


@pytest.fixture
def hostile(place: Place) -> str:
    """A folder with an honest item, of whose name the fixture is, and a peer's words all over it."""
    place.machine("Mac").enqueue(items("quick", method=["fedavg"], seed=["42"]))
    workspace = Workspace(place.root)
    (item,) = (i for i in items("quick", method=["fedavg"], seed=["42"]) if i.kind == "federated")
    common = {"worker": EVIL, "wall": ESCAPE}
    lines: list[bytes] = []

    def write(kind: Any, **fields: Any) -> None:
        prev = line_hash(lines[-1][:-1]) if lines else FIRST
        lines.append(encode(kind(seq=len(lines), lam=len(lines), prev=prev, **common, **fields)))

    write(Hello, machine=ESCAPE, name=ESCAPE, fedspec=ESCAPE, closes={"0badc0de-000002": 7})
    for attempt in range(1, 4):
        write(Claim, item=item.id, attempt=attempt)
        write(Start, item=item.id, attempt=attempt, round=0, base=ESCAPE, source=ESCAPE, device=ESCAPE)
        write(Fail, item=item.id, attempt=attempt, fault="code", reason=ESCAPE, traceback=f"{ESCAPE}\n" * 20)
    (workspace.journals / "evil.jsonl").write_bytes(b"".join(lines) + b"garbage\n")
    beat = {"worker": EVIL, "n": 1, "seq": 1, "running": item.id, "round": 3, "clients": ESCAPE, "eta": 1e308, "wall": ESCAPE}
    (workspace.beats / "evil.json").write_bytes(msgspec.json.encode(beat))
    odd = {**msgspec.to_builtins(item), "needs": [ESCAPE], "kind": ESCAPE, "exp": "evil", "config": {"x": ESCAPE, "rounds": 7}}
    data = msgspec.json.encode(odd, order="sorted")
    (workspace.plans / f"p-{hashlib.sha256(data).hexdigest()[:12]}.json").write_bytes(data)
    workspace.checkpoints.mkdir(exist_ok=True)
    about = {"experiment": ESCAPE, "round": 1, "rounds": 2, "machine": ESCAPE}
    (workspace.checkpoints / "evil.json").write_bytes(msgspec.json.encode(about))
    return item.exp


def test_every_command_answers_in_plain_text(place: Place, hostile: str):
    look(place, hostile)
    look(place, "evil")
    assert place.fedspec("queue", "retry", hostile).code == 0


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX has the odder names")
def test_file_names_that_are_no_text_and_command_the_terminal_are_borne(place: Place, hostile: str):
    workspace = Workspace(place.root)
    for folder in (workspace.journals, workspace.plans, workspace.beats, workspace.checkpoints):
        for name in (b"\xff\xfe\xed\xa0\x80.json", ESCAPE.replace("/", "").encode() + b".json", b"p-[red].json"):
            (folder / os.fsdecode(name)).write_bytes(b"garbage\n")
    (workspace.checkpoints / "gen" / "NOT\x1b[2J ours" / "..x").mkdir(parents=True)
    look(place, hostile)


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX has the odder files")
def test_pipes_folders_and_links_among_results_stop_no_plot(place: Place, hostile: str):
    results = Workspace(place.root).results
    results.mkdir(exist_ok=True)
    before = sorted(place.root.parent.rglob("*"))
    os.mkfifo(results / "pipe.csv")
    (results / "folder.csv").mkdir()
    (results / "loop.csv").symlink_to(results / "loop.csv")
    (results / "zeros.csv").symlink_to("/dev/zero")
    with (results / "sparse.csv").open("wb") as file:
        file.truncate(1 << 30)
    (results / "good.csv").write_bytes(to_csv([row(method="fedavg", round=n) for n in (1, 2)]))
    said = place.fedspec("plot")
    answered(said)
    assert said.code == 0
    assert "Figures: " in said.out
    grown = {path.relative_to(place.root) for path in set(place.root.parent.rglob("*")) - set(before)}
    assert {path.parts[0] for path in grown} <= {"paper_results", "distributed_work"}


CSVS = {
    "a formula in the names": {"method": "$\\frac{", "dataset": "$x^", "model": "\\unknown"},
    "words that command the terminal": {"method": ESCAPE.replace("\n", " ").replace("\r", ""), "dataset": "\x1b[2J"},
    "the largest numbers": {"n_clients": (1 << 63) - 1, "seed": (1 << 63) - 1, "local_epochs": (1 << 63) - 1},
    "a round at the end of all": {"round": (1 << 63) - 1},
    "no finite loss": {"loss": float("nan"), "train_loss": float("inf"), "frobenius_gap": float("inf")},
    "huge floats": {"frobenius_gap": 1e308, "cf_gap_fedavg": 1e-308, "alpha": 1e308, "lr": 1e308},
    "an alpha that is none": {"alpha": float("nan")},
    "a name of ten thousand letters": {"method": "x" * 10_000, "dataset": "y" * 10_000},
    "empty words": {"method": "", "dataset": "", "model": ""},
}


# What matplotlib and numpy warn of, a person reads; it stops nothing.
@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::RuntimeWarning")
@pytest.mark.parametrize("name", CSVS)
def test_whatever_a_csv_says_the_plot_answers(place: Place, name: str):
    results = Workspace(place.root).results
    results.mkdir()
    (results / "good.csv").write_bytes(to_csv([row(method="fedavg", round=n) for n in (1, 2)]))
    (results / "evil.csv").write_bytes(to_csv([row(**CSVS[name])]))
    answered(place.fedspec("plot"))
    assert not [path for path in place.root.parent.rglob("*") if path.name.startswith("owned")]


@pytest.mark.skipif(sys.platform == "win32", reason="links need rights there")
@pytest.mark.parametrize("where", ["paper_results", "paper_results/figures"])
def test_figures_and_results_are_not_written_through_a_link_that_leads_out(place: Place, where: str, tmp_path: Path):
    outside = tmp_path / "home"
    outside.mkdir()
    good = to_csv([row(method="fedavg", round=n) for n in (1, 2)])
    link = place.root / where
    if where == "paper_results":
        (outside / "good.csv").write_bytes(good)
    else:
        link.parent.mkdir()
        (link.parent / "good.csv").write_bytes(good)
    link.symlink_to(outside)
    said = place.fedspec("plot")
    assert said.code == 3
    assert "leads out of the shared folder" in said.err
    assert {path.name for path in outside.iterdir()} <= {"good.csv"}


def test_no_word_of_a_peer_is_read_as_markup(capsys: pytest.CaptureFixture[str]):
    say("[red]x[/red] [link=http://x]y")
    assert capsys.readouterr().out == "[red]x[/red] [link=http://x]y\n"


def test_a_json_document_holds_no_character_that_a_terminal_obeys_and_is_still_the_same(capsys: pytest.CaptureFixture[str]):
    emit_json({"name": ESCAPE})
    out = capsys.readouterr().out
    assert not [c for c in out if c != "\n" and (ord(c) < 32 or 127 <= ord(c) < 160 or c == "\u202e")]
    assert json.loads(out)["name"] == ESCAPE

"""How text is laid out: whole in files and pipes, between words on a terminal, and never a name cut in two."""

from __future__ import annotations

import io
import json

import pytest
from rich.console import Console

from fedspec.cli.console import complain, emit_json, folded, say, say_lines, table, wrapped


def on_terminal(text: str, **options: object) -> str:
    file = io.StringIO()
    say(text, Console(file=file, force_terminal=True, width=20, highlight=False, color_system="standard", **options))  # type: ignore[arg-type]
    return file.getvalue()


def test_a_pipe_gets_every_line_whole(capsys: pytest.CaptureFixture[str]):
    say("word " * 50 + "[not markup]")
    assert capsys.readouterr().out == "word " * 50 + "[not markup]\n"


def test_a_terminal_wraps_between_words_and_indents_what_follows():
    assert on_terminal("  a sentence that is longer than this") == "  a sentence that is\n    longer than this\n"


def test_many_lines_look_as_each_alone(capsys: pytest.CaptureFixture[str]):
    lines = [("a row", ""), ("folded\n  row", "bold"), ("a note that is longer than this", "yellow"), ("odd \x1b[31m", "")]
    file = io.StringIO()
    say_lines(lines, Console(file=file, force_terminal=True, width=20, highlight=False, color_system="standard"))
    shown = file.getvalue()
    assert "\x1b[1mfolded\n" in shown
    assert "a note that is\n  longer than this" in shown
    assert "\x1b[31m" not in shown
    assert shown.count("\n") == 6
    say_lines(lines, Console())
    assert capsys.readouterr().out == "a row\nfolded\n  row\na note that is longer than this\nodd \ufffd[31m\n"


def test_a_path_is_never_broken():
    path = "/a/very/long/path/to/a-file/x.pdf"
    assert path in wrapped(f"Figures: {path}", 20).splitlines()[1]


def test_colour_marks_the_first_word_and_no_color_leaves_the_words(monkeypatch: pytest.MonkeyPatch):
    assert on_terminal("warn   x") == "\x1b[33mwarn\x1b[0m   x\n"
    monkeypatch.setenv("NO_COLOR", "1")
    assert on_terminal("warn   x") == "warn   x\n"


def test_an_error_goes_to_stderr(capsys: pytest.CaptureFixture[str]):
    complain("It broke.", "Mend it.")
    assert capsys.readouterr() == ("", "error: It broke.\n  fix: Mend it.\n")


@pytest.mark.parametrize("compact", [False, True])
def test_json_carries_its_schema_and_is_valid_even_without_a_number(capsys: pytest.CaptureFixture[str], compact: bool):
    emit_json({"value": float("nan"), "name": "α"}, compact=compact)
    text = capsys.readouterr().out
    document = json.loads(text, parse_constant=pytest.fail)
    assert (document["schema"], document["value"], document["name"]) == (1, None, "α")
    assert (text.count("\n") == 1) is compact


def test_a_table_is_as_wide_as_its_cells_and_has_no_trailing_blanks():
    assert table(("Item", "State", "N"), [("abc", "ok", "7"), ("a", "", "10")], "2") == [
        "Item  State   N",
        "abc   ok      7",
        "a            10",
    ]


def test_a_narrow_table_folds_its_names_before_an_underscore():
    name = "fedavg_rebalanced_dirichlet_alpha0.5_c5_r10"
    header, row = table(("Item", "State"), [(name, "done")], width=40)
    assert header.index("State") == row.index("done")
    assert max(map(len, row.splitlines())) <= 40
    assert "".join(line.replace(" ", "").replace("done", "") for line in row.splitlines()) == name


@pytest.mark.parametrize("name", ["x" * 50, "a_b" * 20, "short", "_" * 30])
def test_folding_loses_nothing(name: str):
    pieces = folded(name, 11)
    assert "".join(piece.strip() for piece in pieces) == name
    assert max(map(len, pieces)) <= 11

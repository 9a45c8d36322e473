"""A table as CSV for programs, as Markdown and LaTeX for people; what is in it is for `tables` to say."""

from __future__ import annotations

import csv
import io
import re
from dataclasses import dataclass

# What tables say with one sign.
BETTER, WORSE = "\N{UPWARDS ARROW}", "\N{DOWNWARDS ARROW}"
PLUS_MINUS, MINUS, NONE, ALPHA = "\N{PLUS-MINUS SIGN}", "\N{MINUS SIGN}", "\N{EM DASH}", "\N{GREEK SMALL LETTER ALPHA}"


@dataclass(frozen=True, slots=True)
class Cell:
    """A text, which may be bold."""

    text: str
    bold: bool = False


@dataclass(frozen=True, slots=True)
class Table:
    """A table in both of its forms.

    Attributes:
        name: of its files.
        note: what is in it and what its marks mean, in sentences.
        header: of ``rows``, for people; the first ``texts`` columns are aligned left.
        columns: of ``records``, for programs: one value a cell, numbers in full.
    """

    name: str
    title: str
    note: str
    header: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    texts: int
    columns: tuple[str, ...]
    records: tuple[tuple[object, ...], ...]


def plain(text: str) -> str:
    """A text on one line and without controls: names come from files, and files from anybody."""
    return " ".join("".join(character if character.isprintable() else " " for character in text).split())


def to_csv(table: Table) -> bytes:
    """For programs: UTF-8, LF, shortest exact floats, empty cells where there is no value."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(table.columns)
    writer.writerows(["" if value is None else value for value in record] for record in table.records)
    return out.getvalue().encode(errors="replace")


def to_markdown(table: Table) -> bytes:
    """For people and web pages: a heading, the table, and its note."""
    rule = ["---" if column < table.texts else "--:" for column in range(len(table.header))]
    rows = [[f"**{_markdown(cell.text)}**" if cell.bold else _markdown(cell.text) for cell in row] for row in table.rows]
    lines = [f"| {' | '.join(cells)} |" for cells in ([_markdown(name) for name in table.header], rule, *rows)]
    text = "\n".join([f"**{_markdown(table.title)}**", "", *lines, "", _markdown(table.note), ""])
    return text.encode(errors="replace")


def to_latex(table: Table) -> bytes:
    r"""For papers: a ``table`` with booktabs' rules, which needs ``\usepackage{booktabs}``."""
    alignment = "".join("l" if column < table.texts else "r" for column in range(len(table.header)))
    rows = [[rf"\textbf{{{_latex(cell.text)}}}" if cell.bold else _latex(cell.text) for cell in row] for row in table.rows]
    lines = [
        r"% \usepackage{booktabs}",
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{_latex(table.title)}. {_latex(table.note)}}}",
        rf"\label{{tab:{table.name}}}",
        rf"\begin{{tabular}}{{{alignment}}}",
        r"\toprule",
        " & ".join(_latex(name) for name in table.header) + r" \\",
        r"\midrule",
        *(" & ".join(cells) + r" \\" for cells in rows),
        r"\bottomrule",
        r"\end{tabular}",
        r"\end{table}",
        "",
    ]
    return "\n".join(lines).encode(errors="replace")


# A file's ending, and what makes its bytes.
FORMS = {"csv": to_csv, "md": to_markdown, "tex": to_latex}

_LATEX = {
    **{character: f"\\{character}" for character in "&%$#_{}"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": "$<$",
    ">": "$>$",
    PLUS_MINUS: r"$\pm$",
    BETTER: r"$\uparrow$",
    WORSE: r"$\downarrow$",
    MINUS: "$-$",
    NONE: "---",
    ALPHA: r"$\alpha$",
}


def _latex(text: str) -> str:
    """A text in which LaTeX finds no command of others."""
    return "".join(_LATEX.get(character, character) for character in plain(text))


def _markdown(text: str) -> str:
    """A text in which Markdown finds neither mark-up nor the end of a cell."""
    return re.sub(r"([\\`*_|<>\[\]])", r"\\\1", plain(text))

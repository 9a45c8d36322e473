"""What a check says: one finding, and how a person and a program read it."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable
from dataclasses import dataclass

from fedspec.cli.console import STYLES, say, stdout, terminal_width

INDENT = " " * 7
SHOWN = 3


@dataclass(frozen=True, slots=True)
class Finding:
    """One line: ``ok``, ``warn`` or ``error``, what it is about, what was found, and what to do.

    ``about`` is a word for programs; docs/formats.md lists them. ``files`` are those that it speaks of.
    """

    level: str
    about: str
    text: str
    fix: str = ""
    files: tuple[str, ...] = ()


def show(finding: Finding) -> None:
    """Print a finding: as it is into files and pipes; on a terminal in its column, with the colour of its level."""
    console = stdout()
    width = terminal_width(console)
    lines = _filled(finding.text, f"{finding.level:<7}", INDENT, width)
    lines += [f"{INDENT}  {file}" for file in finding.files[:SHOWN]]
    if len(finding.files) > SHOWN:
        lines.append(f"{INDENT}  and {len(finding.files) - SHOWN} more")
    lines += _filled(finding.fix, f"{INDENT}fix: ", INDENT + " " * 5, width) if finding.fix else []
    if width is None:
        say("\n".join(lines))
        return
    from rich.text import Text

    for number, line in enumerate(lines):
        text = Text(line)
        if number == 0:
            text.stylize(STYLES[finding.level], 0, len(finding.level))
        elif line.startswith(f"{INDENT}fix:"):
            text.stylize("bold", len(INDENT), len(INDENT) + 4)
        console.print(text, soft_wrap=True)


def conclusion(findings: Iterable[Finding]) -> str:
    """How it looks all in all."""
    from fedspec.workqueue.wording import count

    levels = [finding.level for finding in findings]
    errors, warnings = levels.count("error"), levels.count("warn")
    if errors:
        more = f" and {count(warnings, 'warning')}" if warnings else ""
        return f"{count(errors, 'error')}{more}: nothing runs here before what is marked 'error' is fixed."
    if warnings:
        return f"{count(warnings, 'warning')}; nothing stands in the way of a run."
    return "All is well."


def _filled(text: str, first: str, indent: str, width: int | None) -> list[str]:
    """Broken between words, never within one, so that a path or a command can be copied."""
    if width is None:
        return [first + text]
    return textwrap.wrap(
        text, width, initial_indent=first, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )

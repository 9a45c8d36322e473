"""Where text goes and how it looks: data to stdout, messages to stderr, the one form of errors, tables and JSON."""

from __future__ import annotations

import io
import re
import sys
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console
    from rich.style import Style

SCHEMA = 1
GAP = "  "
MIN_FIRST_COLUMN = 16
_LATE_CONTROLS = re.compile("[\x7f-\x9f\u2028-\u202e\u2066-\u2069]")
# The first word of a line that has a colour; without one the words say the same.
STYLES = {"ok": "green", "warn": "yellow", "warn:": "yellow", "error": "bold red", "error:": "bold red"}


def utf8() -> None:
    """A piped run on Windows would die on the first α without this."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding="utf-8", errors="replace")


def stdout() -> Console:
    """The console for data. Colour only on a terminal, and never with NO_COLOR."""
    from rich.console import Console

    return Console(highlight=False)


def stderr() -> Console:
    """The console for messages."""
    from rich.console import Console

    return Console(stderr=True, highlight=False)


@contextmanager
def busy(what: str) -> Iterator[Callable[[str], None]]:
    """Says on a terminal what takes a moment, for as long as it does; what it is told in between, it warns of afterwards."""
    console, told = stderr(), list[str]()
    try:
        with console.status(what) if console.is_terminal else nullcontext():
            yield told.append
    finally:
        for message in told:
            warn(message)


def say(text: str = "", console: Console | None = None, style: str = "") -> None:
    """Print text: as it is into files and pipes, wrapped between words on a terminal, coloured by its first word there."""
    from fedspec.workqueue.wording import readable

    # Names, reasons and file names come from peers: no terminal must obey them. `Text` reads nothing as rich's markup.
    text = readable(text)
    console = console or stdout()
    if not console.is_terminal:
        _stream(console).write(text + "\n")
        return
    from rich.text import Text

    for line in text.splitlines() or [""]:
        shown = Text(wrapped(line, console.width), style=style)
        word = line.split(" ", 1)[0]
        if word in STYLES:
            shown.stylize(STYLES[word], 0, len(word))
        console.print(shown, soft_wrap=True)


def say_lines(lines: Iterable[tuple[str, str]], console: Console) -> None:
    """Print many texts, each with its style for terminals, in a fraction of the time that `say` takes for each."""
    from fedspec.workqueue.wording import readable

    told = ((readable(text), style) for text, style in lines)
    if not console.is_terminal:
        _stream(console).write("".join(f"{text}\n" for text, _ in told))
        return
    from rich.segment import Segment, Segments

    width = console.width
    styles: dict[str, Style | None] = {"": None}
    segments = []
    for text, style in told:
        if style not in styles:
            styles[style] = console.get_style(style)
        segments += [
            Segment((line if len(line) <= width else wrapped(line, width)) + "\n", styles[style]) for line in text.split("\n")
        ]
    console.print(Segments(segments), soft_wrap=True, end="")


def complain(what: str, fix: str) -> None:
    """The one form of every error."""
    say(f"error: {what}\n  fix: {fix}", stderr())


def warn(what: str) -> None:
    """Something to know that stops nothing."""
    say(f"warn   {what}", stderr())


def emit_json(body: Mapping[str, Any], *, compact: bool = False) -> None:
    """Print one JSON document with its schema number and the time; ``compact`` on one line, for streams of documents."""
    import msgspec

    from fedspec.clock import SystemClock, timestamp

    document = msgspec.json.encode({"schema": SCHEMA, "time": timestamp(SystemClock().now()), **body})
    text = (document if compact else msgspec.json.format(document, indent=2)).decode()
    # JSON escapes the control characters of ASCII only; some terminals obey others too.
    sys.stdout.write(_LATE_CONTROLS.sub(lambda match: f"\\u{ord(match[0]):04x}", text) + "\n")
    sys.stdout.flush()


def wrapped(line: str, width: int) -> str:
    """A line broken between words, continued further in; a path or a name is never broken, so that it can be copied."""
    indent = " " * (len(line) - len(line.lstrip()) + 2)
    parts = textwrap.wrap(line, width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)
    return "\n".join(parts)


def table(header: Sequence[str], rows: Sequence[Sequence[str]], right: str = "", width: int | None = None) -> list[str]:
    """Lines of a table without rules; names of the first column too long for ``width`` continue below, further in.

    Args:
        right: the columns, by position and written as digits, that are aligned right.
        width: characters in all; None is as wide as need be.

    Returns:
        A text per row, the header first; a text holds line feeds where a name was folded.
    """
    every = [header, *rows]
    widths = [max(len(row[column]) for row in every) for column in range(len(header))]
    if width is not None:
        others = sum(widths[1:]) + len(GAP) * (len(widths) - 1)
        widths[0] = min(widths[0], max(MIN_FIRST_COLUMN, width - others))
    return [_row(row, widths, right) for row in every]


def _row(row: Sequence[str], widths: Sequence[int], right: str) -> str:
    name, *more = folded(row[0], widths[0])
    cells = [
        cell.rjust(widths[column]) if str(column) in right else cell.ljust(widths[column])
        for column, cell in enumerate([name, *row[1:]])
    ]
    return "\n".join([GAP.join(cells).rstrip(), *more])


def folded(name: str, width: int) -> list[str]:
    """A name in pieces of at most ``width``, broken before an underscore where there is one."""
    pieces = []
    while len(name) > width:
        at = name.rfind("_", 3, width + 1)
        at = at if at > 0 else width
        pieces.append(name[:at])
        name = "  " + name[at:]
    return [*pieces, name]


def near(path: Path) -> str:
    """A path as short as a person here would type it."""
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)


def terminal_width(console: Console) -> int | None:
    """The columns of a terminal, None for files and pipes, where nothing need be folded."""
    return console.width if console.is_terminal else None


def _stream(console: Console) -> IO[str]:
    return console.file

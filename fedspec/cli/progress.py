"""``fedspec progress``: who does what, and how long it will take."""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fedspec.cli.console import GAP, emit_json, say_lines, stdout, table, terminal_width, wrapped
from fedspec.cli.options import JsonOption, TimeScaleOption, WorkspaceOption

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rich.text import Text

    from fedspec.workqueue.distributor import WorkDistributor
    from fedspec.workqueue.progress import ItemLine, Progress

WATCH_EVERY_S = 2.0
HEADER = ("Item", "State", "Machine", "Round", "Acc.", "Beat", "ETA")
NUMBERS = "3456"
TROUBLE, ASIDE, NEWS = "yellow", "dim", "green"
# Below so many columns the accuracy and the age of the last sign are left out, then whatever leaves too little of the names.
NARROW, LEAST_NAME, MOST_MACHINE = 70, 14, 12
ACCURACY, BEAT = 4, 5
EXPENDABLE = (BEAT, ACCURACY, 6, 3, 2)
# A screen of so few lines has no room for the original's block.
LOW = 30
CUT = "  ... all of it: fedspec queue why"
# Of a screen that is watched, the notes below the table take at most a third of what the block leaves.
NOTES_SHARE = 3
STYLES = {
    "failed": "red",
    "crashed": TROUBLE, "stalled": TROUBLE, "stale": TROUBLE, "no-machine": TROUBLE, "slow": TROUBLE,
    "running": "bold",
    "retry-wait": ASIDE, "paused": ASIDE, "draining": ASIDE, "cancelled": ASIDE,
    "done": "green", "sealed": "green",
}  # fmt: skip
# What a screen too low for all shows first.
URGENT = ("failed", "crashed", "stalled", "stale", "no-machine", "slow", "running", "retry-wait", "paused", "draining",
          "pending", "cancelled", "done", "sealed")  # fmt: skip
COUNTED = ("failed", "stale", "running", "pending", "cancelled", "done", "sealed")

EPILOG = """\
\b
Somebody has it:    running, slow (far behind its usual pace), stalled (alive,
                    but nothing moves), stale (its worker is silent)
It waits:           pending, crashed (its worker ended without a word),
                    retry-wait, no-machine (none here can run it), paused,
                    draining
It is over:         done, sealed (done, and every machine knows), failed,
                    cancelled
Beat is the age of the worker's last sign by wall clocks, ETA the time its
item still takes. More on one: fedspec queue why ITEM
"""


def progress(
    item: Annotated[str | None, typer.Argument(metavar="ITEM", help="One experiment, in detail.", show_default=False)] = None,
    watch: Annotated[bool, typer.Option("--watch", help="Keep showing it until Ctrl-C.")] = False,
    json: JsonOption = False,
    workspace: WorkspaceOption = None,
    time_scale: TimeScaleOption = 1.0,
) -> None:
    """Show who does what, and how long it will take."""
    from fedspec.cli.opening import looking

    with looking(workspace, time_scale) as queue:
        queue.require_queue()
        if item is not None:
            from fedspec.cli.detail import show_item

            show_item(queue, item, json=json)
        elif watch:
            with suppress(KeyboardInterrupt):
                _watch(queue, json=json)
        elif json:
            emit_json(as_json(queue.progress()))
        else:
            _print(queue.progress())


def as_json(state: Progress) -> dict[str, Any]:
    """The counts of the block, every item, and what to know."""
    counts = {word: state.count(word) for word in COUNTED}
    return {"total": len(state.lines), "completed": state.completed, **counts,
            "items": [asdict(line) for line in state.lines], "notes": list(state.notes),
            "hindrances": [asdict(found) for found in state.hindrances], "takeovers": list(state.takeovers)}  # fmt: skip


def page(state: Progress, width: int | None, height: int | None = None) -> Iterator[tuple[str, str]]:
    """(text, style) of the original's block, the table, and what to know; at most ``height`` lines where that is possible."""
    head = state.block() if height is None or height > LOW else _fitted(summary(state), width)
    yield head, ""
    notes = [(_fitted(note, width), style) for told, style in ((state.warnings, TROUBLE), (state.news, NEWS)) for note in told]
    if height is not None:
        notes = _first(notes, (height - _height(head, width)) // NOTES_SHARE, width)
    room = None if height is None else height - _height(head, width) - 1 - sum(_height(note, width) for note, _ in notes)
    header, *rows = _table(state.lines, width)
    hidden = _hidden(state.lines, [_height(row, width) for row in rows], room)
    yield header, "bold"
    for line, row in zip(state.lines, rows, strict=True):
        if line not in hidden:
            yield row, STYLES.get(line.condition, "")
    if hidden:
        yield f"... and {len(hidden)} more: {counted(hidden)}", "dim"
    yield from notes


def summary(state: Progress) -> str:
    """The block in a line, for low screens."""
    at_work = Counter(line.machine for line in state.lines if line.state in ("running", "stale"))
    who = ", ".join(f"{name} {number}" for name, number in sorted(at_work.items()))
    share = f"{state.completed} of {len(state.lines)} done ({100 * state.completed / max(1, len(state.lines)):.1f}%)"
    return f"{share}; {counted(state.lines)}" + (f"; at work: {who}" if who else "")


def _table(lines: Sequence[ItemLine], width: int | None) -> list[str]:
    """The header and a text a line. On a narrow screen a row is one line still: of less, and with shorter names."""
    rows = [_cells(line) for line in lines]
    if width is None or width >= NARROW:
        return table(HEADER, rows, NUMBERS, width)
    rows = [[*row[:2], middle(row[2], MOST_MACHINE), *row[3:]] for row in rows]
    shown = list(range(len(HEADER)))
    for column in EXPENDABLE:
        widths = [max(len(row[n]) for row in [HEADER, *rows]) for n in shown[1:]]
        room = width - sum(widths) - len(GAP) * len(widths)
        if room >= LEAST_NAME and not {ACCURACY, BEAT} & set(shown):
            break
        shown.remove(column)
    widths = [max(len(row[n]) for row in [HEADER, *rows]) for n in shown[1:]]
    room = max(LEAST_NAME, width - sum(widths) - len(GAP) * len(widths))
    cells = [[middle(row[0], room), *(row[n] for n in shown[1:])] for row in rows]
    right = "".join(str(place) for place, column in enumerate(shown) if str(column) in NUMBERS)
    return table([HEADER[n] for n in shown], cells, right)


def middle(name: str, width: int) -> str:
    """The name with an ellipsis in its middle where it is longer than ``width``: its ends tell it from others."""
    if len(name) <= width:
        return name
    start = (width - 1) // 2
    return f"{name[:start]}\u2026{name[len(name) - (width - 1 - start) :]}"


def _fitted(note: str, width: int | None) -> str:
    return note if width is None else wrapped(note, width)


def _height(text: str, width: int | None) -> int:
    """Lines on the screen, which breaks names that are longer than itself."""
    return sum(1 if width is None else max(1, -(-len(line) // width)) for line in text.split("\n"))


def _first(notes: Sequence[tuple[str, str]], room: int, width: int | None) -> list[tuple[str, str]]:
    """The notes for which there is room, and in any case the beginning of the first, which is the most urgent."""
    kept: list[tuple[str, str]] = []
    for text, style in notes:
        height = _height(text, width)
        if height <= room:
            kept.append((text, style))
        elif not kept:
            kept.append((_beginning(text, max(1, room - 1), width), style))
        room -= height
    return kept


def _beginning(note: str, most: int, width: int | None) -> str:
    """The lines of a note for which there is room, and where to read the rest."""
    lines = note.split("\n")
    while len(lines) > 1 and _height("\n".join(lines), width) > most:
        lines.pop()
    return "\n".join([*lines, CUT])


def _print(state: Progress) -> None:
    console = stdout()
    say_lines(page(state, terminal_width(console)), console)


def _watch(queue: WorkDistributor, *, json: bool) -> None:
    import time

    console = stdout()
    if json or not console.is_terminal:
        while True:
            emit_json(as_json(queue.progress()), compact=True) if json else _print(queue.progress())
            time.sleep(WATCH_EVERY_S)
    from rich.live import Live

    with Live(console=console, auto_refresh=False, vertical_overflow="crop") as live:
        while True:
            live.update(_screen(page(queue.progress(), console.width, console.height - 1)), refresh=True)
            time.sleep(WATCH_EVERY_S)


def _screen(lines: Iterator[tuple[str, str]]) -> Text:
    from rich.text import Text

    from fedspec.workqueue.wording import readable

    return Text("\n").join(Text(readable(text), style=style) for text, style in lines)


def _hidden(lines: Sequence[ItemLine], heights: Sequence[int], room: int | None) -> list[ItemLine]:
    """The lines for which there is no room, those that matter least."""
    if room is None or sum(heights) <= room:
        return []
    room -= 1  # for the line that counts the hidden ones
    hidden = []
    for line, height in sorted(zip(lines, heights, strict=True), key=lambda pair: _urgency(pair[0])):
        room -= height
        if room < 0:
            hidden.append(line)
    return hidden


def _urgency(line: ItemLine) -> int:
    return URGENT.index(line.condition) if line.condition in URGENT else len(URGENT)


def counted(lines: Sequence[ItemLine]) -> str:
    """How many there are in each condition, ``2 done, 1 running``; what matters least first."""
    states = [line.condition for line in lines]
    return ", ".join(f"{states.count(word)} {word}" for word in reversed(URGENT) if word in states)


def _cells(line: ItemLine) -> list[str]:
    from fedspec.workqueue.wording import in_words

    return [
        line.experiment,
        line.condition,
        line.machine,
        f"{line.round}/{line.rounds}" if line.round or line.state in ("running", "stale") else "",
        "" if line.accuracy is None else f"{line.accuracy:.3f}",
        "" if line.beat_age_s is None else in_words(line.beat_age_s),
        "" if line.eta_s is None else in_words(line.eta_s),
    ]

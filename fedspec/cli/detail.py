"""``fedspec progress ITEM`` and ``fedspec queue why ITEM``: what the queue knows of one experiment."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from fedspec.cli.console import GAP, emit_json, say, stdout, terminal_width, wrapped
from fedspec.workqueue.wording import one_line

if TYPE_CHECKING:
    from datetime import datetime

    from fedspec.plan import Item
    from fedspec.workqueue.distributor import WorkDistributor
    from fedspec.workqueue.explain import Explanation, Past

SHOWN_TRACEBACK_LINES = 12
SHOWN_ATTEMPTS = 5
ATTEMPTS = ("Attempt", "Machine", "Claimed", "From", "Saved", "How it ended")
LEAST_ENDING = 20


def show_item(queue: WorkDistributor, name: str, *, json: bool) -> None:
    """Print the item: its state in words, its attempts, what differs from the defaults, and its last failure."""
    from fedspec.workqueue.explain import explain

    item = queue.find_item(name)
    found = explain(queue.look(), item)
    line = found.line
    if json:
        body = {"attempts": attempts_as_json(found), "config": item.config, "needs": item.needs}
        emit_json({"item": asdict(line), **body})
        return
    show_why(found)
    accuracy = "" if line.accuracy is None else f", accuracy {line.accuracy:.4f}"
    rounds = f"{line.round} of {line.rounds} saved{accuracy}" if line.round else f"{line.rounds}, none saved yet"
    say(f"  rounds    {rounds}")
    say(f"  id        {item.id}")
    for heading, settings in zip(("set", "default"), _settings(item), strict=True):
        if settings:
            say(f"  {heading:<8}  {settings}")
    if found.past:
        say("\n".join(_attempts(found.past, queue.clock.now())))
        say(f"  log       {queue.workspace.log(found.past[-1].worker)}")
    for text in _traceback(queue, item):
        say(f"  | {text}")


def show_why(found: Explanation, now: datetime | None = None) -> None:
    """Print the explanation, a paragraph a matter; with what happened before, as of ``now``, where that tells more."""
    _show_bold(found.what, 0, len(found.line.experiment))
    if found.next:
        say(found.next)
    if now is not None and any(past.how not in ("", "done") for past in found.past):
        say()
        say("\n".join(_attempts(found.past[-SHOWN_ATTEMPTS:], now)))
        if len(found.past) > SHOWN_ATTEMPTS:
            say(f"... and {len(found.past) - SHOWN_ATTEMPTS} before: fedspec progress {found.line.experiment}")
        if found.fixes:
            say()
    for fix in found.fixes:
        _show_command(fix.lead, fix.command)
    if now is not None and any(past.how == "failed" for past in found.past):
        _show_command("The traceback and the log", f"fedspec progress {found.line.experiment}")


def as_json(found: Explanation) -> dict[str, Any]:
    """The explanation for programs."""
    line = found.line
    fixes = [asdict(fix) for fix in found.fixes]
    return {"item": line.id, "experiment": line.experiment, "state": line.state, "condition": line.condition,
            "due_s": line.due_s, "why": found.why, "attempts": attempts_as_json(found), "fixes": fixes}  # fmt: skip


def attempts_as_json(found: Explanation) -> list[dict[str, Any]]:
    """Every attempt, oldest first."""
    return [asdict(past) for past in found.past]


def _show_command(lead: str, command: str) -> None:
    """A command that can be copied: never broken, on a line of its own if need be."""
    width = terminal_width(stdout())
    text = f"{lead}: {command}"
    if width is not None and len(text) > width:
        say(f"{lead}:")
        text = f"  {command}"
    _show_bold(text, len(text) - len(command), len(text))


def _show_bold(text: str, start: int, end: int) -> None:
    """Print text, on a terminal with these characters in bold."""
    console = stdout()
    if not console.is_terminal:
        say(text)
        return
    from rich.text import Text

    shown = Text(text if start else wrapped(text, console.width))
    shown.stylize("bold", start, end)
    console.print(shown, soft_wrap=True)


def _attempts(pasts: Sequence[Past], now: datetime) -> list[str]:
    """A line an attempt; how it ended continues in its column."""
    from fedspec.workqueue.wording import local_time

    told = [
        (str(p.attempt), p.machine, local_time(p.claimed_at, now) or "?", f"{p.start or '-'}", f"{p.saved or '-'}", p.end)
        for p in pasts
    ]
    rows = [ATTEMPTS, *told]
    widths = [max(len(row[column]) for row in rows) for column in range(len(ATTEMPTS) - 1)]
    indent = sum(widths) + len(GAP) * len(widths)
    width = terminal_width(stdout())
    lines = []
    for row in rows:
        start = GAP.join([*(cell.ljust(wide) for cell, wide in zip(row, widths, strict=False)), ""])
        room = 0 if width is None else max(LEAST_ENDING, width - indent)
        first, *more = textwrap.wrap(row[-1], room, break_on_hyphens=False) or [""] if room else [row[-1]]
        lines += [(start + first).rstrip(), *(" " * indent + text for text in more)]
    return lines


def _settings(item: Item) -> tuple[str, str]:
    """What was chosen, and what was left at its default."""
    import msgspec

    from fedspec.config import tuned_lr
    from fedspec.plan import KINDS

    fields = msgspec.structs.fields(KINDS[item.kind]) if item.kind in KINDS else ()
    defaults = {field.name: field.default for field in fields} | {"lr": tuned_lr(item.config.get("method", item.kind))}
    texts = {key: one_line(f"{key} {value}") for key, value in item.config.items()}
    chosen = {key for key, value in item.config.items() if key in ("method", "alpha", "seed") or defaults.get(key) != value}
    return tuple(", ".join(text for key, text in texts.items() if (key in chosen) is which) for which in (True, False))  # type: ignore[return-value]


def _traceback(queue: WorkDistributor, item: Item) -> list[str]:
    state = queue.store.fold.item(item.id)
    failures = sorted((fail.lam, fail.traceback) for fault in ("code", "transient", "final") for fail in state.failures(fault))
    return [one_line(text) for text in failures[-1][1].splitlines()[-SHOWN_TRACEBACK_LINES:]] if failures else []

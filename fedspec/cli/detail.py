"""``fedspec progress ITEM``: all that the queue knows of one experiment, for people and for programs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from fedspec.cli.console import emit_json, say, stdout, table, terminal_width
from fedspec.workqueue.wording import MAX_TIME, one_line

if TYPE_CHECKING:
    from fedspec.plan import Item
    from fedspec.workqueue.distributor import WorkDistributor
    from fedspec.workqueue.fold import Attempted

SHOWN_TRACEBACK_LINES = 12


def show_item(queue: WorkDistributor, name: str, *, json: bool) -> None:
    """Print the item: its state in words, its attempts, what differs from the defaults, and its last failure."""
    item = queue.find_item(name)
    line = next(line for line in queue.progress().lines if line.id == item.id)
    attempts = list(_attempts(queue, item))
    if json:
        emit_json({"item": asdict(line), "attempts": attempts, "config": item.config, "needs": item.needs})
        return
    from fedspec.workqueue.explain import explain

    say(explain(queue, item))
    accuracy = "" if line.accuracy is None else f", accuracy {line.accuracy:.4f}"
    rounds = f"{line.round} of {line.rounds} saved{accuracy}" if line.round else f"{line.rounds}, none saved yet"
    say(f"  rounds    {rounds}")
    say(f"  id        {item.id}")
    for heading, settings in zip(("set", "default"), _settings(item), strict=True):
        if settings:
            say(f"  {heading:<8}  {settings}")
    if attempts:
        rows = [(f"  {a['attempt']}", a["machine"], a["claimed_at"] or "?", str(a["saved"]), a["end"]) for a in attempts]
        say("\n".join(table(("  Attempt", "Machine", "Claimed (UTC)", "Saved", "End"), rows, "3", terminal_width(stdout()))))
        say(f"  log       {queue.workspace.log(str(attempts[-1]['worker']))}")
    for text in _traceback(queue, item):
        say(f"  | {text}")


def _attempts(queue: WorkDistributor, item: Item) -> Iterator[dict[str, Any]]:
    fold = queue.store.fold
    state = fold.item(item.id)
    for attempt, worker in sorted(state.attempts):
        made = state.attempts[attempt, worker]
        yield {
            "attempt": attempt,
            "machine": queue.machine_name(worker),
            "worker": worker,
            "claimed_at": one_line(made.claimed_at, MAX_TIME),
            "saved": made.saved,
            "end": "done" if (attempt, worker) in state.done else _end(made, gone=fold.gone(worker)),
        }


def _end(made: Attempted, *, gone: bool) -> str:
    if made.ended is not None:
        return one_line(made.ended.reason)
    return "its process ended without a word" if gone else "none yet"


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

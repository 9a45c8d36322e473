"""Why an item is where it is, in plain words."""

from __future__ import annotations

from fedspec.plan import Item
from fedspec.workqueue.distributor import WorkDistributor
from fedspec.workqueue.progress import ItemLine, elapsed_s, in_words
from fedspec.workqueue.wording import one_line


def explain(queue: WorkDistributor, item: Item) -> str:
    """One or two sentences: who has the item and since when, or why nobody has."""
    line = next(line for line in queue.progress().lines if line.id == item.id)
    fold = queue.store.fold
    match line.state:
        case "done" | "sealed":
            return f"{line.experiment} is {line.state}: {line.machine} finished it in attempt {line.attempt}."
        case "running":
            return f"{line.experiment} is running: {_holder(queue, line)}, round {line.round} of {line.rounds} is saved."
        case "stale":
            return (
                f"{line.experiment} has a silent worker: {_holder(queue, line)}, "
                f"last seen ~{in_words(line.beat_age_s or 0)} ago. "
                f"Another worker takes it over after {in_words(queue.timing.dead)} of silence; "
                f"at once: fedspec queue release {line.experiment}"
            )
        case "failed":
            return f"{line.experiment} has failed for good: {line.why} Try it again: fedspec queue retry {line.experiment}"
        case "cancelled":
            return f"{line.experiment} was cancelled. Undo: fedspec queue resume {line.experiment}"
    state = fold.item(item.id)
    parts = [f"{line.experiment} is waiting for a worker"]
    if line.round:
        parts.append(f"round {line.round} of {line.rounds} is saved")
    fails = state.failures("transient") + state.failures("code")
    if fails:
        parts.append(f"it failed {len(fails)} time{'s' * (len(fails) > 1)}, last: {one_line(fails[-1].reason)}")
    if item.needs:
        parts.append("it needs " + one_line(", ".join(need.replace("machine:", "the machine ") for need in item.needs)))
    return "; ".join(parts) + ". Start one with 'fedspec work'."


def _holder(queue: WorkDistributor, line: ItemLine) -> str:
    state = queue.store.fold.item(line.id)
    claimed = state.attempts[line.attempt, line.worker].claimed_at
    since = elapsed_s(claimed, queue.clock.now())
    ago = f", for ~{in_words(since)}" if since is not None else ""
    return f"{line.machine} has it (attempt {line.attempt}{ago})"

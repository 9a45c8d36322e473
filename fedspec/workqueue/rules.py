"""What a worker does next, and whether it may go on: decisions as functions of values.

Pure: the fold, the items and the judgement of who is dead come in as arguments; nothing here knows of files or clocks.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from fedspec.plan import SCIENCE_VERSION, Item
from fedspec.workqueue.fold import Fold, Key, cancelled
from fedspec.workqueue.records import machine_of

MINUTE_S = 60.0
MAX_BACKOFF_MINUTES = 60


@dataclass(frozen=True, slots=True)
class Situation:
    """All that a decision depends on.

    Attributes:
        capabilities: what this machine offers, compared with what items need.
        dead: workers presumed dead.
        backing_off: items whose last transient failure is too recent.
        only: the items to care about, or None for all of the queue's.
        settled: False just after a long sleep, when others' news may not have arrived yet.
    """

    fold: Fold
    items: Mapping[str, Item]
    machine: str
    capabilities: Collection[str]
    dead: Collection[str] = frozenset()
    backing_off: Collection[str] = frozenset()
    only: Collection[str] | None = None
    settled: bool = True


@dataclass(frozen=True, slots=True)
class Take:
    """Claim this item with this attempt number; ``over`` is the claim of a dead worker that it supersedes."""

    item: Item
    attempt: int
    over: Key | None


@dataclass(frozen=True, slots=True)
class Blocked:
    """Why an item cannot be claimed now: ``running`` (by ``owner``), ``back-off``, ``needs`` (``detail``) or ``settle``."""

    item: Item
    why: str
    owner: Key | None = None
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing to claim now, but work remains."""

    blocked: tuple[Blocked, ...]


@dataclass(frozen=True, slots=True)
class Finished:
    """Every item is done, failed for good or cancelled."""

    failed: tuple[Item, ...]


def next_action(situation: Situation) -> Take | Wait | Finished:
    """The next thing to do.

    An item that somebody has begun comes first, since its checkpoint is worth a peer's hours; then the queue's order.
    """
    fold = situation.fold
    takes: list[Take] = []
    blocked: list[Blocked] = []
    failed: list[Item] = []
    for item in scope(situation.items, situation.only):
        status = fold.status(item.id)
        if status == "failed":
            failed.append(item)
        if status in ("pending", "running"):
            choice = _consider(item, situation)
            (takes if isinstance(choice, Take) else blocked).append(choice)  # type: ignore[arg-type]
    if takes:
        return min(takes, key=lambda take: (not fold.item(take.item.id).generations, queue_order(take.item)))
    return Wait(tuple(blocked)) if blocked else Finished(tuple(failed))


def gate(fold: Fold, item_id: str, key: Key) -> str | None:
    """Why the attempt ``key`` must stop, or None: asked after every client and before every checkpoint and result."""
    state = fold.item(item_id)
    if state.done:
        return f"already done by {next(iter(sorted(state.done)))[1]}"
    if cancelled(state):
        return "cancelled"
    if (why := fold.failure(item_id)) is not None:
        return f"given up: {why}"
    if key[0] <= state.released:
        return "released by hand"
    if fold.gone(key[1]):
        return "closed by this machine"
    owner = fold.owner(item_id)
    return None if owner == key else f"taken over by {owner[1] if owner else 'nobody'}"


def scope(items: Mapping[str, Item], only: Collection[str] | None) -> list[Item]:
    """The items to care about, in the queue's order."""
    chosen = items.values() if only is None else (items[i] for i in only if i in items)
    return sorted(chosen, key=queue_order)


def queue_order(item: Item) -> tuple[object, ...]:
    """The order in which people want results: all methods of one seed and alpha before the next, so that partial figures
    compare like with like; the baseline, which every figure shows, first."""
    config = item.config
    alpha = config.get("alpha")
    return (
        item.kind != "centralized",
        config.get("seed", 0),
        float("inf") if alpha is None else alpha,
        str(config.get("method", "")),
        item.id,
    )


def backoff_s(failures: int) -> float:
    """Seconds to wait after this many transient failures in a row: 1, 2, 4 ... 60 minutes."""
    return MINUTE_S * min(2 ** min(failures - 1, 10), MAX_BACKOFF_MINUTES) if failures else 0.0


def unmet(item: Item, situation: Situation) -> str:
    """What the item needs and this machine lacks, "" if nothing."""
    if item.science_version != SCIENCE_VERSION:
        return f"fedspec with science version {item.science_version}"
    lacking = [need for need in item.needs if need not in situation.capabilities]
    if lacking:
        return ", ".join(need.replace("machine:", "the machine ") for need in lacking)
    here = [
        fail for fail in situation.fold.item(item.id).failures("capability") if machine_of(fail.worker) == situation.machine
    ]
    return here[-1].reason if here else ""


def _consider(item: Item, situation: Situation) -> Take | Blocked:
    lack = unmet(item, situation)
    if lack:
        return Blocked(item, "needs", detail=lack)
    owner = situation.fold.owner(item.id)
    if owner is not None and owner[1] not in situation.dead:
        return Blocked(item, "running", owner=owner)
    if item.id in situation.backing_off:
        return Blocked(item, "back-off")
    if not situation.settled:
        return Blocked(item, "settle")
    return Take(item, situation.fold.item(item.id).next_attempt(), owner)

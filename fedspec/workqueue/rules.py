"""What a worker does next, and whether it may go on: decisions as functions of values.

Pure: the fold, the items and the judgement of who is dead come in as arguments; nothing here knows of files or clocks.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

from fedspec.plan import SCIENCE_VERSION, Item
from fedspec.workqueue.fold import ROOT, Fold, Key, weight
from fedspec.workqueue.gangs import gang_of, place_lost, role_to_take
from fedspec.workqueue.members import Members
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
        members: who takes part; None if nobody but this worker is known.
        locks: whether a lock keeps others from claiming the same item at the same time.
    """

    fold: Fold
    items: Mapping[str, Item]
    machine: str
    capabilities: Collection[str]
    dead: Collection[str] = frozenset()
    backing_off: Collection[str] = frozenset()
    only: Collection[str] | None = None
    settled: bool = True
    members: Members | None = None
    locks: bool = True


@dataclass(frozen=True, slots=True)
class Take:
    """Claim this item with this attempt number.

    ``over`` is the claim of a dead worker that it supersedes. ``sure``: nobody else claims it meanwhile; else ask the others.
    ``role``: the place to take in an item that several workers run together; ``begun``: somebody waits there already.
    """

    item: Item
    attempt: int
    over: Key | None
    sure: bool = True
    role: str = ""
    begun: bool = False


@dataclass(frozen=True, slots=True)
class Held:
    """An item that this process has claimed; ``over`` is the dead worker's claim that it took over.

    ``sure``: nobody else can have claimed it meanwhile; else others are asked first (`WorkDistributor.agreed`).
    """

    item: Item
    attempt: int
    worker: str
    over: Key | None = None
    seq: int = 0
    sure: bool = True
    role: str = ""

    @property
    def key(self) -> Key:
        """(attempt, worker)."""
        return self.attempt, self.worker


@dataclass(frozen=True, slots=True)
class Blocked:
    """Why an item cannot be claimed now: ``running`` (by ``owner``), ``back-off``, ``needs`` (``detail``: what is lacking),
    ``refused`` (``detail``: why it could not run here), ``settle``, ``paused`` (``detail``: the machine's id, "" if all are),
    or for a gang ``members`` (too few live) or ``full``."""

    item: Item
    why: str
    owner: Key | None = None
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing to claim now, but work remains."""

    blocked: tuple[Blocked, ...]


@dataclass(frozen=True, slots=True)
class Drained:
    """Work remains, and a person wants this machine to take none of it."""


@dataclass(frozen=True, slots=True)
class Finished:
    """Every item is done, failed for good or cancelled."""

    failed: tuple[Item, ...]


def next_action(situation: Situation) -> Take | Wait | Drained | Finished:
    """The next thing to do.

    The highest priority that a person gave comes first of all. Among equals an item that somebody has begun does, since its
    checkpoint is worth a peer's hours; then the queue's order. Where no lock decides, a worker's own share comes before what it
    would take from the others' shares.
    """
    fold = situation.fold
    takes: list[Take] = []
    blocked: list[Blocked] = []
    failed: list[Item] = []
    for item in scope(situation.items, situation.only, fold, finished=False):
        status = fold.status(item.id)
        if status == "failed":
            failed.append(item)
        if status in ("pending", "running"):
            choice = _consider_gang(item, situation) if item.members else _consider(item, situation)
            if isinstance(choice, Take) and choice.role:
                # One gang at a time: two that wait for each other's members would wait for ever.
                choice = Blocked(item, "members") if any(take.role for take in takes) else choice
            (takes if isinstance(choice, Take) else blocked).append(choice)  # type: ignore[arg-type]
    order = fold.order_for(situation.machine)
    if order == "drain" and (takes or blocked):
        return Drained()
    if order == "pause":
        # Whatever else is in the way of an item: it is the order that keeps this machine from it.
        alone = situation.machine if fold.order_for("") != "pause" else ""
        items = [take.item for take in takes] + [other.item for other in blocked]
        blocked, takes = [Blocked(item, "paused", detail=alone) for item in items], []
    if takes:
        return _first(takes, situation)
    return Wait(tuple(blocked)) if blocked else Finished(tuple(failed))


def _first(takes: list[Take], situation: Situation) -> Take:
    fold, members = situation.fold, situation.members
    highest = max(fold.priority(take.item.id) for take in takes)
    takes = [take for take in takes if fold.priority(take.item.id) == highest]

    def fresh(take: Take) -> bool:
        return not fold.item(take.item.id).generations

    # `takes` are in the queue's order, which `min` keeps among equals.
    if gathering := [take for take in takes if take.begun]:
        return gathering[0]
    if members is None or situation.locks:
        return min(takes, key=fresh)
    own = [take for take in takes if take.role or members.share_of(take.item) == members.me]
    if own and members.known:
        first = min(own, key=fresh)
        return replace(first, sure=first.attempt == 1 and not first.role)
    # Several that do not know each other yet, or that take from another's share, each begin somewhere else.
    first = min(own or takes, key=lambda take: (fresh(take), _repelling(take.item, members.me)))
    return replace(first, sure=not members.known and not members.others)


def _repelling(item: Item, worker: str) -> bytes:
    """An order of items that is another for each worker, those that others hardly win from it first."""
    return bytes(255 - byte for byte in weight(item.id, worker))


def gate(fold: Fold, item_id: str, key: Key) -> str | None:
    """Why the attempt ``key`` must stop, or None: asked after every client and before every checkpoint and result."""
    state = fold.item(item_id)
    if state.has_result:
        return f"already done by {min(done.key for done in state.results())[1]}"
    if state.cancelled:
        return "cancelled"
    if (why := fold.failure(item_id)) is not None:
        return f"given up: {why}"
    if key[0] <= state.released:
        return "released by hand"
    if fold.retired(key[1]):
        return "given up when this machine was retired"
    if key[1] in fold.forks:
        return "given up, since another process writes under this one's name"
    if fold.gone(key[1]):
        return "closed by this machine"
    if fold.role(item_id, key):
        return place_lost(fold, item_id, key)
    owner = fold.owner(item_id)
    return None if owner == key else f"taken over by {owner[1] if owner else 'nobody'}"


def scope(items: Mapping[str, Item], only: Collection[str] | None, fold: Fold, *, finished: bool = True) -> list[Item]:
    """The items to care about, in the queue's order: what a person wants first, then `Item.order`; with ``finished`` also
    those that have a result."""
    chosen = items.values() if only is None else [items[i] for i in only if i in items]
    wanted = chosen if finished else [item for item in chosen if item.id not in fold.finished]
    in_order = sorted(wanted, key=lambda item: item.order)
    return sorted(in_order, key=lambda item: -fold.priority(item.id)) if fold.preferred else in_order


def backoff_s(failures: int) -> float:
    """Seconds to wait after this many transient failures without a saved round: 1, 2, 4 ... 60 minutes."""
    return MINUTE_S * min(2 ** min(failures - 1, 10), MAX_BACKOFF_MINUTES) if failures else 0.0


def unmet(item: Item, situation: Situation) -> str:
    """What the item needs and this machine lacks, "" if nothing."""
    if item.science_version != SCIENCE_VERSION:
        return f"fedspec with science version {item.science_version}"
    lacking = [need for need in item.needs if need not in situation.capabilities]
    return ", ".join(need.replace("machine:", "the machine ") for need in lacking)


def _barred(item: Item, situation: Situation) -> Blocked | None:
    """Why this machine cannot run the item, None if nothing is known to be in the way."""
    if lack := unmet(item, situation):
        return Blocked(item, "needs", detail=lack)
    state = situation.fold.known(item.id)
    if state is None:
        return None  # as most items of a long queue
    failures = state.failures("capability")
    here = [fail for fail in failures if machine_of(fail.worker) == situation.machine]
    return Blocked(item, "refused", detail=here[-1].reason) if here else None


def _consider(item: Item, situation: Situation) -> Take | Blocked:
    if (barred := _barred(item, situation)) is not None:
        return barred
    owner = situation.fold.owner(item.id)
    if owner is not None and owner[1] not in situation.dead:
        return Blocked(item, "running", owner=owner)
    if item.id in situation.backing_off:
        return Blocked(item, "back-off")
    if not situation.settled:
        return Blocked(item, "settle")
    return Take(item, situation.fold.item(item.id).next_attempt(), owner)


def _consider_gang(item: Item, situation: Situation) -> Take | Blocked:
    fold, members = situation.fold, situation.members
    if (barred := _barred(item, situation)) is not None:
        return barred
    gang = gang_of(fold, item, situation.dead)
    if not gang.open:
        return Blocked(item, "full", owner=gang.holders.get(ROOT))
    if not situation.settled:
        return Blocked(item, "settle")
    if item.id in situation.backing_off and not gang.begun:
        return Blocked(item, "back-off")
    if members is None:
        return Blocked(item, "members")
    been_there = (gang.attempt, members.me) in fold.item(item.id).attempts
    role = role_to_take(gang, item, members, members.me, been_there)
    if role is None:
        return Blocked(item, "members")
    return Take(item, gang.attempt, None, role=role.name, begun=gang.begun)

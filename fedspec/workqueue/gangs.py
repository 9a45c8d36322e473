"""Items that several workers run together: who has which role, whether all are there, and when an attempt has come to an end.

Each role is claimed like an item, all of one attempt under its number. The root journals for the gang: where to meet it, the
saved rounds, the result, and which member it has lost. An attempt ends with its root; a new one claims all roles again, and
goes on from the latest saved round. Pure.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from fedspec.plan import Item, Role
from fedspec.workqueue.fold import ROOT, Fold, Key, weight
from fedspec.workqueue.members import Members


@dataclass(frozen=True, slots=True)
class Gang:
    """An item's members in the attempt that counts.

    Attributes:
        attempt: its number; a claim made now takes part in it.
        holders: role -> the claim that has it.
        open: roles that nobody has.
    """

    attempt: int
    holders: Mapping[str, Key]
    open: tuple[Role, ...]

    @property
    def begun(self) -> bool:
        """Whether somebody is already waiting for the others."""
        return bool(self.holders)


def gang_of(fold: Fold, item: Item, dead: Collection[str] = ()) -> Gang:
    """Who has which role, as far as the records tell; ``dead`` are workers presumed dead."""
    roles = item.members
    state = fold.item(item.id)
    attempt = state.last_attempt()
    live = [key for key in fold.live(item.id) if key[0] == attempt]
    if not live or is_over(fold, item.id, attempt, dead):
        return Gang(state.next_attempt(), {}, roles)
    holders = _holders(fold, item.id, live)
    return Gang(attempt, holders, tuple(role for role in roles if role.name not in holders))


def is_over(fold: Fold, item_id: str, attempt: int, dead: Collection[str] = ()) -> bool:
    """Whether the attempt had a root and has it no more."""
    roots = [key for key in fold.item(item_id).attempts if key[0] == attempt and fold.role(item_id, key) == ROOT]
    live = fold.live(item_id)
    return bool(roots) and not any(key in live and key[1] not in dead for key in roots)


def place_lost(fold: Fold, item_id: str, key: Key) -> str | None:
    """Why the holder of the claim ``key`` must leave the gang, or None."""
    attempt, role, live = key[0], fold.role(item_id, key), fold.live(item_id)
    if any(other[0] > attempt for other in live):
        return "begun anew without this worker"
    if key not in live:
        return "left to others: its root lost this worker"
    holder = _holders(fold, item_id, [other for other in live if other[0] == attempt])[role]
    if holder != key:
        return f"taken over by {holder[1]}"
    if role != ROOT and is_over(fold, item_id, attempt):
        return "left by its root"
    return None


def _holders(fold: Fold, item_id: str, live: Collection[Key]) -> dict[str, Key]:
    """Role -> the claim that has it; of rivals the one with the larger weight."""
    return {fold.role(item_id, key): key for key in sorted(live, key=lambda key: weight(item_id, key[1]))}


def role_to_take(gang: Gang, item: Item, members: Members, me: str, barred: bool) -> Role | None:
    """The open role that ``me`` should claim, None if it can take none or too few members live to fill the gang.

    Args:
        barred: whether ``me`` has had a place in this attempt already and given it up.
    """
    taken = {worker for _, worker in gang.holders.values()}
    free = {worker: offers for worker, offers in members.live.items() if worker not in taken}
    if me not in free or barred:
        return None
    mine = [role for role in gang.open if _can(free[me], item, role) and _fill(gang.open, free, item, {role.name: me})]
    # Rivals for one gang begin at different roles.
    return max(mine, key=lambda role: weight(f"{item.id}/{role.name}", me), default=None)


def _fill(roles: tuple[Role, ...], free: Mapping[str, Collection[str]], item: Item, filled: dict[str, str]) -> bool:
    """Whether each role can have a worker of its own: a matching, since trying all ways out takes for ever with many roles."""
    taken, has = set(filled.values()), dict[str, Role]()

    def placed(role: Role, asked: set[str]) -> bool:
        for worker, offers in free.items():
            if worker not in taken and worker not in asked and _can(offers, item, role):
                asked.add(worker)
                if worker not in has or placed(has[worker], asked):
                    has[worker] = role
                    return True
        return False

    return all(placed(role, set()) for role in roles if role.name not in filled)


def _can(offers: Collection[str], item: Item, role: Role) -> bool:
    return all(need in offers for need in (*item.needs, *role.needs))

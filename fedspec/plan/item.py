"""An experiment to run: an immutable item, named by the hash of its content, with its whole effective configuration."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import Annotated, Any

import msgspec

from fedspec.config import LARGEST, CentralizedConfig, FederatedConfig, TrainingConfig, check_values
from fedspec.errors import CapabilityError, DamagedError, UsageError
from fedspec.workspace import checked

# Raised when the same configuration would give another result; machines only run items of their own version.
SCIENCE_VERSION = 1

KINDS: dict[str, type[TrainingConfig]] = {"federated": FederatedConfig, "centralized": CentralizedConfig}
Count = Annotated[int, msgspec.Meta(ge=0, le=LARGEST)]
# The role of the member that journals for all.
ROOT = "root"
# More than any household has machines.
MAX_ROLES = 32


class Role(msgspec.Struct, frozen=True, kw_only=True):
    """A place in an item that several workers run together. ``needs``: what its machine must offer beyond the item's."""

    name: str
    needs: list[str] = []


class Item(msgspec.Struct, frozen=True, kw_only=True, dict=True):
    """One experiment to run, immutable and named by its content.

    Attributes:
        exp: the experiment's name, which its files carry.
        config: every key of its configuration class.
        needs: capabilities a machine must offer: ``cuda``, ``machine:Mac`` ...
        roles: the places of its members if several workers run it together, ``root`` among them.
    """

    v: int = 1
    kind: str
    exp: str
    config: dict[str, Any]
    needs: list[str] = []
    science_version: Count = SCIENCE_VERSION
    # Left out of the bytes where unset: items made before there were roles keep their ids.
    roles: Annotated[list[Role], msgspec.Meta(max_length=MAX_ROLES)] | msgspec.UnsetType = msgspec.UNSET

    @property
    def members(self) -> tuple[Role, ...]:
        """The roles; none for what one worker runs alone."""
        return () if isinstance(self.roles, msgspec.UnsetType) else tuple(self.roles)

    @cached_property
    def id(self) -> str:
        """12 hex digits: the hash of `encoded`."""
        return hashlib.sha256(encoded(self)).hexdigest()[:12]

    @cached_property
    def order(self) -> tuple[Any, ...]:
        """The order in which people want results: all methods of one seed and alpha before the next, so that partial figures
        compare like with like; the baseline, which every figure shows, first."""
        alpha = self.config.get("alpha")
        return (
            self.kind != "centralized",
            self.config.get("seed", 0),
            float("inf") if alpha is None else alpha,
            str(self.config.get("method", "")),
            self.exp,
            self.id,
        )


class _Basics(msgspec.Struct):
    """What the queue itself reads of a configuration, of whatever kind and version it is."""

    method: str = ""
    alpha: float | None = None
    seed: int = 0
    rounds: Count = 0
    clients: Count = 0
    participation: Annotated[float, msgspec.Meta(gt=0, le=1)] = 1.0


def encoded(item: Item) -> bytes:
    """The bytes of the item's file: canonical, so that two machines that enqueue one plan write the same."""
    return msgspec.json.encode(item, order="sorted")


def decoded(data: bytes, name: str = "") -> Item:
    """The inverse of `encoded`.

    Raises:
        DamagedError: the bytes are no item, or not those that ``name`` (``p-<id>.json``) promises.
    """
    try:
        item = msgspec.json.decode(data, type=Item)
        msgspec.convert(item.config, _Basics)
        check_values(item.config)
        _check_roles(item.members)
        same = encoded(item) == data
        item_id = hashlib.sha256(data).hexdigest()[:12] if same else item.id
        checked(f"{checked(item.exp)}_{item_id}")
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, OverflowError, UsageError) as error:
        raise DamagedError(
            f"The plan file {name} is damaged: {error}.", "Enqueue the plan again; the same bytes come back."
        ) from error
    # A conflict copy has something after the id; the same bytes are the same item.
    if item.v != 1 or not same or (name and not name.startswith(f"p-{item_id}")):
        raise DamagedError(f"The plan file {name} does not hold the item it names.", "Enqueue the plan again.")
    item.__dict__["id"] = item_id
    return item


def effective(item: Item) -> TrainingConfig:
    """The item's configuration; keys that a later version added take their default.

    Raises:
        CapabilityError: an unknown kind, key or value.
    """
    if item.kind not in KINDS:
        raise CapabilityError(f"{item.exp} is of the unknown kind {item.kind!r}.", "Update fedspec on this machine.")
    try:
        return msgspec.convert(item.config, KINDS[item.kind])
    except msgspec.ValidationError as error:
        raise CapabilityError(
            f"The configuration of {item.exp} is not valid: {error}.", "Update fedspec on this machine."
        ) from error


def make_item(kind: str, config: TrainingConfig, needs: Sequence[str] = (), roles: Sequence[Role] = ()) -> Item:
    """The item of a configuration. ``roles``: ``root`` and others, if several workers run it together. Raises UsageError."""
    _check_roles(roles)
    device = () if config.device == "any" else (config.device,)
    # As the item's file holds them, so that an item that was read is equal to one that was made.
    name, values = config.name, msgspec.json.decode(msgspec.json.encode(config))  # type: ignore[attr-defined]
    members = list(roles) or msgspec.UNSET
    return Item(kind=kind, exp=name, config=values, needs=sorted({*needs, *device}), roles=members)


def with_engine(item: Item, engine: str) -> Item:
    """The same experiment, trained by another engine: another item, since its last bits differ."""
    return msgspec.structs.replace(item, config={**item.config, "engine": engine})


def with_rate(item: Item, lr: float) -> Item:
    """The same experiment with another step size, under the name that it has then."""
    config = msgspec.structs.replace(effective(item), lr=lr)
    return msgspec.structs.replace(item, exp=config.name, config=msgspec.to_builtins(config))  # type: ignore[attr-defined]


def _check_roles(roles: Sequence[Role]) -> None:
    """Raise UsageError unless each role has a name of its own and one is the root's, for whom the others would wait."""
    names = [checked(role.name) for role in roles]
    if names and (ROOT not in names or len(set(names)) < len(names)):
        raise UsageError(f"The roles {', '.join(names)} make no gang.", f"Name one of them {ROOT}, and no two alike.")


def same_experiment(one: Item, other: Item) -> bool:
    """Whether two items are the same experiment, written perhaps by versions that know different keys."""
    if (one.kind, one.science_version, sorted(one.needs)) != (other.kind, other.science_version, sorted(other.needs)):
        return False
    try:
        return effective(one) == effective(other)
    except CapabilityError:
        return False


def published_names(items: Iterable[Item]) -> dict[str, str]:
    """Item id -> the name its files carry. Of different items with one name all but the lowest hash get a suffix."""
    names: dict[str, str] = {}
    taken: set[str] = set()
    for item in sorted(items, key=lambda i: i.id):
        wanted = (item.exp, _told_apart(item), f"{item.exp}_{item.id}")
        names[item.id] = next((name for name in wanted if name not in taken), item.id)
        taken |= {item.exp, names[item.id]}
    return names


def _told_apart(item: Item) -> str:
    return f"{item.exp}_{item.id[:6]}"

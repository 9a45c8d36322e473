"""A plan: a TOML file that spans a grid of experiments, expanded into items with their whole effective configuration.

It never imports torch. Which names of methods, models and data sets exist is told by the caller (`Vocabulary`), so that this
module stays below the science.
"""

from __future__ import annotations

import hashlib
import itertools
import re
import tomllib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from fedspec.config import CentralizedConfig, FederatedConfig, TrainingConfig, tuned_lr
from fedspec.errors import DamagedError, UsageError

# Raised when the same configuration would give another result; machines only run items of their own version.
SCIENCE_VERSION = 1

Vocabulary = Mapping[str, Collection[str]]
KINDS: dict[str, type[TrainingConfig]] = {"federated": FederatedConfig, "centralized": CentralizedConfig}
GRID_KEYS = ("method", "alpha", "seed")


class Item(msgspec.Struct, frozen=True, kw_only=True):
    """One experiment to run, immutable and named by its content.

    Attributes:
        exp: the experiment's name, which its files carry.
        config: every key of its configuration class.
        needs: capabilities a machine must offer: ``cuda``, ``machine:Mac`` ...
    """

    v: int = 1
    kind: str
    exp: str
    config: dict[str, Any]
    needs: list[str] = []
    science_version: int = SCIENCE_VERSION

    @property
    def id(self) -> str:
        """12 hex digits: the hash of `encoded`."""
        return hashlib.sha256(encoded(self)).hexdigest()[:12]


@dataclass(frozen=True, slots=True)
class Setting:
    """A value of the effective configuration and where it came from: a flag, the environment, the plan or the defaults."""

    value: Any
    source: str


@dataclass(frozen=True, slots=True)
class Plan:
    """An expanded plan.

    Attributes:
        settings: key -> value and source, for `--show-config`; grid keys hold lists, ``lr`` a table by method.
    """

    name: str
    title: str
    items: tuple[Item, ...]
    settings: dict[str, Setting]

    @property
    def ids(self) -> frozenset[str]:
        """The items' ids."""
        return frozenset(item.id for item in self.items)


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
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise DamagedError(
            f"The plan file {name} is damaged: {error}.", "Enqueue the plan again; the same bytes come back."
        ) from error
    sha = hashlib.sha256(data).hexdigest()[:12]
    if item.v != 1 or (name and name != f"p-{sha}.json"):
        raise DamagedError(f"The plan file {name} does not hold the item it names.", "Enqueue the plan again.")
    return item


def effective(item: Item) -> TrainingConfig:
    """The item's configuration; keys that a later version added take their default.

    Raises:
        UsageError: an unknown kind, key or value.
    """
    if item.kind not in KINDS:
        raise UsageError(f"{item.exp} is of the unknown kind {item.kind!r}.", "Update fedspec on this machine.")
    try:
        return msgspec.convert(item.config, KINDS[item.kind])
    except msgspec.ValidationError as error:
        raise UsageError(
            f"The configuration of {item.exp} is not valid: {error}.", "Update fedspec on this machine."
        ) from error


def make_item(kind: str, config: TrainingConfig, needs: Sequence[str] = ()) -> Item:
    """The item of a configuration."""
    device = () if config.device == "any" else (config.device,)
    return Item(kind=kind, exp=config.name, config=msgspec.to_builtins(config), needs=sorted({*needs, *device}))  # type: ignore[attr-defined]


def same_experiment(one: Item, other: Item) -> bool:
    """Whether two items are the same experiment, written perhaps by versions that know different keys."""
    if (one.kind, one.science_version, sorted(one.needs)) != (other.kind, other.science_version, sorted(other.needs)):
        return False
    try:
        return effective(one) == effective(other)
    except UsageError:
        return False


def published_names(items: Iterable[Item]) -> dict[str, str]:
    """Item id -> the name its files carry. Of different items with one name all but the lowest hash get a suffix."""
    names: dict[str, str] = {}
    taken: set[str] = set()
    for item in sorted(items, key=lambda i: i.id):
        names[item.id] = f"{item.exp}_{item.id[:6]}" if item.exp in taken else item.exp
        taken.add(item.exp)
    return names


def load(path: Path, vocabulary: Vocabulary, overrides: Mapping[str, Setting] | None = None) -> Plan:
    """Read, check and expand a plan file.

    Args:
        overrides: values of flags and environment variables, by key; they replace the plan's.

    Raises:
        UsageError: names the file, the line, the key and the remedy.
    """
    try:
        text = path.read_text(encoding="utf-8")
        raw = tomllib.loads(text)
    except FileNotFoundError as error:
        raise UsageError(
            f"There is no plan file {path}.", "Name one of quick, distributed, paper, or a TOML file of yours."
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        raise UsageError(f"{path} is no TOML file: {error}.", "Correct it; docs/formats.md shows a whole plan.") from error
    return _Expansion(path, text, raw, vocabulary, overrides or {}).plan()


class _Expansion:
    """One plan file on its way to items; it keeps the text to name lines in errors."""

    SECTIONS = ("title", "experiment", "grid", "method", "centralized")

    def __init__(
        self, path: Path, text: str, raw: dict[str, Any], vocabulary: Vocabulary, overrides: Mapping[str, Setting]
    ) -> None:
        self.path, self.text, self.raw = path, text, raw
        self.vocabulary, self.overrides = vocabulary, overrides

    def plan(self) -> Plan:
        self._check_sections()
        shared = self._shared()
        grid = {key: self._grid(key) for key in GRID_KEYS}
        items = list(self._federated(shared, grid))
        central = self.raw.get("centralized", False)
        if central is not False:
            items.extend(self._centralized(shared, grid, {} if central is True else central))
        if not items:
            raise self.error("grid", "the plan has no experiments", "Give at least one method, alpha and seed under [grid].")
        self._check_names(items)
        return Plan(self.path.stem, str(self.raw.get("title", self.path.stem)), tuple(items), self._settings(shared, grid))

    def _check_sections(self) -> None:
        for key, value in self.raw.items():
            if key not in self.SECTIONS:
                raise self.error(key, f"the key {key!r} is unknown", f"Top-level keys are: {', '.join(self.SECTIONS)}.")
            if key in ("experiment", "grid", "method") and not isinstance(value, dict):
                raise self.error(key, f"{key} is not a table", f"Write it as [{key}].")
        for method in self.raw.get("method", {}):
            self._known("method", method)

    def _shared(self) -> dict[str, Any]:
        values = dict(self.raw.get("experiment", {}))
        values.update({k: s.value for k, s in self.overrides.items() if k not in GRID_KEYS})
        for key, value in values.items():
            if key in GRID_KEYS:
                raise self.error(key, f"{key} is a list to span", f"Move it to [grid]: {key} = [{value!r}].")
            self._known(key, value)
        return values

    def _grid(self, key: str) -> list[Any]:
        default = {"method": ["fedavg", "fedspec"], "alpha": [0.5], "seed": [42]}[key]
        values = self.overrides[key].value if key in self.overrides else self.raw.get("grid", {}).get(key, default)
        for unknown in self.raw.get("grid", {}).keys() - set(GRID_KEYS):
            raise self.error(unknown, f"{unknown!r} cannot be spanned", f"Under [grid] go: {', '.join(GRID_KEYS)}.")
        if not isinstance(values, list) or not values:
            raise self.error(key, f"{key} must be a list with at least one value", f"Write {key} = [{values!r}].")
        for value in values:
            self._known(key, value)
        return values

    def _federated(self, shared: dict[str, Any], grid: dict[str, list[Any]]) -> Iterable[Item]:
        iid = shared.get("split") == "iid"
        alphas = [None] if iid else grid["alpha"]
        for seed, alpha, method in itertools.product(grid["seed"], alphas, grid["method"]):
            own = dict(self.raw.get("method", {}).get(method, {}))
            own.update({k: s.value for k, s in self.overrides.items() if k not in GRID_KEYS})
            values = {"lr": tuned_lr(method), **shared, **own, "method": method, "alpha": alpha, "seed": seed}
            yield self._item("federated", values)

    def _centralized(self, shared: dict[str, Any], grid: dict[str, list[Any]], own: Mapping[str, Any]) -> Iterable[Item]:
        own = dict(own)
        pin = own.pop("machine", None)
        keys = {f.name for f in msgspec.structs.fields(CentralizedConfig)}
        flags = {k: s.value for k, s in self.overrides.items() if k in keys and k not in GRID_KEYS}
        for seed in grid["seed"]:
            inherited = {k: v for k, v in shared.items() if k in keys}
            values = {"lr": tuned_lr("centralized"), **inherited, **own, **flags, "seed": seed}
            yield self._item("centralized", values, [f"machine:{pin}"] if pin else [])

    def _item(self, kind: str, values: dict[str, Any], needs: Sequence[str] = ()) -> Item:
        try:
            config = msgspec.convert(values, KINDS[kind])
        except msgspec.ValidationError as error:
            key = _key_in(str(error)) or next(iter(values))
            raise self.error(key, _lower(str(error)), "docs/formats.md lists every key, its type and its default.") from error
        for key, complaint, fix in complaints(config):
            raise self.error(key, complaint, fix)
        return make_item(kind, config, needs)

    def _known(self, key: str, value: Any) -> None:
        names = self.vocabulary.get(key)
        if names is not None and value not in names:
            raise self.error(key, f"{key} {value!r} is unknown", f"Known: {', '.join(names)}.")

    def _check_names(self, items: Sequence[Item]) -> None:
        by_name: dict[str, Item] = {}
        for item in items:
            other = by_name.setdefault(item.exp, item)
            if other is not item:
                what = "twice" if other == item else "in two configurations"
                raise self.error("grid", f"{item.exp} is in the plan {what}", "List every value once.")

    def _settings(self, shared: dict[str, Any], grid: dict[str, list[Any]]) -> dict[str, Setting]:
        settings: dict[str, Setting] = {}
        in_grid, in_plan = self.raw.get("grid", {}), self.raw.get("experiment", {})
        for field in msgspec.structs.fields(FederatedConfig):
            key = field.name
            source = f"plan {self.path.name}" if key in in_grid or key in in_plan else "default"
            value = grid.get(key, shared.get(key, field.default))
            if key in self.overrides:
                value, source = self.overrides[key].value, self.overrides[key].source
            elif key == "lr" and key not in in_plan:
                own = {m: self.raw.get("method", {}).get(m, {}).get("lr") for m in grid["method"]}
                value = {m: tuned_lr(m) if lr is None else lr for m, lr in own.items()}
                source = f"plan {self.path.name}" if any(lr is not None for lr in own.values()) else "default (tuned)"
            settings[key] = Setting(value, source)
        return settings

    def error(self, key: str, complaint: str, fix: str) -> UsageError:
        if key in self.overrides:
            return UsageError(f"{self.overrides[key].source}: {complaint}.", fix)
        match = re.search(rf"^\s*\[?\[?(?:\w+\.)*\"?{re.escape(key)}\"?\s*[=\].]", self.text, re.MULTILINE)
        line = f", line {self.text.count(chr(10), 0, match.end()) + 1}" if match else ""
        return UsageError(f"{self.path}{line}: {complaint}.", fix)


def complaints(config: TrainingConfig) -> Iterable[tuple[str, str, str]]:
    """What types cannot say: (key, complaint, remedy) for each value that no experiment can have."""
    for key in ("rounds", "local_epochs", "batch_size", "rank", "threads"):
        value = getattr(config, key)
        if value < 1:
            yield key, f"{key} must be at least 1, not {value}", "Use a whole number from 1."
    if not 0 < config.lr < float("inf"):
        yield "lr", f"lr must be greater than 0, not {config.lr}", "Use a value such as 0.01."
    if not 0 <= config.lora_dropout < 1:
        yield "lora_dropout", f"lora_dropout must be in [0, 1), not {config.lora_dropout}", "Use 0, or a value such as 0.1."
    if config.seed < 0:
        yield "seed", f"seed must not be negative, but is {config.seed}", "Use 0 or more."
    if isinstance(config, FederatedConfig):
        yield from _federated_complaints(config)


def _federated_complaints(config: FederatedConfig) -> Iterable[tuple[str, str, str]]:
    if config.clients < 1:
        yield "clients", f"clients must be at least 1, not {config.clients}", "Use a whole number from 1."
    if config.split == "dirichlet" and (config.alpha is None or not 0 < config.alpha < float("inf")):
        fix = "Use a small value such as 0.1 for strong heterogeneity, 100 for nearly iid."
        yield "alpha", f"alpha must be greater than 0, not {config.alpha}", fix
    if config.rank_rule != "fixed" and config.max_rank < config.rank:
        yield "max_rank", f"max_rank {config.max_rank} is below rank {config.rank}", "Raise max_rank, or use rank_rule fixed."
    if not 0 < config.tail_threshold < 1:
        yield "tail_threshold", f"tail_threshold must be in (0, 1), not {config.tail_threshold}", "Use a value such as 0.05."


def _key_in(message: str) -> str | None:
    found = re.search(r"\$\.(\w+)|field `(\w+)`", message)
    return (found.group(1) or found.group(2)) if found else None


def _lower(message: str) -> str:
    return message[:1].lower() + message[1:]

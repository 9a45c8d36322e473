"""The plan file that makes experiments again, written from their configurations."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import msgspec

from fedspec.config import CentralizedConfig, FederatedConfig, TrainingConfig
from fedspec.errors import CapabilityError
from fedspec.figures.style import in_order
from fedspec.plan import Item, effective

GRID = ("method", "alpha", "seed")
# By the method; and of clients by measuring on the machine that enqueues.
DECIDED = ("lr", "engine")


@dataclass(frozen=True, slots=True)
class Recipe:
    """A plan file's text, and how many experiments it has besides those that it was written for."""

    text: str
    more: int


def recipe(items: Iterable[Item], title: str) -> Recipe | None:
    """The plan of experiments that differ in method, alpha and seed, and by method in whatever they like.

    None where a plan cannot say it: one method has several settings, or this version does not know one of them.
    """
    items = list(items)
    try:
        configs = [effective(item) for item in items]
    except CapabilityError:
        return None
    federated = [config for config in configs if isinstance(config, FederatedConfig)]
    methods = in_order({config.method for config in federated})
    found = {method: _settings([config for config in federated if config.method == method]) for method in methods}
    by_method = {method: own for method, own in found.items() if own is not None}
    centralized = [config for config in configs if isinstance(config, CentralizedConfig)]
    baseline = _settings(centralized)
    if not methods or len(by_method) < len(methods) or (centralized and baseline is None):
        return None
    shared = {key: value for key, value in by_method[methods[0]].items() if all(o[key] == value for o in by_method.values())}
    grid = {"method": methods, "alpha": _values(federated, "alpha"), "seed": _values(configs, "seed")}
    if None in grid["alpha"]:
        # Whatever is iid has no alpha, and a plan has one split.
        del grid["alpha"]
    usual = _defaults(FederatedConfig)
    sections = {"experiment": _changed(shared, usual), "grid": grid}
    for method, own in by_method.items():
        sections[f"method.{method}"] = _changed({key: own[key] for key in own.keys() - shared.keys()}, usual)
    if baseline is not None:
        # The engine is one for clients, of which there are none.
        inherited = {key: value for key, value in shared.items() if key != "engine"}
        sections["centralized"] = _changed(baseline, {**_defaults(CentralizedConfig), **inherited})
    text = "".join(f"\n[{name}]\n{_lines(own)}" for name, own in sections.items() if own or name == "centralized")
    made = len(list(product(*grid.values()))) + (len(grid["seed"]) if centralized else 0)
    return Recipe(f"title = {_toml(title)}\n{text}", made - len({item.id for item in items}))


def identity(item: Item) -> bytes:
    """The same for items that are one experiment, whichever version wrote them and whichever engine was faster on its machine.

    Raises:
        CapabilityError: this version does not know its kind, or one of its keys.
    """
    config = {**msgspec.to_builtins(effective(item)), "engine": ""}
    return msgspec.json.encode([item.kind, item.science_version, config], order="sorted")


def _settings(configs: Sequence[TrainingConfig]) -> dict[str, Any] | None:
    """What all of these have in common but what a grid spans; None if they differ in more, or there are none."""
    found = [{key: value for key, value in msgspec.to_builtins(config).items() if key not in GRID} for config in configs]
    return found[0] if found and all(one == found[0] for one in found) else None


def _defaults(kind: type[TrainingConfig]) -> dict[str, Any]:
    """The keys' defaults, but of what a plan decides otherwise where nobody says it; that is always written."""
    fields = {field.name: field.default for field in msgspec.structs.fields(kind)}
    decided = DECIDED if kind is FederatedConfig else DECIDED[:1]
    values: dict[str, Any] = msgspec.to_builtins({key: None if key in decided else value for key, value in fields.items()})
    return values


def _changed(values: Mapping[str, Any], usual: Mapping[str, Any]) -> dict[str, Any]:
    return {key: values[key] for key in usual if key in values and values[key] != usual[key]}


def _values(configs: Iterable[TrainingConfig], key: str) -> list[Any]:
    found = {getattr(config, key) for config in configs}
    return sorted(found, key=lambda value: (value is None, value or 0))


def _lines(values: Mapping[str, Any]) -> str:
    return "".join(f"{key} = {_toml(value)}\n" for key, value in values.items())


def _toml(value: Any) -> str:
    """A value as TOML writes it."""
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_toml, value))}]"
    # JSON's strings and booleans are TOML's; its floats would lose their point.
    return repr(value) if isinstance(value, int | float) and not isinstance(value, bool) else json.dumps(value)

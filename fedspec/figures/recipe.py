"""The plan file that makes experiments again, written from their configurations."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import msgspec

from fedspec.config import CentralizedConfig, FederatedConfig, TrainingConfig, tuned_lr
from fedspec.errors import CapabilityError
from fedspec.figures.style import in_order
from fedspec.plan import Item, effective

GRID = ("method", "alpha", "seed")


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
    centralized = [config for config in configs if isinstance(config, CentralizedConfig)]
    settings = {
        method: _settings([c for c in federated if c.method == method]) for method in in_order({c.method for c in federated})
    }
    baseline = _settings(centralized)
    if not federated or None in settings.values() or (centralized and baseline is None):
        return None
    by_method = {method: own for method, own in settings.items() if own is not None}
    shared = {
        key: value
        for key, value in next(iter(by_method.values())).items()
        if all(own[key] == value for own in by_method.values())
    }
    grid = {"method": list(by_method), "alpha": _values(federated, "alpha"), "seed": _values(configs, "seed")}
    if None in grid["alpha"]:
        # Whatever is iid has no alpha, and a plan has one split.
        del grid["alpha"]
    lines = [f"title = {_toml(title)}", "", "[experiment]", *_lines(_changed(shared, _defaults(FederatedConfig)))]
    lines += ["", "[grid]", *_lines(grid)]
    for method, own in by_method.items():
        changed = _changed(
            {key: value for key, value in own.items() if key not in shared}, _defaults(FederatedConfig) | {"lr": None}
        )
        lines += ["", f"[method.{method}]", *_lines(changed)] if changed else []
    if baseline is not None:
        inherited = (
            _defaults(CentralizedConfig) | {"lr": tuned_lr("centralized")} | _changed(shared, _defaults(FederatedConfig))
        )
        lines += ["", "[centralized]", *_lines(_changed(baseline, inherited))]
    made = len(list(product(*grid.values()))) + (len(grid["seed"]) if centralized else 0)
    return Recipe("\n".join(lines) + "\n", made - len({item.id for item in items}))


def _settings(configs: Sequence[TrainingConfig]) -> dict[str, Any] | None:
    """What all of these have in common but what a grid spans; None if they differ in more, or there are none."""
    found = [{key: value for key, value in msgspec.to_builtins(config).items() if key not in GRID} for config in configs]
    return found[0] if found and all(one == found[0] for one in found) else None


def _defaults(kind: type[TrainingConfig]) -> dict[str, Any]:
    """The keys' defaults, but the learning rate's, which depends on the method and is always written."""
    fields = {field.name: field.default for field in msgspec.structs.fields(kind)}
    return {key: None if key == "lr" else value for key, value in fields.items()}


def _changed(values: Mapping[str, Any], usual: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if key not in usual or value != usual[key]}


def _values(configs: Iterable[TrainingConfig], key: str) -> list[Any]:
    found = {getattr(config, key) for config in configs}
    return sorted(found, key=lambda value: (value is None, value or 0))


def _lines(values: Mapping[str, Any]) -> list[str]:
    return [f"{key} = {_toml(value)}" for key, value in values.items()]


def _toml(value: Any) -> str:
    """A value as TOML writes it."""
    if isinstance(value, list):
        return f"[{', '.join(map(_toml, value))}]"
    # JSON's strings and booleans are TOML's; its floats would lose their point.
    return repr(value) if isinstance(value, int | float) and not isinstance(value, bool) else json.dumps(value)

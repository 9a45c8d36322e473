"""A plan: a TOML file that spans a grid of experiments (`grid`), expanded into items, each with its configuration (`item`)."""

from fedspec.plan.grid import AUTO, Plan, Setting, Vocabulary, load
from fedspec.plan.item import (
    KINDS,
    MAX_ROLES,
    ROOT,
    SCIENCE_VERSION,
    Count,
    Item,
    Role,
    decoded,
    effective,
    encoded,
    make_item,
    published_names,
    same_experiment,
    with_engine,
    with_rate,
)

__all__ = [
    "AUTO",
    "KINDS",
    "MAX_ROLES",
    "ROOT",
    "SCIENCE_VERSION",
    "Count",
    "Item",
    "Plan",
    "Role",
    "Setting",
    "Vocabulary",
    "decoded",
    "effective",
    "encoded",
    "load",
    "make_item",
    "published_names",
    "same_experiment",
    "with_engine",
    "with_rate",
]

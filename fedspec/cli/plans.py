"""Finding plan files, and what flags and the environment change in them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedspec.errors import UsageError

if TYPE_CHECKING:
    from fedspec.plan import Plan, Setting

CHECKOUT = Path(__file__).resolve().parents[2]
# Flags of `run` that change a plan, by key of the configuration.
KEYS = ("method", "alpha", "seed", "clients", "rounds", "local_epochs", "batch_size", "lr", "dataset", "model", "device")


def read_plan(name: str, flags: Mapping[str, Any]) -> Plan:
    """The plan ``name`` (a shipped one or a file), changed by ``flags`` and by ``FEDSPEC_<FLAG>``.

    Raises:
        UsageError: no such plan, or something in it or in a flag is wrong.
    """
    from fedspec import plan
    from fedspec.jobs import VOCABULARY

    return plan.load(plan_path(name), VOCABULARY, overrides(flags, os.environ))


def plan_path(name: str) -> Path:
    """The file of a plan: a path, or the name of one in ``experiments/``."""
    given = Path(name)
    if given.suffix == ".toml" or given.is_file():
        return given
    for folder in (Path("experiments"), CHECKOUT / "experiments"):
        if (folder / f"{name}.toml").is_file():
            return folder / f"{name}.toml"
    known = sorted(path.stem for path in (CHECKOUT / "experiments").glob("*.toml"))
    raise UsageError(f"There is no plan {name!r}.", f"Use {', '.join(known)}, or the path of a TOML file.")


def overrides(flags: Mapping[str, Any], environ: Mapping[str, str]) -> dict[str, Setting]:
    """What flags, and after them the environment, set; grid keys as lists."""
    from fedspec.plan import Setting

    found: dict[str, Setting] = {}
    for key in KEYS:
        flag, variable = f"--{key.replace('_', '-')}", f"FEDSPEC_{key.upper()}"
        if flags.get(key) not in (None, []):
            found[key] = Setting(_value(key, flags[key], flag), flag)
        elif environ.get(variable):
            found[key] = Setting(_value(key, environ[variable], variable), variable)
    return found


def _value(key: str, given: Any, source: str) -> Any:
    if key == "method":
        return _listed(given)
    if key == "alpha":
        return [_number(float, part, source) for part in _listed(given)]
    if key == "seed":
        return [seed for part in _listed(given) for seed in _seeds(part, source)]
    if isinstance(given, str) and key not in ("dataset", "model", "device"):
        return _number(float if key == "lr" else int, given, source)
    return given


def _listed(given: Any) -> list[str]:
    parts = [given] if isinstance(given, str) else list(given)
    return [piece.strip() for part in parts for piece in str(part).split(",") if piece.strip()]


def _seeds(part: str, source: str) -> list[int]:
    """``42`` or a range ``42-56``, both ends included."""
    first, dash, last = part.partition("-")
    if not dash:
        return [_number(int, part, source)]
    low, high = _number(int, first, source), _number(int, last, source)
    if not low <= high < low + 10_000:
        raise UsageError(f"{source}: {part} is no range of seeds.", "Write the lower end first, such as 42-46.")
    return list(range(low, high + 1))


def _number(kind: type[int] | type[float], text: str, source: str) -> Any:
    try:
        return kind(text)
    except ValueError as error:
        raise UsageError(f"{source}: {text!r} is not a number.", "Separate several values by commas.") from error

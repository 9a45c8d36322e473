"""Finding plan files, and what flags and the environment change in them.

A flag is a key of the configuration: its type is the configuration's, only its help is here. So a flag cannot drift from the
plan file.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer

from fedspec.errors import UsageError

if TYPE_CHECKING:
    from fedspec.plan import Plan, Setting

CHECKOUT = Path(__file__).resolve().parents[2]
# Keys of a plan that have a flag and a FEDSPEC_<KEY>, with the flag's help.
FLAGS = {
    "method": "Methods, such as fedavg,fedspec.",
    "alpha": "Dirichlet alphas, such as 0.1,0.5: the smaller, the more the clients differ.",
    "seed": "Seeds, such as 42,43 or 42-46.",
    "clients": "Clients that the data is split among.",
    "rounds": "Communication rounds.",
    "local_epochs": "Passes over a client's data in a round.",
    "batch_size": "Samples in a step.",
    "lr": "Learning rate of all methods.",
    "dataset": "Data set, such as digits or mnist.",
    "model": "Model, such as mlp.",
    "engine": "How clients are trained: sequential, stacked, or auto: the faster one, measured now.",
    "train_samples": "Use so many training samples (0: all).",
    "data_file": "Arrays of yours, for --dataset npz.",
    "pretrained": "Weights of --model bert or vit_b_16: a hub's name or a folder.",
    "device": "Leave the items to machines with this device: cpu, cuda or mps.",
}
SPANNED = {"method": str, "alpha": float, "seed": int}
ALSO = {"seed": "--seeds"}
METAVARS: dict[Any, str] = {int: "N", float: "X", str: "NAME"}
MANY = 10_000


def takes_plan_flags(command: Callable[..., None]) -> Callable[..., None]:
    """Give ``command(..., **flags)`` an option for each of `FLAGS`; one that is not given arrives as None."""
    signature = inspect.signature(command, eval_str=True)
    own = [p for p in signature.parameters.values() if p.kind is not p.VAR_KEYWORD]
    flags = [
        inspect.Parameter(key, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=_option(key, text))
        for key, text in FLAGS.items()
    ]
    command.__signature__ = signature.replace(parameters=[*own, *flags])  # type: ignore[attr-defined]
    command.__annotations__ = {p.name: p.annotation for p in (*own, *flags)}
    return command


def _option(key: str, text: str) -> Any:
    names = [_flag(key), ALSO[key]] if key in ALSO else [_flag(key)]
    if key in SPANNED:
        return Annotated[list[str] | None, typer.Option(*names, metavar="LIST", help=text, show_default=False)]
    return Annotated[str | None, typer.Option(*names, metavar=METAVARS[_type(key)], help=text, show_default=False)]


def read_plan(name: str, flags: Mapping[str, Any]) -> Plan:
    """The plan ``name`` (a shipped one or a file), changed by ``flags`` and by ``FEDSPEC_<FLAG>``.

    Raises:
        UsageError: no such plan, or something in it or in a flag is wrong.
    """
    from fedspec import plan
    from fedspec.jobs import VOCABULARY

    path, settings = plan_path(name), overrides(flags, os.environ)
    read = plan.load(path, VOCABULARY, settings)
    digests = _digests(read)
    return plan.load(path, VOCABULARY, {**settings, **digests}) if digests else read


def _digests(plan: Plan) -> dict[str, Setting]:
    """What names the bytes of the user's own data file, so that it is fixed for all machines when it is enqueued.

    Raises:
        CapabilityError: the file is not on this machine, and the plan does not say which one it is.
    """
    from fedspec.plan import Setting

    files = {item.config["data_file"] for item in plan.items if item.config["data_file"] and not item.config["data_digest"]}
    if not files:
        return {}
    if len(files) > 1:
        raise UsageError(f"The plan has several data files: {', '.join(sorted(files))}.", "Write a plan for each of them.")
    from fedspec.data.npz import DIGEST_DIGITS, digest_of, locate
    from fedspec.workspace import data_root

    path = locate(data_root(), *files)
    return {"data_digest": Setting(digest_of(path)[:DIGEST_DIGITS], path.name)}


def plan_path(name: str) -> Path:
    """The file of a plan: a path, or the name of one in ``experiments/``."""
    given = Path(name)
    if given.suffix == ".toml" or given.is_file():
        return given
    known = plans_by_name()
    if name not in known:
        raise UsageError(f"There is no plan {name!r}.", f"Use {', '.join(known)}, or the path of a TOML file.")
    return known[name]


def plans_by_name() -> dict[str, Path]:
    """The plans in ``experiments/``, here and in the checkout, sorted; those here go first."""
    paths = [path for folder in (CHECKOUT / "experiments", Path("experiments")) for path in folder.glob("*.toml")]
    return dict(sorted({path.stem: path for path in paths if path.is_file()}.items()))


def overrides(flags: Mapping[str, Any], environ: Mapping[str, str]) -> dict[str, Setting]:
    """What flags, and where they are silent the environment, set; keys that span a grid as lists."""
    from fedspec.plan import Setting

    found: dict[str, Setting] = {}
    for key in FLAGS:
        for source, given in ((_flag(key), flags.get(key)), (f"FEDSPEC_{key.upper()}", environ.get(f"FEDSPEC_{key.upper()}"))):
            if given:
                found[key] = Setting(_value(key, given, source), source)
                break
    return found


def _flag(key: str) -> str:
    return f"--{key.replace('_', '-')}"


def _type(key: str) -> type:
    """The type of a key's value in the configuration; a choice of words is text."""
    import msgspec

    from fedspec.config import FederatedConfig

    kind = next(field.type for field in msgspec.structs.fields(FederatedConfig) if field.name == key)
    return kind if isinstance(kind, type) else type(get_args(kind)[0])


def _value(key: str, given: Any, source: str) -> Any:
    if key not in SPANNED:
        return _converted(_type(key), given, source)
    parts = [piece.strip() for part in ([given] if isinstance(given, str) else given) for piece in part.split(",")]
    if key == "seed":
        return [seed for part in parts if part for seed in _seeds(part, source)]
    return [_converted(SPANNED[key], part, source) for part in parts if part]


def _seeds(part: str, source: str) -> list[int]:
    """``42`` or a range ``42-46``, both ends included."""
    first, dash, last = part.partition("-")
    if not first or not dash:
        return [_converted(int, part, source)]
    low, high = _converted(int, first, source), _converted(int, last, source)
    if not low <= high < low + MANY:
        raise UsageError(f"{source}: {part} is no range of seeds.", "Write the lower end first, such as 42-46.")
    return list(range(low, high + 1))


def _converted(kind: type, text: str, source: str) -> Any:
    try:
        return kind(text)
    except ValueError as error:
        what, example = ("a whole number", "10") if kind is int else ("a number", "0.1")
        raise UsageError(f"{source} must be {what}, not {text!r}.", f"Use a value such as {example}.") from error

"""How what an experiment changes shows in its name, and so in the names of all its files.

Which keys there are, and their defaults, is the configuration's business.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import cache
from hashlib import sha256
from typing import Any

import msgspec

# The order is part of every file name: append, never reorder.
TRAINING_SUFFIXES: dict[str, str] = {
    "dataset": "_{}",
    "model": "_{}",
    "rounds": "_r{}",
    "seed": "_s{}",
    "local_epochs": "_e{}",
    "batch_size": "_b{}",
    "lr": "_lr{}",
    "weight_decay": "_wd{}",
    "rank": "_rank{}",
    "lora_alpha": "_la{}",
    "lora_dropout": "_do{}",
    "head": "_head-{}",
    "dtype": "_{}",
    "threads": "_t{}",
    "device": "_{}",
    "tune": "_{}",
    "optimizer": "_{}",
    "momentum": "_m{}",
    "train_samples": "_n{}",
    "data_file": "_{}",
    "data_digest": "_x{}",
    "pretrained": "_{}",
    "purpose": "_{}",
}
FEDERATED_SUFFIXES: dict[str, str] = {
    "dataset": "_{}",
    "model": "_{}",
    "clients": "_c{}",
    **{key: form for key, form in TRAINING_SUFFIXES.items() if key not in ("dataset", "model")},
    "min_client_samples": "_min{}",
    "rank_rule": "_{}",
    "rank_step": "_step{}",
    "max_rank": "_max{}",
    "tail_threshold": "_tail{}",
    "singular_split": "_sv-{}",
    "participation": "_p{}",
    "prox": "_prox{}",
    "server": "_server-{}",
    "server_lr": "_slr{}",
    "server_momentum": "_sm{}",
    "kept_energy": "_kept{}",
    "fair_weight": "_fair{}",
    "sparse_scale": "_sparse{}",
    "ranks": "_ranks{}",
    "clip": "_clip{}",
    "noise": "_noise{}",
    "delta": "_delta{}",
}
# What a user may write as he likes, and what of it stands in a name as it is.
FREE_KEYS = ("data_file", "pretrained")
_PLAIN = re.compile(r"[a-z0-9][a-z0-9.-]{0,39}")
# How the model is tuned takes at most so many characters of a name, or several seeds and methods had no room beside it. These
# keys are alike in all runs that are compared, references too, and nobody reads them from a name.
TUNING_KEYS = (
    "weight_decay", "rank", "lora_alpha", "lora_dropout", "head", "dtype", "threads", "device", "tune", "optimizer", "momentum",
    "data_file", "data_digest", "pretrained",
)  # fmt: skip
MAX_TUNING = 40
DIGITS = 8


def suffix(config: msgspec.Struct, forms: Mapping[str, str], **defaults: Any) -> str:
    """``_<key><value>`` for each key of ``forms`` that is not its default, in their order.

    Args:
        defaults: where they are not the class's.
    """
    usual = _usual(type(config)) | defaults
    told = {key: forms[key].format(_told(key, getattr(config, key))) for key in forms if getattr(config, key) != usual[key]}
    tuning = {key: told[key] for key in TUNING_KEYS if key in told}
    if sum(map(len, tuning.values())) <= MAX_TUNING:
        return "".join(told.values())
    kept = _first(tuning, MAX_TUNING - 1 - DIGITS)
    digest = sha256("".join(tuning.values()).encode()).hexdigest()[:DIGITS]
    return "".join(text for key, text in told.items() if key in kept or key not in tuning) + f"_{digest}"


@cache
def _usual(kind: type[msgspec.Struct]) -> dict[str, Any]:
    # Asking a class for its fields takes most of a millisecond.
    return {field.name: field.default for field in msgspec.structs.fields(kind)}


def _first(texts: Mapping[str, str], room: int) -> Iterable[str]:
    """The keys of the first texts that ``room`` characters hold."""
    kept = []
    for key, text in texts.items():
        room -= len(text)
        if room < 0:
            break
        kept.append(key)
    return kept


def _told(key: str, value: Any) -> Any:
    """A value as it stands in a name: what is too odd for a file name as its last part and a digest."""
    if isinstance(value, tuple):
        return "-".join(map(str, value))
    if key not in FREE_KEYS or _PLAIN.fullmatch(value):
        return value
    last = re.sub(r"[^a-z0-9]+", "-", re.split(r"[/\\]", value.rstrip("/\\"))[-1].lower()).strip("-")[:24]
    return f"{last}-{sha256(value.encode()).hexdigest()[:6]}"

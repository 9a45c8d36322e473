"""The name of an experiment: what its configuration is, in the words that its files carry."""

from __future__ import annotations

import re
from typing import Any

import msgspec

from fedspec.config.rates import tuned_lr

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
# What a user may write as he likes, and what stands for it in a name.
FREE_KEYS = ("data_file", "pretrained")
_PLAIN = re.compile(r"[a-z0-9][a-z0-9.-]{0,39}")
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


def suffix(config: msgspec.Struct, method: str, forms: dict[str, str]) -> str:
    """What of a configuration is not default, in the order of ``forms``."""
    defaults: dict[str, Any] = {f.name: f.default for f in msgspec.structs.fields(config)}
    defaults["lr"] = tuned_lr(method)
    changed = (key for key in forms if getattr(config, key) != defaults[key])
    return "".join(forms[key].format(_told(key, getattr(config, key))) for key in changed)


def _told(key: str, value: Any) -> Any:
    """A value as it stands in a name: what is too odd for a file name as its last part and a digest."""
    if isinstance(value, tuple):
        return "-".join(map(str, value))
    if key not in FREE_KEYS or _PLAIN.fullmatch(value):
        return value
    from hashlib import sha256

    last = re.sub(r"[^a-z0-9]+", "-", re.split(r"[/\\]", value.rstrip("/\\"))[-1].lower()).strip("-")[:24]
    return f"{last}-{sha256(value.encode()).hexdigest()[:6]}"

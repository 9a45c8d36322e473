"""What no experiment can have: values beyond what their types say, and keys, methods, data and models that do not go together.

Each finding is ``(key, complaint, remedy)``; a plan names the line of its key.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from typing import Any

import msgspec

from fedspec.config.values import FederatedConfig, TrainingConfig

LARGEST = (1 << 31) - 1
# All rows of a result travel in one journal line.
MAX_ROUNDS = 2000
# Of the characters that a file name may have (`fedspec.workspace`) an item's id takes 13.
MAX_NAME = 108
# More is a slip, and would end every process that takes the item: no system starts so many threads.
MOST = {"threads": 512, "rank": 4096, "max_rank": 4096, "rank_step": 4096, "local_epochs": 10_000}
# A configuration is flat; a later version's may hold lists and tables.
MAX_DEPTH = 4


def check_values(values: Any, depth: int = MAX_DEPTH) -> None:
    """Raise msgspec.ValidationError for values that every program which shows or copies them would stumble over."""
    if isinstance(values, dict | list):
        if not depth:
            raise msgspec.ValidationError("its configuration is nested too deep")
        for inner in values.values() if isinstance(values, dict) else values:
            if not isinstance(inner, str | float):
                check_values(inner, depth - 1)
    elif isinstance(values, int) and abs(values) >= 1 << 63:
        raise msgspec.ValidationError("a number in its configuration is too large")


def complaints(config: TrainingConfig) -> Iterable[tuple[str, str, str]]:
    """What types cannot say: (key, complaint, remedy) for each value that no experiment can have."""
    yield from _counts(config, "rounds", "local_epochs", "batch_size", "rank", "threads")
    if config.rounds > MAX_ROUNDS:
        yield "rounds", f"rounds must be at most {MAX_ROUNDS}, not {config.rounds}", "Use fewer rounds with more local_epochs."
    for key, example in (("lr", 0.01), ("lora_alpha", 8)):
        if not 0 < getattr(config, key) < float("inf"):
            yield key, f"{key} must be greater than 0, not {getattr(config, key)}", f"Use a value such as {example}."
    if not 0 <= config.weight_decay < float("inf"):
        yield "weight_decay", f"weight_decay must be 0 or more, not {config.weight_decay}", "Use 0, or a value such as 0.01."
    if not 0 <= config.momentum < 1:
        yield "momentum", f"momentum must be in [0, 1), not {config.momentum}", "Use 0, or a value such as 0.9."
    if config.momentum and config.optimizer != "sgd":
        yield (
            "momentum",
            f"momentum is SGD's, and the optimizer is {config.optimizer}",
            'Set optimizer = "sgd", or leave it out.',
        )
    if not 0 <= config.lora_dropout < 1:
        yield "lora_dropout", f"lora_dropout must be in [0, 1), not {config.lora_dropout}", "Use 0, or a value such as 0.1."
    if not 0 <= config.seed <= LARGEST:
        yield "seed", f"seed must be from 0 to {LARGEST}, not {config.seed}", "Use a number such as 42."
    if not 0 <= config.train_samples <= LARGEST:
        yield (
            "train_samples",
            f"train_samples must be 0 (all) or more, not {config.train_samples}",
            "Use a number such as 4000.",
        )
    if config.data_digest and not re.fullmatch(r"[0-9a-f]{12,64}", config.data_digest):
        fix = "Use the first 12 digits or more of the file's SHA-256, or leave it out."
        yield "data_digest", f"data_digest must be 12 to 64 hex digits, not {config.data_digest[:80]!r}", fix
    name = config.name  # type: ignore[attr-defined]
    if len(name) > MAX_NAME or not re.fullmatch(r"[a-z0-9._-]+", name):
        yield "grid", f"{name} is too long or too odd for a file name", "Use plainer numbers, and fewer keys at a time."
    for key, most in MOST.items():
        if getattr(config, key, 0) > most:
            yield key, f"{key} must be at most {most}, not {getattr(config, key)}", "Use a smaller number."
    if config.engine == "stacked" and (config.tune == "full" or not isinstance(config, FederatedConfig)):
        yield "engine", "the stacked engine trains the adapters of a round's clients", 'Set engine = "sequential".'
    if isinstance(config, FederatedConfig):
        yield from _federated_complaints(config)


def _federated_complaints(config: FederatedConfig) -> Iterable[tuple[str, str, str]]:
    yield from _counts(config, "clients", "min_client_samples", "rank_step", "max_rank")
    if config.split == "dirichlet" and (config.alpha is None or not 0 < config.alpha < float("inf")):
        fix = "Use a small value such as 0.1 for strong heterogeneity, 100 for nearly iid."
        yield "alpha", f"alpha must be greater than 0, not {config.alpha}", fix
    if not 0 < config.participation <= 1:
        yield "participation", f"participation must be in (0, 1], not {config.participation}", "Use 1, or a share such as 0.2."
    for key in ("prox", "server_lr", "clip", "noise"):
        if not 0 <= getattr(config, key) < float("inf"):
            yield key, f"{key} must be 0 or more, not {getattr(config, key)}", "Use a value such as 0.01."
    if config.server == "adam" and config.server_lr >= 1:
        what = f"server adam takes steps of about server_lr in every coordinate, and that is {config.server_lr}"
        yield "server", what, "Set server_lr to a value such as 0.01; Reddi et al. 2021 tune it."
    if not 0 <= config.server_momentum < 1:
        yield "server_momentum", f"server_momentum must be in [0, 1), not {config.server_momentum}", "Use a value such as 0.9."
    if config.rank_rule != "fixed" and config.tune == "full":
        yield "rank_rule", "there is no rank to grow where the model is tuned in full", "Leave rank_rule out."
    if config.rank_rule != "fixed" and config.server != "average":
        fix = "Use rank_rule fixed, or server average."
        yield "server", f"server {config.server} cannot go on in a rank that grows", fix
    if not all(1 <= rank <= MOST["rank"] for rank in config.ranks) or len(config.ranks) > config.clients:
        fix = "Use whole numbers from 1, such as ranks = [2, 4, 8]."
        yield "ranks", f"ranks must be at most one for each client, from 1 to {MOST['rank']}, not {list(config.ranks)}", fix
    if config.ranks and config.engine == "stacked":
        what = "the stacked engine trains clients of one rank together"
        yield "engine", what, 'Set engine = "sequential", or leave ranks out.'
    if config.ranks and (config.tune == "full" or config.rank_rule != "fixed"):
        what = "the model is tuned in full" if config.tune == "full" else f"rank_rule {config.rank_rule} gives all the same one"
        yield "ranks", f"clients cannot have ranks of their own where {what}", "Leave ranks out."
    if config.rank_rule != "fixed" and config.max_rank < config.rank:
        yield "max_rank", f"max_rank {config.max_rank} is below rank {config.rank}", "Raise max_rank, or use rank_rule fixed."
    if not 0 < config.delta < 1:
        yield "delta", f"delta must be in (0, 1), not {config.delta}", "Use a value well below one in the number of clients."
    if config.noise and not config.clip:
        yield "noise", "noise hides updates of a bounded size only", "Set clip as well, such as clip = 1.0."
    if config.noise and (config.ranks or config.rank_rule != "fixed"):
        key = "ranks" if config.ranks else "rank_rule"
        yield key, f"with noise, {key} would tell what the noise hides", f"Leave {key} or noise out."
    if not 0 < config.kept_energy <= 1:
        yield "kept_energy", f"kept_energy must be in (0, 1], not {config.kept_energy}", "Use a value such as 0.9."
    if not 0 < config.fair_weight < float("inf"):
        yield "fair_weight", f"fair_weight must be greater than 0, not {config.fair_weight}", "Use a value such as 0.01."
    if not 0 <= config.sparse_scale < float("inf"):
        yield "sparse_scale", f"sparse_scale must be 0 or more, not {config.sparse_scale}", "Use a value such as 2."
    if not 0 < config.tail_threshold < 1:
        yield "tail_threshold", f"tail_threshold must be in (0, 1), not {config.tail_threshold}", "Use a value such as 0.05."


def unfit(config: TrainingConfig, traits: Collection[str]) -> Iterable[tuple[str, str, str]]:
    """What the method of a configuration cannot do, as `complaints`. ``traits``: as its registry tells them."""
    if not isinstance(config, FederatedConfig):
        return
    method = config.method
    if config.tune not in traits:
        what, other = ("adapters", "full") if config.tune == "lora" else ("full weights", "lora")
        yield "tune", f"{method} does not aggregate {what}", f'Set tune = "{other}", or use another method.'
    if config.tune == "lora" and config.server != "average" and "steady" not in traits:
        what = f"{method} gives the adapters new coordinates in each round, in which server {config.server} cannot go on"
        yield (
            "server",
            what,
            "Use server average, or a method that averages factors: fedavg, ffa, rolora, lora_fair or fedrpca.",
        )
    if config.ranks and "ranks" not in traits:
        fix = "Use flexlora, fedspec, fedavg, fedavg_rebalanced, florist or flora, or leave ranks out."
        yield "ranks", f"{method} does not aggregate adapters of different ranks", fix
    if config.clip and "sgd" in traits:
        yield "clip", f"{method} corrects clients by whole updates", "Leave clip out, or use fedavg."
    if config.noise and "mean" not in traits:
        what = f"{method} looks at more than the mean of what clients send, which is all that noise hides"
        yield "noise", what, "Use fedavg, fedavg_rebalanced, ffa, rolora or fedsvd, or leave noise out."
    if "sgd" in traits and (config.prox or config.weight_decay or config.server != "average"):
        key = "prox" if config.prox else "weight_decay" if config.weight_decay else "server"
        yield key, f"{method}'s corrections know nothing of {key} {getattr(config, key)}", f"Leave {key} out, or use fedavg."
    if "sgd" in traits and (config.optimizer != "sgd" or config.momentum):
        yield "optimizer", f"{method} is defined for plain SGD", 'Set optimizer = "sgd" and no momentum.'


def mismatched(config: TrainingConfig, dataset: Collection[str], model: Collection[str]) -> Iterable[tuple[str, str, str]]:
    """What a configuration's data set and its model cannot be together, as `complaints`; the traits are their registries'."""
    if ("text" in dataset) != ("text" in model):
        reads, holds = ("texts", "images") if "text" in model else ("images", "texts")
        yield "model", f"{config.model} reads {reads}, and {config.dataset} holds {holds}", f"Use a model that reads {holds}."
    if config.tune == "lora" and "lora" not in model:
        yield (
            "model",
            f"{config.model} has no linear layer that could carry an adapter",
            'Set tune = "full", or use another model.',
        )
    if config.pretrained and "pretrained" not in model:
        yield "pretrained", f"{config.model} is made from no weights", "Leave pretrained out, or set model to vit_b_16 or bert."
    if "file" in dataset and not config.data_file:
        yield "dataset", f"{config.dataset} does not say which file", 'Set data_file, such as data_file = "mine.npz".'
    if "file" not in dataset and (config.data_file or config.data_digest):
        key = "data_file" if config.data_file else "data_digest"
        yield key, f"{config.dataset} is no file of yours", f'Leave {key} out, or set dataset = "npz".'


def _counts(config: TrainingConfig, *keys: str) -> Iterable[tuple[str, str, str]]:
    for key in keys:
        value = getattr(config, key)
        if not 1 <= value <= LARGEST:
            yield key, f"{key} must be at least 1, not {value}", "Use a whole number from 1."

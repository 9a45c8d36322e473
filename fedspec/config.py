"""The effective configuration of one experiment: its keys, units, defaults and name.

A configuration is complete: whatever influences a result is in it, and it is fixed when the experiment is enqueued, so
that any machine that takes the experiment over runs the very same one. Which names of methods, data sets and models there
are is for the registries to say.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from typing import Any, Literal

import msgspec

from fedspec.suffixes import FEDERATED_SUFFIXES, TRAINING_SUFFIXES, suffix

# Learning rates found on validation by `python -m benchmarks.tune_lr` with seeds that no plan reports.
TUNED_LR: dict[str, float] = {
    **dict.fromkeys(("fedavg", "fedavg_rebalanced", "fedspec", "fedspec_residual", "fedex", "rolora"), 0.02),
    **dict.fromkeys(("flexlora", "florist", "lora_fair", "fedrpca"), 0.02),
    **dict.fromkeys(("ffa", "flora"), 0.03),
    "fedsvd": 0.05,
    "centralized": 0.005,
}
FALLBACK_LR = 0.02
LARGEST = (1 << 31) - 1
# All rows of a result travel in one journal line.
MAX_ROUNDS = 2000
# Of the characters that a file name may have (`fedspec.workspace`) an item's id takes 13.
MAX_NAME = 108
# More is a slip, and would end every process that takes the item: no system starts so many threads.
MOST = {"threads": 512, "rank": 4096, "max_rank": 4096, "rank_step": 4096, "local_epochs": 10_000}
# A configuration is flat; a later version's may hold lists and tables.
MAX_DEPTH = 4


class TrainingConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What every kind of training needs.

    Attributes:
        rounds: communication rounds (for the centralized baseline: passes are ``rounds * local_epochs`` all the same).
        lr: step size of the clients' optimizer.
        rank: LoRA rank r0 at the start; the scale ``lora_alpha / rank`` stays constant when the rank grows.
        head: ``aggregate`` trains the classifier head and averages it by sample counts, ``frozen`` leaves it alone.
        tune: ``lora`` trains adapters beside frozen layers, ``full`` all parameters.
        optimizer: of the clients, in each round anew: AdamW, or SGD with ``momentum``.
        engine: how the clients of a round are trained on one machine: in turn, or stacked. No part of the name: the experiment
            is the same.
        threads: CPU threads of one worker; sums, and so the last bits of a result, depend on it.
        device: what a machine must have to take the experiment; ``any`` lets each use its best.
        purpose: a ``search`` for learning rates is never averaged with what is reported.
        train_samples: how many of the data set's training samples are used, the same ones for every seed; 0 is all.
        data_file: of a data set that is a file of the user's: its path, relative to the data folder or absolute.
        data_digest: what that file's SHA-256 must begin with, so that all machines train on the same arrays.
        pretrained: the weights of a model that is made from some; empty is the model's own choice.
    """

    dataset: str = "digits"
    model: str = "mlp"
    seed: int = 42
    rounds: int = 20
    local_epochs: int = 1
    batch_size: int = 16
    lr: float = FALLBACK_LR
    weight_decay: float = 0.0
    tune: Literal["lora", "full"] = "lora"
    optimizer: Literal["adamw", "sgd"] = "adamw"
    momentum: float = 0.0
    rank: int = 4
    lora_alpha: float = 8.0
    lora_dropout: float = 0.0
    head: Literal["aggregate", "frozen"] = "frozen"
    engine: Literal["sequential", "stacked"] = "sequential"
    dtype: Literal["float32", "float64"] = "float32"
    threads: int = 1
    device: Literal["any", "cpu", "cuda", "mps"] = "any"
    train_samples: int = 0
    data_file: str = ""
    data_digest: str = ""
    pretrained: str = ""
    purpose: Literal["report", "search"] = "report"


class FederatedConfig(TrainingConfig, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A federated run: FedAvg, FedSpec or another aggregation of LoRA adapters over a partition.

    Attributes:
        alpha: Dirichlet concentration; ``None`` where the split is ``iid``.
        min_client_samples: partitions with a smaller client are drawn again.
        participation: the share of the clients that each round samples, at least one.
        prox: FedProx's mu, which pulls a client back to where it started; 0 is none.
        server: what the server does with the clients' mean: install it, or take it for a step (``momentum`` FedAvgM, ``adam``
            FedAdam) of size ``server_lr`` with decay ``server_momentum``.
        rank_rule: ``fixed``, or grow by ``rank_step`` up to ``max_rank`` while the tail share that the truncation drops
            exceeds ``tail_threshold``: its nuclear norm, or its energy relative to the round's movement.
        singular_split: where the refactoring puts the singular values: ``even`` in both factors, or all in one.
        kept_energy: florist's tau, the share of the squared singular values that it keeps.
        fair_weight: lora_fair's weight of staying near the mean of B.
        sparse_scale: fedrpca's beta, what the clients' sparse parts are multiplied by; 1 is FedAvg.
        clip: what a client's whole update is clipped to, as the L2 norm of all that it has trained; 0 is not at all.
        noise: the standard deviation of the noise on the clients' mean, in multiples of ``clip`` over their number; 0 is none.
        delta: the probability for which the noise's epsilon is told.
        ranks: the clients' own ranks, taken in turn; empty where all have ``rank``, which alone sets the scale either way.
    """

    method: str = "fedavg"
    split: Literal["dirichlet", "iid"] = "dirichlet"
    alpha: float | None = 0.5
    clients: int = 10
    min_client_samples: int = 8
    participation: float = 1.0
    prox: float = 0.0
    server: Literal["average", "momentum", "adam"] = "average"
    server_lr: float = 1.0
    server_momentum: float = 0.9
    rank_rule: Literal["fixed", "nuclear", "energy"] = "fixed"
    rank_step: int = 2
    max_rank: int = 16
    tail_threshold: float = 0.05
    singular_split: Literal["even", "b", "a"] = "even"
    kept_energy: float = 0.9
    fair_weight: float = 0.01
    sparse_scale: float = 2.0
    clip: float = 0.0
    noise: float = 0.0
    delta: float = 1e-5
    ranks: tuple[int, ...] = ()

    @property
    def name(self) -> str:
        """The experiment's name, ``exp``: ``<method>_<split>_alpha<alpha>`` and a suffix for what is not default."""
        head = f"{self.method}_{self.split}" + ("" if self.alpha is None else f"_alpha{self.alpha!r}")
        return head + suffix(self, FEDERATED_SUFFIXES, lr=tuned_lr(self.method))


class CentralizedConfig(TrainingConfig, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The baseline: the same adapter trained on all data in one place, with equally many passes."""

    lr: float = TUNED_LR["centralized"]

    @property
    def name(self) -> str:
        """The experiment's name, ``exp``: ``centralized`` and a suffix for what is not default."""
        return "centralized" + suffix(self, TRAINING_SUFFIXES, lr=tuned_lr("centralized"))


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
        yield (
            "grid",
            f"{name} is too long or too odd for a file name",
            "Use plainer numbers, and fewer keys at a time.",
        )
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


def clients_in_a_round(values: Mapping[str, Any]) -> int:
    """How many clients a round of a configuration, as an item holds it, samples: the nearest to its share, at least one."""
    return max(1, int(values.get("participation", 1.0) * values.get("clients", 1) + 0.5))


def client_rank(config: FederatedConfig, client: int) -> int:
    """The rank that a client trains, where ``config.ranks`` has any."""
    return config.ranks[client % len(config.ranks)]


def server_rank(config: TrainingConfig) -> int:
    """The rank of the server's adapters at the start: the highest of the clients'."""
    return max(getattr(config, "ranks", ()), default=config.rank)


def tuned_lr(method: str) -> float:
    """The step size that a configuration of ``method`` gets when nobody sets one."""
    return TUNED_LR.get(method, FALLBACK_LR)


def config_hash(config: TrainingConfig) -> str:
    """12 hex digits that name this configuration's values."""
    from hashlib import sha256

    return sha256(msgspec.json.encode(config, order="sorted")).hexdigest()[:12]

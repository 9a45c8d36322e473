"""What an experiment is: the keys of its configuration, with their types and defaults, and what follows from them.

A configuration is complete: whatever influences a result is in it, and it is fixed when the experiment is enqueued, so
that any machine that takes the experiment over runs the very same one. Which names of methods, data sets and models there
are is for the registries to say.
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256
from typing import Any, Literal

import msgspec

from fedspec.config.names import FEDERATED_SUFFIXES, TRAINING_SUFFIXES, suffix
from fedspec.config.rates import FALLBACK_LR, TUNED_LR, tuned_lr


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


def clients_in_a_round(values: Mapping[str, Any]) -> int:
    """How many clients a round of a configuration, as an item holds it, samples: the nearest to its share, at least one."""
    return max(1, int(values.get("participation", 1.0) * values.get("clients", 1) + 0.5))


def client_rank(config: FederatedConfig, client: int) -> int:
    """The rank that a client trains, where ``config.ranks`` has any."""
    return config.ranks[client % len(config.ranks)]


def server_rank(config: TrainingConfig) -> int:
    """The rank of the server's adapters at the start: the highest of the clients'."""
    return max(getattr(config, "ranks", ()), default=config.rank)


def config_hash(config: TrainingConfig) -> str:
    """12 hex digits that name this configuration's values."""
    return sha256(msgspec.json.encode(config, order="sorted")).hexdigest()[:12]

"""Local training: one model that stays on the device, and the steps that a client takes with it.

Clients take turns on one `Resident` whose trained tensors are set in place. Nothing is copied per client but the
factors, no data moves but the shuffled order: that is what a bare PyTorch loop would do too.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fedspec.config import TrainingConfig
from fedspec.data.base import Split
from fedspec.federated.aggregators.base import BOTH, Part
from fedspec.federated.lora import adapt, dtype_of, scale_of
from fedspec.federated.seeding import generator, global_seed
from fedspec.federated.state import Weights
from fedspec.models.base import Model


class Resident:
    """The one model of a worker: a frozen base on its device, whose adapter, head and delta are set in place.

    Args:
        model: becomes part of the resident, and is changed.
        base: the values of all its parameters.
        config: rank, scale, dropout and dtype of the adapter, and whether the head trains.
        device: where it stays.
    """

    def __init__(self, model: Model, base: Mapping[str, Tensor], config: TrainingConfig, device: torch.device) -> None:
        self._base_weights = {name: base[f"{name}.weight"] for name in model.lora_targets}
        model.load_state_dict(dict(base))
        self.layers = adapt(model, rank=config.rank, scale=scale_of(config), dropout=config.lora_dropout)
        self.module: Model = model.to(dtype_of(config)).to(device)
        self.device = device
        self._head = dict(model.get_submodule(model.head).named_parameters()) if config.head == "aggregate" else {}
        for parameter in self._head.values():
            parameter.requires_grad_(True)
        self._parts: Collection[Part] = BOTH
        self._start: list[Tensor] = []
        self._folded: set[str] = set()

    def trained(self) -> list[nn.Parameter]:
        """The parameters that training changes."""
        factors = [getattr(layer, part) for layer in self.layers.values() for part in ("B", "A") if part in self._parts]
        return factors + list(self._head.values())

    @torch.no_grad()
    def install(self, weights: Weights, trained: Collection[Part] = BOTH) -> None:
        """Take over ``weights``, which every `rewind` comes back to; of the factors only those ``trained`` will change."""
        self._parts = trained
        for name, layer in self.layers.items():
            layer.set(weights.adapter[name])
            layer.B.requires_grad_("B" in trained)
            layer.A.requires_grad_("A" in trained)
            if name in weights.delta or name in self._folded:
                base = self._base_weights[name]
                layer.base.weight.copy_(base + weights.delta[name] if name in weights.delta else base)
        self._folded = set(weights.delta)
        for name, parameter in self._head.items():
            parameter.copy_(weights.head[name])
        self._start = [parameter.detach().clone() for parameter in self.trained()]

    @torch.no_grad()
    def rewind(self) -> None:
        """Back to what was last installed, so that no client sees what another one learnt."""
        for parameter, start in zip(self.trained(), self._start, strict=True):
            parameter.copy_(start)

    def snapshot(self) -> Weights:
        """A copy of the trained tensors on the CPU."""
        head = {name: parameter.detach().to("cpu", copy=True) for name, parameter in self._head.items()}
        return Weights({name: layer.get() for name, layer in self.layers.items()}, head, {})


def optimizer(parameters: list[nn.Parameter], config: TrainingConfig) -> torch.optim.AdamW:
    """AdamW (Loshchilov and Hutter 2019) with torch's defaults, fused: small models are overhead-bound."""
    return torch.optim.AdamW(parameters, lr=config.lr, weight_decay=config.weight_decay, fused=True)


def train_epoch(module: nn.Module, steps: torch.optim.Optimizer, data: Split, batch_size: int, order: Tensor) -> float:
    """One pass over ``data``.

    Args:
        order: (n,) int64 on the data's device; the samples in the order to see them.

    Returns:
        The mean loss over the samples, each taken before the step that used it.
    """
    losses = []
    # One gather for the epoch; the batches are views of it.
    batches = zip(data.inputs[order].split(batch_size), data.labels[order].split(batch_size), strict=True)
    for inputs, labels in batches:
        loss = F.cross_entropy(module(inputs), labels)
        steps.zero_grad()
        loss.backward()
        steps.step()
        losses.append(loss.detach())
    # Reading the losses waits for the device: once an epoch, not once a step.
    means: list[float] = torch.stack(losses).tolist()
    starts = range(0, len(data), batch_size)
    return sum(mean * min(batch_size, len(data) - start) for mean, start in zip(means, starts, strict=True)) / len(data)


def train(resident: Resident, data: Split, config: TrainingConfig, round: int, client: int) -> tuple[Weights, float]:
    """A client's work in one round: ``local_epochs`` passes over its own data from the installed weights.

    Returns:
        What it learnt, and its mean training loss.
    """
    resident.rewind()
    resident.module.train()
    steps = optimizer(resident.trained(), config)
    order = generator("shuffle", config.seed, round, client)
    loss = 0.0
    with global_seed(resident.device, "dropout", config.seed, round, client):
        for _ in range(config.local_epochs):
            shuffled = torch.randperm(len(data), generator=order).to(resident.device)
            loss += train_epoch(resident.module, steps, data, config.batch_size, shuffled)
    return resident.snapshot(), loss / config.local_epochs

"""Local training: one model that stays on the device, and the steps that a client takes with it.

Clients take turns on one `Resident` whose trained tensors are set in place. Nothing is copied per client but the
factors, no data moves but the shuffled order: that is what a bare PyTorch loop would do too.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fedspec.config import TrainingConfig
from fedspec.data.base import Split
from fedspec.federated.aggregators.base import BOTH, Part
from fedspec.federated.lora import LoRALinear, adapt, dtype_of, scale_of
from fedspec.federated.seeding import generator, global_seed
from fedspec.federated.state import Weights
from fedspec.models.base import Model


class Resident:
    """The one model of a worker: a frozen base on its device, whose adapter, dense tensors and delta are set in place.

    Args:
        model: becomes part of the resident, and is changed.
        base: the values of all its parameters.
        config: whether it gets adapters, their rank, scale, dropout and dtype, and whether the head trains.
        device: where it stays.
    """

    def __init__(self, model: Model, base: Mapping[str, Tensor], config: TrainingConfig, device: torch.device) -> None:
        model.load_state_dict(dict(base))
        model.requires_grad_(False)
        self.layers: dict[str, LoRALinear] = {}
        dense = dict(model.named_parameters())
        if config.tune == "lora":
            self.layers = adapt(model, rank=config.rank, scale=scale_of(config), dropout=config.lora_dropout)
            head = f"{model.head}." if config.head == "aggregate" else None
            dense = {name: tensor for name, tensor in dense.items() if head is not None and name.startswith(head)}
        self._base_weights = {name: base[f"{name}.weight"] for name in self.layers}
        self.module: Model = model.to(dtype_of(config)).to(device)
        self.device = device
        self.dense = {name: parameter.requires_grad_(True) for name, parameter in dense.items()}
        self._parts: Collection[Part] = BOTH
        self.start: list[Tensor] = []
        self._folded: set[str] = set()

    def trained(self) -> list[nn.Parameter]:
        """The parameters that training changes."""
        factors = [getattr(layer, part) for layer in self.layers.values() for part in ("B", "A") if part in self._parts]
        return factors + list(self.dense.values())

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
        for name, parameter in self.dense.items():
            parameter.copy_(weights.dense[name])
        self.start = [parameter.detach().clone() for parameter in self.trained()]

    @torch.no_grad()
    def rewind(self) -> None:
        """Back to what was last installed, so that no client sees what another one learnt."""
        for parameter, start in zip(self.trained(), self.start, strict=True):
            parameter.copy_(start)

    def snapshot(self) -> Weights:
        """A copy of the trained tensors on the CPU."""
        dense = {name: parameter.detach().to("cpu", copy=True) for name, parameter in self.dense.items()}
        return Weights({name: layer.get() for name, layer in self.layers.items()}, dense, {})


def optimizer(parameters: list[nn.Parameter], config: TrainingConfig) -> torch.optim.Optimizer:
    """AdamW (Loshchilov and Hutter 2019) with torch's defaults, or SGD; fused, since small models are overhead-bound."""
    if config.optimizer == "sgd":
        return torch.optim.SGD(parameters, lr=config.lr, momentum=config.momentum, weight_decay=config.weight_decay, fused=True)
    return torch.optim.AdamW(parameters, lr=config.lr, weight_decay=config.weight_decay, fused=True)


def train_epoch(
    module: nn.Module,
    steps: torch.optim.Optimizer,
    data: Split,
    batch_size: int,
    order: Tensor,
    adjust: Callable[[], None] | None = None,
) -> float:
    """One pass over ``data``.

    Args:
        order: (n,) int64 on the data's device; the samples in the order to see them.
        adjust: called before each step, to change the gradients.

    Returns:
        The mean loss over the samples, each taken before the step that used it.
    """
    losses = []
    # One gather for the epoch; the batches are views of it.
    for inputs, labels in data.take(order).batches(batch_size):
        loss = F.cross_entropy(module(inputs), labels)
        steps.zero_grad()
        loss.backward()
        if adjust is not None:
            adjust()
        steps.step()
        losses.append(loss.detach())
    # Reading the losses waits for the device: once an epoch, not once a step.
    means: list[float] = torch.stack(losses).tolist()
    starts = range(0, len(data), batch_size)
    return sum(mean * min(batch_size, len(data) - start) for mean, start in zip(means, starts, strict=True)) / len(data)


def train(
    resident: Resident,
    data: Split,
    config: TrainingConfig,
    round: int,
    client: int,
    correction: Mapping[str, Tensor] | None = None,
) -> tuple[Weights, float]:
    """A client's work in one round: ``local_epochs`` passes over its own data from the installed weights.

    Args:
        correction: what a method adds to the gradients of dense tensors, by name.

    Returns:
        What it learnt, and its mean training loss.
    """
    resident.rewind()
    resident.module.train()
    steps = optimizer(resident.trained(), config)
    adjust = _adjustment(resident, getattr(config, "prox", 0.0), correction)
    order = generator("shuffle", config.seed, round, client)
    loss = 0.0
    with global_seed(resident.device, "dropout", config.seed, round, client):
        for _ in range(config.local_epochs):
            shuffled = torch.randperm(len(data), generator=order).to(resident.device)
            loss += train_epoch(resident.module, steps, data, config.batch_size, shuffled, adjust)
    return resident.snapshot(), loss / config.local_epochs


def steps_of(samples: int, config: TrainingConfig) -> int:
    """How many steps a client of so many samples takes in a round."""
    return config.local_epochs * -(-samples // config.batch_size)


def _adjustment(resident: Resident, prox: float, correction: Mapping[str, Tensor] | None) -> Callable[[], None] | None:
    """What changes a client's gradients before each step, if anything does.

    FedProx (Li et al. 2020, arXiv 1812.06127) adds the gradient of ``prox / 2 ||w - w_0||^2``.
    """
    if not prox and correction is None:
        return None
    trained, start = resident.trained(), resident.start
    added = {} if correction is None else {name: tensor.to(resident.device) for name, tensor in correction.items()}

    @torch.no_grad()
    def adjust() -> None:
        if prox:
            for parameter, origin in zip(trained, start, strict=True):
                if parameter.grad is not None:
                    parameter.grad.add_(parameter - origin, alpha=prox)
        for name, tensor in added.items():
            gradient = resident.dense[name].grad
            if gradient is not None:
                gradient.add_(tensor)

    return adjust

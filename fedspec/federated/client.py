"""Local training: the steps that a client takes from the installed weights, one client after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fedspec.config import TrainingConfig
from fedspec.data.base import Split
from fedspec.federated.resident import Resident
from fedspec.federated.seeding import generator, global_seed
from fedspec.federated.state import Weights

# What a method adds to a client's gradients of dense tensors, by name; None for nothing.
Correction = Callable[[int], Mapping[str, Tensor] | None]


@dataclass(frozen=True, slots=True)
class Trained:
    """A client's work in a round: what it has learnt, and its mean training loss."""

    client: int
    weights: Weights
    loss: float


def optimizer(parameters: Sequence[Tensor], config: TrainingConfig) -> torch.optim.Optimizer:
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


def in_turn(
    resident: Resident,
    clients: Sequence[Split],
    present: Sequence[int],
    config: TrainingConfig,
    round: int,
    correction: Correction = lambda client: None,
) -> Iterator[Trained]:
    """The sequential engine: each of the clients ``present`` trains from the installed weights, in turn."""
    for client in present:
        yield train(resident, clients[client], config, round, client, correction(client))


def train(
    resident: Resident,
    data: Split,
    config: TrainingConfig,
    round: int,
    client: int,
    correction: Mapping[str, Tensor] | None = None,
) -> Trained:
    """A client's work in one round: ``local_epochs`` passes over its own data from the installed weights.

    Args:
        correction: what a method adds to the gradients of dense tensors, by name.
    """
    resident.rewind()
    resident.module.train()
    steps = optimizer(resident.trained(), config)
    adjust = _adjustment(resident, getattr(config, "prox", 0.0), correction)
    loss = 0.0
    with global_seed(resident.device, "dropout", config.seed, round, client):
        for order in orders(data, config, round, client):
            loss += train_epoch(resident.module, steps, data, config.batch_size, order.to(resident.device), adjust)
    return Trained(client, resident.snapshot(), loss / config.local_epochs)


def orders(data: Split, config: TrainingConfig, round: int, client: int) -> Iterator[Tensor]:
    """For each local epoch the order in which a client sees its samples, texts grouped by length: (n,) int64 on the CPU."""
    shuffle = generator("shuffle", config.seed, round, client)
    for _ in range(config.local_epochs):
        yield data.order(config.batch_size, shuffle)


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

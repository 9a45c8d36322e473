"""Local training: the steps that a client takes from the installed weights, one client after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fedspec.config import TrainingConfig
from fedspec.data.base import Split
from fedspec.federated.chain import Chain
from fedspec.federated.resident import Resident
from fedspec.federated.seeding import generator, global_seed
from fedspec.federated.state import Weights
from fedspec.federated.updates import Updates

# What a method adds to a client's gradients of dense tensors, by name; None for nothing.
Correction = Callable[[int], Mapping[str, Tensor] | None]
# Of what is trained, in its order; None where a loss does not depend on it.
Gradients = Sequence[Tensor | None]
Adjustment = Callable[[Gradients], Gradients]


@dataclass(frozen=True, slots=True)
class Trained:
    """A client's work in a round: what it has learnt, its mean training loss, and what `Weights.nonfinite` says of it."""

    client: int
    weights: Weights
    loss: float
    nonfinite: str | None


def train_epoch(
    module: nn.Module,
    updates: Updates,
    data: Split,
    batch_size: int,
    order: Tensor,
    adjust: Adjustment | None = None,
) -> float:
    """One pass over ``data``.

    Args:
        order: (n,) int64 on the data's device; the samples in the order to see them.
        adjust: what each step goes along instead of its gradients.

    Returns:
        The mean loss over the samples, each taken before the step that used it.
    """
    losses, slope = [], _slope(module, updates.tensors)
    # One gather for the epoch; the batches are views of it.
    for inputs, labels in data.take(order).batches(batch_size):
        loss, gradients = slope(inputs, labels)
        updates.step(gradients if adjust is None else adjust(gradients))
        losses.append(loss)
    # Reading the losses waits for the device: once an epoch, not once a step.
    means: list[float] = torch.stack(losses).tolist()
    starts = range(0, len(data), batch_size)
    return sum(mean * min(batch_size, len(data) - start) for mean, start in zip(means, starts, strict=True)) / len(data)


def _slope(module: nn.Module, tensors: Sequence[Tensor]) -> Callable[[Tensor, Tensor], tuple[Tensor, Gradients]]:
    """What finds a batch's mean loss, and its gradients at ``tensors``: autograd, but for a chain that is trained whole."""
    chain = Chain.whole(module, tensors)
    if chain is None:

        def recorded(inputs: Tensor, labels: Tensor) -> tuple[Tensor, Gradients]:
            loss = F.cross_entropy(module(inputs), labels)
            # A text model may have a part that no sample of the batch needs.
            return loss.detach(), torch.autograd.grad(loss, tensors, allow_unused=True)

        return recorded
    names = chain.slots()
    slots = [names[id(tensor)] for tensor in tensors]

    def written(inputs: Tensor, labels: Tensor) -> tuple[Tensor, Gradients]:
        losses, found = chain.step(inputs, labels, inputs.new_full(labels.shape, 1 / len(labels)))
        return losses.mean(), [found[slot] for slot in slots]

    return written


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
    updates = Updates.of(resident.trained(), config)
    adjust = _adjustment(resident, getattr(config, "prox", 0.0), correction)
    loss = 0.0
    with global_seed(resident.device, "dropout", config.seed, round, client):
        for order in orders(data, config, round, client):
            loss += train_epoch(resident.module, updates, data, config.batch_size, order.to(resident.device), adjust)
    weights = resident.snapshot()
    return Trained(client, weights, loss / config.local_epochs, weights.nonfinite())


def orders(data: Split, config: TrainingConfig, round: int, client: int) -> Iterator[Tensor]:
    """For each local epoch the order in which a client sees its samples, texts grouped by length: (n,) int64 on the CPU."""
    shuffle = generator("shuffle", config.seed, round, client)
    for _ in range(config.local_epochs):
        yield data.order(config.batch_size, shuffle)


def steps_of(samples: int, config: TrainingConfig) -> int:
    """How many steps a client of so many samples takes in a round."""
    return config.local_epochs * -(-samples // config.batch_size)


def _adjustment(resident: Resident, prox: float, correction: Mapping[str, Tensor] | None) -> Adjustment | None:
    """What changes a client's gradients before each step, if anything does.

    FedProx (Li et al. 2020, arXiv 1812.06127) adds the gradient of ``prox / 2 ||w - w_0||^2``.
    """
    if not prox and correction is None:
        return None
    trained, start = resident.trained(), resident.start
    names = {id(parameter): name for name, parameter in resident.dense.items()}
    added = [None if correction is None else correction.get(names.get(id(parameter), "")) for parameter in trained]
    added = [None if tensor is None else tensor.to(resident.device) for tensor in added]

    @torch.no_grad()
    def adjust(gradients: Gradients) -> Gradients:
        changed = []
        # Not in place: two parameters may have one tensor as their gradient.
        for gradient, parameter, origin, tensor in zip(gradients, trained, start, added, strict=True):
            if gradient is not None and prox:
                gradient = torch.add(gradient, parameter - origin, alpha=prox)
            if gradient is not None and tensor is not None:
                gradient = gradient + tensor
            changed.append(gradient)
        return changed

    return adjust

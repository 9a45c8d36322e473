"""Local training of a round's clients together: one pass of the frozen base over everybody's batches, and a stack of factors.

All clients start from one model and differ in their factors only. So a step takes the next batch of each client, computes the
base on all of them at once and the adapters by batched products, and one optimiser updates the whole stack: its arithmetic is
elementwise. Clients are sorted by how many samples they have; those that still have steps to take are a prefix of the stack.

What differs from the sequential engine is the order of sums, and the stream of dropout, which is one for all.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from math import isfinite
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from fedspec.config import TrainingConfig
from fedspec.data.base import Split
from fedspec.federated.chain import Chain
from fedspec.federated.client import Trained, orders
from fedspec.federated.events import StepDone
from fedspec.federated.lora import Factors, HeadLinear, LoRALinear
from fedspec.federated.resident import Resident
from fedspec.federated.seeding import global_seed
from fedspec.federated.state import Weights
from fedspec.federated.updates import Updates

# What is gathered of the samples at a time, at most, or one step's.
GATHERED_BYTES = 64 << 20


@dataclass(frozen=True, slots=True, eq=False)
class _Schedule:
    """Who trains on what in which step, of n clients sorted by their numbers of samples: it is the same in all of their rounds.

    A step is made on ``active * width`` places, client by client; those of all steps follow one another.

    Attributes:
        places: (places,) int64, where in the clients' shuffled samples, all in one row, each one is. What is beyond a client's
            last sample repeats the first one of its batch: whatever a client computes is its own.
        owners: (places,) int64, whose each one is; n where it only fills up.
        shares: of each step, (active * width,) on the device: a sample's weight in its client's mean loss, 0 where it fills up.
        active: how many clients take each step; a prefix.
        samples: how many samples each step is made on.
    """

    places: Tensor
    owners: Tensor
    shares: tuple[Tensor, ...]
    active: list[int]
    samples: list[int]


def together(
    resident: Resident, data: Split, clients: Sequence[Split], present: Sequence[int], config: TrainingConfig, round: int
) -> Iterator[Trained | StepDone]:
    """The stacked engine: the clients ``present`` train from the installed weights, all at once.

    Args:
        data: all clients' samples, one client after the other.
        clients: the parts of ``data``.
    """
    sorted_ = sorted(present, key=lambda client: -len(clients[client]))
    sizes = tuple(len(clients[client]) for client in sorted_)
    schedule = _schedule(sizes, config.batch_size, config.local_epochs, resident.dtype, resident.device)
    starts = list(accumulate((len(split) for split in clients), initial=0))
    # The batches of `fedspec.federated.client.train`, side by side.
    seen = [order + starts[client] for client in sorted_ for order in orders(clients[client], config, round, client)]
    rows = torch.cat(seen)[schedule.places].to(resident.device)
    losses: list[Tensor] = []
    chain = Chain.of(resident, config)
    with _unrecorded(chain):
        stack = _Stack(resident, len(sorted_), config, chain)
    resident.module.train()
    try:
        with global_seed(resident.device, "dropout", config.seed, round):
            batches = _batches(data, rows, [len(shares) for shares in schedule.shares])
            steps = zip(schedule.active, schedule.shares, batches, strict=True)
            for step, (active, shares, (inputs, labels)) in enumerate(steps):
                with _unrecorded(chain):
                    stack.narrow(active)
                each = stack.step(inputs, labels, shares)
                losses.append(each)
                yield StepDone(round, step + 1, len(schedule.active), schedule.samples[step])
    finally:
        stack.release()
    sums = torch.zeros(len(sorted_) + 1, dtype=torch.float64)
    totals = sums.index_add_(0, schedule.owners, torch.cat(losses).cpu().double()).tolist()[:-1]
    done = dict(zip(sorted_, zip(stack.snapshots(), totals, sizes, strict=True), strict=True))
    # Sums pass NaN and infinities on: almost always nobody's tensors need be asked one by one.
    sound = all(isfinite(float(stack.tensors[slot].sum())) for slot in stack.trained)
    for client in present:
        weights, total, size = done[client]
        yield Trained(client, weights, total / (size * config.local_epochs), None if sound else weights.nonfinite())


def _unrecorded(chain: Chain | None) -> AbstractContextManager[Any]:
    """Where gradients are written down nothing needs record them: operations then take a tenth less time."""
    return nullcontext() if chain is None else torch.inference_mode()


def _batches(data: Split, rows: Tensor, sizes: Sequence[int]) -> Iterator[tuple[Tensor, Tensor]]:
    """Inputs and labels of each step: of those ``rows`` the first ``sizes[0]``, the next ``sizes[1]``, and so on.

    One gather for as many steps as need little memory; the batches are views of it.
    """
    some = max(1, GATHERED_BYTES // (data.inputs[:1].nbytes * max(sizes)))
    for first in range(0, len(sizes), some):
        now = list(sizes[first : first + some])
        mine, rows = rows.split([sum(now), len(rows) - sum(now)])
        gathered = data.take(mine)
        if data.lengths is None:
            yield from zip(gathered.inputs.split(now), gathered.labels.split(now), strict=True)
        else:
            yield from (next(batch.batches(len(batch))) for batch in gathered.parts(now))


@lru_cache(maxsize=1)
def _schedule(sizes: tuple[int, ...], batch_size: int, epochs: int, dtype: torch.dtype, device: torch.device) -> _Schedule:
    """The schedule of clients with so many samples, descending."""
    width, steps = min(batch_size, sizes[0]), epochs * -(-sizes[0] // batch_size)
    places, counts = torch.zeros(steps, len(sizes), width, dtype=torch.int64), torch.zeros(steps, len(sizes), dtype=torch.int64)
    start = 0
    for client, samples in enumerate(sizes):
        step = 0
        for _ in range(epochs):
            for batch in torch.arange(start, start + samples).split(batch_size):
                places[step, client] = batch[0]
                places[step, client, : len(batch)] = batch
                counts[step, client] = len(batch)
                step += 1
            start += samples
    real = torch.arange(width) < counts.unsqueeze(2)
    owners = torch.where(real, torch.arange(len(sizes)).unsqueeze(1), len(sizes))
    shares = (real.double() / counts.clamp(min=1).unsqueeze(2)).to(dtype).to(device)
    active = (counts > 0).sum(1).tolist()
    cuts = list(zip(active, counts.amax(1).tolist(), strict=True))

    def stepwise(values: Tensor) -> list[Tensor]:
        return [of_step[:some, :wide].flatten() for of_step, (some, wide) in zip(values, cuts, strict=True)]

    return _Schedule(
        places=torch.cat(stepwise(places)),
        owners=torch.cat(stepwise(owners)),
        shares=tuple(stepwise(shares)),
        active=active,
        samples=counts.sum(1).tolist(),
    )


# A module, and the name of one of its tensors as `fedspec.federated.lora.PerClient` has it.
Slot = tuple[LoRALinear | HeadLinear, str]


class _Stack:
    """The tensors of n clients, with their optimiser; the resident's modules compute with those of the active ones."""

    def __init__(self, resident: Resident, clients: int, config: TrainingConfig, chain: Chain | None) -> None:
        self.resident, self.chain = resident, chain
        starts: dict[Slot, Tensor] = {}
        for layer in resident.layers.values():
            starts |= {(layer, "A"): layer.A, (layer, "Bt"): layer.B.mT}
        starts |= {slot: getattr(*slot) for slot in map(resident.owner, resident.dense)}
        # What is not trained, one factor of some methods, all clients share.
        self.trained = [slot for slot, start in starts.items() if start.requires_grad]
        self.shared = [slot for slot, start in starts.items() if not start.requires_grad]
        self.starts = {slot: start.detach().contiguous() for slot, start in starts.items()}
        self.tensors = {slot: start.expand(clients, *start.shape) for slot, start in self.starts.items()}
        self.tensors |= {slot: self.tensors[slot].clone() for slot in self.trained}
        self.prox: float = getattr(config, "prox", 0.0)
        self.active = 0
        self.updates = Updates.of([self.tensors[slot] for slot in self.trained], config)

    def narrow(self, active: int) -> None:
        """From now on the first ``active`` clients train; no more than before."""
        if active == self.active:
            return
        self.active = active
        self.updates.narrow(active)
        held: dict[LoRALinear | HeadLinear, dict[str, Tensor]] = {module: {} for module, _ in self.tensors}
        for (module, name), tensor in zip(self.trained, self.updates.tensors, strict=True):
            held[module][name] = tensor
        for module, name in self.shared:
            held[module][name] = self.tensors[module, name][:active]
        for module, stack in held.items():
            module.stack = stack

    def step(self, inputs: Tensor, labels: Tensor, shares: Tensor) -> Tensor:
        """One step of every active client along the gradient of its mean loss; returns each sample's loss, (samples,).

        Args:
            shares: (samples,), each one's weight in its client's mean.
        """
        if self.chain is not None:
            losses, found = self.chain.step(inputs, labels, shares)
            gradients = tuple(found[slot] for slot in self.trained)
        else:
            losses = F.cross_entropy(self.resident.module(inputs), labels, reduction="none")
            # Straight from the losses to the leaves: a third less than a backward pass that sums and accumulates.
            gradients = torch.autograd.grad(losses, self.updates.tensors, shares)
        if self.prox:
            # As in the sequential engine, FedProx pulls each client back to where all started.
            places = zip(self.trained, self.updates.tensors, strict=True)
            pulls = [tensor.detach() - self.starts[slot] for slot, tensor in places]
            gradients = tuple(torch.add(one, pull, alpha=self.prox) for one, pull in zip(gradients, pulls, strict=True))
        self.updates.step(gradients)
        return losses.detach()

    def release(self) -> None:
        """Give the modules back."""
        for module, _ in self.tensors:
            module.stack = None

    def snapshots(self) -> list[Weights]:
        """Each client's tensors, copied to the CPU."""
        layers = self.resident.layers.items()
        A = {name: _copies(self.tensors[layer, "A"]) for name, layer in layers}
        B = {name: _copies(self.tensors[layer, "Bt"].mT) for name, layer in layers}
        dense = {name: _copies(self.tensors[self.resident.owner(name)]) for name in self.resident.dense}
        return [
            Weights(
                {name: Factors(B=B[name][place], A=A[name][place]) for name in B},
                {name: each[place] for name, each in dense.items()},
                {},
            )
            for place in range(len(next(iter(self.tensors.values()))))
        ]


def _copies(stack: Tensor) -> tuple[Tensor, ...]:
    """Each client's part, on the CPU."""
    return stack.clone(memory_format=torch.contiguous_format).cpu().unbind()

"""LoRA: the factors of an adapter, and the linear layers that compute with one client's tensors or with many clients' at once.

A layer computes ``W0 x + s B A x`` with ``s = lora_alpha / r0`` (Hu et al. 2021, arXiv 2106.09685). r0 is the *configured*
rank: s stays the same when the rank grows, so that the product B A means the same at every rank.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fedspec.config import TrainingConfig
from fedspec.errors import ExperimentError
from fedspec.federated.seeding import generator
from fedspec.models.base import Model


@dataclass(frozen=True, slots=True)
class Factors:
    """The adapter of one layer; its change to the weight is ``s B A``.

    Attributes:
        B: (out, r)
        A: (r, in)
    """

    B: Tensor
    A: Tensor

    @property
    def rank(self) -> int:
        """r."""
        return self.A.shape[0]

    @property
    def nbytes(self) -> int:
        """Bytes that sending both factors takes, headers excluded."""
        return self.B.nbytes + self.A.nbytes

    def cut(self, rank: int) -> Factors:
        """The first ``rank`` directions, or all if there are no more: what a client of that rank goes on from."""
        return self if rank >= self.rank else Factors(self.B[:, :rank].contiguous(), self.A[:rank].contiguous())

    def padded(self, rank: int) -> Factors:
        """The same product at a higher ``rank``, with zeros in both factors."""
        missing = rank - self.rank
        return Factors(F.pad(self.B, (0, missing)), F.pad(self.A, (0, 0, 0, missing))) if missing else self

    def to(self, dtype: torch.dtype) -> Factors:
        """A copy of both factors, perhaps in another type."""
        return Factors(self.B.to(dtype, copy=True), self.A.to(dtype, copy=True))


# Layer name -> its factors.
Adapter = Mapping[str, Factors]


def scale_of(config: TrainingConfig) -> float:
    """s, which the configured rank fixes once and for all."""
    return config.lora_alpha / config.rank


def dtype_of(config: TrainingConfig) -> torch.dtype:
    """What the model computes in, and what is sent and saved."""
    dtype: torch.dtype = getattr(torch, config.dtype)
    return dtype


def fresh(layer: nn.Linear, rank: int, *purpose: str | int) -> Factors:
    """A new adapter for ``layer`` in float64: A random, B zero, so that the product is zero and B learns first."""
    return _drawn(layer.out_features, layer.in_features, rank, *purpose)


def restarted(factors: Factors, rank: int, *purpose: str | int) -> Factors:
    """A new adapter of the shape of ``factors``, as `fresh`."""
    return _drawn(factors.B.shape[0], factors.A.shape[1], rank, *purpose)


def _drawn(out: int, width: int, rank: int, *purpose: str | int) -> Factors:
    empty = Factors(torch.zeros(out, 0, dtype=torch.float64), torch.zeros(0, width, dtype=torch.float64))
    return grown(empty, rank, *purpose)


def grown(factors: Factors, rank: int, *purpose: str | int) -> Factors:
    """The same product at a higher ``rank``: new columns of B are zero, and new rows of A random, so that they can learn.

    The paper draws A from a Gaussian without naming its width; as PEFT's "gaussian" does, this takes 1/rank. They are drawn
    in float64 and stored in float32, so that processors that differ in a logarithm's last bit agree.

    Args:
        factors: of at most that rank.
        purpose: names the random numbers.
    """
    missing = rank - factors.rank
    noise = torch.randn(missing, factors.A.shape[1], generator=generator("fresh", *purpose), dtype=torch.float64) / rank
    return Factors(
        torch.cat([factors.B, factors.B.new_zeros(factors.B.shape[0], missing)], dim=1),
        torch.cat([factors.A, noise.to(factors.A.dtype)]),
    )


# Tensors of several clients by name, one slice a client in front: of an adapter A (clients, r, in) and Bt (clients, r, out), of
# a head weight (clients, out, in) and bias (clients, out). Their samples follow one another in equal numbers.
PerClient = Mapping[str, Tensor]


class _AdaptedTogether(torch.autograd.Function):
    """``x W^T + b + s (x A_i^T) B_i^T`` for the samples x of each client i, in one node.

    Autograd's own formulas give the same numbers from more than twice the nodes, and gradients that are transposed in memory,
    which an optimiser would have to copy. B is held transposed for that reason, too.
    """

    @staticmethod
    def forward(
        ctx: Any, inputs: Tensor, kept: Tensor | None, weight: Tensor, bias: Tensor | None, A: Tensor, Bt: Tensor, scale: float
    ) -> Tensor:
        """``inputs: (clients * batch, ..., in)`` to ``(..., out)``; ``kept``: what dropout multiplies adapters' inputs by."""
        clients = len(A)
        seen = (inputs if kept is None else inputs * kept).reshape(clients, -1, inputs.shape[-1])
        narrow = torch.bmm(seen, A.mT)
        base = F.linear(inputs, weight, bias)
        ctx.save_for_backward(seen, kept, weight, A, Bt, narrow)
        ctx.scale, ctx.shape = scale, inputs.shape
        outputs = torch.baddbmm(base.reshape(clients, -1, base.shape[-1]), narrow, Bt, alpha=scale)
        return outputs.view(base.shape)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Of the inputs, where anybody wants it, and of both factors."""
        seen, kept, weight, A, Bt, narrow = ctx.saved_tensors
        gradient = gradients[0].reshape(-1, weight.shape[0])
        scaled = gradient.reshape(len(A), -1, weight.shape[0]) * ctx.scale
        of_narrow = torch.bmm(scaled, Bt.mT)
        of_inputs = None
        if ctx.needs_input_grad[0]:
            through_base = (gradient @ weight).reshape(seen.shape)
            if kept is None:
                of_inputs = torch.baddbmm(through_base, of_narrow, A).reshape(ctx.shape)
            else:
                of_inputs = through_base.reshape(ctx.shape) + torch.bmm(of_narrow, A).reshape(ctx.shape) * kept
        of_A = torch.bmm(of_narrow.mT, seen) if ctx.needs_input_grad[4] else None
        of_Bt = torch.bmm(narrow.mT, scaled) if ctx.needs_input_grad[5] else None
        return of_inputs, None, None, None, of_A, of_Bt, None


class LoRALinear(nn.Module):
    """A frozen linear layer and a trainable adapter beside it.

    Args:
        base: the layer that is adapted; its parameters are frozen.
        rank: r of the adapter until `set` brings another one.
        scale: s.
        dropout: probability of dropping an input of the adapter (not of the base) in training.

    Attributes:
        stack: factors of several clients, `PerClient`; ``None`` computes with its own.
    """

    def __init__(self, base: nn.Linear, rank: int, scale: float, dropout: float = 0.0) -> None:
        super().__init__()
        self.base = base.requires_grad_(False)
        self.scale = scale
        self.dropout = dropout
        self.B = nn.Parameter(base.weight.new_zeros(base.out_features, rank))
        self.A = nn.Parameter(base.weight.new_zeros(rank, base.in_features))
        self.stack: PerClient | None = None

    def forward(self, inputs: Tensor) -> Tensor:
        """``inputs: (..., in)`` to ``(..., out)``."""
        drops = self.training and self.dropout > 0
        if self.stack is not None:
            kept = F.dropout(torch.ones_like(inputs), self.dropout) if drops else None
            A, Bt, base = self.stack["A"], self.stack["Bt"], self.base
            # No stub of torch types it.
            together: Any = _AdaptedTogether.apply
            changed: Tensor = together(inputs, kept, base.weight, base.bias, A, Bt, self.scale)
            return changed
        seen = F.dropout(inputs, self.dropout) if drops else inputs
        # The scale costs least where the tensor is narrowest: on the r columns between A and B.
        change = F.linear(F.linear(seen, self.A) * self.scale, self.B)
        return torch.add(self.base(inputs), change)

    def set(self, factors: Factors) -> None:
        """Take over the values, and the rank, of ``factors``."""
        with torch.no_grad():
            for name, value in (("B", factors.B), ("A", factors.A)):
                parameter: nn.Parameter = getattr(self, name)
                if parameter.shape == value.shape:
                    parameter.copy_(value)
                else:
                    setattr(self, name, nn.Parameter(value.to(parameter.device, copy=True)))

    def get(self) -> Factors:
        """A copy of the factors on the CPU."""
        return Factors(self.B.detach().to("cpu", copy=True), self.A.detach().to("cpu", copy=True))


class HeadLinear(nn.Linear):
    """A linear layer that is trained as it is, of one client or of several at once.

    Args:
        own: the layer whose parameters it takes over.

    Attributes:
        stack: as in `LoRALinear`.
    """

    def __init__(self, own: nn.Linear) -> None:
        # Its own parameters are `own`'s: nothing is allocated or drawn.
        super().__init__(own.in_features, own.out_features, own.bias is not None, device="meta")
        self.weight, self.bias = own.weight, own.bias
        self.stack: PerClient | None = None

    def forward(self, inputs: Tensor) -> Tensor:
        """``inputs: (..., in)`` to ``(..., out)``."""
        if self.stack is None:
            return super().forward(inputs)
        weight = self.stack["weight"]
        outputs = torch.bmm(inputs.reshape(len(weight), -1, inputs.shape[-1]), weight.mT)
        if "bias" in self.stack:
            outputs = outputs + self.stack["bias"].unsqueeze(1)
        return outputs.reshape(*inputs.shape[:-1], -1)


def adapt(model: Model, *, rank: int, scale: float, dropout: float = 0.0) -> dict[str, LoRALinear]:
    """Freeze ``model``, put an adapter beside each of its ``lora_targets`` in place, and return the adapted layers.

    Raises:
        ExperimentError: a target is no ``nn.Linear``.
    """
    model.requires_grad_(False)
    layers = {}
    for name in model.lora_targets:
        base = model.get_submodule(name)
        if not isinstance(base, nn.Linear):
            raise ExperimentError(
                f"LoRA cannot adapt {name}, which is a {type(base).__name__}.", "Name only nn.Linear modules in lora_targets."
            )
        layers[name] = LoRALinear(base, rank, scale, dropout)
        parent, _, child = name.rpartition(".")
        setattr(model.get_submodule(parent), child, layers[name])
    return layers

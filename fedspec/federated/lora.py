"""LoRA: the factors of an adapter, and the linear layers that compute with one client's tensors or with many clients' at once.

A layer computes ``W0 x + s B A x`` with ``s = lora_alpha / r0`` (Hu et al. 2021, arXiv 2106.09685). r0 is the *configured*
rank: s stays the same when the rank grows, so that the product B A means the same at every rank.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

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
        """Both factors in another type."""
        return Factors(self.B.to(dtype), self.A.to(dtype))


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


# A module's own parameters by name, with one slice a client in front: (clients, *shape).
PerClient = Mapping[str, Tensor]


def per_client(inputs: Tensor, weights: Tensor) -> Tensor:
    """Each client's linear map of its own samples: (clients * batch, ..., in) and (clients, out, in) to (clients, -1, out)."""
    return torch.bmm(inputs.reshape(len(weights), -1, inputs.shape[-1]), weights.mT)


class LoRALinear(nn.Module):
    """A frozen linear layer and a trainable adapter beside it.

    Args:
        base: the layer that is adapted; its parameters are frozen.
        rank: r of the adapter until `set` brings another one.
        scale: s.
        dropout: probability of dropping an input of the adapter (not of the base) in training.

    Attributes:
        stack: factors of several clients, whose samples follow one another in equal numbers; ``None`` computes with its own.
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
        seen = F.dropout(inputs, self.dropout) if self.training and self.dropout else inputs
        base: Tensor = self.base(inputs)
        if self.stack is not None:
            A, B = self.stack["A"], self.stack["B"]
            change = torch.baddbmm(base.reshape(len(A), -1, base.shape[-1]), per_client(seen, A), B.mT, alpha=self.scale)
            return change.reshape(base.shape)
        # The scale costs least where the tensor is narrowest: on the r columns between A and B.
        change = F.linear(F.linear(seen, self.A) * self.scale, self.B)
        return torch.add(base, change)

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
        outputs = per_client(inputs, self.stack["weight"])
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

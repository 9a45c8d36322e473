"""What an aggregation method is given, and what it gives back.

The pattern is google/fedjax's: a method is `init` and `apply` on a serialisable state. Everything is float64 on the CPU.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, Self

import torch
from torch import Tensor

from fedspec.config import FederatedConfig
from fedspec.federated.lora import Factors
from fedspec.federated.spectral import LowRank, Spectrum, Split, weighted_mean
from fedspec.federated.state import Weights, shape_of

# One of the two factors of an adapter.
Part = Literal["B", "A"]
BOTH: frozenset[Part] = frozenset({"B", "A"})
B_ALONE: frozenset[Part] = frozenset({"B"})
# What a method carries from round to round: plain values and CPU tensors, nested in dicts and lists.
ServerState = dict[str, Any]


# Without slots, which have no room for what is computed once.
@dataclass(frozen=True)
class LayerUpdates:
    """What the clients of one round sent for one layer.

    Attributes:
        factors: each client's, in the order of the clients; ranks may differ.
        weights: each client's share of the samples; they sum to 1.
        scale: s of ``W0 + s B A``.
        previous: the factors that all clients started from, those of a lower rank from the first directions of them.
        rank: the rank to install, no lower than that of ``previous``.
        round: from 1.
        split: where a refactoring puts singular values.
        purpose: names the random numbers of this round and layer.
    """

    factors: tuple[Factors, ...]
    weights: tuple[float, ...]
    scale: float
    previous: Factors
    rank: int
    round: int
    split: Split
    purpose: tuple[str | int, ...]

    def at(self, rank: int) -> LayerUpdates:
        """The same updates, with what has been computed of them, for another rank to install."""
        same = copy(self)
        vars(same)["rank"] = rank
        return same

    @cached_property
    def ideal(self) -> LowRank:
        """dW* = s sum_i w_i B_i A_i."""
        return LowRank.thinnest_sum(self.factors, self.weights, self.scale)

    @cached_property
    def spectrum(self) -> Spectrum:
        """The SVD of ``ideal``."""
        return self.ideal.svd()

    @cached_property
    def singular_values(self) -> Tensor:
        """Those of ``ideal``, descending: of methods that ask for no vectors nothing more is computed."""
        return self.spectrum.S if "spectrum" in vars(self) else self.ideal.singular_values()

    @cached_property
    def movement(self) -> float:
        """||dW* - dW_previous||, how far the clients' mean went from where they started."""
        return (self.ideal - LowRank.of(self.previous, self.scale)).norm()

    def stacked(self) -> tuple[Tensor, Tensor]:
        """The clients' B, (n, out, r), and A, (n, r, in), in float64; r is the highest rank, and what others lack is zero."""
        rank = max(factors.rank for factors in self.factors)
        padded = [factors.padded(rank) for factors in self.factors]
        return torch.stack([f.B for f in padded]).double(), torch.stack([f.A for f in padded]).double()

    @cached_property
    def mean(self) -> Factors:
        """sum_i w_i B_i and sum_i w_i A_i."""
        shares = torch.tensor(self.weights, dtype=torch.float64)
        B, A = (torch.tensordot(shares, each, dims=1) for each in self.stacked())
        return Factors(B, A)


@dataclass(frozen=True, slots=True)
class Installed:
    """What one layer computes with after a round.

    Attributes:
        factors: the new adapter, of the rank that was asked for.
        folded: what is added to the base weight on top of what earlier rounds folded, or ``None``; clients download it.
        download: the factors that clients download; the others they have, or draw themselves from the seed.
        drawn: how many of the factors' last directions they draw themselves in any case: empty columns of B, random rows of A.
    """

    factors: Factors
    folded: LowRank | None = None
    download: frozenset[Part] = BOTH
    drawn: int = 0


@dataclass(frozen=True, slots=True)
class DenseUpdate:
    """What one client sent of the tensors that travel as they are.

    Attributes:
        client: its number.
        share: of the samples of the round; shares sum to 1.
        steps: how many it took.
        tensors: by parameter name.
    """

    client: int
    share: float
    steps: int
    tensors: Mapping[str, Tensor]


class Aggregator(ABC):
    """A method; it holds nothing but its options, and what it remembers is in the state that it returns.

    Attributes:
        variates: whether a tensor of the shape of each dense one travels beside it, both ways.
        spectral: whether it installs singular vectors of dW*.
    """

    variates = False
    spectral = False

    @classmethod
    def of(cls, config: FederatedConfig) -> Self:
        """The method as a configuration wants it."""
        return cls()

    def trained(self, round: int) -> frozenset[Part]:
        """The factors that the clients of a round train, and send; the others stay as they are."""
        return BOTH

    @abstractmethod
    def init(self, start: Weights) -> ServerState:
        """The state before the first round."""

    def fits(self, state: Any, start: Weights) -> bool:
        """Whether a saved state is one of this method's, for weights of those shapes."""
        return bool(shape_of(state) == shape_of(self.init(start)))

    @abstractmethod
    def apply(self, state: ServerState, updates: Mapping[str, LayerUpdates]) -> tuple[dict[str, Installed], ServerState]:
        """One round: what to install in each layer, and the state for the next round. Neither argument is changed.

        It is called in torch's inference mode, where nothing has gradients.
        """

    def correction(self, state: ServerState, client: int) -> Mapping[str, Tensor] | None:
        """What the client adds to its gradients of dense tensors in each step, if anything."""
        return None

    def dense(
        self, state: ServerState, before: Mapping[str, Tensor], updates: Sequence[DenseUpdate]
    ) -> tuple[dict[str, Tensor], ServerState]:
        """The next dense tensors: the mean over the samples. Called after `apply`, with its state; nothing is changed."""
        shares = [update.share for update in updates]
        return {name: weighted_mean([update.tensors[name] for update in updates], shares) for name in before}, state


class Layerwise(Aggregator):
    """A method without memory that looks at one layer at a time."""

    def init(self, start: Weights) -> ServerState:
        """Nothing to remember."""
        return {}

    def apply(self, state: ServerState, updates: Mapping[str, LayerUpdates]) -> tuple[dict[str, Installed], ServerState]:
        """`layer` of every layer."""
        return {name: self.layer(layer) for name, layer in updates.items()}, state

    @abstractmethod
    def layer(self, updates: LayerUpdates) -> Installed:
        """What to install in one layer."""

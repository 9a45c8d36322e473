"""The server's part of a round: from what the clients sent to the next model, and what was lost on the way.

Everything is float64 on the CPU, and cast to the experiment's type once, at the end.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fedspec.config import FederatedConfig
from fedspec.federated import statistics
from fedspec.federated.aggregators.base import Aggregator, DenseUpdate, Installed, LayerUpdates, ServerState
from fedspec.federated.lora import dtype_of, scale_of
from fedspec.federated.state import Weights, ordinary
from fedspec.federated.statistics import LayerStatistics, Tails


@dataclass(frozen=True, slots=True)
class ClientUpdate:
    """What one client sends: its finite weights, how many samples and steps they come from, and its mean training loss."""

    client: int
    samples: int
    steps: int
    loss: float
    weights: Weights


@dataclass(frozen=True, slots=True)
class Aggregation:
    """What the server makes of a round.

    Attributes:
        weights: the next model, before a server optimiser.
        server: the method's next state.
        layers: each layer's statistics.
        tails: what the rank of this round could not hold.
        installed: what the method has made of each layer.
    """

    weights: Weights
    server: ServerState
    layers: dict[str, LayerStatistics]
    tails: Tails
    installed: Mapping[str, Installed]


def aggregate(
    config: FederatedConfig,
    method: Aggregator,
    server: ServerState,
    before: Weights,
    updates: Sequence[ClientUpdate],
    round: int,
) -> Aggregation:
    """One round of ``method``, at the rank that the rank rule asks for; without updates the model stays as it was."""
    if not updates:
        return Aggregation(before, server, {}, Tails(0.0, 0.0), {})
    samples = sum(update.samples for update in updates)
    shares = tuple(update.samples / samples for update in updates)
    layers = {name: _updates(config, before, updates, shares, round, name) for name in before.adapter}
    # A tenth less time in small operations. What is stored is made, or copied, outside: others may want gradients of it.
    with torch.inference_mode():
        if config.rank_rule != "fixed":
            # All layers have one rank, which is known before anything is installed. Who needs vectors has the values from them.
            if method.spectral:
                for layer in layers.values():
                    layer.spectrum  # noqa: B018
            rank = statistics.next_rank(config, before.rank, statistics.tails(layers.values()))
            layers = {name: layer.at(rank) for name, layer in layers.items()}
        installed, server = method.apply(server, layers)
        measured = {name: statistics.measure(layer, installed[name]) for name, layer in layers.items()}
        tails = statistics.tails(layers.values())
    sent = [DenseUpdate(u.client, share, u.steps, u.weights.dense) for u, share in zip(updates, shares, strict=True)]
    dense, server = method.dense(server, before.dense, sent)
    return Aggregation(
        weights=_stored(config, before, installed, dense),
        server=ordinary(server),
        layers=measured,
        tails=tails,
        installed=installed,
    )


def _updates(
    config: FederatedConfig, before: Weights, updates: Sequence[ClientUpdate], shares: tuple[float, ...], round: int, name: str
) -> LayerUpdates:
    factors = tuple(update.weights.adapter[name] for update in updates)
    return LayerUpdates(
        factors=factors,
        weights=shares,
        scale=scale_of(config),
        previous=before.adapter[name],
        rank=before.adapter[name].rank,
        round=round,
        split=config.singular_split,
        purpose=(config.seed, round, name),
    )


def _stored(
    config: FederatedConfig, before: Weights, installed: Mapping[str, Installed], dense: Mapping[str, Tensor]
) -> Weights:
    """The next weights in the experiment's type."""
    dtype = dtype_of(config)
    delta = dict(before.delta)
    for name, layer in installed.items():
        if layer.folded is not None:
            folded = layer.folded.dense()
            delta[name] = (before.delta[name].double() + folded if name in before.delta else folded).to(dtype)
    return Weights(
        adapter={name: layer.factors.to(dtype) for name, layer in installed.items()},
        dense={name: tensor.to(dtype) for name, tensor in dense.items()},
        delta=delta,
    )

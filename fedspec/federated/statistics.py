"""What a round's aggregation did: gaps, movement, tails and ranks.

Norms are Frobenius norms of changes to the weights. They are those of the float64 factors that a method returns; storing
these as float32 adds a relative 1e-7 that no column contains.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import exp, fsum, hypot, log

import torch

from fedspec.config import FederatedConfig
from fedspec.federated.aggregators.base import Installed, LayerUpdates
from fedspec.federated.spectral import LowRank


@dataclass(frozen=True, slots=True)
class LayerStatistics:
    """One layer's round.

    Attributes:
        ideal_norm: ||dW*||
        move_norm: ||dW* - dW_previous||, how far the clients' mean went from where they started.
        gap: ||dW* - dW||, what the installed change misses.
        cf_gap_fedavg: the gap that FedAvg would have left on the same updates.
        cf_gap_fedspec: the gap that FedSpec would have left on the same updates, at the rank that was installed.
        singular_values: of dW*, descending.
    """

    ideal_norm: float
    move_norm: float
    gap: float
    cf_gap_fedavg: float
    cf_gap_fedspec: float
    singular_values: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Tails:
    """Which share of the ideal update lies beyond the rank, over all layers, in [0, 1].

    Attributes:
        nuclear: sum of the tail's singular values over the sum of all: what the original code calls energy.
        energy: sum of the tail's squares over the squared movement of the round.
    """

    nuclear: float
    energy: float


def fedavg_gap(updates: LayerUpdates) -> float:
    """FedAvg's gap, as the norm of ``s sum_i w_i (B_i - B)(A_i - A)``: exact where the difference of products would cancel."""
    B, A = updates.stacked()
    B, A = B - updates.mean.B, A - updates.mean.A
    shares = torch.tensor(updates.weights, dtype=torch.float64)
    # Side by side: (out, n r) and (n r, in).
    return LowRank((updates.scale * shares * B.movedim(0, -1)).movedim(-1, 1).flatten(1), A.flatten(0, 1)).norm()


def measure(updates: LayerUpdates, installed: Installed) -> LayerStatistics:
    """The statistics of one layer after its aggregation."""
    missed = updates.ideal - LowRank.of(installed.factors, updates.scale)
    if installed.folded is not None:
        missed = missed - installed.folded
    S = updates.singular_values
    return LayerStatistics(
        ideal_norm=float(S.norm()),
        move_norm=updates.movement,
        gap=missed.norm(),
        cf_gap_fedavg=fedavg_gap(updates),
        cf_gap_fedspec=float(S[updates.rank :].norm()),
        singular_values=tuple(S.tolist()),
    )


def tails(layers: Iterable[LayerUpdates]) -> Tails:
    """The shares that truncating at the rank of this round drops."""
    dropped = total = squares = moved = 0.0
    for layer in layers:
        tail = layer.singular_values[layer.previous.rank :]
        dropped += float(tail.sum())
        squares += float(tail.square().sum())
        total += float(layer.singular_values.sum())
        moved += layer.movement**2
    return Tails(nuclear=_ratio(dropped, total) or 0.0, energy=_ratio(squares, moved) or 0.0)


def next_rank(config: FederatedConfig, rank: int, tails: Tails) -> int:
    """The rank of the next round: it grows while the tail share exceeds the threshold, and never shrinks."""
    if config.rank_rule == "fixed":
        return rank
    share = tails.nuclear if config.rank_rule == "nuclear" else tails.energy
    grows = share > config.tail_threshold
    return max(rank, min(rank + config.rank_step, config.max_rank)) if grows else rank


def effective_rank(singular_values: Sequence[float]) -> float:
    """exp of the entropy of ``S / sum S`` (Roy and Vetterli 2007); 0 for a zero matrix."""
    total = fsum(singular_values)
    shares = (value / total for value in singular_values if value > 0)
    return exp(-fsum(share * log(share) for share in shares)) if total > 0 else 0.0


def columns(layers: Mapping[str, LayerStatistics], tails: Tails) -> dict[str, float | None]:
    """A round's columns of `fedspec.results.Row`: norms over all layers together, the effective rank's mean over layers.

    No columns for a round that installed nothing.
    """
    if not layers:
        return {}

    gap = hypot(*(layer.gap for layer in layers.values()))
    ideal = hypot(*(layer.ideal_norm for layer in layers.values()))
    move = hypot(*(layer.move_norm for layer in layers.values()))
    return {
        "frobenius_gap": gap,
        "gap_relative": _ratio(gap, ideal),
        "gap_over_move": _ratio(gap, move),
        "cf_gap_fedavg": hypot(*(layer.cf_gap_fedavg for layer in layers.values())),
        "cf_gap_fedspec": hypot(*(layer.cf_gap_fedspec for layer in layers.values())),
        "ideal_norm": ideal,
        "move_norm": move,
        "tail_energy_sq": tails.energy,
        "tail_nuclear": tails.nuclear,
        "effective_rank": sum(effective_rank(layer.singular_values) for layer in layers.values()) / len(layers),
    }


def _ratio(part: float, whole: float) -> float | None:
    return part / whole if whole > 0 else None

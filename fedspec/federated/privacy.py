"""What keeps single clients out of the models: clipped updates, noise on their mean, and the guarantee that this gives.

DP-FedAvg, McMahan et al. 2018 (arXiv 1710.06963). A client's update is everything that it has trained together, factors and
dense tensors; it is clipped to ``S = clip``, ``u <- u min(1, S / ||u||_2)``, and the server takes

    mean = 1/m sum_i u_i + N(0, (z S / m)^2),   z = noise

over the m sampled clients. All count alike, since a weight would tell how many samples a client has; one whose update was
rejected counts as zero. The noise is added to each of the updates, the same to all: a method that knows nothing of them but the
mean (the trait of its registry) sees the mean above. Whatever it makes of it, and server optimisers, cost nothing more.

The guarantee is for clients, and for the models of all rounds. It is not for the other columns of a result (losses, gaps and
accuracies by client are those of the data), nor against whoever sees single updates. Sampling is of a fixed number, without
replacement, of clients whose number everybody may know; two runs are neighbours if one client's data are other data. Then the
mean moves by 2 S / m at most, and the accountant, which knows that sampling (Wang et al. 2019, arXiv 1808.00087), is told
z / 2. McMahan et al. sample each client by itself (Poisson) and let one come or go: the same z gives another epsilon there.

The noise comes from (seed, round), so that a takeover repeats the round. Who knows the seed can take it off again: the
guarantee holds for a seed that nobody is told.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from importlib.util import find_spec
from math import hypot

import torch

from fedspec.config import FederatedConfig, TrainingConfig, clients_in_a_round
from fedspec.errors import CapabilityError
from fedspec.federated.aggregation import ClientUpdate
from fedspec.federated.seeding import generator
from fedspec.federated.state import Weights, is_trained

# Rényi orders: from them comes the least epsilon. More would make it a little smaller, and a round slower.
ORDERS = (1.25, 1.5, 1.75, *range(2, 33), 48, 64, 128)
# The last digits of an epsilon are those of the machine.
DIGITS = 6


def protected(
    config: FederatedConfig, before: Weights, parts: Collection[str], updates: Sequence[ClientUpdate], sampled: int, round: int
) -> Sequence[ClientUpdate]:
    """The updates as the server may use them: clipped, and with noise on their mean where the configuration wants it.

    Args:
        before: what clients started from, those of a lower rank from a cut of it.
        parts: the factors that they have trained.
        sampled: how many were sampled; the updates of some may have been rejected.

    Returns:
        The same clients' updates, float64, and with noise of equal samples.
    """
    if not config.clip:
        return updates
    noise = {
        name: torch.randn(tensor.shape, generator=generator("noise", config.seed, round, name), dtype=torch.float64)
        for name, tensor in before.flat().items()
        if config.noise and is_trained(name, parts)
    }
    deviation = config.noise * config.clip / sampled
    if config.noise and not updates:
        # A round without noise would tell that all were rejected: one that has learnt nothing stands for them.
        updates = [ClientUpdate(0, 1, 0, 0.0, before)]
    safe = []
    for update in updates:
        start, sent = before.cut(update.weights.rank).flat(), update.weights.flat()
        moves = {name: sent[name].double() - start[name].double() for name in sent if is_trained(name, parts)}
        size = hypot(*(float(move.norm()) for move in moves.values()))
        kept = min(1.0, config.clip / size) if size else 1.0
        if config.noise:
            # The mean is over those that were accepted: so it is their sum over those that were sampled.
            kept *= len(updates) / sampled
        for name, move in moves.items():
            sent[name] = start[name].double() + kept * move + (deviation * noise[name] if noise else 0.0)
        samples = 1 if config.noise else update.samples
        safe.append(replace(update, samples=samples, weights=update.weights.with_flat(sent)))
    return safe


def require_accountant(config: TrainingConfig) -> None:
    """Raise CapabilityError where a configuration wants noise, and nothing here can say what it is worth."""
    if getattr(config, "noise", 0.0) and find_spec("dp_accounting") is None:
        fix = 'Install it with the extra: pip install "fedspec[privacy]" (in a checkout: pip install -e ".[privacy]").'
        raise CapabilityError("Noise needs the package dp-accounting, which is not installed here.", fix)


def epsilon(config: FederatedConfig, rounds: int) -> float | None:
    """The epsilon at ``config.delta`` of the models of so many rounds together; ``None`` without noise."""
    if not config.noise:
        return None
    from dp_accounting import GaussianDpEvent, NeighboringRelation, SampledWithoutReplacementDpEvent
    from dp_accounting.rdp import RdpAccountant

    sampled = clients_in_a_round({"participation": config.participation, "clients": config.clients})
    accountant = RdpAccountant(orders=ORDERS, neighboring_relation=NeighboringRelation.REPLACE_ONE)
    one_round = SampledWithoutReplacementDpEvent(config.clients, sampled, GaussianDpEvent(config.noise / 2))
    accountant.compose(one_round, rounds)
    return float(f"{accountant.get_epsilon(config.delta):.{DIGITS}g}")

"""Server optimisers: what the server does with the clients' mean, which they take for a step.

``D = mean - before`` is a round's negative pseudo-gradient (Reddi et al. 2021, arXiv 2003.00295). Their state is float64 on
the CPU, and part of the run's. On adapters they need a method that keeps the factors' coordinates from round to round.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import torch

from fedspec.config import FederatedConfig
from fedspec.federated.aggregators.base import Part
from fedspec.federated.state import Weights, is_trained

# FedAdam's second decay rate and its degree of adaptivity, as in the paper's experiments.
BETA_2, TAU = 0.99, 1e-3

State = dict[str, Any]


def init(config: FederatedConfig, start: Weights) -> State:
    """The state before the first round: a momentum of zero and, for Adam, a second moment of TAU squared."""
    zeros = {name: torch.zeros_like(tensor, dtype=torch.float64) for name, tensor in start.flat().items()}
    if config.server == "momentum":
        return {"momentum": zeros}
    if config.server == "adam":
        return {"momentum": zeros, "second": {name: torch.full_like(tensor, TAU**2) for name, tensor in zeros.items()}}
    return {}


def step(
    config: FederatedConfig, state: State, before: Weights, mean: Weights, trained: Collection[Part]
) -> tuple[Weights, State]:
    """From the clients' mean to the next model.

    ``momentum`` is FedAvgM (Hsu et al. 2019, arXiv 1909.06335): ``v <- b v + D, w <- w + lr v``. ``adam`` is FedAdam:
    ``m <- b m + (1 - b) D, v <- b_2 v + (1 - b_2) D^2, w <- w + lr m / (sqrt(v) + TAU)``, without bias correction.

    Args:
        trained: the factors that clients have trained; the others stay as they are, momentum or not.
    """
    if config.server == "average":
        return mean, state
    old, new = before.flat(), mean.flat()
    moved, momentum, second = dict(new), dict(state["momentum"]), dict(state.get("second", {}))
    beta = config.server_momentum
    for name in (name for name in new if is_trained(name, trained)):
        change = new[name].double() - old[name].double()
        if config.server == "momentum":
            momentum[name] = beta * momentum[name] + change
            update = momentum[name]
        else:
            momentum[name] = beta * momentum[name] + (1 - beta) * change
            second[name] = BETA_2 * second[name] + (1 - BETA_2) * change.square()
            update = momentum[name] / (second[name].sqrt() + TAU)
        moved[name] = (old[name].double() + config.server_lr * update).to(new[name].dtype)
    kept: State = {"momentum": momentum} | ({"second": second} if second else {})
    return mean.with_flat(moved), kept

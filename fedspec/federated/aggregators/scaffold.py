"""SCAFFOLD: control variates take the clients' drift out of their steps; on full weights, with SGD.

Karimireddy et al. 2020 (arXiv 1910.06378), option II. A client steps along ``g - c_i + c``; after K steps of size lr from x to
y_i it has ``c_i' = c_i - c + (x - y_i) / (K lr)``. The server takes the plain means over the clients S of a round:
``x <- x + mean(y_i - x)``, ``c <- c + |S| / N mean(c_i' - c_i)``. The variates travel with the weights: twice the bytes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from fedspec.config import FederatedConfig
from fedspec.federated.aggregators.base import Aggregator, DenseUpdate, Installed, LayerUpdates, ServerState
from fedspec.federated.spectral import weighted_mean
from fedspec.federated.state import Weights, shape_of


class Scaffold(Aggregator):
    """Averages dense tensors, and keeps a variate for the server and for each client.

    Args:
        lr: the clients' step size. clients: how many there are.
    """

    variates = True

    def __init__(self, lr: float, clients: int) -> None:
        self.lr, self.clients = lr, clients

    @classmethod
    def of(cls, config: FederatedConfig) -> Scaffold:
        """With the configuration's step size and number of clients."""
        return cls(config.lr, config.clients)

    def init(self, start: Weights) -> ServerState:
        """All variates are zero; a client's is kept from its first round on."""
        return {"server": {name: torch.zeros_like(tensor) for name, tensor in start.dense.items()}, "clients": {}}

    def fits(self, state: Any, start: Weights) -> bool:
        """Of some clients there is no variate yet."""
        usual = shape_of(dict(start.dense))
        if not isinstance(state, dict) or state.keys() != {"server", "clients"} or not isinstance(state["clients"], dict):
            return False
        numbers = all(type(client) is int and 0 <= client < self.clients for client in state["clients"])
        return numbers and all(shape_of(held) == usual for held in (state["server"], *state["clients"].values()))

    def apply(self, state: ServerState, updates: Mapping[str, LayerUpdates]) -> tuple[dict[str, Installed], ServerState]:
        """There are no adapters."""
        return {}, state

    def correction(self, state: ServerState, client: int) -> dict[str, Tensor]:
        """``c - c_i``."""
        own = state["clients"].get(client)
        return dict(state["server"]) if own is None else {name: c - own[name] for name, c in state["server"].items()}

    def dense(
        self, state: ServerState, before: Mapping[str, Tensor], updates: Sequence[DenseUpdate]
    ) -> tuple[dict[str, Tensor], ServerState]:
        """The mean of the clients' weights, and the variates that follow from what they did."""
        equal = (1 / len(updates),) * len(updates)
        server, clients = dict(state["server"]), dict(state["clients"])
        mean, change = {}, {}
        for name, start in before.items():
            mean[name] = weighted_mean([update.tensors[name] for update in updates], equal)
            # c_i' - c_i, of which the old c_i is no part.
            moves = [(start.double() - u.tensors[name].double()) / (u.steps * self.lr) - server[name].double() for u in updates]
            change[name] = moves
        for number, update in enumerate(updates):
            own = clients.get(update.client, {})
            clients[update.client] = {
                name: (change[name][number] + (own[name].double() if own else 0.0)).to(server[name].dtype) for name in before
            }
        share = len(updates) / self.clients
        moved = {name: server[name].double() + share * weighted_mean(change[name], equal) for name in before}
        return mean, {"server": {name: c.to(server[name].dtype) for name, c in moved.items()}, "clients": clients}

"""FLoRA: the clients' adapters are stacked, merged into the base weight, and training restarts with a new one.

Wang et al. 2024 (arXiv 2409.05976): ``[w_1 B_1 ... w_n B_n] [A_1; ...; A_n] = sum_i w_i B_i A_i`` is exact at any mix of ranks.
Clients download the stacks, whose size grows with the number of clients, merge them, and draw the next adapter from the seed.
"""

from __future__ import annotations

from fedspec.federated.aggregators.base import Installed, LayerUpdates, Layerwise
from fedspec.federated.lora import restarted
from fedspec.federated.spectral import LowRank


class FLoRA(Layerwise):
    """The whole ideal update folded into the base; the adapter starts anew, its product zero."""

    def layer(self, updates: LayerUpdates) -> Installed:
        """A fresh adapter, and dW* folded."""
        fresh = restarted(updates.previous, updates.rank, *updates.purpose)
        # What clients download are the stacks, also where they have a factor in common.
        stacks = LowRank.weighted_sum(updates.factors, updates.weights, updates.scale)
        return Installed(fresh, stacks, download=frozenset())

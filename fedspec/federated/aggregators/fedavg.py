"""FedAvg on LoRA factors: each factor is averaged by itself.

McMahan et al. 2017 (arXiv 1602.05629); on LoRA factors it is FedIT, Zhang et al. 2023 (arXiv 2305.05644):
``B = sum_i w_i B_i``, ``A = sum_i w_i A_i``. The mean of the products is not the product of the means:
``dW* - s B A = s sum_i w_i (B_i - B)(A_i - A)``, the covariance of the factors over the clients.

Clients of different ranks are averaged as in HetLoRA, Cho et al. 2024 (arXiv 2401.06432): factors of a lower rank are padded
with zeros, and each client goes on from the first directions of the mean. Its sparsity weights and its pruning are not used:
a client counts by its samples, and keeps its rank.
"""

from __future__ import annotations

from fedspec.federated.aggregators.base import Installed, LayerUpdates, Layerwise
from fedspec.federated.lora import grown


class FedAvg(Layerwise):
    """Average B and A; where the rank grows, the new directions start empty."""

    def layer(self, updates: LayerUpdates) -> Installed:
        """``B = sum_i w_i B_i``, ``A = sum_i w_i A_i``."""
        return Installed(grown(updates.mean, updates.rank, *updates.purpose))

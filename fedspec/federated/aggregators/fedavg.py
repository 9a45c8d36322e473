"""FedAvg on LoRA factors: each factor is averaged by itself.

McMahan et al. 2017 (arXiv 1602.05629); on LoRA factors it is FedIT, Zhang et al. 2023 (arXiv 2305.05644):
``B = sum_i w_i B_i``, ``A = sum_i w_i A_i``. The mean of the products is not the product of the means:
``dW* - s B A = s sum_i w_i (B_i - B)(A_i - A)``, the covariance of the factors over the clients.
"""

from __future__ import annotations

from fedspec.federated.aggregators.base import Installed, LayerUpdates, Layerwise
from fedspec.federated.lora import grown


class FedAvg(Layerwise):
    """Average B and A; where the rank grows, the new directions start empty."""

    def layer(self, updates: LayerUpdates) -> Installed:
        """``B = sum_i w_i B_i``, ``A = sum_i w_i A_i``."""
        return Installed(grown(updates.mean, updates.rank, *updates.purpose))

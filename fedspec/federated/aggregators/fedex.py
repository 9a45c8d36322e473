"""FedEx-LoRA: FedAvg's factors, and what their product misses added to the base weight.

Singhal et al. 2024 (arXiv 2410.09432): ``B = sum_i w_i B_i``, ``A = sum_i w_i A_i``, and the base weight gets the residual
``s (sum_i w_i B_i A_i - B A)``, so that the model computes with dW* itself. It has rank (n - 1) r at most; clients download
it as two thin factors, or as a matrix where that is smaller.
"""

from __future__ import annotations

from fedspec.federated.aggregators.base import Installed, LayerUpdates, Layerwise
from fedspec.federated.lora import grown
from fedspec.federated.spectral import LowRank, tail


class FedEx(Layerwise):
    """The mean of B and of A, and the residual folded into the base."""

    def layer(self, updates: LayerUpdates) -> Installed:
        """``B = sum_i w_i B_i``, ``A = sum_i w_i A_i``, folded ``dW* - s B A``."""
        mean = updates.mean
        residual = (updates.ideal - LowRank.of(mean, updates.scale)).svd()
        # What the subtraction leaves of equal products is rounding, not residual.
        strongest = float(updates.singular_values[:1].sum())
        return Installed(grown(mean, updates.rank, *updates.purpose), tail(residual, 0, strongest))

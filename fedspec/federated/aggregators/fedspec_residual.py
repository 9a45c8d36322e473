"""FedSpec with nothing lost: what the rank cannot hold is added to the base weight.

``dW* = s sum_i w_i B_i A_i = U S V^T``. The adapter gets the first r directions as in FedSpec, the base weight the rest,
``U_{>r} S_{>r} V_{>r}^T``, so that the model computes with dW* itself. The rest has rank (n - 1) r at most; clients
download it as two thin factors, or as a matrix where that is smaller. It is to FedSpec what FedEx-LoRA is to FedAvg.
"""

from __future__ import annotations

from fedspec.federated.aggregators.base import Installed, LayerUpdates, Layerwise
from fedspec.federated.spectral import refactor, tail


class FedSpecResidual(Layerwise):
    """The truncated SVD of the ideal update, and its tail folded into the base."""

    spectral = True

    def layer(self, updates: LayerUpdates) -> Installed:
        """``U_r S_r V_r^T`` of dW* refactored, and the rest of dW* folded."""
        factors = refactor(updates.spectrum, updates.rank, updates.scale, updates.split, *updates.purpose)
        return Installed(factors, tail(updates.spectrum, updates.rank))

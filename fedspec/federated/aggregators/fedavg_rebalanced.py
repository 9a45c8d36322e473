"""FedAvg's exact product, refactored by SVD: the control that tells re-balancing from exactness.

It installs the very ``s B A`` that FedAvg installs, in FedSpec's form ``B = U sqrt(S/s)``, ``A = sqrt(S/s) V^T``. What it gains
over FedAvg comes from balanced factors alone, and what FedSpec gains over it from a smaller Frobenius gap.
"""

from __future__ import annotations

from fedspec.federated.aggregators.base import Installed, LayerUpdates, Layerwise
from fedspec.federated.spectral import LowRank, refactor


class FedAvgRebalanced(Layerwise):
    """FedAvg's product with its singular values shared out between the factors."""

    def layer(self, updates: LayerUpdates) -> Installed:
        """The SVD of ``s (sum_i w_i B_i)(sum_i w_i A_i)``, refactored."""
        product = LowRank.of(updates.mean, updates.scale)
        return Installed(refactor(product.svd(), updates.rank, updates.scale, updates.split, *updates.purpose))

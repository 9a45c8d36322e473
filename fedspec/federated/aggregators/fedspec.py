"""FedSpec: the best approximation of the ideal update that the adapter's rank can hold.

``dW* = s sum_i w_i B_i A_i = U S V^T`` is cut at rank r, which no other rank-r product comes closer to in the Frobenius norm
(Eckart and Young 1936), and refactored as ``B = U_r sqrt(S_r/s)``, ``A = sqrt(S_r/s) V_r^T``. The SVD is exact and made
from the clients' factors; see `fedspec.federated.spectral`.
"""

from __future__ import annotations

from fedspec.federated.aggregators.base import Installed, LayerUpdates, Layerwise
from fedspec.federated.spectral import refactor


class FedSpec(Layerwise):
    """The truncated SVD of the ideal update. Where the rank grows, it keeps more of the same SVD."""

    spectral = True

    def layer(self, updates: LayerUpdates) -> Installed:
        """``U_r S_r V_r^T`` of dW*, refactored."""
        return Installed(refactor(updates.spectrum, updates.rank, updates.scale, updates.split, *updates.purpose))

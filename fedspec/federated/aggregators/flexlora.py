"""FlexLoRA: the mean of the full-size products, cut by SVD to the rank that each client can afford.

Bai et al. 2024 (arXiv 2402.11505): ``W = s sum_i w_i B_i A_i = U S V^T``, over clients of any ranks; one of rank r goes on
from the first r directions, ``B = U_r S_r / s``, ``A = V_r^T``. Where all ranks are equal that is FedSpec's product with all
of S in B. The paper builds W; here its SVD is made from the factors. Both travel, both ways.
"""

from __future__ import annotations

from fedspec.federated.aggregators.base import Installed, LayerUpdates, Layerwise
from fedspec.federated.spectral import refactor


class FlexLoRA(Layerwise):
    """The truncated SVD of the ideal update, whose singular values go to B."""

    spectral = True

    def layer(self, updates: LayerUpdates) -> Installed:
        """``B = U_r S_r / s``, ``A = V_r^T`` of dW*."""
        return Installed(refactor(updates.spectrum, updates.rank, updates.scale, "b", *updates.purpose))

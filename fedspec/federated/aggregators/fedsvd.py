"""FedSVD: clients train B beside an A of orthonormal rows, which the server takes from the SVD of the last product.

Lee et al. 2025 (arXiv 2505.12805): with one A for all, the product ``(sum_i w_i B_i) A`` is exact; after each round it is
decomposed, ``s B A = U S V^T``, and refactored as ``B = U S / s``, ``A = V^T``. Unlike FFA-LoRA's, A follows what has been
learnt, and orthonormal rows bound the gradient of B, which is what noise is measured against. Up goes B, down go both.

The first A is random, as for every method. Where the product has fewer directions than the rank, the paper takes what its SVD
returns for singular values of zero, which is arbitrary; here seeded random rows are made orthonormal to the others.
"""

from __future__ import annotations

import torch

from fedspec.federated.aggregators.base import B_ALONE, Installed, LayerUpdates, Layerwise, Part
from fedspec.federated.lora import Factors
from fedspec.federated.spectral import refactor


class FedSVD(Layerwise):
    """Average B, and turn A into the right singular vectors of the product."""

    spectral = True

    def trained(self, round: int) -> frozenset[Part]:
        """B alone."""
        return B_ALONE

    def layer(self, updates: LayerUpdates) -> Installed:
        """``B = U S / s``, ``A = V^T`` of ``s (sum_i w_i B_i) A``, which is dW* itself."""
        factors = refactor(updates.spectrum, updates.rank, updates.scale, "b", *updates.purpose)
        return Installed(orthonormalised(factors))


def orthonormalised(factors: Factors) -> Factors:
    """The same product, for factors whose first rows of A are orthonormal and whose further columns of B are zero.

    As many rows of A become orthonormal as there can be.
    """
    count = min(factors.A.shape)
    Q, R = torch.linalg.qr(factors.A[:count].T)
    # QR is free in the signs of its columns; the rows that are orthonormal already stay as they are.
    rows = (Q * R.diagonal().sign()).T
    return Factors(factors.B, torch.cat([rows, factors.A[count:]]))

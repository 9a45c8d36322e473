"""FedRPCA: what clients have learnt in common is averaged, and what single clients have learnt is averaged and amplified.

Jhunjhunwala et al. 2025 (arXiv 2506.01194): the clients' changes of one factor are the columns of a matrix M, which robust PCA
splits into a common part of low rank and client-specific sparse parts, ``M = L + S``; the factor moves by
``mean(L) + beta mean(S)``. B and A are split separately. At beta = 1 that is FedAvg. Both factors travel, both ways.

Robust PCA is principal component pursuit (Candès et al. 2011, arXiv 0912.3599),

    min ||L||_* + lambda ||S||_1   so that   M = L + S,   lambda = 1 / sqrt(max(d, n)),

by their alternating directions, with the penalty balanced by the residuals (Boyd et al. 2011, section 3.4.1): deterministic,
and blind to the clients' order. The matrix is (d, n) for n clients; nothing larger is built.

The paper's clients count alike. Here one has its share w_i of the samples, in the means and in the pursuit: its column is
``sqrt(n w_i)`` times its change, its part of the l1 norm has the same weight, and n is the effective number
``1 / sum_i w_i^2``. Equal shares give the paper's problem, and a vanishing one does not count. A client alone has nothing that
sets it apart: its change is common. The paper also schedules beta over the rounds; here it is one number of the configuration,
so that a run says what it did.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.linalg.lapack import dsyevd
from torch import Tensor

from fedspec.config import FederatedConfig
from fedspec.errors import ExperimentError
from fedspec.federated.aggregators.base import Installed, LayerUpdates, Layerwise
from fedspec.federated.lora import Factors, grown
from fedspec.federated.spectral import weighted_mean

# Where residuals are this small, relative to M, the mean of S is right to about a thousandth: after some eighty steps.
SETTLED, MOST_STEPS = 3e-5, 2000
# Steps go this far beyond where they would end (Boyd et al. 2011, section 3.4.3), which takes a third less of them.
RELAXATION = 1.6
# The penalty moves by this factor where one residual is this much larger than the other; in the end it stays, lest it swing.
FACTOR, IMBALANCE, BALANCING_STEPS = 1.5, 3.0, 100


class FedRPCA(Layerwise):
    """The mean of the clients' changes, with their sparse parts counted ``scale`` times."""

    def __init__(self, scale: float) -> None:
        self.scale = scale

    @classmethod
    def of(cls, config: FederatedConfig) -> FedRPCA:
        """With the configuration's ``sparse_scale``, beta."""
        return cls(config.sparse_scale)

    def layer(self, updates: LayerUpdates) -> Installed:
        """Each factor moved by ``mean(L) + beta mean(S)``."""
        factors, weights, start = updates.factors, updates.weights, updates.previous
        moved = Factors(
            self._moved(start.B, [f.B for f in factors], weights), self._moved(start.A, [f.A for f in factors], weights)
        )
        return Installed(grown(moved, updates.rank, *updates.purpose))

    def _moved(self, start: Tensor, sent: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
        """``start + mean(L) + beta mean(S)``, which is the mean of what was sent and ``beta - 1`` times that of S."""
        mean = weighted_mean(sent, weights)
        if len(sent) == 1 or self.scale == 1:
            return mean
        changes = torch.stack([tensor.double() - start.double() for tensor in sent]).flatten(1).numpy()
        shares = np.array(weights)
        sparse = torch.from_numpy(shares @ sparse_part(changes, shares))
        return mean + (self.scale - 1) * sparse.reshape(mean.shape)


def sparse_part(changes: NDArray[np.float64], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """S of the weighted pursuit of ``changes``; in NumPy, which calls small kernels in half the time.

    Args:
        changes: (n, d), a client's in each row: the transpose of M
        weights: (n,), which sum to 1

    Returns:
        (n, d)
    """
    count = float(1 / np.square(weights).sum())
    row = np.sqrt(count * weights)[:, np.newaxis]
    # Row by row in memory, as `ravel` below must be a view.
    M = np.ascontiguousarray(changes * row)
    # Y is the multiplier over the penalty.
    S, Y = np.zeros_like(M), np.zeros_like(M)
    with np.errstate(over="ignore"):  # what that makes is asked for below
        size = float(np.linalg.norm(M))
    if not size:
        return S
    if not isfinite(size * size):
        raise ExperimentError("The clients' updates are too large to be told apart.", "Lower lr.")
    penalty = M.shape[1] * count / (4 * float(np.abs(M).sum()))
    most = np.broadcast_to(row / max(M.shape[1], count) ** 0.5, M.shape) / penalty
    least = -most
    settled, imbalance = (SETTLED * size) ** 2, IMBALANCE**2
    # All in few passes over matrices that are so small that each costs as much as what it computes, and into the same memory.
    X, wanted, multiplier, scratch = M.copy(), np.empty_like(M), np.empty_like(M), np.empty_like(M)
    flat = scratch.ravel()
    for step in range(MOST_STEPS):
        # X = M - S + Y. With L the low rank part of X, ``M - (R L + (1 - R) (M - S)) + Y`` is R (X - L) + S + (1 - R) Y.
        np.matmul(_beyond(X, 1 / penalty, RELAXATION), X, out=wanted)
        wanted += S
        wanted += np.multiply(Y, 1 - RELAXATION, out=scratch)
        # What a soft threshold leaves out is the new multiplier.
        np.minimum(np.maximum(wanted, least, out=multiplier), most, out=multiplier)
        wanted -= multiplier
        np.subtract(multiplier, Y, out=scratch)
        primal = float(flat @ flat)
        np.subtract(wanted, S, out=scratch)
        dual = float(flat @ flat)
        S, wanted, Y, multiplier = wanted, S, multiplier, Y
        if max(primal, dual) <= settled:
            break
        factor = FACTOR if primal > imbalance * dual else 1 / FACTOR if dual > imbalance * primal else 1.0
        if factor != 1 and step < BALANCING_STEPS:
            penalty *= factor
            for each in (Y, most, least):
                each /= factor
        np.subtract(M, S, out=X)
        X += Y
    return np.divide(S, row, out=np.zeros_like(S), where=row > 0)


def _beyond(matrix: NDArray[np.float64], threshold: float, times: float) -> NDArray[np.float64]:
    """(n, n) that takes ``matrix``, (n, d), to ``times`` what soft-thresholding its singular values takes away.

    By the eigenvectors of its Gram matrix, (n, n), which take a tenth of the time of a decomposition of the matrix itself; what
    that loses of the smallest singular values is far below the threshold. LAPACK is called directly: what NumPy has around
    it takes longer.
    """
    squares, vectors, _ = dsyevd(matrix @ matrix.T, overwrite_a=True)
    # Of a value below the threshold all, of another one the threshold.
    shares = times * threshold / np.sqrt(np.maximum(squares, threshold**2))
    beyond: NDArray[np.float64] = (vectors * shares) @ vectors.T
    return beyond

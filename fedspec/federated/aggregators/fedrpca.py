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

import torch
from torch import Tensor

from fedspec.config import FederatedConfig
from fedspec.federated.aggregators.base import Installed, LayerUpdates, Layerwise, weighted_mean
from fedspec.federated.lora import Factors, grown

# Where the residuals are this small, relative to M, the mean of S is right to four digits: after one to three hundred steps.
SETTLED, MOST_STEPS = 1e-5, 2000
# The penalty moves by this factor where one residual is this much larger than the other; in the end it stays, lest it swing.
FACTOR, IMBALANCE, BALANCING_STEPS = 2.0, 10.0, 200


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
        changes = torch.stack([tensor.double() - start.double() for tensor in sent]).flatten(1).T
        sparse = sparse_part(changes, torch.tensor(weights, dtype=torch.float64))
        return mean + (self.scale - 1) * (sparse @ torch.tensor(weights, dtype=torch.float64)).reshape(mean.shape)


def sparse_part(changes: Tensor, weights: Tensor) -> Tensor:
    """S of the weighted pursuit of ``changes``.

    Args:
        changes: (d, n) float64, a client's in each column
        weights: (n,) float64, which sum to 1

    Returns:
        (d, n) float64
    """
    count = float(1 / weights.square().sum())
    column = (count * weights).sqrt()
    M = changes * column
    S, Y, size = torch.zeros_like(M), torch.zeros_like(M), float(M.norm())
    if not size:
        return S
    threshold = column / max(len(changes), count) ** 0.5
    penalty = len(changes) * count / (4 * float(M.abs().sum()))
    for step in range(MOST_STEPS):
        U, values, V = torch.linalg.svd(M - S + Y / penalty, full_matrices=False)
        L = (U * (values - 1 / penalty).clamp(min=0)) @ V
        wanted = M - L + Y / penalty
        before, S = S, wanted.sign() * (wanted.abs() - threshold / penalty).clamp(min=0)
        missing = M - L - S
        Y = Y + penalty * missing
        primal, dual = float(missing.norm()), float((S - before).norm())
        if max(primal, dual) <= SETTLED * size:
            break
        if step < BALANCING_STEPS:
            penalty *= FACTOR if primal > IMBALANCE * dual else 1 / FACTOR if dual > IMBALANCE * primal else 1.0
    return torch.where(column > 0, S / column, 0.0)

"""LoRA-FAIR: FedAvg's factors with a correction of B that turns their product towards the ideal update.

Bian et al. 2024 (arXiv 2411.14961), their equation (8): ``A = sum_i w_i A_i`` stays, and ``B = sum_i w_i B_i + D`` with

    D = argmin_D  1 - cos(dW*, (B + D) A) + mu ||D||_F^2

The first term is against the server's aggregation bias, the second keeps B near the mean, from which clients go on in the next
round (their initialisation lag). The paper writes the norm without a square, minimises with some steps of SGD, and has
``mu = 0.01``. The square is smooth where D is zero, and its minimisers are those of the norm at another mu: the number is the
paper's, the strength is not, and nothing here has tuned it. Both factors travel, both ways.

Nothing of the size of the weight is built. With ``A = P diag(a) V`` and ``Y = (B + D) P`` the cosine is
``<C, Y> / ||Y diag(a)||``, where ``C = dW* A^T P / ||dW*||``. Its Hessian is diagonal but for a term of rank two, so that a
Newton step divides, and solves for two numbers. It starts from D = 0 and only goes down.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fedspec.config import FederatedConfig
from fedspec.federated.aggregators.base import Installed, LayerUpdates, Layerwise
from fedspec.federated.lora import Factors, grown
from fedspec.federated.spectral import LowRank

# A step that is smaller than this, relative to B, changes nothing that float32 could hold.
SETTLED = 1e-12
# Newton takes some six steps from a mean that points where dW* does; this ends what rounding, or another start, keeps going.
MOST_STEPS = 100

Matrix = NDArray[np.float64]


class LoRAFair(Layerwise):
    """The mean of A, and a B that is as near to its mean as ``weight`` asks for."""

    def __init__(self, weight: float) -> None:
        self.weight = weight

    @classmethod
    def of(cls, config: FederatedConfig) -> LoRAFair:
        """With the configuration's ``fair_weight``, mu."""
        return cls(config.fair_weight)

    def layer(self, updates: LayerUpdates) -> Installed:
        """``B = sum_i w_i B_i + D``, ``A = sum_i w_i A_i``."""
        mean = updates.mean
        corrected = Factors(corrected_b(mean, updates.ideal, self.weight), mean.A)
        return Installed(grown(corrected, updates.rank, *updates.purpose))


def corrected_b(mean: Factors, ideal: LowRank, weight: float) -> Tensor:
    """The X that minimises ``1 - cos(ideal, X A) + weight ||X - B||^2``: (out, r) float64.

    In NumPy, which calls small kernels in half the time.
    """
    B, A = mean.B.numpy(), mean.A.numpy()
    P, strengths, _ = np.linalg.svd(A, full_matrices=False)
    start, size = B @ P, ideal.norm()
    if not size * float(np.linalg.norm(start * strengths)):
        return mean.B  # nothing has no direction
    pull = ideal.left.numpy() @ (ideal.right.numpy() @ A.T @ P) / size

    def objective(Y: Matrix) -> float:
        length = float(np.linalg.norm(Y * strengths))
        return weight * _inner(Y - start, Y - start) - _inner(pull, Y) / length if length else float("inf")

    Y, value = start, objective(start)
    for _ in range(MOST_STEPS):
        step, least = _newton(Y, Y - start, pull, strengths, weight), SETTLED * float(np.linalg.norm(Y))
        while not (after := objective(Y - step)) <= value and float(np.linalg.norm(step)) > least:
            step = step / 2
        if float(np.linalg.norm(step)) <= least:
            break
        Y, value = Y - step, after
    return torch.from_numpy(B + (Y - start) @ P.T)


def _newton(Y: Matrix, D: Matrix, pull: Matrix, strengths: Matrix, weight: float) -> Matrix:
    """What to take off Y: a Newton step, or where that would go up the gradient over the largest curvature."""
    q, squares = float(np.linalg.norm(Y * strengths)), np.square(strengths)
    cosine, bent, steep = _inner(pull, Y) / q, Y * (squares / q), squares / q**2
    gradient = 2 * weight * D - (pull - cosine * bent) / q
    first, *others = (right / (2 * weight + cosine * steep) for right in (gradient, pull, bent))
    # The term is U m U^T with the columns U = (pull, bent) and this inverse of m; Woodbury.
    inverse = q**2 * np.array([[3 * cosine, 1.0], [1.0, 0.0]])
    overlaps = np.array([[_inner(u, v) for v in others] for u in (pull, bent)])
    onto = np.array([_inner(u, first) for u in (pull, bent)])
    try:
        share = np.linalg.solve(inverse + overlaps, onto)
    except np.linalg.LinAlgError:
        share = np.full(2, np.nan)  # a step of no length
    step: Matrix = first - share[0] * others[0] - share[1] * others[1]
    goes_down = 0 < _inner(gradient, step) < float("inf")
    return step if goes_down else gradient / (2 * weight + steep)


def _inner(one: Matrix, other: Matrix) -> float:
    return float(np.vdot(one, other))

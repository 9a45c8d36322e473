"""LoRA-FAIR: FedAvg's factors with a correction of B that turns their product towards the ideal update.

Bian et al. 2024 (arXiv 2411.14961), their equation (8): ``A = sum_i w_i A_i`` stays, and ``B = sum_i w_i B_i + D`` with

    D = argmin_D  1 - cos(dW*, (B + D) A) + mu ||D||_F^2

The first term is against the server's aggregation bias, the second keeps B near the mean, from which clients go on in the next
round (their initialisation lag). ``mu`` is 0.01 as in the paper, which writes the norm without a square and minimises with SGD.
The square is smooth where D is zero, and its minimisers are those of the norm at another mu. Both factors travel, both ways.

Nothing of the size of the weight is built: with ``C = dW* A^T / ||dW*||`` and ``G = A A^T``, the cosine of ``X = B + D`` is
``<C, X> / sqrt(<X G, X>)``. Its Hessian is ``V -> V (2 mu I + c/q^2 G)`` for the cosine c and q = ||X A||, and a term of rank
two: a Newton step takes a solve of size r and one of size two. It starts from D = 0 and only goes down.
"""

from __future__ import annotations

import torch
from torch import Tensor

from fedspec.config import FederatedConfig
from fedspec.federated.aggregators.base import Installed, LayerUpdates, Layerwise
from fedspec.federated.lora import Factors, grown
from fedspec.federated.spectral import LowRank

# A step that is smaller than this, relative to B, changes nothing that float32 could hold.
SETTLED = 1e-12
# Newton takes some five steps; this ends what rounding keeps from settling.
MOST_STEPS = 50


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
    """The X that minimises ``1 - cos(ideal, X A) + weight ||X - B||^2``: (out, r) float64."""
    size = ideal.norm()
    # ||X A|| = ||X root||: unlike a Gram matrix, QR keeps the digits.
    root = torch.linalg.qr(mean.A.T, mode="r").R.T
    if not size * float((mean.B @ root).norm()):
        return mean.B  # nothing has no direction
    pull, gram = ideal.left @ (ideal.right @ mean.A.T) / size, root @ root.T

    def objective(X: Tensor) -> float:
        return weight * float((X - mean.B).square().sum()) - float((pull * X).sum() / (X @ root).norm())

    X, value = mean.B, objective(mean.B)
    for _ in range(MOST_STEPS):
        step = _newton(X, X - mean.B, pull, gram, float((X @ root).norm()), weight)
        while not (after := objective(X - step)) <= value and float(step.norm()) > SETTLED * float(X.norm()):
            step = step / 2
        if float(step.norm()) <= SETTLED * float(X.norm()):
            break
        X, value = X - step, after
    return X


def _newton(X: Tensor, D: Tensor, pull: Tensor, gram: Tensor, q: float, weight: float) -> Tensor:
    """What to take off X: a Newton step, or without the Hessian's term of rank two where that would go up."""
    cosine, bent = float((pull * X).sum()) / q, X @ gram / q
    gradient = 2 * weight * D - (pull - cosine * bent) / q
    curvature = 2 * weight * torch.eye(len(gram), dtype=torch.float64) + max(cosine, 0.0) / q**2 * gram
    solved = [torch.linalg.solve(curvature, right.T).T for right in (gradient, pull, bent)]
    # The term is U m U^T with the columns U = (pull, bent); Woodbury.
    m = torch.tensor([[0.0, 1.0], [1.0, -3 * cosine]], dtype=torch.float64) / q**2
    overlaps = torch.tensor([[float((u * v).sum()) for v in solved[1:]] for u in (pull, bent)], dtype=torch.float64)
    onto = torch.tensor([float((u * solved[0]).sum()) for u in (pull, bent)], dtype=torch.float64)
    share, singular = torch.linalg.solve_ex(torch.linalg.inv(m) + overlaps, onto)
    step = solved[0] - share[0] * solved[1] - share[1] * solved[2]
    return step if not singular and float((gradient * step).sum()) > 0 else solved[0]

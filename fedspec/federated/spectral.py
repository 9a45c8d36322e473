"""Exact linear algebra on products of thin factors: norms and singular values of matrices that are never built.

Everything here is float64 on the CPU: MPS has no float64, and its SVD and QR are slow and have been wrong.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from fedspec.federated.lora import Factors, grown

# Directions weaker than this, relative to the strongest, are below what float32 factors can tell from nothing.
DEAD = torch.finfo(torch.float32).eps

# Directions weaker than this are what float64 makes of zero: the few hundred sums of an SVD lose that many digits.
ROUNDING = 1e-12

# Up to so many times the numbers in its factors a product takes less time than their QRs.
SMALL = 2

Split = Literal["even", "b", "a"]


@dataclass(frozen=True, slots=True)
class Spectrum:
    """A thin singular value decomposition ``U diag(S) V``, singular values descending.

    Attributes:
        U: (out, k) float64, orthonormal columns
        S: (k,) float64
        V: (k, in) float64, orthonormal rows
    """

    U: Tensor
    S: Tensor
    V: Tensor


@dataclass(frozen=True, slots=True)
class LowRank:
    """The matrix ``left @ right``, which is not built unless its factors are no thinner than it.

    Attributes:
        left: (out, k) float64 on the CPU
        right: (k, in) float64 on the CPU
    """

    left: Tensor
    right: Tensor

    @classmethod
    def of(cls, factors: Factors, scale: float) -> LowRank:
        """What ``factors`` change in the weight of their layer: s B A."""
        return cls(scale * factors.B.double(), factors.A.double())

    @classmethod
    def weighted_sum(cls, factors: Sequence[Factors], weights: Sequence[float], scale: float) -> LowRank:
        """``s sum_i w_i B_i A_i``: the factors side by side. Ranks may differ."""
        of_columns = [scale * weight for f, weight in zip(factors, weights, strict=True) for _ in range(f.rank)]
        left = torch.cat([f.B for f in factors], dim=1).double() * torch.tensor(of_columns, dtype=torch.float64)
        return cls(left, torch.cat([f.A for f in factors]).double())

    @classmethod
    def thinnest_sum(cls, factors: Sequence[Factors], weights: Sequence[float], scale: float) -> LowRank:
        """As `weighted_sum`, with a factor that all share taken once: then the product is no wider than one of them."""
        first = factors[0]
        if all(torch.equal(f.A, first.A) for f in factors):
            return cls(scale * weighted_mean([f.B for f in factors], weights), first.A.double())
        if all(torch.equal(f.B, first.B) for f in factors):
            return cls(scale * first.B.double(), weighted_mean([f.A for f in factors], weights))
        return cls.weighted_sum(factors, weights, scale)

    def __sub__(self, other: LowRank) -> LowRank:
        return LowRank(torch.cat([self.left, -other.left], dim=1), torch.cat([self.right, other.right]))

    @property
    def thin(self) -> bool:
        """Whether working on the factors is cheaper than on the product."""
        return self.left.shape[1] < min(self.left.shape[0], self.right.shape[1])

    @property
    def numel(self) -> int:
        """The fewest numbers that say what this matrix is: its factors or its entries."""
        return min(self.left.numel() + self.right.numel(), self.left.shape[0] * self.right.shape[1])

    def dense(self) -> Tensor:
        """The product: (out, in) float64."""
        return self.left @ self.right

    def norm(self) -> float:
        """Frobenius norm. Both ways keep the digits of a small difference of large products, as a Gram matrix would not."""
        if self.left.shape[0] * self.right.shape[1] <= SMALL * (self.left.numel() + self.right.numel()):
            return float(torch.linalg.norm(self.dense()))
        return float(torch.linalg.norm(self._core()))

    def svd(self) -> Spectrum:
        """The exact thin SVD: two thin QRs and an SVD of (k, k), in O((out + in) k^2)."""
        if not self.thin:
            return Spectrum(*torch.linalg.svd(self.dense(), full_matrices=False))
        left = torch.linalg.qr(self.left)
        right = torch.linalg.qr(self.right.T)
        U, S, V = torch.linalg.svd(left.R @ right.R.T, full_matrices=False)
        return Spectrum(left.Q @ U, S, V @ right.Q.T)

    def singular_values(self) -> Tensor:
        """Those of `svd`, (k,) float64 and descending, in a third of its time."""
        values: Tensor = torch.linalg.svdvals(self._core() if self.thin else self.dense())
        return values

    def _core(self) -> Tensor:
        """(k, k), of the same norm and the same singular values: what is left without the orthonormal parts of both factors."""
        left = torch.linalg.qr(self.left, mode="r").R
        right = torch.linalg.qr(self.right.T, mode="r").R
        core: Tensor = left @ right.T
        return core


def weighted_mean(tensors: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    """sum_i w_i x_i of tensors of one shape, in float64."""
    mean: Tensor = torch.tensordot(torch.tensor(weights, dtype=torch.float64), torch.stack(list(tensors)).double(), dims=1)
    return mean


def refactor(spectrum: Spectrum, rank: int, scale: float, split: Split, *purpose: str | int) -> Factors:
    """Factors of the best approximation of the given rank (Eckart and Young 1936): ``s B A = U_r diag(S_r) V_r``.

    A direction with ``S_k <= eps S_1`` would get two vanishing factors and never learn again. There B's column is zero
    and A's row random: the product stays the same, and B can learn.

    Args:
        split: where S goes: ``even`` puts its root in both factors, ``b`` or ``a`` puts all of it in one.
        purpose: names the random rows.

    Returns:
        Factors in float64.
    """
    S = spectrum.S[:rank]
    alive = int((S > DEAD * S[0]).sum()) if len(S) else 0
    U, S, V = spectrum.U[:, :alive], S[:alive] / scale, spectrum.V[:alive]
    to_b, to_a = {"even": (S.sqrt(), S.sqrt()), "b": (S, torch.ones_like(S)), "a": (torch.ones_like(S), S)}[split]
    return grown(Factors(U * to_b, to_a[:, None] * V), rank, *purpose)


def tail(spectrum: Spectrum, rank: int, strongest: float | None = None) -> LowRank | None:
    """What the first ``rank`` directions leave out, without those that are rounding; ``None`` if nothing is left.

    Args:
        strongest: the singular value that rounding is relative to; the spectrum's own first where not given.
    """
    S = spectrum.S
    most = float(S[:1].sum()) if strongest is None else strongest
    end = max(rank, int((S > ROUNDING * most).sum()))
    return LowRank(spectrum.U[:, rank:end] * S[rank:end], spectrum.V[rank:end]) if end > rank else None

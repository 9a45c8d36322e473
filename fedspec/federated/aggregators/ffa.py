"""FFA-LoRA: A is drawn once and stays; clients train B alone.

Sun et al. 2024 (arXiv 2403.12313): with one A for all, ``sum_i w_i B_i A = (sum_i w_i B_i) A``, so that the mean of B is exact.
Half of the bytes travel; what the adapter can express is bounded by the rows of A, which come from the seed and are never sent.
"""

from __future__ import annotations

from fedspec.federated.aggregators.base import B_ALONE, Installed, LayerUpdates, Layerwise, Part
from fedspec.federated.lora import Factors, grown
from fedspec.federated.spectral import weighted_mean


class FFA(Layerwise):
    """Average B; where the rank grows, A gets new random rows."""

    def trained(self, round: int) -> frozenset[Part]:
        """B alone."""
        return B_ALONE

    def layer(self, updates: LayerUpdates) -> Installed:
        """``B = sum_i w_i B_i``, A as it was."""
        mean = Factors(weighted_mean([f.B for f in updates.factors], updates.weights), updates.previous.A.double())
        return Installed(grown(mean, updates.rank, *updates.purpose), download=B_ALONE)

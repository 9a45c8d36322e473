"""RoLoRA: rounds take turns; one trains B and the next A, while the other factor stays.

Chen et al. 2024 (arXiv 2409.02346). In each round the clients share the factor that stays, so that the mean of the other one
is exact: ``sum_i w_i B_i A = (sum_i w_i B_i) A``, and in the next ``B sum_i w_i A_i``. Half of the bytes travel, and unlike
FFA-LoRA both factors learn. B comes first: it begins at zero, where A would get no gradient.
"""

from __future__ import annotations

from fedspec.federated.aggregators.base import Installed, LayerUpdates, Layerwise, Part
from fedspec.federated.lora import grown


class RoLoRA(Layerwise):
    """Average the factor whose turn it is; the other is every client's alike."""

    def trained(self, round: int) -> frozenset[Part]:
        """B in odd rounds, A in even ones."""
        turn: Part = "B" if round % 2 else "A"
        return frozenset({turn})

    def layer(self, updates: LayerUpdates) -> Installed:
        """``B = sum_i w_i B_i`` or ``A = sum_i w_i A_i``."""
        return Installed(grown(updates.mean, updates.rank, *updates.purpose), download=self.trained(updates.round))

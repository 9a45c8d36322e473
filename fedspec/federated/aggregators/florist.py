"""FLoRIST: of the stacked adapters' singular values only those are kept that hold a share of the energy.

Ramesh and Dass 2025 (arXiv 2506.09199): the stacks ``[B_1 ... B_n]`` and ``[w_1 A_1; ...; w_n A_n]`` are decomposed in their
own small space, which gives ``dW* = U S V^T`` without building it, and cut at the smallest p with
``sum_{k<=p} S_k^2 >= tau sum_k S_k^2``. All clients download those p directions, in each layer as many as it needs.

How an adapter of rank r goes on from p directions is a choice. Here it takes the first r; of p > r the rest is added to the
base weight, and of p < r the missing rows are drawn from the seed, beside empty columns of B, so that they can learn. Either
way the model computes with the p directions, and those are what is downloaded. Both factors travel up.
"""

from __future__ import annotations

from fedspec.config import FederatedConfig
from fedspec.federated.aggregators.base import Installed, LayerUpdates, Layerwise
from fedspec.federated.spectral import Spectrum, refactor, tail


class FLoRIST(Layerwise):
    """The fewest directions of the ideal update that hold the share ``kept`` of its energy."""

    spectral = True

    def __init__(self, kept: float) -> None:
        self.kept = kept

    @classmethod
    def of(cls, config: FederatedConfig) -> FLoRIST:
        """With the configuration's ``kept_energy``, tau."""
        return cls(config.kept_energy)

    def layer(self, updates: LayerUpdates) -> Installed:
        """``U_p S_p V_p^T`` of dW*: the adapter's rank of it as factors, and the rest folded."""
        all_ = updates.spectrum
        p = directions(all_, self.kept)
        kept = Spectrum(all_.U[:, :p], all_.S[:p], all_.V[:p])
        factors = refactor(kept, updates.rank, updates.scale, updates.split, *updates.purpose)
        return Installed(factors, tail(kept, updates.rank), drawn=max(0, updates.rank - p))


def directions(spectrum: Spectrum, share: float) -> int:
    """How many of the leading directions hold ``share`` of the sum of the squared singular values; 0 of a zero matrix."""
    energy = spectrum.S.square().cumsum(0)
    # The last sum is the whole: no rounding keeps it from reaching a share of 1.
    return int((energy < share * energy[-1:]).sum()) + 1 if len(energy) and energy[-1] > 0 else 0

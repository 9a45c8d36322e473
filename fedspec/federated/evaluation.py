"""How good a model is: loss and accuracy on a split, as a whole and as each client's label mix would see it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from fedspec.data.base import Split
from fedspec.models.base import Model


@dataclass(frozen=True, slots=True)
class Evaluation:
    """A model on a split.

    Attributes:
        loss: mean cross-entropy, in nats.
        hits: (classes,) int64, correctly classified samples of each label.
        counts: (classes,) int64, samples of each label.
    """

    loss: float
    hits: NDArray[np.int64]
    counts: NDArray[np.int64]

    @property
    def accuracy(self) -> float:
        """The share of samples that are classified correctly."""
        return int(self.hits.sum()) / int(self.counts.sum())

    def worst_accuracy(self, label_shares: NDArray[np.float64]) -> float:
        """The lowest accuracy over clients if each met the labels in its own mix: (clients, classes), rows sum to 1.

        Labels that the split does not have are left out of each mix.
        """
        present = self.counts > 0
        shares = label_shares[:, present]
        weight = shares.sum(axis=1)
        accuracies = (shares @ (self.hits[present] / self.counts[present]))[weight > 0] / weight[weight > 0]
        return float(accuracies.min())


@torch.inference_mode()
def evaluate(module: Model, parts: Sequence[Split], classes: int) -> tuple[Evaluation, ...]:
    """Loss and hits of ``module`` on each of ``parts``, all on one device."""
    module.eval()
    losses: list[Tensor] = []
    right: list[Tensor] = []
    for data in _together(parts, module.evaluation_batch):
        for inputs, labels in data.batches(module.evaluation_batch):
            logits = module(inputs)
            losses.append(F.cross_entropy(logits, labels, reduction="none"))
            right.append(logits.argmax(dim=1) == labels)
    # The device is waited for once.
    sizes = [len(data) for data in parts]
    each_loss, each_hit = (torch.cat(kind).cpu().split(sizes) for kind in (losses, right))
    return tuple(map(partial(_evaluation, classes=classes), (data.labels for data in parts), each_loss, each_hit))


def _together(parts: Sequence[Split], batch: int) -> Sequence[Split]:
    """Small parts as one, which takes hardly more time than one of them; texts have widths of their own."""
    if len(parts) == 1 or sum(map(len, parts)) > batch or any(data.lengths is not None for data in parts):
        return parts
    return [Split(torch.cat([data.inputs for data in parts]), torch.cat([data.labels for data in parts]))]


def _evaluation(labels: Tensor, losses: Tensor, right: Tensor, classes: int) -> Evaluation:
    """Of one part: (n,) each."""
    own = labels.cpu().numpy()
    hits, counts = (np.bincount(some, minlength=classes) for some in (own[right.numpy()], own))
    return Evaluation(float(losses.numpy().mean(dtype=np.float64)), hits, counts)

"""How good a model is: loss and accuracy on a split, as a whole and as each client's label mix would see it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

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
def evaluate(module: Model, data: Split, classes: int) -> Evaluation:
    """Loss and hits of ``module`` on ``data``, both on one device."""
    module.eval()
    loss = 0.0
    hits = np.zeros(classes, dtype=np.int64)
    for inputs, labels in data.batches(module.evaluation_batch):
        logits = module(inputs)
        loss += float(F.cross_entropy(logits, labels, reduction="sum"))
        hits += np.bincount(labels[logits.argmax(dim=1) == labels].cpu().numpy(), minlength=classes)
    counts = np.bincount(data.labels.cpu().numpy(), minlength=classes)
    return Evaluation(loss / len(data), hits, counts)

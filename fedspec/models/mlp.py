"""Multilayer perceptrons with two hidden layers.

`TwoNN` is the "2NN" of McMahan et al. 2017 (arXiv 1602.05629): 784-200-200-10 on MNIST, 199,210 parameters.
"""

from __future__ import annotations

from itertools import pairwise
from math import prod
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

from fedspec.models.base import Model


class MLP(Model):
    """Flatten, hidden layers with ReLU (all adapted), a linear head. 64-128-128-10 on digits.

    Args:
        input_shape: the shape of one sample; it is flattened.
        classes: the number of logits.
        hidden: the width of each hidden layer; the class's ``widths`` where not given.
    """

    widths: ClassVar[tuple[int, ...]] = (128, 128)

    def __init__(self, input_shape: tuple[int, ...], classes: int, hidden: tuple[int, ...] | None = None) -> None:
        super().__init__(input_shape, classes)
        sizes = (prod(input_shape), *(self.widths if hidden is None else hidden))
        self.hidden = nn.ModuleList(nn.Linear(wide, narrow) for wide, narrow in pairwise(sizes))
        self.out = nn.Linear(sizes[-1], classes)
        self.lora_targets = tuple(f"hidden.{i}" for i in range(len(self.hidden)))
        self.head = ("out",)
        # A subclass may compute something else of the same layers.
        self.chain = (*self.lora_targets, *self.head) if type(self).forward is MLP.forward else ()

    def forward(self, inputs: Tensor) -> Tensor:
        """``inputs: (batch, *input_shape)`` to logits ``(batch, classes)``."""
        features = inputs.flatten(1)
        for layer in self.hidden:
            features = F.relu(layer(features))
        logits: Tensor = self.out(features)
        return logits


class TwoNN(MLP):
    """The 2NN of the FedAvg paper: two hidden layers of 200."""

    widths = (200, 200)

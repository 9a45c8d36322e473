"""The convolutional network of the FedAvg paper, for images of any size (McMahan et al. 2017, arXiv 1602.05629)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from fedspec.models.base import Model, image_shape


class CNN(Model):
    """Two 5x5 convolutions (32 and 64 channels), each with 2x2 max pooling, a hidden layer of 512 and a linear head.

    1,663,370 parameters on MNIST, as in the paper. LoRA adapts the hidden layer; the convolutions stay as they are, at random
    where the data set has no part to pretrain on, so that ``tune = "full"`` is what reaches the paper's accuracy.
    """

    def __init__(self, input_shape: tuple[int, ...], classes: int) -> None:
        super().__init__(input_shape, classes)
        channels, height, width = image_shape("cnn", input_shape, least=4)
        self.conv1 = nn.Conv2d(channels, 32, kernel_size=5, padding=2)
        self.conv2 = nn.Conv2d(32, 64, kernel_size=5, padding=2)
        self.hidden = nn.Linear(64 * (height // 4) * (width // 4), 512)
        self.out = nn.Linear(512, classes)
        self.lora_targets = ("hidden",)
        self.head = ("out",)

    def forward(self, inputs: Tensor) -> Tensor:
        """``inputs: (batch, channels, height, width)`` to logits ``(batch, classes)``."""
        features = inputs
        for conv in (self.conv1, self.conv2):
            features = F.max_pool2d(F.relu(conv(features)), 2)
        logits: Tensor = self.out(F.relu(self.hidden(features.flatten(1))))
        return logits

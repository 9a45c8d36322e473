"""Residual networks for small images, with group normalisation (He et al. 2016, arXiv 1512.03385).

Batch normalisation computes with the statistics of a client's own batches, which are those of its own mix of labels: averaged
models then lose much of their accuracy (Hsieh et al. 2020, arXiv 1910.00189), and a sample's logits depend on its neighbours.
Group normalisation (Wu and He 2018, arXiv 1803.08494) looks at one sample at a time; with two groups a layer it is what
federated work on CIFAR uses (Hsu et al. 2020, arXiv 2003.08082; Reddi et al. 2021, arXiv 2003.00295).
"""

from __future__ import annotations

from itertools import pairwise
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

from fedspec.models.base import Model, image_shape

GROUPS = 2


class _Block(nn.Module):
    """Two 3x3 convolutions beside a shortcut, which is a 1x1 convolution where the shape changes."""

    def __init__(self, channels: int, out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, out, kernel_size=3, stride=stride, padding=1, bias=False)
        self.norm1 = nn.GroupNorm(GROUPS, out)
        self.conv2 = nn.Conv2d(out, out, kernel_size=3, padding=1, bias=False)
        self.norm2 = nn.GroupNorm(GROUPS, out)
        self.shortcut = nn.Sequential()
        if stride != 1 or channels != out:
            self.shortcut = nn.Sequential(
                nn.Conv2d(channels, out, kernel_size=1, stride=stride, bias=False), nn.GroupNorm(GROUPS, out)
            )

    def forward(self, inputs: Tensor) -> Tensor:
        features = F.relu(self.norm1(self.conv1(inputs)))
        return F.relu(self.norm2(self.conv2(features)) + self.shortcut(inputs))


class ResNet(Model):
    """A 3x3 convolution, stages of blocks of which each but the first halves the image, the mean over places, a linear head.

    There is no linear layer but the head, so that nothing can carry an adapter: it is tuned in full.

    Attributes:
        widths: the channels of each stage.
        depth: blocks a stage.
    """

    widths: ClassVar[tuple[int, ...]]
    depth: ClassVar[int]
    evaluation_batch = 256

    def __init__(self, input_shape: tuple[int, ...], classes: int) -> None:
        super().__init__(input_shape, classes)
        channels, _, _ = image_shape(type(self).__name__.lower(), input_shape)
        self.stem = nn.Conv2d(channels, self.widths[0], kernel_size=3, padding=1, bias=False)
        self.norm = nn.GroupNorm(GROUPS, self.widths[0])
        blocks = []
        for stage, (narrow, wide) in enumerate(pairwise((self.widths[0], *self.widths))):
            blocks.append(_Block(narrow, wide, stride=1 if stage == 0 else 2))
            blocks += [_Block(wide, wide, stride=1) for _ in range(self.depth - 1)]
        self.blocks = nn.Sequential(*blocks)
        self.out = nn.Linear(self.widths[-1], classes)
        self.lora_targets = ()
        self.head = ("out",)

    def forward(self, inputs: Tensor) -> Tensor:
        """``inputs: (batch, channels, height, width)`` to logits ``(batch, classes)``."""
        features = self.blocks(F.relu(self.norm(self.stem(inputs))))
        logits: Tensor = self.out(features.mean(dim=(2, 3)))
        return logits


class ResNet8(ResNet):
    """Eight layers: 16, 32 and 64 channels, one block each."""

    widths, depth = (16, 32, 64), 1


class ResNet18(ResNet):
    """Eighteen layers: 64 to 512 channels, two blocks each."""

    widths, depth = (64, 128, 256, 512), 2

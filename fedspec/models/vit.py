"""A small vision transformer, trained from scratch (Dosovitskiy et al. 2021, arXiv 2010.11929).

Its positions are fixed sines and cosines and its features the mean over places, which small models train better with
(Beyer et al. 2022, arXiv 2205.01580), and which need no learning where the base is frozen at random.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fedspec.models.base import Model, image_shape

PATCH, DIM, DEPTH, HEADS, MLP = 4, 64, 4, 4, 128
TEMPERATURE = 10_000.0


class Attention(nn.Module):
    """Self-attention whose query, key and value are layers of their own, so that each can carry an adapter.

    Args:
        dim: of the tokens.
        heads: a divisor of ``dim``.
    """

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value, self.out = (nn.Linear(dim, dim) for _ in range(4))

    def forward(self, tokens: Tensor) -> Tensor:
        """``tokens: (batch, n, dim)`` to the same shape."""
        parts = (layer(tokens).unflatten(-1, (self.heads, -1)).transpose(1, 2) for layer in (self.query, self.key, self.value))
        mixed = F.scaled_dot_product_attention(*parts).transpose(1, 2).flatten(2)
        result: Tensor = self.out(mixed)
        return result


class _Block(nn.Module):
    """Attention and two layers, each after a normalisation and beside a shortcut."""

    def __init__(self) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(DIM), nn.LayerNorm(DIM)
        self.attention = Attention(DIM, HEADS)
        self.wide, self.narrow = nn.Linear(DIM, MLP), nn.Linear(MLP, DIM)

    def forward(self, tokens: Tensor) -> Tensor:
        tokens = tokens + self.attention(self.norm1(tokens))
        change: Tensor = self.narrow(F.gelu(self.wide(self.norm2(tokens))))
        return tokens + change


class ViT(Model):
    """Patches of 4 x 4, four blocks of width 64 with four heads, a linear head; 0.14 million parameters.

    LoRA adapts all linear layers of the blocks: the frozen ones are random, so that the adapters must learn what attention is
    to look for and what to make of it. (In a pretrained transformer query and value do: Hu et al. 2021, arXiv 2106.09685.)
    """

    evaluation_batch = 256

    def __init__(self, input_shape: tuple[int, ...], classes: int) -> None:
        super().__init__(input_shape, classes)
        channels, height, width = image_shape("vit", input_shape, least=PATCH)
        # What is missing to whole patches is filled up with zeros, on the right and below.
        self.padding = (0, -width % PATCH, 0, -height % PATCH)
        self.patches = nn.Conv2d(channels, DIM, kernel_size=PATCH, stride=PATCH)
        self.blocks = nn.ModuleList(_Block() for _ in range(DEPTH))
        self.norm = nn.LayerNorm(DIM)
        self.out = nn.Linear(DIM, classes)
        # It follows from the shape: no part of the base that is saved.
        self.register_buffer("positions", positions(-(-height // PATCH), -(-width // PATCH)), persistent=False)
        layers = ("attention.query", "attention.key", "attention.value", "attention.out", "wide", "narrow")
        self.lora_targets = tuple(f"blocks.{i}.{layer}" for i in range(DEPTH) for layer in layers)
        self.head = ("out",)

    def forward(self, inputs: Tensor) -> Tensor:
        """``inputs: (batch, channels, height, width)`` to logits ``(batch, classes)``."""
        tokens = self.patches(F.pad(inputs, self.padding)).flatten(2).transpose(1, 2) + self.get_buffer("positions")
        for block in self.blocks:
            tokens = block(tokens)
        logits: Tensor = self.out(self.norm(tokens).mean(dim=1))
        return logits


def positions(height: int, width: int) -> Tensor:
    """Sines and cosines of each place's row and column, a quarter of the width each: (height * width, DIM) float32."""
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    frequencies = TEMPERATURE ** -torch.linspace(0, 1, DIM // 4)
    angles = [place.flatten()[:, None] * frequencies for place in (rows, columns)]
    return torch.cat([wave(angle) for angle in angles for wave in (torch.sin, torch.cos)], dim=1)

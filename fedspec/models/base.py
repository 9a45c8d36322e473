"""What an experiment needs to know of a model: where its adapters go, which layer is its head, and what it cannot take."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

from torch import Tensor, nn

from fedspec.errors import ExperimentError


class Model(nn.Module, ABC):
    """A classifier whose linear layers can carry LoRA adapters.

    What it computes for a sample must not depend on the others of the batch, nor on how many there are: no batch statistics.

    Args:
        input_shape: the shape of one sample, without the batch dimension.
        classes: the number of logits.

    Attributes:
        lora_targets: the names of the ``nn.Linear`` modules that are adapted, in a fixed order; none where it has none.
        head: the names of the modules that map features to logits; they are frozen or aggregated, never adapted.
        chain: the names of its linear layers in their order, if it is these on flattened samples with ReLU in between.
        evaluation_batch: how many samples go through it at a time where nothing is learnt: as many as memory allows anywhere.

    Raises:
        ExperimentError: it cannot take samples of that shape.
    """

    lora_targets: tuple[str, ...]
    head: tuple[str, ...]
    chain: tuple[str, ...] = ()
    evaluation_batch: ClassVar[int] = 2048

    @abstractmethod
    def __init__(self, input_shape: tuple[int, ...], classes: int) -> None:
        super().__init__()

    @abstractmethod
    def forward(self, inputs: Tensor) -> Tensor:
        """``inputs: (batch, *input_shape)`` to logits ``(batch, classes)``."""


def image_shape(model: str, input_shape: tuple[int, ...], least: int = 1) -> tuple[int, int, int]:
    """``input_shape`` as (channels, height, width).

    Args:
        model: its name, for the error.
        least: the smallest height and width.

    Raises:
        ExperimentError: samples of that shape are no images, or too small.
    """
    if len(input_shape) != 3 or min(input_shape[1:]) < least:
        raise ExperimentError(
            f"{model} takes images (channels, height, width) of at least {least} x {least}, and the samples are {input_shape}.",
            'Use model = "mlp", which takes any shape, or give the samples that one.',
        )
    channels, height, width = input_shape
    return channels, height, width

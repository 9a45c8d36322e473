"""What an experiment needs to know of a model: where its adapters go, and which layer is its head."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor, nn


class Model(nn.Module, ABC):
    """A classifier whose linear layers can carry LoRA adapters.

    Args:
        input_shape: the shape of one sample, without the batch dimension.
        classes: the number of logits.

    Attributes:
        lora_targets: the names of the ``nn.Linear`` modules that are adapted, in a fixed order.
        head: the name of the module that maps features to logits; it is frozen or aggregated, never adapted.
    """

    lora_targets: tuple[str, ...]
    head: str

    @abstractmethod
    def __init__(self, input_shape: tuple[int, ...], classes: int) -> None:
        super().__init__()

    @abstractmethod
    def forward(self, inputs: Tensor) -> Tensor:
        """``inputs: (batch, *input_shape)`` to logits ``(batch, classes)``."""

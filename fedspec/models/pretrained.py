"""Models whose values come from a file of weights: where such files lie, and how two machines see that theirs are the same.

What is made of a file, and how it is fetched where it is missing, is each model's own business.
"""

from __future__ import annotations

from abc import abstractmethod
from hashlib import sha256
from pathlib import Path
from typing import ClassVar

import torch

from fedspec.models.base import Model
from fedspec.tokens import Encode

# Below the data folder.
FOLDER = "models"


class PretrainedModel(Model):
    """A model made from a file or folder of weights, with a head of its own.

    Args:
        weights: what `locate` has found.

    Attributes:
        default: what an empty name stands for.
        loaded: the tensors whose values are the file's, by their names in ``state_dict``; all others are initialised here.
    """

    default: ClassVar[str]
    loaded: frozenset[str]

    def __init__(self, input_shape: tuple[int, ...], classes: int, weights: Path) -> None:
        super().__init__(input_shape, classes)

    @classmethod
    @abstractmethod
    def locate(cls, name: str, root: Path | None) -> Path:
        """The weights of this name, downloaded once where they are nowhere on this machine.

        Args:
            name: as the configuration has it.
            root: the data folder.

        Raises:
            CapabilityError: they are not here and cannot be had, or a package that reads them is missing.
        """

    def digest(self) -> bytes:
        """The SHA-256 of all that was loaded: names, types, shapes and values, whatever file they came from."""
        found = sha256()
        state = self.state_dict()
        for name in sorted(self.loaded):
            tensor = state[name].detach().cpu().contiguous()
            found.update(repr((name, tensor.dtype, tuple(tensor.shape))).encode())
            found.update(tensor.view(torch.uint8).numpy().data if tensor.dim() else bytes(tensor.view(1).view(torch.uint8)))
        return found.digest()


class TextModel(PretrainedModel):
    """A pretrained model that reads texts, which come to it as token ids."""

    @classmethod
    @abstractmethod
    def encoder(cls, weights: Path) -> Encode:
        """The tokenizer that came with the weights.

        Raises:
            CapabilityError: there is none, or it cannot be read.
        """


def on_this_machine(name: str, root: Path | None) -> Path | None:
    """What ``name`` means here without a network: an absolute path, or one below the data folder's ``models``."""
    path = Path(name).expanduser()
    if not path.is_absolute():
        if root is None:
            return None
        path = root / FOLDER / path
    return path if path.exists() else None

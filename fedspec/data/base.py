"""What a data set is to an experiment: whole tensors, split three ways, the same on every machine."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

# The splits belong to the data, not to an experiment: no configuration changes this seed.
SPLIT_SEED = 20_190_913


@dataclass(frozen=True, slots=True)
class Split:
    """Samples and their labels.

    Attributes:
        inputs: (n, *input_shape) float32
        labels: (n,) int64
    """

    inputs: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True, slots=True)
class Dataset:
    """A classification task.

    Attributes:
        train: what the clients share out among themselves.
        validation: what learning rates and other early choices are made on.
        test: what is reported, and never chosen on.
        classes: the number of labels, ``0 .. classes - 1``.
        pretrain: what the frozen base is trained on, disjoint from all others; ``None`` leaves the base at random.
    """

    train: Split
    validation: Split
    test: Split
    classes: int
    pretrain: Split | None = None

    @property
    def input_shape(self) -> tuple[int, ...]:
        """The shape of one sample."""
        return tuple(self.train.inputs.shape[1:])


def fixed_order(samples: int) -> NDArray[np.int64]:
    """A permutation of ``range(samples)`` that depends on nothing else: the order that splits are cut from."""
    return np.random.Generator(np.random.PCG64(SPLIT_SEED)).permutation(samples)

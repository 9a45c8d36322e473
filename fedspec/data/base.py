"""What a data set is to an experiment: whole tensors, split three ways, the same on every machine."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
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
        inputs: (n, *input_shape) float32; of texts (n, longest) int64, token ids filled up at the end.
        labels: (n,) int64
        lengths: of texts, (n,) int64 on the CPU: how many ids of each row are its own.
    """

    inputs: Tensor
    labels: Tensor
    lengths: Tensor | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, which: Tensor) -> Split:
        """The samples ``which``, (k,) int64 on the device of the data, in that order."""
        lengths = None if self.lengths is None else self.lengths[which.cpu()]
        return Split(self.inputs[which], self.labels[which], lengths)

    def parts(self, sizes: Sequence[int]) -> tuple[Split, ...]:
        """Views of the first ``sizes[0]`` samples, of the next ``sizes[1]``, and so on; together all of them."""
        inputs, labels = self.inputs.split(list(sizes)), self.labels.split(list(sizes))
        lengths = [None] * len(sizes) if self.lengths is None else self.lengths.split(list(sizes))
        return tuple(map(Split, inputs, labels, lengths))

    def batches(self, size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Inputs and labels of ``size`` samples at a time, as views; texts are cut where the longest of the batch ends."""
        pairs = zip(self.inputs.split(size), self.labels.split(size), strict=True)
        if self.lengths is None:
            yield from pairs
        else:
            longest: list[int] = [int(lengths.max()) for lengths in self.lengths.split(size)]
            yield from ((inputs[:, :most], labels) for (inputs, labels), most in zip(pairs, longest, strict=True))


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

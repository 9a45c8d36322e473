"""What a data set is to an experiment: whole tensors, split three ways, the same on every machine, or texts to become such."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fedspec.errors import CapabilityError, ExperimentError
from fedspec.tokens import FILLING, Encode

# The splits belong to the data, not to an experiment: no configuration changes this seed.
SPLIT_SEED = 20_190_913
# Of texts that are grouped by length.
BLOCK_STEPS = 50


@dataclass(frozen=True, slots=True, eq=False)
class Split:
    """Samples and their labels.

    Attributes:
        inputs: (n, *input_shape) float32; of texts (n, longest) int64, token ids filled up at the end with `FILLING`.
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
        return Split(self.inputs.index_select(0, which), self.labels.index_select(0, which), lengths)

    def parts(self, sizes: Sequence[int]) -> tuple[Split, ...]:
        """Views of the first ``sizes[0]`` samples, of the next ``sizes[1]``, and so on; together all of them."""
        inputs, labels = self.inputs.split(list(sizes)), self.labels.split(list(sizes))
        lengths = [None] * len(sizes) if self.lengths is None else self.lengths.split(list(sizes))
        return tuple(map(Split, inputs, labels, lengths))

    def order(self, size: int, shuffle: torch.Generator) -> Tensor:
        """A random order in which to see all samples in steps of ``size``: (n,) int64 on the CPU.

        A step costs what its longest text costs. So texts are shuffled, sorted by length within blocks of at most `BLOCK_STEPS`
        steps (and at least four blocks, or each epoch would have nearly the same steps), and the steps are shuffled. The field
        calls it grouping by length. The last step, where it is short, is the shuffle's own and stays last.
        """
        shuffled = torch.randperm(len(self), generator=shuffle)
        steps = len(self) // size
        if self.lengths is None or steps < 2:
            return shuffled
        whole, rest = shuffled[: steps * size], shuffled[steps * size :]
        block = size * max(1, min(steps // 4, BLOCK_STEPS))
        by_length = whole[self.lengths[whole].argsort(stable=True)]
        # Sorted by length, and then, which keeps that order within each, by block.
        places = torch.empty(len(self), dtype=torch.int64)
        places[whole] = torch.arange(len(whole)) // block
        grouped = by_length[places[by_length].argsort(stable=True)].view(steps, size)
        return torch.cat([grouped[torch.randperm(steps, generator=shuffle)].flatten(), rest])

    def batches(self, size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Inputs and labels of ``size`` samples at a time, as views; texts are cut where the longest of the batch ends."""
        pairs = zip(self.inputs.split(size), self.labels.split(size), strict=True)
        if self.lengths is None:
            yield from pairs
        else:
            longest: list[int] = [int(lengths.max()) for lengths in self.lengths.split(size)]
            yield from ((inputs[:, :most], labels) for (inputs, labels), most in zip(pairs, longest, strict=True))


@dataclass(frozen=True, slots=True)
class Texts:
    """Sentences and their labels, (n,) int64, before a tokenizer has made a `Split` of them."""

    sentences: tuple[str, ...]
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, which: Tensor) -> Texts:
        """The samples ``which``, (k,) int64, in that order."""
        return Texts(tuple(self.sentences[i] for i in which.tolist()), self.labels[which])

    def encoded(self, encode: Encode) -> Split:
        """As token ids."""
        rows = encode(self.sentences)
        lengths = torch.tensor([len(row) for row in rows])
        inputs = torch.full((len(rows), int(lengths.max())), FILLING)
        for row, ids in zip(inputs, rows, strict=True):
            row[: len(ids)] = torch.tensor(ids)
        return Split(inputs, self.labels, lengths)


@dataclass(frozen=True, slots=True, eq=False)
class Dataset:
    """A classification task.

    Attributes:
        train: what the clients share out among themselves.
        validation: what learning rates and other early choices are made on.
        test: what is reported, and never chosen on.
        classes: the number of labels, ``0 .. classes - 1``.
        pretrain: what the frozen base is trained on, disjoint from all others; ``None`` leaves the base at random.

    Raises:
        ExperimentError: a part is empty, a label is out of range, or all training samples have the same one.
    """

    train: Split
    validation: Split
    test: Split
    classes: int
    pretrain: Split | None = None

    def __post_init__(self) -> None:
        _check(self)

    @property
    def input_shape(self) -> tuple[int, ...]:
        """The shape of one sample."""
        return tuple(self.train.inputs.shape[1:])


@dataclass(frozen=True, slots=True)
class Corpus:
    """A classification task on texts, as `Dataset`."""

    train: Texts
    validation: Texts
    test: Texts
    classes: int

    def __post_init__(self) -> None:
        _check(self)

    def encoded(self, encode: Encode) -> Dataset:
        """As token ids; what is only looked at in the order of its lengths, since a batch costs what its longest text costs."""
        train, validation, test = (part.encoded(encode) for part in (self.train, self.validation, self.test))
        return Dataset(train, _by_length(validation), _by_length(test), self.classes)


_Task = TypeVar("_Task", Dataset, Corpus)


def limited(task: _Task, samples: int) -> _Task:
    """The task with so many training samples, 0 for all: the same ones for every seed, and of fewer a part of those of more.

    Raises:
        ExperimentError: it does not have so many.
    """
    if not samples:
        return task
    if samples > len(task.train):
        raise ExperimentError(
            f"train_samples is {samples}, and the data set has {len(task.train)} training samples.",
            "Lower train_samples, or leave it out to use all.",
        )
    chosen = torch.from_numpy(fixed_order(len(task.train))[:samples])
    return replace(task, train=task.train.take(chosen))


def fixed_order(samples: int) -> NDArray[np.int64]:
    """A permutation of ``range(samples)`` that depends on nothing else: the order that splits are cut from."""
    return np.random.Generator(np.random.PCG64(SPLIT_SEED)).permutation(samples)


def _by_length(texts: Split) -> Split:
    return texts if texts.lengths is None else texts.take(texts.lengths.argsort(stable=True))


def data_folder(root: Path | None, title: str) -> Path:
    """``root``, for a data set that needs one. Raises CapabilityError if there is none."""
    if root is None:
        raise CapabilityError(
            f"{title} needs a data folder, and none is set.", "Set FEDSPEC_DATA to a local folder for data sets."
        )
    return root


def _check(task: Dataset | Corpus) -> None:
    for name in ("train", "validation", "test"):
        labels = getattr(task, name).labels
        if not len(labels):
            raise ExperimentError(f"The {name} part of the data set has no samples.", "Take a larger data set.")
        low, high = int(labels.min()), int(labels.max())
        if low < 0 or high >= task.classes:
            wrong = low if low < 0 else high
            raise ExperimentError(
                f"A label of the {name} part is {wrong}, and there are {task.classes} classes.",
                f"Number the labels from 0 to {task.classes - 1}.",
            )
    if (task.train.labels == task.train.labels[0]).all():
        raise ExperimentError(
            f"All {len(task.train)} training samples have the label {int(task.train.labels[0])}.",
            "Take a data set, or more of it, with at least two classes.",
        )

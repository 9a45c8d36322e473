"""CIFAR-10 in torchvision's layout, ``<root>/cifar-10-batches-py``; and a smaller data set that was made of its images.

A. Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fedspec.data import npz
from fedspec.data.base import Dataset, Split, data_folder, fixed_order
from fedspec.downloads import fetching
from fedspec.errors import CapabilityError

VALIDATION_SAMPLES = 5_000
# Of the training pixels in [0, 1], by channel.
MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)
SUBSET = "cifar10-jpeg-subset.npz"


def load(root: Path | None) -> Dataset:
    """CIFAR-10: 45,000 training, 5,000 validation and 10,000 test images, inputs (3, 32, 32) normalised by channel.

    torchvision reads the files, and only if their checksums are the official ones; it downloads them where they are not.

    Args:
        root: the data folder.

    Raises:
        CapabilityError: no data folder was named, or the files are neither there nor can be downloaded.
    """
    from fedspec.data.torchvision_compat import torchvision

    root = data_folder(root, "CIFAR-10")
    folder = root / "cifar-10-batches-py"

    def part(train: bool, download: bool = False) -> Any:
        with warnings.catch_warnings():
            # The official files spell a numpy type in the way of 2009.
            warnings.simplefilter("ignore", np.exceptions.VisibleDeprecationWarning)
            return torchvision.datasets.CIFAR10(root, train=train, download=download)

    try:
        train, test = part(True), part(False)
    except RuntimeError:  # not there, or with other checksums
        with fetching("The data set CIFAR-10", root / ".cifar10.lock", f"Put its official files into {folder}"):
            train, test = part(True, download=True), part(False)
    every, order = _split(train), torch.from_numpy(fixed_order(len(train.data)))
    return Dataset(
        train=every.take(order[VALIDATION_SAMPLES:]),
        validation=every.take(order[:VALIDATION_SAMPLES]),
        test=_split(test),
        classes=10,
    )


def load_subset(root: Path | None) -> Dataset:
    """10,000 + 2,000 images of CIFAR-10, balanced, that have been through JPEG: near enough to try models on, and not CIFAR-10.

    9,000 training, 1,000 validation and 2,000 test images, inputs as in `load`. Accuracies compare with no paper's.

    Args:
        root: the data folder, in which `SUBSET` lies.

    Raises:
        CapabilityError: it does not.
        DamagedError: it is no npz file.
        ExperimentError: it holds other arrays.
    """
    path = data_folder(root, "The subset of CIFAR-10") / SUBSET
    if not path.is_file():
        raise CapabilityError(f"There is no file {path}.", 'Put it there, or set dataset = "cifar10".')
    plain = npz.from_arrays(npz.read(path), SUBSET)
    train, validation, test = (_normalised(part.inputs, part.labels) for part in (plain.train, plain.validation, plain.test))
    return Dataset(train, validation, test, plain.classes)


def _split(part: Any) -> Split:
    """What torchvision has read: (n, 32, 32, 3) uint8 and a list of labels."""
    pixels = torch.from_numpy(part.data).permute(0, 3, 1, 2).contiguous().float()
    return _normalised(pixels.div_(255), torch.tensor(part.targets))


def _normalised(pixels: torch.Tensor, labels: torch.Tensor) -> Split:
    """``pixels``: (n, 3, 32, 32) in [0, 1]; changed in place."""
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (MEAN, STD))
    return Split(pixels.sub_(mean).div_(std), labels)

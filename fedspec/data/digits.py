"""The embedded task: scikit-learn's 1,797 real 8x8 digits, upright for pretraining and turned by 90 degrees for the rest.

A base that was pretrained upright knows strokes but reads turned digits at chance, so that the adapters must carry the
task (E. Alpaydin and C. Kaynak, "Optical Recognition of Handwritten Digits", UCI 1998; shipped with scikit-learn).
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fedspec.data.base import Dataset, Split, fixed_order

# Where scikit-learn has them.
FILE = "datasets/data/digits.csv.gz"
TEST_SAMPLES = 360
VALIDATION_SAMPLES = 180


def load(root: Path | None = None) -> Dataset:
    """The rotated digits; ``root`` is not needed, since the images come with scikit-learn.

    360 test and 180 validation images (both turned), 628 upright for pretraining, 629 turned for the clients;
    inputs (1, 8, 8) in [0, 1].
    """
    pixels, digits = _table()
    order = fixed_order(len(digits))
    images = torch.from_numpy((pixels[order] / 16.0).astype(np.float32)).view(-1, 1, 8, 8)
    labels = torch.from_numpy(digits[order].astype(np.int64))
    held_out = TEST_SAMPLES + VALIDATION_SAMPLES
    middle = held_out + (len(labels) - held_out) // 2
    return Dataset(
        train=_turned(images[middle:], labels[middle:]),
        validation=_turned(images[TEST_SAMPLES:held_out], labels[TEST_SAMPLES:held_out]),
        test=_turned(images[:TEST_SAMPLES], labels[:TEST_SAMPLES]),
        classes=10,
        pretrain=Split(images[held_out:middle], labels[held_out:middle]),
    )


def _table() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Pixels in [0, 16], (1797, 64), and what each image shows, (1797,).

    Importing scikit-learn takes a second or two of every start, and reading its file a twentieth of that.
    """
    found = find_spec("sklearn")
    file = Path(found.origin).parent / FILE if found is not None and found.origin is not None else Path()
    if file.is_file():
        table: NDArray[np.float64] = np.loadtxt(file, delimiter=",")
        return table[:, :-1], table[:, -1]
    from sklearn.datasets import load_digits

    bunch = load_digits()
    return bunch.data, bunch.target


def _turned(images: Tensor, labels: Tensor) -> Split:
    return Split(torch.rot90(images, dims=(2, 3)).contiguous(), labels)

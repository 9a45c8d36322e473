"""The embedded task: scikit-learn's 1,797 real 8x8 digits, upright for pretraining and turned by 90 degrees for the rest.

A base that was pretrained upright knows strokes but reads turned digits at chance, so that the adapters must carry the
task (E. Alpaydin and C. Kaynak, "Optical Recognition of Handwritten Digits", UCI 1998; shipped with scikit-learn).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from fedspec.data.base import Dataset, Split, fixed_order

TEST_SAMPLES = 360
VALIDATION_SAMPLES = 180


def load(root: Path | None = None) -> Dataset:
    """The rotated digits; ``root`` is not needed, since the images come with scikit-learn.

    360 test and 180 validation images (both turned), 628 upright for pretraining, 629 turned for the clients;
    inputs (1, 8, 8) in [0, 1].
    """
    from sklearn.datasets import load_digits

    bunch = load_digits()
    order = fixed_order(len(bunch.target))
    images = torch.from_numpy((bunch.images[order] / 16.0).astype(np.float32)).unsqueeze(1)
    labels = torch.from_numpy(bunch.target[order].astype(np.int64))
    held_out = TEST_SAMPLES + VALIDATION_SAMPLES
    middle = held_out + (len(labels) - held_out) // 2
    return Dataset(
        train=_turned(images[middle:], labels[middle:]),
        validation=_turned(images[TEST_SAMPLES:held_out], labels[TEST_SAMPLES:held_out]),
        test=_turned(images[:TEST_SAMPLES], labels[:TEST_SAMPLES]),
        classes=10,
        pretrain=Split(images[held_out:middle], labels[held_out:middle]),
    )


def _turned(images: Tensor, labels: Tensor) -> Split:
    return Split(torch.rot90(images, dims=(2, 3)).contiguous(), labels)

"""MNIST from the official idx files in torchvision's layout, ``<root>/MNIST/raw``, packed or unpacked.

The files are read where they lie, since a data folder may be read-only; torchvision downloads them where they are
missing (Y. LeCun, C. Cortes and C. Burges, "The MNIST database of handwritten digits", 1998).
"""

from __future__ import annotations

import gzip
import textwrap
import zlib
from pathlib import Path

import numpy as np
import torch
from filelock import FileLock, Timeout
from numpy.typing import NDArray

from fedspec.data.base import Dataset, Split, fixed_order
from fedspec.errors import CapabilityError, DamagedError

VALIDATION_SAMPLES = 5_000
# Mean and standard deviation of the training pixels in [0, 1], as everyone normalises MNIST.
MEAN, STD = 0.1307, 0.3081
DOWNLOAD_WAIT_SECONDS = 600
# Characters of what a download fails with; the traceback has all.
MOST_TOLD = 80


def load(root: Path | None) -> Dataset:
    """MNIST: 55,000 training, 5,000 validation and 10,000 test images, inputs (1, 28, 28) normalised.

    There is no pretraining part: the frozen base is random, so that ``head = "aggregate"`` is the sensible choice.

    Args:
        root: the data folder; the idx files are downloaded into it where they are missing.

    Raises:
        CapabilityError: no data folder was named, or the files are neither there nor can be downloaded.
        DamagedError: a file is not the idx file that it should be.
    """
    if root is None:
        raise CapabilityError(
            "MNIST needs a data folder, and none is set.", "Set FEDSPEC_DATA to a local folder for data sets."
        )
    raw = root / "MNIST" / "raw"
    if not all(_find(raw, part, kind) for part in ("train", "t10k") for kind in _MAGIC):
        _download(root)
    order = fixed_order(60_000)
    train = _split(raw, "train", order[VALIDATION_SAMPLES:])
    validation = _split(raw, "train", order[:VALIDATION_SAMPLES])
    return Dataset(train=train, validation=validation, test=_split(raw, "t10k"), classes=10)


# An idx file opens with a magic number (unsigned bytes, 3 or 1 dimensions), then each dimension's size, big-endian.
_MAGIC = {"images-idx3-ubyte": 0x0803, "labels-idx1-ubyte": 0x0801}


def _split(raw: Path, part: str, which: NDArray[np.int64] | slice = slice(None)) -> Split:
    images, labels = (_read(raw, part, kind) for kind in _MAGIC)
    pixels = torch.from_numpy(images[which].astype(np.float32)).unsqueeze(1)
    return Split(pixels.div_(255).sub_(MEAN).div_(STD), torch.from_numpy(labels[which].astype(np.int64)))


def _find(raw: Path, part: str, kind: str) -> Path | None:
    return next((path for path in (raw / f"{part}-{kind}", raw / f"{part}-{kind}.gz") if path.is_file()), None)


def _read(raw: Path, part: str, kind: str) -> NDArray[np.uint8]:
    path = _find(raw, part, kind)
    if path is None:
        raise CapabilityError(f"There is no {part}-{kind} in {raw}.", "Point FEDSPEC_DATA at a folder that has MNIST/raw.")
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        dimensions = 3 if kind.startswith("images") else 1
        magic, *shape = (int(n) for n in np.frombuffer(content, dtype=">u4", count=1 + dimensions))
        if magic != _MAGIC[kind]:
            raise ValueError(f"its magic number is {magic:#x}")
        return np.frombuffer(content, dtype=np.uint8, offset=4 * (1 + dimensions)).reshape(shape)
    except (OSError, EOFError, zlib.error, ValueError) as error:
        raise DamagedError(
            f"{path} is no idx file of MNIST: {error}.", f"Delete {path}; it will be downloaded again."
        ) from error


def _download(root: Path) -> None:
    try:
        from fedspec.data.torchvision_compat import torchvision

        root.mkdir(parents=True, exist_ok=True)
        # Several workers of one machine may find the files missing at the same time.
        with FileLock(root / ".mnist.lock", timeout=DOWNLOAD_WAIT_SECONDS):
            torchvision.datasets.MNIST(root, download=True)
    except (OSError, RuntimeError, ImportError, Timeout) as error:
        why = textwrap.shorten(str(error), MOST_TOLD, placeholder="\u2026").rstrip(".")
        fix = f"Put its idx files into {root / 'MNIST' / 'raw'}, or run once with a network connection"
        fix += f" (the download failed: {why})."
        raise CapabilityError("The data set MNIST is not here.", fix) from error

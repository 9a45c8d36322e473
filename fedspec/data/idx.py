"""Data sets in MNIST's idx format, in torchvision's layout ``<root>/<folder>/raw``, packed or unpacked.

The files are read where they lie, since a data folder may be read-only; torchvision downloads them where they are missing.
"""

from __future__ import annotations

import gzip
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from fedspec.data.base import Dataset, Split, data_folder, fixed_order
from fedspec.downloads import fetching
from fedspec.errors import CapabilityError, DamagedError

VALIDATION_SAMPLES = 5_000
TRAINING_SAMPLES = 60_000
# An idx file opens with a magic number (unsigned bytes, 3 or 1 dimensions), then each dimension's size, big-endian.
_MAGIC = {"images-idx3-ubyte": 0x0803, "labels-idx1-ubyte": 0x0801}


@dataclass(frozen=True, slots=True)
class IdxImages:
    """One such data set.

    Attributes:
        title: as people write it.
        folder: its folder in torchvision's layout, which is also torchvision's name for it.
        mean: of the training pixels in [0, 1]; ``std`` their standard deviation.
    """

    title: str
    folder: str
    mean: float
    std: float

    def load(self, root: Path | None) -> Dataset:
        """55,000 training, 5,000 validation and 10,000 test images, inputs (1, 28, 28) normalised.

        There is no pretraining part: the frozen base is random, so that ``head = "aggregate"`` is the sensible choice.

        Args:
            root: the data folder; the idx files are downloaded into it where they are missing.

        Raises:
            CapabilityError: no data folder was named, or the files are neither there nor can be downloaded.
            DamagedError: a file is not the idx file that it should be.
        """
        root = data_folder(root, self.title)
        raw = root / self.folder / "raw"
        if not all(_find(raw, part, kind) for part in ("train", "t10k") for kind in _MAGIC):
            self._download(root, raw)
        order = fixed_order(TRAINING_SAMPLES)
        train = self._split(raw, "train", order[VALIDATION_SAMPLES:])
        validation = self._split(raw, "train", order[:VALIDATION_SAMPLES])
        return Dataset(train=train, validation=validation, test=self._split(raw, "t10k"), classes=10)

    def _split(self, raw: Path, part: str, which: NDArray[np.int64] | slice = slice(None)) -> Split:
        images, labels = (self._read(raw, part, kind) for kind in _MAGIC)
        pixels = torch.from_numpy(images[which].astype(np.float32)).unsqueeze(1)
        return Split(pixels.div_(255).sub_(self.mean).div_(self.std), torch.from_numpy(labels[which].astype(np.int64)))

    def _read(self, raw: Path, part: str, kind: str) -> NDArray[np.uint8]:
        path = _find(raw, part, kind)
        if path is None:
            raise CapabilityError(
                f"There is no {part}-{kind} in {raw}.", f"Point FEDSPEC_DATA at a folder that has {self.folder}/raw."
            )
        try:
            content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
            dimensions = 3 if kind.startswith("images") else 1
            magic, *shape = (int(n) for n in np.frombuffer(content, dtype=">u4", count=1 + dimensions))
            if magic != _MAGIC[kind]:
                raise ValueError(f"its magic number is {magic:#x}")
            return np.frombuffer(content, dtype=np.uint8, offset=4 * (1 + dimensions)).reshape(shape)
        except (OSError, EOFError, zlib.error, ValueError) as error:
            raise DamagedError(
                f"{path} is no idx file of {self.title}: {error}.", f"Delete {path}; it will be downloaded again."
            ) from error

    def _download(self, root: Path, raw: Path) -> None:
        with fetching(f"The data set {self.title}", root / f".{self.folder.lower()}.lock", f"Put its idx files into {raw}"):
            from fedspec.data.torchvision_compat import torchvision

            getattr(torchvision.datasets, self.folder)(root, download=True)


def _find(raw: Path, part: str, kind: str) -> Path | None:
    return next((path for path in (raw / f"{part}-{kind}", raw / f"{part}-{kind}.gz") if path.is_file()), None)

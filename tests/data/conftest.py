"""Every data set as a small folder in its official layout, so that the readers are tested without the real ones."""

from __future__ import annotations

import gzip
import hashlib
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from fedspec.data import DATASETS
from fedspec.data.base import Corpus, Dataset

NPZ = "mine.npz"


def idx(array: np.ndarray) -> bytes:
    """An array as an idx file."""
    magic = {3: 0x0803, 1: 0x0801}[array.ndim]
    return np.array([magic, *array.shape], dtype=">u4").tobytes() + array.astype(np.uint8).tobytes()


def write_idx(root: Path, folder: str) -> None:
    """Real sizes, 2x2 images that show their labels, the training part packed and the test part not."""
    raw = root / folder / "raw"
    raw.mkdir(parents=True)
    for part, samples in (("train", 60_000), ("t10k", 10_000)):
        labels = np.arange(samples) % 10
        images = np.broadcast_to(labels[:, None, None], (samples, 2, 2))
        for kind, array in (("images-idx3-ubyte", images), ("labels-idx1-ubyte", labels)):
            content = idx(array)
            if part == "train":
                (raw / f"{part}-{kind}.gz").write_bytes(gzip.compress(content, 1))
            else:
                (raw / f"{part}-{kind}").write_bytes(content)


def write_cifar10(root: Path, patch: pytest.MonkeyPatch) -> None:
    """Fewer images, each of its label's colour, pickled as the official files are; their checksums count as official."""
    from fedspec.data.torchvision_compat import torchvision

    official = torchvision.datasets.CIFAR10
    folder = root / official.base_folder
    folder.mkdir()

    def write(name: str, content: object) -> list[str]:
        # Python 2 wrote the flags of a numpy type as numbers.
        data = pickle.dumps(content, protocol=2).replace(b"\x89\x88\x87", b"K\x00K\x01\x87")
        (folder / name).write_bytes(data)
        return [name, hashlib.md5(data).hexdigest()]

    def batch(samples: int) -> dict[str, object]:
        labels = np.arange(samples) % 10
        return {"data": np.repeat(labels[:, None], 3072, axis=1).astype(np.uint8), "labels": labels.tolist()}

    patch.setattr(official, "train_list", [write(f"data_batch_{n}", batch(1100)) for n in range(1, 6)])
    patch.setattr(official, "test_list", [write("test_batch", batch(50))])
    _, checksum = write("batches.meta", {"label_names": [str(n) for n in range(10)]})
    patch.setattr(official, "meta", {**official.meta, "md5": checksum})


def write_subset(root: Path) -> None:
    rng = np.random.default_rng(0)
    x = {part: rng.integers(0, 256, (n, 32, 32, 3), dtype=np.uint8) for part, n in (("train", 100), ("test", 20))}
    y = {part: np.arange(len(x[part])) % 10 for part in x}
    names = np.array([f"class {n}" for n in range(10)])
    np.savez(
        root / "cifar10-jpeg-subset.npz",
        x_train=x["train"],
        y_train=y["train"],
        x_test=x["test"],
        y_test=y["test"],
        classes=names,
    )


def write_sst2(root: Path, samples: int = 1_300) -> None:
    folder = root / "SST-2"
    folder.mkdir()
    for name, count in (("train.tsv", samples), ("dev.tsv", 30)):
        lines = [f'{"good" if n % 2 else "bad"} film " number {n} \t{n % 2}\n' for n in range(count)]
        (folder / name).write_text("sentence\tlabel\n" + "".join(lines), encoding="utf-8", newline="\n")


def write_npz(root: Path) -> None:
    rng = np.random.default_rng(1)
    np.savez(root / NPZ, x=rng.normal(size=(50, 6)), y=np.arange(50) % 3)


Load = Callable[[], Dataset | Corpus]
FAKES: dict[str, Callable[[Path, pytest.MonkeyPatch], None]] = {
    "digits": lambda root, patch: None,
    "mnist": lambda root, patch: write_idx(root, "MNIST"),
    "fashion_mnist": lambda root, patch: write_idx(root, "FashionMNIST"),
    "cifar10": write_cifar10,
    "cifar10_subset": lambda root, patch: write_subset(root),
    "npz": lambda root, patch: write_npz(root),
    "sst2": lambda root, patch: write_sst2(root),
}


def loader(name: str, root: Path | None) -> Load:
    """What loads the data set ``name`` from a folder that `FAKES` wrote."""
    file = (NPZ,) if "file" in DATASETS[name].traits else ()
    return lambda: DATASETS[name].load()(root, *file)


@pytest.fixture(params=DATASETS)
def name(request: pytest.FixtureRequest) -> str:
    """Each registered data set."""
    return str(request.param)


@pytest.fixture
def load(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Load:
    """Loads it from a folder of its own."""
    FAKES[name](tmp_path, monkeypatch)
    return loader(name, tmp_path)

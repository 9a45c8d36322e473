import gzip
from pathlib import Path

import numpy as np
import pytest

from fedspec.data import mnist
from fedspec.errors import CapabilityError, DamagedError


def idx(array: np.ndarray) -> bytes:
    magic = {3: 0x0803, 1: 0x0801}[array.ndim]
    return np.array([magic, *array.shape], dtype=">u4").tobytes() + array.astype(np.uint8).tobytes()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder in torchvision's layout: real sizes, 2x2 images, the training part packed and the test part not."""
    raw = tmp_path / "MNIST" / "raw"
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
    return tmp_path


def test_files_are_read_where_they_lie_packed_or_unpacked(root: Path) -> None:
    before = sorted(root.rglob("*"))
    dataset = mnist.load(root)
    assert [len(part) for part in (dataset.train, dataset.validation, dataset.test)] == [55_000, 5_000, 10_000]
    assert dataset.input_shape == (1, 2, 2)
    for part in (dataset.train, dataset.validation, dataset.test):
        pixels = (part.inputs[:, 0, 0, 0] * mnist.STD + mnist.MEAN) * 255
        assert pixels.round().long().equal(part.labels)
    assert sorted(root.rglob("*")) == before


def test_without_a_data_folder_the_remedy_names_the_setting() -> None:
    with pytest.raises(CapabilityError, match="data folder") as caught:
        mnist.load(None)
    assert "FEDSPEC_DATA" in caught.value.fix


def test_a_download_that_fails_is_a_missing_capability(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from fedspec.data.torchvision_compat import torchvision

    monkeypatch.setattr(torchvision.datasets.MNIST, "mirrors", [(tmp_path / "nowhere").as_uri() + "/"])
    with pytest.raises(CapabilityError) as caught:
        mnist.load(tmp_path / "new")
    assert caught.value.what == "The data set MNIST is not here."
    assert caught.value.fix.startswith(
        f"Put its idx files into {tmp_path / 'new' / 'MNIST' / 'raw'}, or run once with a network"
    )
    assert "download failed: " in caught.value.fix


@pytest.mark.parametrize("content", [b"", b"\x00\x00\x08\x01\x00\x00", idx(np.zeros(3))[:-1], idx(np.zeros((1, 1, 1)))])
def test_a_damaged_file_is_named(root: Path, content: bytes) -> None:
    (root / "MNIST" / "raw" / "t10k-labels-idx1-ubyte").write_bytes(content)
    with pytest.raises(DamagedError, match="t10k-labels-idx1-ubyte"):
        mnist.load(root)


def test_a_damaged_packed_file_is_named(root: Path) -> None:
    path = root / "MNIST" / "raw" / "train-labels-idx1-ubyte.gz"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(DamagedError, match="train-labels"):
        mnist.load(root)


def test_the_real_mnist_has_its_known_mean(data_root: Path) -> None:
    dataset = mnist.load(data_root)
    assert dataset.input_shape == (1, 28, 28)
    assert abs(float(dataset.train.inputs.mean())) < 2e-3
    assert abs(float(dataset.train.inputs.std()) - 1) < 2e-3

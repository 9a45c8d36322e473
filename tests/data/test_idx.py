"""MNIST and Fashion-MNIST: read where they lie, packed or not, damaged or missing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fedspec.data.fashion_mnist import FASHION_MNIST
from fedspec.data.idx import IdxImages
from fedspec.data.mnist import MNIST
from fedspec.errors import CapabilityError, DamagedError
from tests.data.conftest import idx, write_idx


@pytest.fixture(params=[MNIST, FASHION_MNIST], ids=lambda images: images.folder)
def images(request: pytest.FixtureRequest) -> IdxImages:
    assert isinstance(request.param, IdxImages)
    return request.param


@pytest.fixture
def root(tmp_path: Path, images: IdxImages) -> Path:
    """A folder in torchvision's layout: real sizes, 2x2 images, the training part packed and the test part not."""
    write_idx(tmp_path, images.folder)
    return tmp_path


def test_pixels_are_normalised_and_belong_to_their_labels(images: IdxImages, root: Path) -> None:
    dataset = images.load(root)
    assert [len(part) for part in (dataset.train, dataset.validation, dataset.test)] == [55_000, 5_000, 10_000]
    assert dataset.input_shape == (1, 2, 2)
    for part in (dataset.train, dataset.validation, dataset.test):
        pixels = (part.inputs[:, 0, 0, 0] * images.std + images.mean) * 255
        assert pixels.round().long().equal(part.labels)


def test_a_download_that_fails_is_a_missing_capability(
    images: IdxImages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fedspec.data.torchvision_compat import torchvision

    official = getattr(torchvision.datasets, images.folder)
    monkeypatch.setattr(official, "mirrors", [(tmp_path / "nowhere").as_uri() + "/"])
    with pytest.raises(CapabilityError) as caught:
        images.load(tmp_path / "new")
    assert caught.value.what == f"The data set {images.title} is not here."
    raw = tmp_path / "new" / images.folder / "raw"
    assert caught.value.fix.startswith(f"Put its idx files into {raw}, or run once with a network")
    assert "download failed: " in caught.value.fix


@pytest.mark.parametrize("content", [b"", b"\x00\x00\x08\x01\x00\x00", idx(np.zeros(3))[:-1], idx(np.zeros((1, 1, 1)))])
def test_a_damaged_file_is_named(images: IdxImages, root: Path, content: bytes) -> None:
    (root / images.folder / "raw" / "t10k-labels-idx1-ubyte").write_bytes(content)
    with pytest.raises(DamagedError, match="t10k-labels-idx1-ubyte"):
        images.load(root)


def test_a_damaged_packed_file_is_named(images: IdxImages, root: Path) -> None:
    path = root / images.folder / "raw" / "train-labels-idx1-ubyte.gz"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(DamagedError, match="train-labels"):
        images.load(root)


def test_the_real_images_have_their_known_mean(images: IdxImages, data_root: Path) -> None:
    dataset = images.load(data_root)
    assert dataset.input_shape == (1, 28, 28)
    assert abs(float(dataset.train.inputs.mean())) < 2e-3
    assert abs(float(dataset.train.inputs.std()) - 1) < 2e-3

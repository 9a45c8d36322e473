"""CIFAR-10 is CIFAR-10: the official files or none; and the smaller set that says what it is."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from fedspec.data import cifar10
from fedspec.data.torchvision_compat import torchvision
from fedspec.errors import CapabilityError
from tests.data.conftest import write_cifar10, write_subset


def test_images_are_normalised_by_channel_and_belong_to_their_labels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    write_cifar10(tmp_path, monkeypatch)
    dataset = cifar10.load(tmp_path)
    assert dataset.input_shape == (3, 32, 32)
    for part in (dataset.train, dataset.validation, dataset.test):
        for channel, (mean, std) in enumerate(zip(cifar10.MEAN, cifar10.STD, strict=True)):
            pixels = (part.inputs[:, channel, 5, 7] * std + mean) * 255
            assert pixels.round().long().equal(part.labels)


@pytest.fixture
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torchvision.datasets.CIFAR10, "url", (tmp_path / "nowhere.tar.gz").as_uri())


@pytest.mark.usefixtures("offline")
def test_files_that_are_not_the_official_ones_are_not_unpickled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    write_cifar10(tmp_path, monkeypatch)
    with (tmp_path / "cifar-10-batches-py" / "test_batch").open("ab") as file:
        file.write(b"more")
    with pytest.raises(CapabilityError, match="CIFAR-10 is not here"):
        cifar10.load(tmp_path)


@pytest.mark.usefixtures("offline")
def test_the_subset_never_passes_for_cifar10(tmp_path: Path):
    write_subset(tmp_path)
    with pytest.raises(CapabilityError, match="CIFAR-10 is not here") as caught:
        cifar10.load(tmp_path)
    assert caught.value.fix.startswith(f"Put its official files into {tmp_path / 'cifar-10-batches-py'}, or run once")
    assert "download failed: " in caught.value.fix


def test_a_missing_subset_names_its_place_and_the_whole(tmp_path: Path):
    with pytest.raises(CapabilityError, match=r"cifar10-jpeg-subset\.npz") as caught:
        cifar10.load_subset(tmp_path)
    assert 'dataset = "cifar10"' in caught.value.fix


def test_the_real_subset_is_balanced_and_has_about_cifar10s_mean(data_root: Path):
    dataset = cifar10.load_subset(data_root)
    assert [len(part) for part in (dataset.train, dataset.validation, dataset.test)] == [9_000, 1_000, 2_000]
    assert dataset.input_shape == (3, 32, 32)
    assert torch.equal(dataset.test.labels.bincount(), torch.full((10,), 200))
    torch.testing.assert_close(dataset.train.inputs.mean(dim=(0, 2, 3)), torch.zeros(3), atol=0.05, rtol=0)
    torch.testing.assert_close(dataset.train.inputs.std(dim=(0, 2, 3)), torch.ones(3), atol=0.05, rtol=0)

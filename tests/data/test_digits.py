import subprocess
import sys

import pytest
import torch

from fedspec.data import DATASETS, digits
from fedspec.data.base import Split
from fedspec.data.digits import load


def rows(split: Split) -> set[bytes]:
    return {image.numpy().tobytes() for image in split.inputs}


def test_every_image_is_in_exactly_one_part() -> None:
    dataset = load()
    assert dataset.pretrain is not None
    assert [len(part) for part in (dataset.train, dataset.validation, dataset.test, dataset.pretrain)] == [629, 180, 360, 628]
    upright = Split(torch.rot90(dataset.pretrain.inputs, dims=(2, 3)), dataset.pretrain.labels)
    assert len(rows(dataset.train) | rows(dataset.validation) | rows(dataset.test) | rows(upright)) == 1797


def test_all_but_the_pretraining_part_is_turned_by_90_degrees() -> None:
    from sklearn.datasets import load_digits

    original = torch.from_numpy(load_digits().images).float().unsqueeze(1) / 16
    known = {bytes(image.numpy().tobytes()) for image in original}
    dataset = load()
    assert dataset.pretrain is not None
    assert rows(dataset.pretrain) <= known
    for part in (dataset.train, dataset.validation, dataset.test):
        assert not rows(part) <= known
        assert rows(Split(torch.rot90(part.inputs, k=-1, dims=(2, 3)).contiguous(), part.labels)) <= known


def test_the_split_is_the_same_every_time() -> None:
    first, second = load(), load()
    assert torch.equal(first.test.inputs, second.test.inputs)
    assert first.test.labels[:10].tolist() == [1, 7, 2, 1, 8, 1, 0, 7, 4, 1]


def test_tensors_have_the_types_that_training_wants() -> None:
    dataset = load()
    assert dataset.input_shape == (1, 8, 8)
    assert dataset.train.inputs.dtype == torch.float32
    assert dataset.train.labels.dtype == torch.int64
    assert 0 <= dataset.train.inputs.min() < dataset.train.inputs.max() <= 1
    assert set(dataset.train.labels.tolist()) == set(range(dataset.classes))


def test_labels_are_unique() -> None:
    assert len({entry.label for entry in DATASETS.values()}) == len(DATASETS)


def test_where_their_file_lies_elsewhere_scikit_learn_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    usual = load()
    monkeypatch.setattr(digits, "FILE", "elsewhere.csv.gz")
    for one, other in zip((usual.train, usual.test), (load().train, load().test), strict=True):
        assert torch.equal(one.inputs, other.inputs)
        assert torch.equal(one.labels, other.labels)


def test_reading_them_does_not_import_scikit_learn() -> None:
    code = "import sys; from fedspec.data import digits; digits.load(); sys.exit('sklearn' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

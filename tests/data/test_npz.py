"""Arrays of one's own: what is taken, what is refused and why, and that no machine trains on others."""

from __future__ import annotations

import hashlib
import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fedspec.data.npz import load
from fedspec.errors import CapabilityError, DamagedError, ExperimentError

X, Y = np.arange(40.0).reshape(20, 2), np.arange(20) % 2


def save(folder: Path, **arrays: Any) -> None:
    np.savez(folder / "mine.npz", **arrays)


def rows(inputs: torch.Tensor) -> set[tuple[float, ...]]:
    return {tuple(row) for row in inputs.flatten(1).tolist()}


def test_one_pair_is_split_three_ways_without_losing_a_sample(tmp_path: Path):
    save(tmp_path, x=X, y=Y)
    dataset = load(tmp_path, "mine.npz")
    assert [len(part) for part in (dataset.train, dataset.validation, dataset.test)] == [15, 1, 4]
    assert rows(dataset.train.inputs) | rows(dataset.validation.inputs) | rows(dataset.test.inputs) == {tuple(x) for x in X}
    for part in (dataset.train, dataset.validation, dataset.test):
        assert torch.equal(part.labels, (part.inputs[:, 0] / 2 % 2).long())


def test_a_test_part_that_is_given_stays_whole_and_in_its_order(tmp_path: Path):
    save(tmp_path, x_train=X, y_train=Y, x_test=X[:5] + 100, y_test=Y[:5])
    dataset = load(None, str(tmp_path / "mine.npz"))
    assert [len(part) for part in (dataset.train, dataset.validation, dataset.test)] == [18, 2, 5]
    assert torch.equal(dataset.test.inputs, torch.from_numpy(X[:5] + 100).float())


def test_bytes_become_numbers_up_to_1_and_channels_come_first(tmp_path: Path):
    images = np.zeros((20, 5, 6, 3), dtype=np.uint8)
    images[..., 2] = 255
    save(tmp_path, x=images, y=Y)
    dataset = load(tmp_path, "mine.npz")
    assert dataset.input_shape == (3, 5, 6)
    assert dataset.train.inputs.amax(dim=(0, 2, 3)).tolist() == [0, 0, 1]
    save(tmp_path, x=images.transpose(0, 3, 1, 2), y=Y)
    assert torch.equal(load(tmp_path, "mine.npz").train.inputs, dataset.train.inputs)


def test_the_names_of_the_classes_say_how_many_there_are(tmp_path: Path):
    save(tmp_path, x=X, y=Y, classes=np.array(["no", "yes", "never"]))
    assert load(tmp_path, "mine.npz").classes == 3


@pytest.mark.parametrize("kind", [np.float64, np.float16, np.int16, np.int64, np.bool_])
def test_every_type_of_real_number_becomes_float32(kind: Any, tmp_path: Path):
    save(tmp_path, x=(X % 2).astype(kind), y=Y.astype(np.uint8))
    dataset = load(tmp_path, "mine.npz")
    assert dataset.train.inputs.dtype == torch.float32
    assert dataset.train.labels.dtype == torch.int64
    assert rows(dataset.train.inputs) == {(0.0, 1.0)}


@pytest.mark.parametrize(
    ("arrays", "problem", "remedy"),
    [
        ({"a": X}, "has a", "needs x and y"),
        ({}, "has nothing", "needs x and y"),
        ({"x": X, "y": Y[:-1]}, r"x is \(20, 2\) and y is \(19,\)", "n the same"),
        ({"x": X[:, 0], "y": Y}, "x is", "at least two axes"),
        ({"x": X, "y": X}, "y is", "y must be"),
        ({"x": np.array(3.0), "y": Y}, "x is", "at least two axes"),
        ({"x": X.astype(complex), "y": Y}, "complex128", "real numbers"),
        ({"x": X.astype(str), "y": Y}, "x is of the type", "real numbers"),
        ({"x": X, "y": Y + 0.0}, "y is of the type float64", "whole numbers"),
        ({"x": np.where(X > 8, np.nan, X), "y": Y}, "no finite", "Remove"),
        ({"x": np.where(X > 8, np.inf, X), "y": Y}, "no finite", "Remove"),
        ({"x": X * 1e300, "y": Y}, "no finite float32", "scale"),
        ({"x": X, "y": Y + 1}, "labels of mine.npz are 1, 2", "return_inverse"),
        ({"x": X, "y": Y - 1}, "labels of mine.npz are -1, 0", "return_inverse"),
        ({"x": X, "y": Y * 10**12}, "labels of mine.npz are 0, 1000000000000", "return_inverse"),
        ({"x": X, "y": Y, "classes": np.array(["one"])}, "there are 1 classes", "Number the labels"),
        ({"x": X, "y": Y * 0}, "same|have the label 0", "two classes"),
        ({"x": X[:1], "y": Y[:1]}, "no samples", "larger"),
        ({"x": X[:0], "y": Y[:0]}, "no samples", "larger"),
        ({"x_train": X, "y_train": Y, "x_test": X[:, :1], "y_test": Y}, r"\(2,\) in x_train", "one shape"),
    ],
)
def test_arrays_that_are_no_task_are_refused_with_a_remedy(arrays: dict[str, Any], problem: str, remedy: str, tmp_path: Path):
    save(tmp_path, **arrays)
    with pytest.raises(ExperimentError, match=problem) as caught:
        load(tmp_path, "mine.npz")
    assert remedy in caught.value.fix


class Bomb:
    """Something that does harm when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (Path("unpickled"),)


def test_objects_are_never_unpickled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    save(tmp_path, x=X, y=np.array([Bomb()] * 20, dtype=object))
    with pytest.raises(DamagedError, match="Python objects"):
        load(tmp_path, "mine.npz")
    assert not (tmp_path / "unpickled").exists()


def test_a_damaged_file_is_named(tmp_path: Path):
    save(tmp_path, x=X, y=Y)
    path = tmp_path / "mine.npz"
    whole = path.read_bytes()
    single = io.BytesIO()
    np.save(single, X)
    broken = bytearray(whole)
    broken[60] ^= 255
    with zipfile.ZipFile(tmp_path / "text.npz", "w") as archive:
        archive.writestr("x.npy", "no array")
    for content in (b"", b"no archive", whole[:-30], bytes(broken), single.getvalue(), (tmp_path / "text.npz").read_bytes()):
        path.write_bytes(content)
        with pytest.raises(DamagedError, match=r"mine\.npz"):
            load(tmp_path, "mine.npz")


def test_a_file_that_is_not_here_names_its_place_and_the_key(tmp_path: Path):
    with pytest.raises(CapabilityError, match=r"mine\.npz") as caught:
        load(tmp_path, "mine.npz")
    assert "data_file" in caught.value.fix


def test_another_file_of_that_name_is_refused(tmp_path: Path):
    save(tmp_path, x=X, y=Y)
    digest = hashlib.sha256((tmp_path / "mine.npz").read_bytes()).hexdigest()
    assert load(tmp_path, "mine.npz", digest[:12]).classes == load(tmp_path, "mine.npz", digest).classes == 2
    save(tmp_path, x=X + 1, y=Y)
    with pytest.raises(CapabilityError, match=f"not with {digest[:12]}") as caught:
        load(tmp_path, "mine.npz", digest[:12])
    assert "Copy the file" in caught.value.fix

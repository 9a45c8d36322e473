"""Laws of every data set: what it looks like, that it is the same each time, and that it says what is missing."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from fedspec.data import DATASETS
from fedspec.data.base import Corpus, Dataset, Split, Texts, limited
from fedspec.errors import CapabilityError, ExperimentError
from fedspec.tokens import FILLING, Encode
from tests.data.conftest import FAKES, Load, loader


def letters(sentences: object) -> list[list[int]]:
    """A tokenizer: the letters' code points."""
    assert isinstance(sentences, tuple)
    return [[ord(letter) for letter in sentence] for sentence in sentences]


encode: Encode = letters


def dataset_of(task: Dataset | Corpus) -> Dataset:
    return task.encoded(encode) if isinstance(task, Corpus) else task


def same(one: Split, other: Split) -> bool:
    return torch.equal(one.inputs, other.inputs) and torch.equal(one.labels, other.labels)


def test_every_data_set_has_its_fake_and_a_label_of_its_own():
    assert FAKES.keys() == DATASETS.keys()
    assert len({entry.label for entry in DATASETS.values()}) == len(DATASETS)


def test_a_data_set_says_whether_it_holds_images_or_texts(name: str, load: Load):
    assert len(DATASETS[name].traits & {"image", "text"}) == 1
    assert isinstance(load(), Corpus) == ("text" in DATASETS[name].traits)


def test_tensors_have_the_types_that_training_wants(load: Load):
    dataset = dataset_of(load())
    for part in (dataset.train, dataset.validation, dataset.test):
        assert part.inputs.dtype == (torch.float32 if part.lengths is None else torch.int64)
        assert part.inputs.is_contiguous()
        assert part.labels.dtype == torch.int64
        assert len(part.inputs) == len(part.labels) > 0
        assert set(part.labels.tolist()) <= set(range(dataset.classes))
    shapes = {part.inputs.shape[1:] for part in (dataset.train, dataset.validation, dataset.test) if part.lengths is None}
    assert len(shapes) <= 1


def test_the_split_is_the_same_every_time(load: Load):
    first, second = dataset_of(load()), dataset_of(load())
    for part in ("train", "validation", "test"):
        assert same(getattr(first, part), getattr(second, part))


def test_fewer_training_samples_are_a_part_of_more_and_leave_the_rest_alone(load: Load):
    task = load()
    every, some, few = (dataset_of(limited(task, samples)) for samples in (0, 20, 10))
    assert same(every.train, dataset_of(task).train)
    for one, other, count in ((every, some, 20), (some, few, 10)):
        assert len(other.train) == count
        assert {row.numpy().tobytes() for row in other.train.inputs[:, :5]} <= {
            row.numpy().tobytes() for row in one.train.inputs[:, :5]
        }
        assert same(one.validation, other.validation)
        assert same(one.test, other.test)
    with pytest.raises(ExperimentError, match=f"has {len(task.train)} training samples"):
        limited(task, len(task.train) + 1)


def test_without_a_data_folder_the_remedy_names_the_setting(name: str):
    if name == "digits":
        pytest.skip("digits needs no data folder: scikit-learn has them")
    with pytest.raises(CapabilityError, match="data folder") as caught:
        loader(name, None)()
    assert "FEDSPEC_DATA" in caught.value.fix


def test_texts_become_ids_that_are_filled_up_at_the_end():
    texts = Texts(("ab", "a", "abc"), torch.tensor([0, 1, 0]))
    split = texts.encoded(encode)
    assert split.inputs.tolist() == [[97, 98, FILLING], [97, FILLING, FILLING], [97, 98, 99]]
    assert split.lengths is not None
    assert split.lengths.tolist() == [2, 1, 3]
    assert [inputs.shape for inputs, _ in split.batches(2)] == [(2, 2), (1, 3)]
    assert torch.equal(split.take(torch.tensor([2, 0])).inputs, texts.take(torch.tensor([2, 0])).encoded(encode).inputs)


class TestTheOrderOfSteps:
    @staticmethod
    def texts(samples: int) -> Split:
        """With lengths of 1 to 40, as ragged as texts are."""
        lengths = torch.randint(1, 41, (samples,), generator=torch.Generator().manual_seed(5))
        return Split(torch.zeros(samples, 40, dtype=torch.int64), torch.zeros(samples, dtype=torch.int64), lengths)

    @pytest.mark.parametrize("samples", [1, 7, 8, 15, 16, 100, 1003])
    def test_every_sample_comes_once_in_an_order_that_follows_from_the_generator(self, samples: int):
        texts = self.texts(samples)
        one, same, other = (texts.order(8, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
        assert one.sort().values.tolist() == list(range(samples))
        assert torch.equal(one, same)
        assert samples == 1 or not torch.equal(one, other)

    def test_images_come_as_they_are_shuffled(self):
        images = Split(torch.zeros(20, 3), torch.zeros(20, dtype=torch.int64))
        order = images.order(4, torch.Generator().manual_seed(1))
        assert torch.equal(order, torch.randperm(20, generator=torch.Generator().manual_seed(1)))

    def test_texts_of_about_one_length_come_together_and_short_ones_not_before_long_ones(self):
        texts = self.texts(1600)
        assert texts.lengths is not None
        steps = texts.lengths[texts.order(8, torch.Generator().manual_seed(1))].view(-1, 8)
        shuffled = texts.lengths[torch.randperm(1600)].view(-1, 8)
        filled, before = (int((each.amax(1, keepdim=True) - each).sum()) for each in (steps, shuffled))
        assert filled < 0.1 * before
        longest = steps.amax(1).double()
        halves = longest[:100].mean() - longest[100:].mean()
        assert abs(halves) < 5
        assert not torch.equal(longest, longest.sort().values)

    def test_two_epochs_do_not_have_the_same_steps(self):
        texts, shuffle = self.texts(160), torch.Generator().manual_seed(1)
        one, other = ({frozenset(step.tolist()) for step in texts.order(8, shuffle).view(-1, 8)} for _ in range(2))
        assert not one & other

    def test_a_short_last_step_is_a_random_draw(self):
        texts, shuffle = self.texts(83), torch.Generator().manual_seed(1)
        assert texts.lengths is not None
        means = [texts.lengths[texts.order(8, shuffle)[-3:]].double().mean() for _ in range(200)]
        assert abs(sum(means) / 200 - texts.lengths.double().mean()) < 2

    def test_what_is_only_looked_at_comes_in_the_order_of_its_lengths(self):
        texts = Texts(("abc", "a", "ab"), torch.tensor([0, 1, 0]))
        dataset = Corpus(texts, texts, texts, 2).encoded(encode)
        assert dataset.train.lengths is not None
        assert dataset.train.lengths.tolist() == [3, 1, 2]
        for part in (dataset.validation, dataset.test):
            assert part.lengths is not None
            assert part.lengths.tolist() == [1, 2, 3]
            assert part.labels.tolist() == [1, 0, 0]


@pytest.mark.parametrize(
    ("labels", "problem"),
    [([], "train part of the data set has no samples"), ([0, 7], "is 7, and there are 3 classes"),
     ([0, -1], "is -1"), ([2, 2], "All 2 training samples have the label 2")],
)  # fmt: skip
def test_labels_that_nobody_can_train_on_are_refused(labels: list[int], problem: str):
    fine = Split(torch.zeros(3, 1), torch.arange(3))
    wrong = Split(torch.zeros(len(labels), 1), torch.tensor(labels, dtype=torch.int64))
    with pytest.raises(ExperimentError, match=problem):
        Dataset(train=wrong, validation=fine, test=fine, classes=3)


def test_nothing_is_left_in_the_data_folder(name: str, load: Load, tmp_path: Path):
    before = sorted(tmp_path.rglob("*"))
    load()
    assert sorted(tmp_path.rglob("*")) == before

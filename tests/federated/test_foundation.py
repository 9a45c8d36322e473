"""The base of a pretrained model: what of it is saved, and that nobody goes on from another one."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from fedspec.config import FederatedConfig
from fedspec.data.digits import load as load_digits
from fedspec.errors import CapabilityError, DamagedError
from fedspec.federated.events import RoundDone
from fedspec.federated.experiment import Experiment, prepare
from fedspec.federated.foundation import TEXTS, WEIGHTS, lay
from fedspec.federated.rounds import rounds
from tests.data.conftest import write_sst2
from tests.federated.conftest import saved_and_loaded
from tests.tinyweights import TinyViT, write_bert, write_vit

HEAD = {"inner.classifier.weight", "inner.classifier.bias"}


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """A data folder with texts and an encoder."""
    write_sst2(tmp_path)
    write_bert(tmp_path / "models" / "tiny")
    return tmp_path


@pytest.fixture
def make(machine: Path) -> Callable[..., Experiment]:
    def make(base: Any = None, root: Path = machine, **changes: Any) -> Experiment:
        values = {"dataset": "sst2", "model": "bert", "pretrained": "tiny", "head": "aggregate", "clients": 2, "rounds": 3}
        config = FederatedConfig(**{**values, "rank": 2, "lr": 0.01, "batch_size": 32, "method": "fedspec", **changes})
        return prepare(config, device="cpu", data_root=root, base=base)

    return make


def done(experiment: Experiment, state: Any = None) -> list[RoundDone]:
    return [event for event in rounds(experiment, state) if isinstance(event, RoundDone)]


def test_of_pretrained_weights_only_a_digest_is_saved(make: Callable[..., Experiment]):
    experiment = make()
    assert experiment.base.keys() == HEAD | {WEIGHTS, TEXTS}
    assert sum(value.numel() for value in experiment.base.values()) < 200
    assert experiment.dense.keys() == HEAD


@pytest.mark.parametrize(
    "changes", [{}, {"tune": "full", "method": "fedavg", "lr": 0.001}, {"dtype": "float64"}, {"head": "frozen"}]
)
def test_a_takeover_goes_on_as_if_nothing_had_happened(make: Callable[..., Experiment], changes: dict[str, Any]):
    first = make(**changes)
    whole = done(first)
    state, base = saved_and_loaded(dict(whole[0].state)), saved_and_loaded(dict(first.base))
    resumed = make(base, **changes)
    assert resumed.base.keys() == base.keys()
    assert [event.row for event in done(resumed, state)] == [event.row for event in whole[1:]]


def test_texts_are_learnt(make: Callable[..., Experiment]):
    rows = [event.row for event in done(make(rounds=4, lr=0.02, batch_size=8))]
    assert rows[-1].accuracy > 0.9


def test_the_saved_head_is_the_one_that_is_used(make: Callable[..., Experiment]):
    base = make(seed=1).base
    assert not torch.equal(base["inner.classifier.weight"], make(seed=2).base["inner.classifier.weight"])
    again = make(base, seed=2)
    assert torch.equal(again.dense["inner.classifier.weight"], base["inner.classifier.weight"])


def test_other_weights_of_that_name_are_refused(make: Callable[..., Experiment], machine: Path, tmp_path: Path):
    base = make().base
    other = shutil.copytree(machine, tmp_path / "other", ignore=shutil.ignore_patterns("other"))
    write_bert(other / "models" / "tiny", seed=1)
    with pytest.raises(CapabilityError, match="pretrained weights on this machine") as caught:
        make(base, other)
    assert "the machine that began" in caught.value.fix


@pytest.mark.parametrize("file", ["SST-2/dev.tsv", "models/tiny/vocab.txt"])
def test_other_texts_and_another_tokenizer_are_refused(
    make: Callable[..., Experiment], machine: Path, tmp_path: Path, file: str
):
    base = make().base
    other = shutil.copytree(machine, tmp_path / "other", ignore=shutil.ignore_patterns("other"))
    text = (other / file).read_text(encoding="utf-8")
    (other / file).write_text(text.replace("good", "fine"), encoding="utf-8")
    with pytest.raises(CapabilityError, match="texts or their tokenizer"):
        make(base, other)


def test_a_base_that_is_damaged_is_told_from_one_of_other_weights(make: Callable[..., Experiment]):
    base = make().base
    for damaged in (
        {name: value for name, value in base.items() if name != WEIGHTS},
        {**base, "more": torch.zeros(1)},
        {**base, "inner.classifier.bias": torch.zeros(3)},
        {**base, WEIGHTS: torch.zeros(31, dtype=torch.uint8)},
    ):
        with pytest.raises(DamagedError, match="saved base"):
            make(damaged)


def test_what_was_pretrained_elsewhere_is_not_trained_on_a_part_of_the_data_set(tmp_path: Path):
    model, digits = TinyViT((1, 8, 8), 10, write_vit(tmp_path)), load_digits()
    assert digits.pretrain is not None
    before = {name: value.clone() for name, value in model.state_dict().items()}
    whole = lay(model, digits, 1, None).whole
    assert all(torch.equal(before[name], value) for name, value in whole.items())


def test_clients_that_train_together_learn_what_they_learn_one_by_one(make: Callable[..., Experiment], machine: Path):
    write_bert(machine / "models" / "tiny", hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    alike = {"dtype": "float64", "rounds": 2, "clients": 3, "batch_size": 7}
    one, other = (done(make(engine=engine, **alike))[-1].row for engine in ("sequential", "stacked"))
    assert one.train_loss == pytest.approx(other.train_loss, rel=1e-9)
    assert one.ideal_norm == pytest.approx(other.ideal_norm, rel=1e-9)

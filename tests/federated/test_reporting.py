from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from fedspec.data.base import Split
from fedspec.federated.events import RoundDone
from fedspec.federated.experiment import Experiment
from fedspec.federated.rounds import rounds
from fedspec.federated.state import Weights


def test_accuracy_and_loss_are_those_on_the_test_set_and_validation_has_a_column_of_its_own(
    small: Callable[..., Experiment],
) -> None:
    plain = small(rounds=1, batch_size=16)
    mislabelled = Split(plain.validation.inputs, (plain.validation.labels + 1) % 10)
    experiment = replace(plain, validation=mislabelled)
    *_, event = rounds(experiment)
    assert isinstance(event, RoundDone)

    experiment.resident.install(Weights.from_state(event.state))
    module = experiment.resident.module.eval()

    def accuracy(data: Split) -> float:
        return float((module(data.inputs).argmax(dim=1) == data.labels).double().mean())

    test = experiment.test
    assert accuracy(test) > accuracy(mislabelled) + 0.1
    assert event.row.accuracy == pytest.approx(accuracy(test), abs=1e-12)
    assert event.row.validation_accuracy == pytest.approx(accuracy(mislabelled), abs=1e-12)
    with torch.no_grad():
        assert event.row.loss == pytest.approx(float(F.cross_entropy(module(test.inputs), test.labels)), rel=1e-5)

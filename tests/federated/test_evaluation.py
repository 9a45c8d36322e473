import numpy as np
import pytest
import torch
import torch.nn.functional as F

from fedspec.data.base import Split
from fedspec.federated.evaluation import Evaluation, evaluate
from fedspec.models.mlp import MLP


def test_loss_and_hits_do_not_depend_on_the_batches() -> None:
    samples = 2 * MLP.evaluation_batch + 7
    data = Split(torch.randn(samples, 4), torch.randint(0, 3, (samples,)))
    module = MLP((4,), 3)
    found = evaluate(module, data, 3)
    logits = module(data.inputs)
    assert found.loss == pytest.approx(F.cross_entropy(logits, data.labels).item(), rel=1e-5)
    assert found.hits.sum() == (logits.argmax(dim=1) == data.labels).sum()
    assert found.counts.tolist() == np.bincount(data.labels.numpy(), minlength=3).tolist()


def test_the_worst_client_meets_the_labels_in_its_own_mix() -> None:
    found = Evaluation(loss=0.0, hits=np.array([10, 5, 0]), counts=np.array([10, 10, 0]))
    assert found.accuracy == 0.75
    assert found.worst_accuracy(np.array([[1.0, 0.0, 0.0], [0.5, 0.5, 0.0]])) == 0.75
    assert found.worst_accuracy(np.array([[0.5, 0.5, 0.0], [0.2, 0.8, 0.0]])) == pytest.approx(0.6)


def test_labels_that_the_split_lacks_are_left_out_of_a_mix() -> None:
    found = Evaluation(loss=0.0, hits=np.array([10, 5, 0]), counts=np.array([10, 10, 0]))
    assert found.worst_accuracy(np.array([[0.0, 0.1, 0.9], [0.0, 0.0, 1.0]])) == pytest.approx(0.5)

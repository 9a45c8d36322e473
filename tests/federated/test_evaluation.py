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
    [found] = evaluate(module, [data], 3)
    logits = module(data.inputs)
    assert found.loss == pytest.approx(F.cross_entropy(logits, data.labels).item(), rel=1e-5)
    assert found.hits.sum() == (logits.argmax(dim=1) == data.labels).sum()
    assert found.counts.tolist() == np.bincount(data.labels.numpy(), minlength=3).tolist()


@pytest.mark.parametrize("samples", [(5, 3), (MLP.evaluation_batch, 7)])
def test_several_parts_are_evaluated_as_each_alone(samples: tuple[int, int]) -> None:
    parts = [Split(torch.randn(some, 4), torch.randint(0, 3, (some,))) for some in samples]
    module = MLP((4,), 3)
    for part, found in zip(parts, evaluate(module, parts, 3), strict=True):
        [alone] = evaluate(module, [part], 3)
        assert found.loss == pytest.approx(alone.loss, rel=1e-6)
        assert (found.hits.tolist(), found.counts.tolist()) == (alone.hits.tolist(), alone.counts.tolist())


def test_texts_keep_the_width_of_their_part() -> None:
    """Joined, the shorter ones would not fit, and the longest batch would cost all."""
    seen: list[int] = []

    class Reader(MLP):
        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            seen.append(inputs.shape[1])
            return super().forward(inputs[:, :1].float())

    parts = [Split(torch.zeros(4, width).long(), torch.tensor([0, 1, 2, 0]), torch.full((4,), width)) for width in (3, 9)]
    assert [found.counts.tolist() for found in evaluate(Reader((1,), 3), parts, 3)] == [[2, 1, 1]] * 2
    assert seen == [3, 9]


def test_the_worst_client_meets_the_labels_in_its_own_mix() -> None:
    found = Evaluation(loss=0.0, hits=np.array([10, 5, 0]), counts=np.array([10, 10, 0]))
    assert found.accuracy == 0.75
    assert found.worst_accuracy(np.array([[1.0, 0.0, 0.0], [0.5, 0.5, 0.0]])) == 0.75
    assert found.worst_accuracy(np.array([[0.5, 0.5, 0.0], [0.2, 0.8, 0.0]])) == pytest.approx(0.6)


def test_labels_that_the_split_lacks_are_left_out_of_a_mix() -> None:
    found = Evaluation(loss=0.0, hits=np.array([10, 5, 0]), counts=np.array([10, 10, 0]))
    assert found.worst_accuracy(np.array([[0.0, 0.1, 0.9], [0.0, 0.0, 1.0]])) == pytest.approx(0.5)

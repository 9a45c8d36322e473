import pytest
import torch
from torch import nn

from fedspec.models import MODELS
from fedspec.models.base import Model
from fedspec.models.mlp import MLP, TwoNN


@pytest.fixture(params=MODELS)
def model(request: pytest.FixtureRequest) -> Model:
    built = MODELS[request.param].load()((1, 8, 8), 10)
    assert isinstance(built, Model)
    return built


def test_a_model_maps_a_batch_to_logits(model: Model) -> None:
    assert model(torch.rand(3, 1, 8, 8)).shape == (3, 10)


def test_its_adapters_go_on_linear_layers_that_are_not_the_head(model: Model) -> None:
    assert model.lora_targets
    assert all(isinstance(model.get_submodule(name), nn.Linear) for name in model.lora_targets)
    assert model.head not in model.lora_targets
    assert list(model.get_submodule(model.head).parameters())


def test_labels_are_unique() -> None:
    assert len({entry.label for entry in MODELS.values()}) == len(MODELS)


def test_2nn_on_mnist_has_the_papers_199210_parameters() -> None:
    assert sum(parameter.numel() for parameter in TwoNN((1, 28, 28), 10).parameters()) == 199_210


def test_the_hidden_layers_can_be_chosen() -> None:
    model = MLP((4,), 2, hidden=(3,))
    assert [tuple(parameter.shape) for parameter in model.parameters()] == [(3, 4), (3,), (2, 3), (2,)]

"""Laws of every model: what it maps to what, that samples are alone in their batch, what adapters find, that it learns."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fedspec.errors import ExperimentError
from fedspec.federated.lora import LoRALinear, adapt
from fedspec.federated.seeding import generator, global_seed
from fedspec.models import MODELS
from fedspec.models.base import Model
from fedspec.models.cnn import CNN
from fedspec.models.mlp import MLP, TwoNN
from fedspec.models.resnet import ResNet8, ResNet18
from fedspec.models.vit import ViT, positions
from fedspec.tokens import FILLING
from tests.tinyweights import TinyViT, write_bert, write_vit

CLASSES = 5
CPU = torch.device("cpu")
Build = Callable[..., tuple[Model, Tensor]]


@pytest.fixture(params=MODELS)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The weights of a pretrained model, in small and made once."""
    folder = tmp_path_factory.mktemp("weights")
    return cache(lambda name: write_bert(folder / "bert") if name == "bert" else write_vit(folder))


@pytest.fixture
def build(name: str, weights: Callable[[str], Path]) -> Build:
    """Makes the model, the same each time for a seed, and some inputs."""
    if name == "bert":
        texts = torch.randint(5, 20, (6, 9), generator=generator("texts"))
        inputs = texts.where(torch.arange(9) < torch.arange(4, 10)[:, None], FILLING)
    else:
        inputs = torch.randn(6, 1, 8, 8, generator=generator("images"))
    model_type = TinyViT if name == "vit_b_16" else MODELS[name].load()
    file = (weights(name),) if "pretrained" in MODELS[name].traits else ()

    def make(seed: int = 1) -> tuple[Model, Tensor]:
        with global_seed(CPU, "model", seed):
            return model_type(tuple(inputs.shape[1:]), CLASSES, *file), inputs

    return make


@pytest.fixture
def model(build: Build) -> Model:
    return build()[0]


@pytest.fixture
def inputs(build: Build) -> Tensor:
    return build()[1]


def test_every_model_has_a_label_of_its_own():
    assert len({entry.label for entry in MODELS.values()}) == len(MODELS)


def test_a_model_maps_batches_of_any_size_to_logits(model: Model, inputs: Tensor):
    for size in (6, 3, 1):
        logits = model(inputs[:size])
        assert logits.shape == (size, CLASSES)
        assert logits.isfinite().all()


@pytest.mark.parametrize("mode", [True, False])
def test_a_samples_logits_do_not_depend_on_its_batch(model: Model, inputs: Tensor, mode: bool):
    without_dropout(model).train(mode)
    together = model(inputs)
    torch.testing.assert_close(
        torch.cat([model(inputs[i : i + 1]) for i in range(len(inputs))]), together, rtol=1e-4, atol=1e-5
    )
    assert together.std(dim=0).min() > 0, "all samples give the same logits: this would prove nothing"


def test_looking_at_samples_changes_nothing_in_a_model(model: Model, inputs: Tensor):
    before = {key: value.clone() for key, value in model.state_dict().items()}
    model.train()(inputs)
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())


def test_adapters_go_on_linear_layers_that_are_not_the_head(name: str, model: Model):
    assert bool(model.lora_targets) == ("lora" in MODELS[name].traits)
    assert len(set(model.lora_targets)) == len(model.lora_targets)
    for target in model.lora_targets:
        assert isinstance(model.get_submodule(target), nn.Linear)
        assert not target.startswith(tuple(model.head))
    assert [parameter for head in model.head for parameter in model.get_submodule(head).parameters()]


def test_new_adapters_change_nothing_and_learnt_ones_all_count(model: Model, inputs: Tensor):
    model.eval()
    before = model(inputs).detach()
    for layer in adapt(model, rank=2, scale=1.0).values():
        with torch.no_grad():
            layer.A.normal_(generator=generator("a"))
            assert torch.equal(model(inputs), before)
            layer.B.normal_(generator=generator("b"))
            assert not torch.equal(model(inputs), before), "what it computes is not used"
            layer.B.zero_()


@pytest.mark.parametrize("tune", ["lora", "full"])
def test_training_lowers_the_loss(name: str, model: Model, inputs: Tensor, tune: str):
    if tune not in (*MODELS[name].traits, "full"):
        pytest.skip(f"{name} has no layer that could carry an adapter")
    without_dropout(model).train()
    if tune == "lora":
        for layer in adapt(model, rank=2, scale=2.0).values():
            nn.init.normal_(layer.A, generator=generator("a"))
        for head in model.head:
            model.get_submodule(head).requires_grad_(True)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    assert any(isinstance(module, LoRALinear) for module in model.modules()) == (tune == "lora")
    steps = torch.optim.AdamW(trained, lr=1e-3)
    labels = torch.arange(len(inputs)) % CLASSES
    losses = []
    for _ in range(10):
        loss = F.cross_entropy(model(inputs), labels)
        steps.zero_grad()
        loss.backward()
        steps.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]


def test_what_is_made_follows_from_the_seed(build: Build):
    one, same = build()[0].state_dict(), build()[0].state_dict()
    assert all(torch.equal(one[key], same[key]) for key in one)
    other = build(2)[0].state_dict()
    assert any(not torch.equal(one[key], other[key]) for key in one)


def without_dropout(model: Model) -> Model:
    """Dropout depends on the batch by design."""
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    return model


@pytest.mark.parametrize(
    ("model", "parameters"),
    [(TwoNN((1, 28, 28), 10), 199_210), (CNN((1, 28, 28), 10), 1_663_370), (ResNet18((3, 32, 32), 10), 11_173_962)],
    ids=lambda value: type(value).__name__,
)
def test_networks_of_papers_have_their_papers_size(model: Model, parameters: int):
    assert sum(parameter.numel() for parameter in model.parameters()) == parameters


@pytest.mark.parametrize(("kind", "layers"), [(ResNet8, 8), (ResNet18, 18)])
def test_a_residual_network_is_as_deep_as_it_says(kind: type[Model], layers: int):
    weights = [module for module in kind((3, 32, 32), 10).modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    shortcuts = [module for module in weights if isinstance(module, nn.Conv2d) and module.kernel_size == (1, 1)]
    assert len(weights) - len(shortcuts) == layers


def test_the_hidden_layers_can_be_chosen():
    model = MLP((4,), 2, hidden=(3,))
    assert [tuple(parameter.shape) for parameter in model.parameters()] == [(3, 4), (3,), (2, 3), (2,)]


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 32, 32), (1, 5, 9)])
@pytest.mark.parametrize("kind", [CNN, ResNet8, ViT])
def test_images_may_have_any_size(kind: type[Model], shape: tuple[int, int, int]):
    assert kind(shape, 3)(torch.zeros(2, *shape)).shape == (2, 3)


@pytest.mark.parametrize("shape", [(7,), (8, 8), (1, 2, 2), (1, 3, 8, 8)])
@pytest.mark.parametrize("kind", [CNN, ViT])
def test_what_is_no_image_is_refused_with_a_remedy(kind: type[Model], shape: tuple[int, ...]):
    with pytest.raises(ExperimentError, match=r"takes images .* the samples are") as caught:
        kind(shape, 3)
    assert 'model = "mlp"' in caught.value.fix


def test_every_place_of_an_image_has_a_position_of_its_own():
    found = positions(7, 8)
    assert found.shape[0] == len({tuple(row) for row in found.tolist()}) == 56

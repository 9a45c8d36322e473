import pytest
import torch
import torch.nn.functional as F
from torch import nn

from fedspec.errors import ExperimentError
from fedspec.federated.lora import Factors, LoRALinear, adapt, fresh, grown
from fedspec.models.mlp import MLP


@pytest.fixture
def layer() -> LoRALinear:
    return LoRALinear(nn.Linear(6, 4), rank=2, scale=2.0)


def test_a_fresh_adapter_changes_nothing_and_can_learn(layer: LoRALinear) -> None:
    layer.set(fresh(layer.base, 2, 42, "layer").to(torch.float32))
    inputs = torch.randn(3, 6)
    torch.testing.assert_close(layer(inputs), layer.base(inputs), rtol=0, atol=0)
    layer(inputs).square().sum().backward()
    assert layer.B.grad is not None
    assert layer.B.grad.abs().min() > 0
    assert layer.base.weight.grad is None


def test_the_layer_computes_w0_plus_s_b_a(layer: LoRALinear) -> None:
    factors = Factors(torch.randn(4, 2), torch.randn(2, 6))
    layer.set(factors)
    inputs = torch.randn(5, 7, 6)
    weight = layer.base.weight + 2.0 * factors.B @ factors.A
    torch.testing.assert_close(layer(inputs), F.linear(inputs, weight, layer.base.bias))


def test_what_is_set_is_what_one_gets_also_at_another_rank(layer: LoRALinear) -> None:
    for rank in (2, 3, 1):
        factors = Factors(torch.randn(4, rank), torch.randn(rank, 6))
        layer.set(factors)
        assert torch.equal(layer.get().B, factors.B)
        assert torch.equal(layer.get().A, factors.A)
    kept = layer.get()
    with torch.no_grad():
        layer.A.add_(1)
    assert not torch.equal(layer.get().A, kept.A)
    assert torch.equal(factors.A, kept.A)


def test_fresh_factors_depend_on_their_purpose_only() -> None:
    base = nn.Linear(6, 4)
    torch.manual_seed(0)
    first = fresh(base, 2, 42, 0, "hidden.0")
    torch.manual_seed(1)
    assert torch.equal(first.A, fresh(base, 2, 42, 0, "hidden.0").A)
    assert not torch.equal(first.A, fresh(base, 2, 42, 0, "hidden.1").A)
    assert not torch.equal(first.A, fresh(base, 2, 43, 0, "hidden.0").A)


def test_growing_keeps_the_product_and_opens_directions_that_learn(layer: LoRALinear) -> None:
    factors = Factors(torch.randn(4, 2), torch.randn(2, 6))
    more = grown(factors, 5, "test")
    assert more.rank == 5
    assert torch.equal(more.B @ more.A, factors.B @ factors.A)
    layer.set(more)
    layer(torch.randn(3, 6)).square().sum().backward()
    assert layer.B.grad is not None
    assert (layer.B.grad[:, 2:].abs().sum(dim=0) > 0).all()


def test_the_scale_does_not_change_with_the_rank(layer: LoRALinear) -> None:
    layer.set(Factors(torch.ones(4, 8), torch.ones(8, 6)))
    assert layer.scale == 2.0


def test_dropout_acts_on_the_adapter_in_training_only() -> None:
    layer = LoRALinear(nn.Linear(50, 4), rank=2, scale=1.0, dropout=0.5)
    layer.set(Factors(torch.randn(4, 2), torch.randn(2, 50)))
    inputs = torch.randn(3, 50)
    assert not torch.equal(layer(inputs), layer(inputs))
    layer.eval()
    assert torch.equal(layer(inputs), layer(inputs))


def test_adapting_a_model_freezes_it_and_keeps_its_function() -> None:
    model = MLP((6,), 3, hidden=(5, 4))
    inputs = torch.randn(2, 6)
    before = model(inputs)
    layers = adapt(model, rank=2, scale=1.0)
    assert list(layers) == ["hidden.0", "hidden.1"]
    torch.testing.assert_close(model(inputs), before)
    learns = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert learns == {f"hidden.{i}.{factor}" for i in (0, 1) for factor in "AB"}


def test_only_linear_layers_can_be_adapted() -> None:
    model = MLP((6,), 3)
    model.lora_targets = ("hidden",)
    with pytest.raises(ExperimentError, match="hidden, which is a ModuleList"):
        adapt(model, rank=2, scale=1.0)

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from fedspec.data.base import Split
from fedspec.federated.client import train, train_epoch
from fedspec.federated.experiment import Experiment
from fedspec.federated.lora import Factors, scale_of
from fedspec.federated.seeding import generator
from fedspec.federated.spectral import LowRank, refactor
from fedspec.federated.state import Weights
from fedspec.federated.updates import Updates

Small = Callable[..., Experiment]


@pytest.fixture
def experiment(small: Small) -> Experiment:
    made = small(local_epochs=2, batch_size=16)
    made.resident.install(made.initial_weights())
    return made


def send(experiment: Experiment, round: int = 1, client: int = 0) -> Weights:
    return train(experiment.resident, experiment.clients[0], experiment.config, round, client).weights


def test_a_client_takes_the_steps_of_a_bare_loop(experiment: Experiment) -> None:
    """W0 + s B A by hand, a fresh AdamW, shuffles named by (seed, round, client)."""
    config, base, data = experiment.config, experiment.base, experiment.clients[0]
    start = experiment.initial_weights().adapter
    factors = [[start[name].B.clone().requires_grad_(), start[name].A.clone().requires_grad_()] for name in start]

    def logits(inputs: Tensor) -> Tensor:
        hidden = inputs.flatten(1)
        for name, (B, A) in zip(start, factors, strict=True):
            weight = base[f"{name}.weight"] + scale_of(config) * B @ A
            hidden = F.relu(F.linear(hidden, weight, base[f"{name}.bias"]))
        return F.linear(hidden, base["out.weight"], base["out.bias"])

    optimizer = torch.optim.AdamW([factor for pair in factors for factor in pair], lr=config.lr, weight_decay=0.0)
    order = generator("shuffle", config.seed, 3, 0)
    losses = []
    for _ in range(2):
        for batch in torch.randperm(len(data), generator=order).split(16):
            loss = F.cross_entropy(logits(data.inputs[batch]), data.labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses += [loss.item()] * len(batch)

    done = train(experiment.resident, data, config, 3, 0)
    sent, mean_loss = done.weights, done.loss
    assert mean_loss == pytest.approx(sum(losses) / len(losses), rel=1e-4)
    for name, (B, A) in zip(start, factors, strict=True):
        torch.testing.assert_close(sent.adapter[name].B, B.detach(), rtol=1e-2, atol=1e-3)
        torch.testing.assert_close(sent.adapter[name].A, A.detach(), rtol=1e-2, atol=1e-3)


def test_the_same_round_of_the_same_client_is_the_same_to_the_bit(small: Small) -> None:
    experiment = small(lora_dropout=0.3)
    experiment.resident.install(experiment.initial_weights())
    first = send(experiment).adapter["hidden.0"]
    torch.rand(7)
    again = send(experiment).adapter["hidden.0"]
    assert torch.equal(first.B, again.B)
    assert torch.equal(first.A, again.A)


@pytest.mark.parametrize(("round", "client"), [(2, 0), (1, 1)])
def test_batches_differ_between_rounds_and_clients(experiment: Experiment, round: int, client: int) -> None:
    assert not torch.equal(send(experiment).adapter["hidden.0"].B, send(experiment, round, client).adapter["hidden.0"].B)


@pytest.mark.parametrize("weight_decay", [0.0, 0.5])
def test_a_factor_without_a_gradient_decays_by_lr_times_weight_decay_in_each_step(weight_decay: float, small: Small) -> None:
    """Decoupled decay; inputs of zero leave the first layer's A without a gradient."""
    experiment = small(lr=0.02, weight_decay=weight_decay, local_epochs=2, batch_size=16)
    start = experiment.initial_weights()
    experiment.resident.install(start)
    nothing = Split(torch.zeros_like(experiment.clients[0].inputs[:32]), experiment.clients[0].labels[:32])
    sent = train(experiment.resident, nothing, experiment.config, 1, 0).weights
    expected = start.adapter["hidden.0"].A * (1 - 0.02 * weight_decay) ** 4
    torch.testing.assert_close(sent.adapter["hidden.0"].A, expected, rtol=1e-5, atol=0)


def test_the_frozen_base_stays_as_it_was(experiment: Experiment) -> None:
    send(experiment)
    for name, layer in experiment.resident.layers.items():
        assert torch.equal(layer.base.weight, experiment.base[f"{name}.weight"])
    assert torch.equal(experiment.resident.module.state_dict()["out.weight"], experiment.base["out.weight"])


def test_dead_directions_learn_again(experiment: Experiment) -> None:
    """From a product of rank 1 in factors of rank 4, training reaches rank 4."""

    def numerical_rank(factors: Factors) -> int:
        S = LowRank.of(factors, 1.0).svd().S
        return int((S > 1e-4 * S[0]).sum())

    start = experiment.initial_weights()
    adapter = {}
    for name, factors in start.adapter.items():
        line = LowRank(torch.ones(factors.B.shape[0], 1).double() / 100, factors.A[:1].double())
        adapter[name] = refactor(line.svd(), 4, 2.0, "even", "test", name).to(torch.float32)
        assert numerical_rank(adapter[name]) == 1
    experiment.resident.install(replace(start, adapter=adapter))
    sent = send(experiment).adapter
    assert [numerical_rank(factors) for factors in sent.values()] == [4, 4]


def test_an_epochs_loss_is_the_mean_over_samples_not_over_batches() -> None:
    module = torch.nn.Linear(2, 2)
    data = Split(torch.randn(5, 2), torch.tensor([0, 1, 1, 0, 1]))
    still = Updates(list(module.parameters()), lr=0.0, weight_decay=0.0, momentum=0.0)
    loss = train_epoch(module, still, data, 2, torch.tensor([4, 2, 0, 1, 3]))
    assert loss == pytest.approx(float(F.cross_entropy(module(data.inputs), data.labels).detach()), rel=1e-6)

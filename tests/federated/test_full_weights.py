"""Full weights, client and server optimisers, sampled clients: what each is by hand, and that all of it resumes bit for bit."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from fedspec.config import FederatedConfig
from fedspec.federated.aggregators.scaffold import Scaffold
from fedspec.federated.chain import Chain
from fedspec.federated.client import train
from fedspec.federated.events import ClientDone, RoundDone
from fedspec.federated.experiment import Experiment
from fedspec.federated.lora import adapt
from fedspec.federated.rounds import rounds, sampled
from fedspec.federated.seeding import generator
from fedspec.federated.state import State
from fedspec.models.cnn import CNN
from fedspec.models.mlp import MLP
from tests.federated.conftest import saved_and_loaded

Small = Callable[..., Experiment]
FULL: dict[str, Any] = {"tune": "full", "optimizer": "sgd", "lr": 0.1, "batch_size": 32}
KINDS: dict[str, dict[str, Any]] = {
    "fedavg": FULL,
    "momentum": {**FULL, "momentum": 0.9, "lr": 0.02},
    "prox": {**FULL, "prox": 0.1},
    "fedavgm": {**FULL, "server": "momentum", "server_lr": 0.7},
    "fedadam": {**FULL, "server": "adam", "server_lr": 0.01},
    "scaffold": {**FULL, "method": "scaffold"},
    "sampled scaffold": {**FULL, "method": "scaffold", "participation": 0.5},
    "lora fedavgm": {"server": "momentum", "server_lr": 0.3, "head": "aggregate", "participation": 0.7},
    "rolora fedadam": {"method": "rolora", "server": "adam", "server_lr": 0.01},
    "lora_fair fedavgm": {"method": "lora_fair", "server": "momentum", "server_lr": 0.3, "fair_weight": 0.1},
    "sampled fedrpca fedadam": {"method": "fedrpca", "server": "adam", "server_lr": 0.01, "participation": 0.7},
    "sampled florist": {"method": "florist", "kept_energy": 0.99, "participation": 0.5},
    "sampled residuals": {"method": "fedspec_residual", "participation": 0.5},
}


def done(experiment: Experiment, state: State | None = None) -> list[RoundDone]:
    return [event for event in rounds(experiment, state) if isinstance(event, RoundDone)]


def leaves(value: Any) -> list[Tensor]:
    return [leaf for leaf in torch.utils._pytree.tree_leaves(value) if isinstance(leaf, Tensor)]


@pytest.mark.parametrize("kind", KINDS)
def test_resuming_equals_never_stopping(kind: str, small: Small) -> None:
    whole = done(small(**KINDS[kind]))
    for event in whole[:-1]:
        rest = done(small(**KINDS[kind]), saved_and_loaded(event.state))
        assert [later.row for later in rest] == [later.row for later in whole[event.round :]]
        for one, other in zip(leaves(rest[-1].state), leaves(whole[-1].state), strict=True):
            assert one.dtype == other.dtype
            assert torch.equal(one, other)


@pytest.mark.parametrize("kind", KINDS)
def test_the_model_learns(kind: str, small: Small) -> None:
    rows = [event.row for event in done(small(**{"rounds": 12, "batch_size": 16, **KINDS[kind]}))]
    assert rows[-1].train_loss < rows[0].train_loss
    assert rows[-1].accuracy > rows[0].accuracy


def bare_steps(
    experiment: Experiment, client: int, round: int, change: Callable[[str, Tensor, Tensor], Tensor]
) -> dict[str, Tensor]:
    """SGD on all weights as one would write it, ``change(name, weight, gradient)`` giving the gradient that counts."""
    config, data = experiment.config, experiment.clients[client]
    weights = {name: tensor.clone().requires_grad_() for name, tensor in experiment.initial_weights().dense.items()}
    order = generator("shuffle", config.seed, round, client)
    for batch in torch.randperm(len(data), generator=order).split(config.batch_size):
        hidden = data.inputs[batch].flatten(1)
        for layer in ("hidden.0", "hidden.1"):
            hidden = F.relu(F.linear(hidden, weights[f"{layer}.weight"], weights[f"{layer}.bias"]))
        loss = F.cross_entropy(F.linear(hidden, weights["out.weight"], weights["out.bias"]), data.labels[batch])
        gradients = torch.autograd.grad(loss, list(weights.values()))
        with torch.no_grad():
            for (name, weight), gradient in zip(weights.items(), gradients, strict=True):
                weight -= config.lr * change(name, weight, gradient)
    return {name: weight.detach() for name, weight in weights.items()}


@pytest.mark.parametrize("prox", [0.0, 0.5])
def test_a_client_on_full_weights_takes_the_steps_of_a_bare_loop(prox: float, small: Small) -> None:
    experiment = small(**FULL, prox=prox)
    start = experiment.initial_weights()
    experiment.resident.install(start)
    sent = train(experiment.resident, experiment.clients[1], experiment.config, 1, 1).weights
    expected = bare_steps(experiment, 1, 1, lambda name, weight, gradient: gradient + prox * (weight - start.dense[name]))
    assert sent.adapter == {}
    assert sent.dense.keys() == expected.keys() == experiment.base.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(sent.dense[name], tensor, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("kind", [kind for kind, settings in KINDS.items() if settings.get("tune") == "full"])
def test_gradients_that_are_written_down_are_autograds(kind: str, small: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = {**KINDS[kind], "dtype": "float64", "rounds": 2}
    experiment = small(**settings)
    taken: list[int] = []
    step = Chain.step
    monkeypatch.setattr(Chain, "step", lambda chain, *given: taken.append(1) or step(chain, *given))
    module = experiment.resident.module
    assert Chain.whole(module, list(module.parameters())) is not None
    written = done(experiment)[-1]
    # In both rounds, and nobody else's: a client that is not sampled takes none.
    most = 2 * sum(-(-len(client) // 32) for client in experiment.clients)
    assert len(taken) == most if "sampled" not in kind else 0 < len(taken) < most
    monkeypatch.setattr(Chain, "whole", lambda module, trained: None)
    recorded = done(small(**settings))[-1]
    assert written.row.train_loss == pytest.approx(recorded.row.train_loss, rel=1e-9)
    for one, other in zip(leaves(written.state), leaves(recorded.state), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)


def test_only_a_chain_that_is_trained_whole_is_one() -> None:
    class Doubled(MLP):
        def forward(self, inputs: Tensor) -> Tensor:
            return 2 * super().forward(inputs)

    module, doubled = MLP((4,), 3), Doubled((4,), 3)
    parameters = list(module.parameters())
    assert Chain.whole(module, parameters[::-1]) is not None
    assert Chain.whole(module, parameters[1:]) is None
    assert Chain.whole(doubled, list(doubled.parameters())) is None
    assert Chain.whole(CNN((1, 12, 12), 3), parameters) is None
    hooked = MLP((4,), 3)
    hooked.out.register_forward_hook(lambda *given: None)
    assert Chain.whole(hooked, list(hooked.parameters())) is None
    tied = MLP((4,), 3, (6, 6, 6))
    tied.get_submodule("hidden.2").weight = tied.get_submodule("hidden.1").weight  # type: ignore[assignment]
    assert Chain.whole(tied, list(tied.parameters())) is None
    adapt(module, rank=2, scale=1.0)
    assert Chain.whole(module, list(module.parameters())) is None


def test_scaffolds_variates_are_the_mean_gradients_that_its_clients_saw(small: Small) -> None:
    experiment = small(**KINDS["scaffold"], rounds=2)
    config = experiment.config
    assert isinstance(config, FederatedConfig)
    start = experiment.initial_weights().dense
    first, _ = done(experiment)
    for client in range(3):
        seen = {name: torch.zeros_like(tensor) for name, tensor in start.items()}
        steps = -(-len(experiment.clients[client]) // config.batch_size)

        def watch(name: str, weight: Tensor, gradient: Tensor, seen: dict[str, Tensor] = seen, steps: int = steps) -> Tensor:
            seen[name] += gradient / steps
            return gradient

        bare_steps(experiment, client, 1, watch)
        for name, variate in first.state["method"]["clients"][client].items():
            torch.testing.assert_close(variate, seen[name], rtol=1e-3, atol=1e-4)
    for name, server in first.state["method"]["server"].items():
        own = [first.state["method"]["clients"][client][name] for client in range(3)]
        torch.testing.assert_close(server, torch.stack(own).mean(0), rtol=1e-4, atol=1e-6)
    correction = Scaffold.of(config).correction(first.state["method"], 1)
    name = "out.weight"
    expected = first.state["method"]["server"][name] - first.state["method"]["clients"][1][name]
    torch.testing.assert_close(correction[name], expected)


def test_scaffold_sends_its_variates_beside_the_weights(small: Small) -> None:
    [scaffold], [fedavg] = (done(small(**{**FULL, "method": method}, rounds=1)) for method in ("scaffold", "fedavg"))
    assert scaffold.row.communication_bytes == 2 * fedavg.row.communication_bytes > 0


def test_the_servers_momentum_is_the_sum_of_decayed_steps(small: Small) -> None:
    """Two rounds of FedAvgM by hand, from the means that plain averaging would have installed."""
    experiment = small(**KINDS["fedavgm"], rounds=2)
    start = experiment.initial_weights().dense["out.weight"].double()
    first, second = (event.state["dense"]["out.weight"].double() for event in done(experiment))
    plain = small(**FULL, rounds=1)
    step = done(plain)[0].state["dense"]["out.weight"].double() - start
    torch.testing.assert_close(first, start + 0.7 * step, rtol=1e-4, atol=1e-5)
    mean = (
        done(small(**FULL, rounds=2), done_with(plain, first=done(experiment)[0].state))[0]
        .state["dense"]["out.weight"]
        .double()
    )
    torch.testing.assert_close(second, first + 0.7 * (0.9 * step + (mean - first)), rtol=1e-3, atol=1e-4)


def done_with(plain: Experiment, first: State) -> State:
    """The first round's state of a run with a server optimiser, for one without."""
    return {**first, "server": {}}


def test_what_a_round_does_not_train_stays_whatever_the_servers_momentum(small: Small) -> None:
    events = done(small(**KINDS["rolora fedadam"]))
    for before, after in pairwise(events):
        stays = "A" if after.round % 2 else "B"
        for layer, factors in after.state["adapter"].items():
            assert torch.equal(factors[stays], before.state["adapter"][layer][stays])


def test_a_share_of_the_clients_is_sampled_without_replacement_and_by_name_alone(small: Small) -> None:
    config = FederatedConfig(clients=10, participation=0.3)
    drawn = [tuple(sampled(config, round)) for round in range(1, 40)]
    assert {len(clients) for clients in drawn} == {len(set(clients)) for clients in drawn} == {3}
    assert {client for clients in drawn for client in clients} == set(range(10))
    assert len(set(drawn)) > 20
    assert drawn[4] == tuple(sampled(config, 5))
    assert sampled(FederatedConfig(clients=3, participation=0.01), 1) != []
    events = list(rounds(small(clients=4, participation=0.5, rounds=2)))
    for number in (1, 2):
        present = sampled(FederatedConfig(clients=4, participation=0.5), number)
        assert [event.client for event in events if isinstance(event, ClientDone) and event.round == number] == present
        [row] = [event.row for event in events if isinstance(event, RoundDone) and event.round == number]
        assert (row.participating, row.n_clients) == (2, 4)


def test_who_is_sampled_again_owes_the_residuals_that_it_missed(small: Small) -> None:
    debts, owed = [0, 0, 0, 0], 0
    for event in done(small(**KINDS["sampled residuals"], clients=4, rounds=6)):
        present = sampled(FederatedConfig(clients=4, participation=0.5), event.round)
        after = [sum(debt["residual"].values()) for debt in event.state["debts"]]
        [folded] = {after[client] - debts[client] for client in range(4) if client not in present}
        missed = sum(debts[client] for client in present)
        assert event.row.bytes_residual == 4 * (2 * folded + missed)
        assert [after[client] for client in present] == [0, 0]
        debts, owed = after, owed + missed
    assert owed > 0

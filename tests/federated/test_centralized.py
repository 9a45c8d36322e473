import io
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from fedspec.config import CentralizedConfig, FederatedConfig
from fedspec.errors import ExperimentError
from fedspec.federated.centralized import passes
from fedspec.federated.events import ClientDone, RoundDone
from fedspec.federated.experiment import Experiment, prepare
from fedspec.federated.seeding import generator


def experiment(**changes: Any) -> Experiment:
    return prepare(CentralizedConfig(**{"rounds": 4, "batch_size": 64, "lr": 0.01, **changes}), device="cpu")


@pytest.mark.parametrize("changes", [{}, {"head": "aggregate", "lora_dropout": 0.2, "local_epochs": 2, "weight_decay": 0.1}])
def test_resuming_equals_never_stopping_from_every_round(changes: dict[str, Any]) -> None:
    whole = [event for event in passes(experiment(**changes)) if isinstance(event, RoundDone)]
    assert [event.round for event in whole] == [1, 2, 3, 4]
    for event in whole:
        buffer = io.BytesIO()
        torch.save(event.state, buffer)
        state = torch.load(io.BytesIO(buffer.getvalue()), weights_only=True)
        rest = [later for later in passes(experiment(**changes), state) if isinstance(later, RoundDone)]
        assert [later.row for later in rest] == [later.row for later in whole[event.round :]]


def test_all_rounds_are_the_passes_of_one_optimiser() -> None:
    changes = {"rounds": 3, "weight_decay": 0.1, "dtype": "float64"}
    *_, last = passes(experiment(**changes))
    assert isinstance(last, RoundDone)

    bare = experiment(**changes)
    config, resident, [data] = bare.config, bare.resident, bare.clients
    resident.install(bare.initial_weights())
    optimizer = torch.optim.AdamW(resident.trained(), lr=config.lr, weight_decay=config.weight_decay)
    resident.module.train()
    for number in (1, 2, 3):
        for batch in torch.randperm(len(data), generator=generator("shuffle", config.seed, number)).split(64):
            optimizer.zero_grad()
            F.cross_entropy(resident.module(data.inputs[batch]), data.labels[batch]).backward()
            optimizer.step()
    for name, factors in resident.snapshot().adapter.items():
        torch.testing.assert_close(last.state["adapter"][name]["A"], factors.A, rtol=0, atol=1e-6)
        torch.testing.assert_close(last.state["adapter"][name]["B"], factors.B, rtol=0, atol=1e-6)
    assert {int(steps) for steps in last.state["optimizer"]["steps"]} == {3 * 10}


def test_it_sees_all_the_data_in_one_place_and_sends_nothing() -> None:
    client, round_done = list(passes(experiment(rounds=1)))
    assert isinstance(client, ClientDone)
    assert isinstance(round_done, RoundDone)
    assert client.samples == 629
    row = round_done.row
    assert (row.method, row.alpha, row.n_clients, row.participating, row.communication_bytes) == ("centralized", None, 1, 1, 0)
    assert row.frobenius_gap is None
    assert row.partition_hash == ""


def test_it_learns_the_task() -> None:
    rows = [event.row for event in passes(experiment(rounds=10, batch_size=16)) if isinstance(event, RoundDone)]
    assert rows[-1].accuracy > 0.85


def test_a_federated_experiment_has_no_passes() -> None:
    with pytest.raises(ExperimentError, match="rounds"):
        next(passes(prepare(FederatedConfig(clients=2), device="cpu")))

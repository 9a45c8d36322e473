"""The stacked engine trains what the sequential one trains: it differs by the order of sums and by nothing else."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from fedspec.config import FederatedConfig
from fedspec.data.base import Split
from fedspec.federated import stacked
from fedspec.federated.aggregators import AGGREGATORS, LORA
from fedspec.federated.events import ClientDone, ClientRejected, RoundDone, StepDone
from fedspec.federated.experiment import Experiment, prepare
from fedspec.federated.rounds import rounds
from fedspec.models import LORA as LORA_MODELS
from fedspec.models import MODELS
from fedspec.models.mlp import MLP
from tests.data.conftest import write_sst2
from tests.federated.conftest import saved_and_loaded
from tests.tinyweights import write_bert, write_vit

Small = Callable[..., Experiment]
# Models that are made from weights, which tests have in small.
TINY = ("vit_b_16", "bert")

# Ragged clients (a Dirichlet split of 0.1), batches that are not full, and every setting that local training reads.
SETTINGS: dict[str, dict[str, Any]] = {
    "as it is": {},
    "two epochs": {"local_epochs": 2},
    "batches larger than a client": {"batch_size": 512},
    "single samples": {"batch_size": 1},
    "a head that is trained": {"head": "aggregate"},
    "weight decay": {"weight_decay": 0.1},
    "FedProx": {"prox": 0.5, "head": "aggregate"},
    "SGD": {"optimizer": "sgd", "lr": 0.02},
    "SGD with momentum": {"optimizer": "sgd", "momentum": 0.9, "lr": 0.002, "local_epochs": 2},
    "a client alone": {"clients": 1, "split": "iid", "alpha": None},
    "some of the clients": {"participation": 0.5},
    "a rank that grows": {"rank_rule": "nuclear", "tail_threshold": 0.001},
}


def differences(one: Any, two: Any) -> list[float]:
    """The largest difference of each pair of tensors, at every depth."""
    if isinstance(one, dict):
        assert one.keys() == two.keys()
        return [difference for key in one for difference in differences(one[key], two[key])]
    if isinstance(one, torch.Tensor):
        assert (one.shape, one.dtype) == (two.shape, two.dtype)
        return [float((one - two).abs().max())] if one.numel() else []
    return []


def last(events: list[Any]) -> RoundDone:
    return next(event for event in reversed(events) if isinstance(event, RoundDone))


def both(small: Small, **changes: Any) -> list[list[Any]]:
    """The events of a run in float64 of each engine."""
    settings = {"clients": 5, "alpha": 0.1, "batch_size": 16, "rounds": 1, "dtype": "float64", **changes}
    return [list(rounds(small(engine=engine, **settings))) for engine in ("sequential", "stacked")]


@pytest.mark.parametrize("changes", SETTINGS.values(), ids=SETTINGS)
def test_a_round_is_the_sequential_one_to_1e_9(small: Small, changes: dict[str, Any]) -> None:
    sequential, stacked = both(small, **changes)
    assert max(differences(last(sequential).state, last(stacked).state)) < 1e-9
    assert last(stacked).row.train_loss == pytest.approx(last(sequential).row.train_loss, rel=1e-12)
    told = [[event for event in events if isinstance(event, ClientDone)] for events in (sequential, stacked)]
    assert [(done.client, done.samples) for done in told[0]] == [(done.client, done.samples) for done in told[1]]
    assert [done.loss for done in told[1]] == pytest.approx([done.loss for done in told[0]], rel=1e-12)


@pytest.mark.parametrize("method", [name for name, entry in AGGREGATORS.items() if entry.traits >= LORA])
def test_three_rounds_of_every_method_are_the_sequential_ones(small: Small, method: str) -> None:
    """Among them those that train one factor, and those that fold into the base."""
    sequential, stacked = both(small, method=method, rounds=3)
    assert max(differences(last(sequential).state, last(stacked).state)) < 1e-7


def test_many_rounds_in_float32_reach_the_same_accuracy(small: Small) -> None:
    """Rounding differs and grows; what is learnt does not."""
    accuracies = []
    for engine in ("sequential", "stacked"):
        runs = [list(rounds(small(engine=engine, clients=10, rounds=20, batch_size=16, seed=seed))) for seed in (0, 1)]
        accuracies.append([last(events).row.accuracy for events in runs])
    assert accuracies[0] == pytest.approx(accuracies[1], abs=0.05)


@pytest.mark.parametrize("held", [1, 70_000])
def test_samples_may_be_gathered_a_few_steps_at_a_time(small: Small, held: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps of 64 float64 numbers for each of at most 80 samples: one step, and one or two, at a time."""
    _, whole = both(small)
    monkeypatch.setattr(stacked, "GATHERED_BYTES", held)
    _, pieces = both(small)
    assert max(differences(last(whole).state, last(pieces).state)) == 0


def test_a_subclass_that_computes_something_else_is_no_chain() -> None:
    class Doubled(MLP):
        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            return 2 * super().forward(inputs)

    assert MLP((4,), 3).chain == ("hidden.0", "hidden.1", "out")
    assert Doubled((4,), 3).chain == ()


def test_it_tells_of_each_step_and_of_the_clients_in_their_order(small: Small) -> None:
    events = list(rounds(small(engine="stacked", rounds=1, clients=4, batch_size=16, local_epochs=2)))
    steps = [event for event in events if isinstance(event, StepDone)]
    longest = max(event.samples for event in events if isinstance(event, ClientDone))
    assert [event.steps for event in steps] == list(range(1, 2 * -(-longest // 16) + 1))
    assert {event.total for event in steps} == {len(steps)}
    assert [event.client for event in events if isinstance(event, ClientDone)] == [0, 1, 2, 3]


def test_a_client_whose_update_is_not_finite_leaves_the_others_as_they_are(small: Small) -> None:
    experiment = small(engine="stacked", rounds=1, dtype="float64")
    usual = {event.client: event for event in rounds(experiment) if isinstance(event, ClientDone)}
    inputs = experiment.train.inputs.clone()
    inputs[len(experiment.clients[0])] = torch.inf  # the first sample of client 1
    train = Split(inputs, experiment.train.labels)
    broken = replace(experiment, train=train, clients=train.parts([len(data) for data in experiment.clients]))
    events = list(rounds(broken))
    assert [event.client for event in events if isinstance(event, ClientRejected)] == [1]
    kept = [event for event in events if isinstance(event, ClientDone)]
    assert kept == [usual[0], usual[2]]


def test_dropout_is_drawn_for_the_round_and_differs_from_client_to_client(small: Small) -> None:
    """One stream for all, named by the round: a takeover repeats it."""
    experiment = small(engine="stacked", lora_dropout=0.5, rounds=2)
    first, again = (list(rounds(experiment)) for _ in range(2))
    torch.rand(5)
    assert differences(last(first).state, last(again).state) == [0.0] * len(differences(last(first).state, last(again).state))
    without = list(rounds(small(engine="stacked", rounds=2)))
    assert max(differences(last(first).state, last(without).state)) > 1e-3


def test_going_on_from_a_saved_round_equals_never_stopping(small: Small) -> None:
    experiment = small(engine="stacked", method="fedspec_residual", head="aggregate", rounds=3)
    events = list(rounds(experiment))
    after_one = next(event for event in events if isinstance(event, RoundDone))
    resumed = list(rounds(experiment, saved_and_loaded(after_one.state)))
    assert last(resumed).row == last(events).row
    assert max(differences(last(resumed).state, last(events).state)) == 0.0


def test_a_run_that_is_left_in_the_middle_gives_the_model_back(small: Small) -> None:
    experiment = small(engine="stacked", rounds=1)
    usual = last(list(rounds(experiment)))
    run = rounds(experiment)
    next(run)
    run.close()  # type: ignore[attr-defined]
    assert all(layer.stack is None for layer in experiment.resident.layers.values())
    assert max(differences(last(list(rounds(experiment))).state, usual.state)) == 0.0


@pytest.mark.parametrize("head", ["frozen", "aggregate"])
@pytest.mark.parametrize("model", [name for name, entry in MODELS.items() if entry.traits >= LORA_MODELS and name not in TINY])
def test_every_model_that_carries_adapters_can_be_stacked(small: Small, model: str, head: str) -> None:
    settings = {"model": model, "head": head, "clients": 3, "batch_size": 64, "rounds": 1, "dtype": "float64", "rank": 2}
    sequential, stacked = (
        list(rounds(prepare(FederatedConfig(engine=engine, **settings), device="cpu"))) for engine in ("sequential", "stacked")
    )
    assert max(differences(last(sequential).state, last(stacked).state)) < 1e-9


@pytest.mark.parametrize("head", ["frozen", "aggregate"])
@pytest.mark.parametrize("model", TINY)
def test_every_pretrained_model_can_be_stacked(model: str, head: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In small. Texts of all lengths meet in one step, filled up to the longest; dropout inside the base is off."""
    if model == "bert":
        write_sst2(tmp_path)
        write_bert(tmp_path / "models" / "tiny", hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
        data: dict[str, Any] = {"dataset": "sst2", "pretrained": "tiny"}
    else:
        write_vit(tmp_path / "models")
        monkeypatch.setitem(MODELS, model, MODELS[model]._replace(target="tests.tinyweights:TinyViT"))
        data = {"dataset": "digits", "batch_size": 128}
    settings = {"model": model, "head": head, "clients": 2, "rounds": 1, "dtype": "float64", "rank": 2, **data}
    sequential, stacked = (
        list(rounds(prepare(FederatedConfig(engine=engine, **settings), device="cpu", data_root=tmp_path)))
        for engine in ("sequential", "stacked")
    )
    assert max(differences(last(sequential).state, last(stacked).state)) < 1e-9

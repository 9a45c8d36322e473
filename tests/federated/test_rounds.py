"""A whole run: it resumes bit for bit, rejects what is not finite, and leaks nothing from client to client."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import hypot
from typing import Any

import msgspec
import pytest
import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from fedspec.config import CentralizedConfig, config_hash, tuned_lr
from fedspec.data.base import Split
from fedspec.errors import DamagedError, ExperimentError
from fedspec.federated.aggregators import AGGREGATORS
from fedspec.federated.aggregators.base import Aggregator, Installed, LayerUpdates, Layerwise
from fedspec.federated.aggregators.fedavg import FedAvg
from fedspec.federated.client import train
from fedspec.federated.events import Aggregated, ClientDone, ClientRejected, Event, RoundDone
from fedspec.federated.experiment import Config, Experiment, prepare
from fedspec.federated.rounds import rounds
from fedspec.federated.spectral import LowRank, refactor
from fedspec.federated.state import Weights
from fedspec.registry import Entry
from tests.federated.conftest import saved_and_loaded

Small = Callable[..., Experiment]


def done(events: list[Event]) -> list[RoundDone]:
    return [event for event in events if isinstance(event, RoundDone)]


def assert_same(one: Any, two: Any) -> None:
    """Equal to the bit, at every depth."""
    assert type(one) is type(two)
    if isinstance(one, dict):
        assert one.keys() == two.keys()
        for key in one:
            assert_same(one[key], two[key])
    elif isinstance(one, torch.Tensor):
        assert one.dtype == two.dtype
        assert torch.equal(one, two)
    else:
        assert one == two


def changed(experiment: Experiment, **changes: Any) -> Config:
    config: Config = msgspec.structs.replace(experiment.config, **changes)
    return config


def poisoned(experiment: Experiment, *clients: int) -> Experiment:
    """The same experiment where some clients have a sample of infinities."""

    def bad(split: Split) -> Split:
        inputs = split.inputs.clone()
        inputs[0] = torch.inf
        return Split(inputs, split.labels)

    return replace(
        experiment,
        clients=tuple(bad(data) if client in clients else data for client, data in enumerate(experiment.clients)),
    )


VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "head": {"head": "aggregate"},
    "dropout": {"lora_dropout": 0.2, "local_epochs": 2},
    "grows": {"rank_rule": "nuclear", "tail_threshold": 0.001, "max_rank": 7},
    "float64": {"dtype": "float64", "split": "iid", "alpha": None, "singular_split": "b"},
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_resuming_equals_never_stopping_from_every_round(variant: str, method_name: str, small: Small) -> None:
    changes = {"method": method_name, **VARIANTS[variant]}
    whole = done(list(rounds(small(**changes))))
    assert [event.round for event in whole] == [1, 2, 3, 4]
    for event in whole:
        torch.manual_seed(event.round)  # what the global generator holds must not matter
        rest = done(list(rounds(small(**changes), saved_and_loaded(event.state))))
        assert [later.row for later in rest] == [later.row for later in whole[event.round :]]
        if rest:
            assert_same(rest[-1].state, whole[-1].state)
    if variant == "grows":
        # Where one factor is everybody's alike, the rank holds all: there is nothing to grow for.
        grows = method_name not in ("ffa", "rolora", "fedsvd")
        assert [event.row.rank for event in whole] == ([4, 6, 7, 7] if grows else [4, 4, 4, 4])


def test_a_round_tells_of_each_client_then_the_aggregation_then_the_round(small: Small) -> None:
    events = list(rounds(small(rounds=2)))
    kinds = [ClientDone, ClientDone, ClientDone, Aggregated, RoundDone]
    assert [type(event) for event in events] == 2 * kinds
    assert [event.round for event in events] == [1] * 5 + [2] * 5
    assert [event.client for event in events if isinstance(event, ClientDone)] == [0, 1, 2, 0, 1, 2]


def test_rows_say_what_the_run_was(small: Small) -> None:
    experiment = small(method="fedspec", rounds=1)
    [event] = done(list(rounds(experiment)))
    row = event.row
    assert (row.method, row.alpha, row.seed, row.n_clients, row.participating) == ("fedspec", 0.5, 42, 3, 3)
    assert row.config_hash == config_hash(experiment.config)
    assert row.partition_hash == experiment.partition_hash
    assert row.worst_client_accuracy is not None
    assert 0 <= row.worst_client_accuracy <= row.accuracy <= 1
    assert row.validation_accuracy is not None
    factor_bytes = 4 * 4 * (64 + 128 + 128 + 128)
    assert (row.bytes_up, row.bytes_down, row.communication_bytes) == (3 * factor_bytes, 3 * factor_bytes, 6 * factor_bytes)


def test_a_grown_rank_is_downloaded_in_its_own_round_and_uploaded_from_the_next(small: Small) -> None:
    growing = done(list(rounds(small(method="fedspec", rounds=2, **VARIANTS["grows"]))))
    assert [(event.row.rank, event.row.rank_next) for event in growing] == [(4, 6), (6, 7)]
    clients, per_rank = 3, 4 * (64 + 128 + 128 + 128)
    for event in growing:
        assert event.row.bytes_up == clients * event.row.rank * per_rank
        assert event.row.bytes_down == clients * event.row.rank_next * per_rank
        assert event.row.communication_bytes == event.row.bytes_up + event.row.bytes_down


@pytest.mark.parametrize("share", [0.5, 0.999])
def test_florist_sends_the_directions_that_it_keeps_and_nothing_else(share: float, small: Small) -> None:
    sizes = {"hidden.0": 64 + 128, "hidden.1": 128 + 128}
    events = list(rounds(small(method="florist", kept_energy=share)))
    most = 0
    for event in (event for event in events if isinstance(event, Aggregated)):
        factors = folded = 0
        for name, layer in event.layers.items():
            energy = torch.tensor(layer.singular_values, dtype=torch.float64).square().cumsum(0)
            kept = int((energy < share * energy[-1]).sum()) + 1
            factors += min(kept, 4) * sizes[name]
            # What an adapter of rank 4 cannot hold is folded: as factors, which are fewer numbers than the matrix here.
            folded += max(kept - 4, 0) * sizes[name]
            most = max(most, kept)
        [row] = [later.row for later in done(events) if later.round == event.round]
        assert (row.bytes_down, row.bytes_residual) == (3 * 4 * (factors + folded), 3 * 4 * folded)
        assert row.bytes_up == 3 * 4 * 4 * sum(sizes.values())
    assert (most > 4) == (share > 0.9)


def test_the_training_loss_counts_every_sample_once(small: Small) -> None:
    events = list(rounds(small(rounds=1)))
    clients = [event for event in events if isinstance(event, ClientDone)]
    unweighted = sum(client.loss for client in clients) / len(clients)
    weighted = sum(client.samples * client.loss for client in clients) / sum(client.samples for client in clients)
    assert abs(weighted - unweighted) > 1e-3
    assert done(events)[0].row.train_loss == pytest.approx(weighted, rel=1e-9)


def test_without_a_usable_update_the_training_loss_is_the_kept_models_over_all_samples(small: Small) -> None:
    experiment = small(rounds=1, lr=1e38)
    [event] = done(list(rounds(experiment)))
    assert event.row.participating == 0
    experiment.resident.install(experiment.initial_weights())
    inputs, labels = (torch.cat([getattr(data, part) for data in experiment.clients]) for part in ("inputs", "labels"))
    with torch.no_grad():
        loss = float(F.cross_entropy(experiment.resident.module.eval()(inputs), labels))
    assert event.row.train_loss == pytest.approx(loss, rel=1e-5)


def test_the_scale_is_alpha_over_the_configured_rank_also_after_the_rank_has_grown(small: Small) -> None:
    """In what the model computes and in what the server takes the updates for."""
    experiment = small(method="fedspec", rounds=2, lora_alpha=7.0, **{**VARIANTS["grows"], "rank": 3})
    first, second = done(list(rounds(experiment)))
    assert (first.row.rank, second.row.rank) == (3, 5)
    scale, samples = 7.0 / 3, [len(data) for data in experiment.clients]
    for number, row, start in (
        (1, first.row, experiment.initial_weights()),
        (2, second.row, Weights.from_state(first.state)),
    ):
        experiment.resident.install(start)
        layer, factors = experiment.resident.layers["hidden.0"], start.adapter["hidden.0"]
        inputs = experiment.test.inputs.flatten(1)
        with torch.no_grad():
            weight = layer.base.weight + scale * factors.B @ factors.A
            torch.testing.assert_close(layer(inputs), F.linear(inputs, weight, layer.base.bias), rtol=1e-4, atol=1e-4)
        sent = [
            train(experiment.resident, data, experiment.config, number, i).weights for i, data in enumerate(experiment.clients)
        ]
        shares = [mine / sum(samples) for mine in samples]
        norms = [LowRank.weighted_sum([w.adapter[name] for w in sent], shares, scale).norm() for name in start.adapter]
        assert row.ideal_norm == pytest.approx(hypot(*norms), rel=1e-9)


def test_fedspecs_gap_is_never_above_fedavgs_on_the_same_updates(small: Small, method_name: str) -> None:
    for event in done(list(rounds(small(method=method_name, alpha=0.1)))):
        row = event.row
        assert row.cf_gap_fedspec is not None
        assert row.cf_gap_fedavg is not None
        assert row.ideal_norm is not None
        nothing = 1e-12 * row.ideal_norm
        assert row.cf_gap_fedspec <= row.cf_gap_fedavg + nothing
        assert row.frobenius_gap is not None
        if method_name in ("lora_fair", "fedrpca"):  # of the adapter's rank, and so no nearer than the nearest
            assert row.frobenius_gap >= row.cf_gap_fedspec - nothing
        elif method_name == "florist":
            assert row.frobenius_gap <= 0.1**0.5 * row.ideal_norm
        else:
            of_fedspec, of_fedavg = ("fedspec", "flexlora"), ("fedavg", "fedavg_rebalanced")
            gaps = dict.fromkeys(of_fedspec, row.cf_gap_fedspec) | dict.fromkeys(of_fedavg, row.cf_gap_fedavg)
            assert row.frobenius_gap == pytest.approx(gaps.get(method_name, 0.0), rel=1e-6, abs=nothing)


def test_the_model_learns(small: Small, method_name: str) -> None:
    # Three clients whose sparse parts, nearly all of what they learn, count twice take steps that are twice as long.
    lr = tuned_lr(method_name) / (2 if method_name == "fedrpca" else 1)
    rows = [event.row for event in done(list(rounds(small(method=method_name, rounds=8, batch_size=16, lr=lr))))]
    assert rows[-1].accuracy > 0.6 > 0.4 > rows[0].accuracy
    assert rows[-1].train_loss < rows[0].train_loss


def test_two_preparations_of_one_configuration_are_the_same_experiment(small: Small) -> None:
    one = small(rounds=1)
    other = prepare(one.config, device="cpu")
    assert_same(one.base, other.base)
    assert_same(done(list(rounds(one)))[0].state, done(list(rounds(other)))[0].state)


def test_a_client_with_infinite_updates_is_rejected_and_the_others_go_on(
    small: Small, method_name: str, method: Aggregator
) -> None:
    experiment = poisoned(small(method=method_name, rounds=1), 1)
    events = list(rounds(experiment))
    [rejected] = [event for event in events if isinstance(event, ClientRejected)]
    assert (rejected.client, rejected.reason) == (1, "hidden.0 is not finite")
    [event] = done(events)
    assert event.row.participating == 2
    assert all(torch.isfinite(layer["B"]).all() for layer in event.state["adapter"].values())
    # The weights of the others sum to one.
    experiment.resident.install(experiment.initial_weights(), method.trained(1))
    others = [trained_alone(experiment, client).adapter for client in (0, 2)]
    samples = [len(experiment.clients[client]) for client in (0, 2)]
    shares = [number / sum(samples) for number in samples]
    norms = [LowRank.weighted_sum([other[name] for other in others], shares, 2.0).norm() for name in others[0]]
    assert event.row.ideal_norm == pytest.approx(hypot(*norms), rel=1e-9)


def test_a_round_without_a_usable_update_keeps_the_model_and_says_so(small: Small, method_name: str) -> None:
    experiment = small(method=method_name, rounds=2, head="aggregate")
    [first] = done(list(rounds(replace(experiment, config=changed(experiment, rounds=1)))))
    exploding = replace(experiment, config=changed(experiment, lr=1e38))
    events = list(rounds(exploding, first.state))
    [second] = done(events)
    assert_same({**second.state, "round": 1}, first.state)
    assert [event.clients for event in events if isinstance(event, Aggregated)] == [0]
    assert [event.client for event in events if isinstance(event, ClientRejected)] == [0, 1, 2]
    assert second.row.participating == 0
    assert second.row.frobenius_gap is None
    assert second.row.accuracy == first.row.accuracy


def trained_alone(experiment: Experiment, client: int) -> Weights:
    """What a client sends in the first round."""
    return train(experiment.resident, experiment.clients[client], experiment.config, 1, client).weights


@pytest.mark.parametrize("head", ["frozen", "aggregate"])
def test_nothing_leaks_from_client_to_client(head: str, small: Small) -> None:
    """A client sends the same, whatever the clients before it have learnt."""
    experiment = small(head=head)
    experiment.resident.install(experiment.initial_weights())
    alone = trained_alone(experiment, 1)
    trained_alone(experiment, 0)
    assert_same(alone.to_state(), trained_alone(experiment, 1).to_state())
    assert bool(alone.dense) == (head == "aggregate")


def test_the_head_is_the_sample_weighted_mean_of_the_clients_heads(small: Small) -> None:
    experiment = small(rounds=1, head="aggregate")
    experiment.resident.install(experiment.initial_weights())
    sent = [trained_alone(experiment, client).dense["out.weight"].double() for client in range(3)]
    samples = torch.tensor([len(data) for data in experiment.clients], dtype=torch.float64)
    expected = torch.tensordot(samples / samples.sum(), torch.stack(sent), dims=1)

    [event] = done(list(rounds(experiment)))
    torch.testing.assert_close(event.state["dense"]["out.weight"], expected.float(), rtol=1e-6, atol=1e-8)
    frozen = done(list(rounds(small(rounds=1))))[0]
    assert frozen.state["dense"] == {}
    head_bytes = 4 * (128 * 10 + 10)
    assert event.row.bytes_head == 6 * head_bytes
    assert event.row.communication_bytes - frozen.row.communication_bytes == 6 * head_bytes


@pytest.mark.parametrize("engine", ["sequential", "stacked"])
def test_what_a_round_leaves_can_be_trained_on(engine: str, method_name: str, small: Small) -> None:
    """No tensor of a state is one of torch's inference tensors, of which there are no gradients."""
    for event in done(list(rounds(small(method=method_name, rounds=2, engine=engine, head="aggregate")))):
        tensors = [leaf for leaf in torch.utils._pytree.tree_leaves(event.state) if isinstance(leaf, torch.Tensor)]
        assert tensors
        assert not any(tensor.is_inference() for tensor in tensors)


def test_what_a_method_remembers_can_be_trained_on_too(small: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    def apply(method: FedAvg, state: Any, updates: Any) -> Any:
        means = {name: layer.mean for name, layer in updates.items()}
        assert all(mean.A.is_inference() for mean in means.values())
        return {name: method.layer(layer) for name, layer in updates.items()}, {"A": [mean.A for mean in means.values()]}

    monkeypatch.setattr(FedAvg, "apply", apply)
    [event] = done(list(rounds(small(method="fedavg", rounds=1))))
    assert event.state["method"]["A"]
    assert not any(tensor.is_inference() for tensor in event.state["method"]["A"])


class NoFloat64(TorchDispatchMode):
    """Fails on any operation that reads or makes a float64 tensor."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for value in torch.utils._pytree.tree_leaves((args, kwargs, result)):
            assert not (isinstance(value, torch.Tensor) and value.dtype == torch.float64), f"{func} meets float64"
        return result


@pytest.mark.parametrize("head", ["frozen", "aggregate"])
def test_no_float64_tensor_reaches_the_device(head: str, small: Small) -> None:
    """Installing, training and evaluating see float32 only; aggregation, on the CPU, is where float64 lives."""
    events = rounds(small(method="fedspec", rounds=2, head=head, lora_dropout=0.1))
    event: Event = next(events)  # initial weights are drawn in float64 on the CPU
    aggregating = False
    seen = [event]
    while True:
        aggregating = isinstance(event, ClientDone) and event.client == 2
        try:
            if aggregating:
                event = next(events)
            else:
                with NoFloat64():  # type: ignore[no-untyped-call]
                    event = next(events)
        except StopIteration:
            break
        seen.append(event)
    assert len(seen) == 10


class FoldsItsTail(Layerwise):
    """FedSpec at rank 1 with what it misses added to the base: exact, whatever the rank."""

    def layer(self, updates: LayerUpdates) -> Installed:
        kept = refactor(updates.spectrum, 1, updates.scale, updates.split, *updates.purpose)
        return Installed(kept, folded=updates.ideal - LowRank.of(kept, updates.scale))


def test_a_method_may_fold_into_the_base_and_the_delta_is_state_and_is_sent(
    small: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(AGGREGATORS, "folds", Entry(f"{__name__}:FoldsItsTail", "Folds its tail"))
    whole = done(list(rounds(small(method="folds"))))
    for event in whole:
        assert event.row.frobenius_gap == pytest.approx(0, abs=1e-10)
        assert event.row.bytes_residual > 0
        rest = done(list(rounds(small(method="folds"), saved_and_loaded(event.state))))
        assert [later.row for later in rest] == [later.row for later in whole[event.round :]]
    # The effective base is W0 + delta; a later experiment on the same resident starts from W0 again.
    experiment = small()
    resident = experiment.resident
    resident.install(experiment.initial_weights())
    layer = resident.layers["hidden.0"]
    plain = layer.base.weight.clone()
    next(rounds(experiment, whole[0].state))
    torch.testing.assert_close(layer.base.weight, plain + whole[0].state["delta"]["hidden.0"])
    resident.install(experiment.initial_weights())
    assert torch.equal(layer.base.weight, plain)


def test_a_state_of_another_experiment_is_refused(small: Small) -> None:
    [event] = done(list(rounds(small(rounds=1))))
    with pytest.raises(DamagedError, match="not one of this experiment"):
        next(rounds(prepare(changed(small(), model="2nn"), device="cpu"), event.state))
    with pytest.raises(DamagedError, match="adapter"):
        next(rounds(small(), {"round": 1}))


def test_a_model_that_diverges_ends_the_experiment_with_a_remedy(small: Small) -> None:
    with pytest.raises(ExperimentError, match="diverged") as caught:
        list(rounds(small(lr=1e25, batch_size=1000)))
    assert "lr" in caught.value.fix


def test_a_centralized_experiment_has_no_rounds() -> None:
    with pytest.raises(ExperimentError, match="passes"):
        next(rounds(prepare(CentralizedConfig(), device="cpu")))

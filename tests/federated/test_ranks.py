"""Clients with ranks of their own: each trains, sends and gets its own, and what one rank for all means stays as it is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest
import torch
import torch.nn.functional as F

from fedspec.errors import DamagedError
from fedspec.federated import rounds as engine
from fedspec.federated.aggregation import ClientUpdate
from fedspec.federated.aggregators import AGGREGATORS, RANKS
from fedspec.federated.aggregators.base import LayerUpdates
from fedspec.federated.aggregators.fedavg import FedAvg
from fedspec.federated.aggregators.fedavg_rebalanced import FedAvgRebalanced
from fedspec.federated.aggregators.fedspec import FedSpec
from fedspec.federated.aggregators.flexlora import FlexLoRA
from fedspec.federated.aggregators.flora import FLoRA
from fedspec.federated.aggregators.florist import FLoRIST
from fedspec.federated.events import RoundDone
from fedspec.federated.experiment import Experiment
from fedspec.federated.lora import Factors
from fedspec.federated.rounds import rounds
from fedspec.federated.spectral import LowRank
from fedspec.federated.state import State, Weights
from tests.federated.conftest import draw, saved_and_loaded

Small = Callable[..., Experiment]
Updates = Callable[..., LayerUpdates]
METHODS = [name for name, entry in AGGREGATORS.items() if entry.traits >= RANKS]
MIXED: dict[str, Any] = {"ranks": (2, 6, 3), "rank": 4}
BETWEEN = 64 + 128 + 128 + 128  # the sizes of the sides of both layers


def done(experiment: Experiment, state: State | None = None) -> list[RoundDone]:
    return [event for event in rounds(experiment, state) if isinstance(event, RoundDone)]


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[ClientUpdate]:
    """What clients send, as a run goes on."""
    seen: list[ClientUpdate] = []

    def watched(config: Any, method: Any, state: Any, before: Any, updates: list[ClientUpdate], round: int) -> Any:
        seen.extend(updates)
        return aggregate(config, method, state, before, updates, round)

    aggregate = engine.aggregate
    monkeypatch.setattr(engine, "aggregate", watched)
    return seen


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("more", [{}, {"head": "aggregate", "lora_dropout": 0.2}, {"participation": 0.6, "dtype": "float64"}])
def test_resuming_equals_never_stopping(method: str, more: dict[str, Any], small: Small) -> None:
    changes = {"method": method, **MIXED, **more}
    whole = done(small(**changes))
    for event in whole[:-1]:
        rest = done(small(**changes), saved_and_loaded(event.state))
        assert [later.row for later in rest] == [later.row for later in whole[event.round :]]
        leaves = [torch.utils._pytree.tree_leaves(run[-1].state) for run in (rest, whole)]
        for one, other in zip(*leaves, strict=True):
            assert torch.equal(one, other) if isinstance(one, torch.Tensor) else one == other


@pytest.mark.parametrize("method", METHODS)
def test_one_rank_in_turn_is_one_rank_for_all(method: str, small: Small) -> None:
    """To the bit, and to the byte."""
    plain, mixed = (done(small(method=method, rounds=2, participation=0.7, **ranks)) for ranks in ({}, {"ranks": (4,)}))
    for one, other in zip(plain, mixed, strict=True):
        assert msgspec.structs.replace(other.row, config_hash=one.row.config_hash) == one.row
        for layer, factors in one.state["adapter"].items():
            assert torch.equal(factors["B"], other.state["adapter"][layer]["B"])
            assert torch.equal(factors["A"], other.state["adapter"][layer]["A"])


@pytest.mark.parametrize("method", METHODS)
def test_each_client_trains_its_own_rank_and_the_server_keeps_the_highest(
    method: str, small: Small, sent: list[ClientUpdate]
) -> None:
    events = done(small(method=method, clients=4, rounds=2, **MIXED))
    assert [(update.client, update.weights.rank) for update in sent] == 2 * [(0, 2), (1, 6), (2, 3), (3, 2)]
    assert {factors.rank for update in sent for factors in update.weights.adapter.values()} == {2, 3, 6}
    for event in events:
        assert (event.row.rank, event.row.rank_next) == (6, 6)
        assert {layer["A"].shape[0] for layer in event.state["adapter"].values()} == {6}


@pytest.mark.parametrize("method", METHODS)
def test_each_client_goes_on_from_the_first_directions_of_the_server(method: str, small: Small) -> None:
    """At every rank it computes with ``W0 + s B A``, s = 8 / 4 whatever its rank is."""
    experiment = small(method=method, rounds=1, **MIXED)
    [event] = done(experiment)
    after = Weights.from_state(event.state)
    for rank in (2, 3, 6):
        experiment.resident.install(after.cut(rank))
        for name, layer in experiment.resident.layers.items():
            assert torch.equal(layer.get().B, after.adapter[name].B[:, :rank])
            assert torch.equal(layer.get().A, after.adapter[name].A[:rank])
            inputs = torch.randn(5, layer.base.in_features, generator=torch.Generator().manual_seed(0))
            change = 2.0 * after.adapter[name].B[:, :rank] @ after.adapter[name].A[:rank]
            folded = after.delta.get(name, torch.zeros_like(change))
            weight = experiment.base[f"{name}.weight"] + folded + change
            torch.testing.assert_close(layer(inputs), F.linear(inputs, weight, layer.base.bias), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("method", [FedSpec(), FlexLoRA(), FLoRIST(1.0)])
def test_a_client_of_any_rank_gets_the_best_approximation_that_it_can_hold(
    method: FedSpec | FlexLoRA | FLoRIST, updates_of: Updates
) -> None:
    """Eckart and Young, at each client's own rank, of the exact mean of products of all ranks."""
    generator = torch.Generator().manual_seed(3)
    clients = [draw(generator, rank=rank) for rank in (2, 5, 3)]
    updates = updates_of(clients, [0.5, 0.2, 0.3], previous=draw(generator, rank=5), rank=5)
    dense = 2.0 * sum(w * f.B.double() @ f.A.double() for w, f in zip((0.5, 0.2, 0.3), clients, strict=True))
    torch.testing.assert_close(updates.ideal.dense(), dense)
    installed, S = method.layer(updates), torch.linalg.svdvals(dense)
    for rank in (2, 3, 5):
        missed = torch.linalg.norm(dense - LowRank.of(installed.factors.cut(rank), 2.0).dense())
        torch.testing.assert_close(missed, S[rank:].norm(), rtol=1e-9, atol=0)


def test_flora_stacks_adapters_of_any_rank(updates_of: Updates) -> None:
    generator = torch.Generator().manual_seed(3)
    updates = updates_of([draw(generator, rank=rank) for rank in (2, 5, 3)], previous=draw(generator, rank=5), rank=5)
    installed = FLoRA().layer(updates)
    assert installed.folded is not None
    torch.testing.assert_close(installed.folded.dense(), updates.ideal.dense())
    assert installed.folded.left.shape[1] == 10


def test_fedavg_pads_what_a_client_lacks_with_zeros(updates_of: Updates) -> None:
    generator = torch.Generator().manual_seed(3)
    low, high = draw(generator, rank=2), draw(generator, rank=5)
    updates = updates_of([low, high], [0.25, 0.75], previous=draw(generator, rank=5), rank=5)
    factors = FedAvg().layer(updates).factors
    torch.testing.assert_close(factors.B[:, :2], 0.25 * low.B.double() + 0.75 * high.B[:, :2].double())
    torch.testing.assert_close(factors.B[:, 2:], 0.75 * high.B[:, 2:].double())
    torch.testing.assert_close(factors.A[2:], 0.75 * high.A[2:].double())
    product = LowRank.of(FedAvgRebalanced().layer(updates).factors, 2.0).dense()
    torch.testing.assert_close(product, LowRank.of(factors, 2.0).dense())


def test_directions_that_no_client_of_the_round_holds_can_learn_again(updates_of: Updates) -> None:
    """Where only clients of low ranks were sampled."""
    generator = torch.Generator().manual_seed(3)
    updates = updates_of([draw(generator, rank=2)], previous=draw(generator, rank=5), rank=5)
    for method in (FedAvg(), FedAvgRebalanced(), FedSpec(), FlexLoRA(), FLoRIST(0.9), FLoRA()):
        factors = method.layer(updates).factors
        assert not factors.B[:, 2:].any()
        assert (factors.A[2:].norm(dim=1) > 1e-3).all()


def test_a_client_sends_and_gets_its_own_rank(small: Small) -> None:
    for method in ("fedavg", "fedspec", "flexlora"):
        for event in done(small(method=method, **MIXED)):
            assert (event.row.bytes_up, event.row.bytes_down) == (4 * 11 * BETWEEN, 4 * 11 * BETWEEN)
    for event in done(small(method="flora", **MIXED)):
        # All download the stacks of all.
        assert (event.row.bytes_up, event.row.bytes_down) == (4 * 11 * BETWEEN, 3 * 4 * 11 * BETWEEN)


def test_who_was_away_catches_up_at_its_own_rank(small: Small) -> None:
    ranks, sides = (2, 6, 3, 5), {"A": 64 + 128, "B": 128 + 128}
    events = done(small(method="flexlora", clients=4, participation=0.5, rounds=6, **{**MIXED, "ranks": ranks}))
    owed = [0] * 4
    for event in events:
        present = engine.sampled(small(clients=4, participation=0.5).config, event.round)  # type: ignore[arg-type]
        missed = sum(owed[client] for client in present)
        owed = [0 if client in present else rank * BETWEEN for client, rank in enumerate(ranks)]
        assert event.row.bytes_down == 4 * (missed + sum(ranks[client] for client in present) * BETWEEN)
        for client, debt in enumerate(event.state["debts"]):
            assert {part: debt[part] for part in sides} == {
                part: 0 if client in present else ranks[client] * side for part, side in sides.items()
            }


def test_a_state_of_more_directions_than_the_ranks_have_is_refused(small: Small) -> None:
    [event] = done(small(method="fedspec", rounds=1, **{**MIXED, "ranks": (20,)}))
    with pytest.raises(DamagedError, match="not one of this experiment"):
        next(rounds(small(method="fedspec", rounds=2, **MIXED), event.state))


def test_the_model_learns_from_clients_of_all_ranks(small: Small) -> None:
    for method in METHODS:
        rows = [event.row for event in done(small(method=method, rounds=8, batch_size=16, **MIXED))]
        assert rows[-1].accuracy > 0.6 > 0.4 > rows[0].accuracy


def test_cutting_and_padding_keep_the_first_directions() -> None:
    factors = Factors(torch.arange(12.0).reshape(3, 4), torch.arange(20.0).reshape(4, 5))
    cut = factors.cut(2)
    assert (cut.B.shape, cut.A.shape, factors.cut(4), factors.cut(9)) == ((3, 2), (2, 5), factors, factors)
    assert torch.equal(cut.padded(4).B @ cut.padded(4).A, factors.B[:, :2] @ factors.A[:2])
    assert cut.padded(2) is cut

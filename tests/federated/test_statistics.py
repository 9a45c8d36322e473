from collections.abc import Callable

import pytest
import torch

from fedspec.config import FederatedConfig
from fedspec.federated.aggregators.base import Installed, LayerUpdates
from fedspec.federated.aggregators.fedavg import FedAvg
from fedspec.federated.aggregators.fedavg_rebalanced import FedAvgRebalanced
from fedspec.federated.aggregators.fedspec import FedSpec
from fedspec.federated.lora import Factors
from fedspec.federated.spectral import LowRank
from fedspec.federated.statistics import (
    LayerStatistics,
    Tails,
    columns,
    effective_rank,
    measure,
    next_rank,
    tails,
)

Draw = Callable[..., Factors]
Updates = Callable[..., LayerUpdates]


@pytest.mark.parametrize("rank", [3, 5])
def test_gaps_are_those_of_dense_matrices(rank: int, factors: Draw, updates_of: Updates) -> None:
    previous = factors()
    updates = updates_of([factors() for _ in range(4)], [0.4, 0.3, 0.2, 0.1], rank=rank, previous=previous)
    ideal = updates.ideal.dense()
    for method in (FedAvg(), FedAvgRebalanced(), FedSpec()):
        installed = method.layer(updates)
        found = measure(updates, installed)
        dense = LowRank.of(installed.factors, 2.0).dense()
        assert found.gap == pytest.approx(float((ideal - dense).norm()), rel=1e-9)
        assert found.ideal_norm == pytest.approx(float(ideal.norm()), rel=1e-12)
        assert found.move_norm == pytest.approx(float((ideal - LowRank.of(previous, 2.0).dense()).norm()), rel=1e-12)
        counterfactual = found.cf_gap_fedspec if isinstance(method, FedSpec) else found.cf_gap_fedavg
        assert found.gap == pytest.approx(counterfactual, rel=1e-9)


def test_no_method_of_that_rank_has_a_smaller_gap_than_fedspec(factors: Draw, updates_of: Updates) -> None:
    for _ in range(20):
        updates = updates_of([factors() for _ in range(3)])
        best = measure(updates, FedSpec().layer(updates)).gap
        for method in (FedAvg(), FedAvgRebalanced()):
            assert best <= measure(updates, method.layer(updates)).gap
        assert best <= measure(updates, Installed(factors())).gap


def test_a_folded_tail_closes_the_gap(factors: Draw, updates_of: Updates) -> None:
    updates = updates_of([factors() for _ in range(3)])
    kept = FedSpec().layer(updates).factors
    found = measure(updates, Installed(kept, folded=updates.ideal - LowRank.of(kept, updates.scale)))
    assert found.gap <= 1e-12 * found.ideal_norm


def test_identical_clients_leave_no_gap_to_either_method(factors: Draw, updates_of: Updates) -> None:
    one = factors()
    updates = updates_of([one, one, one], [0.2, 0.3, 0.5])
    found = measure(updates, FedSpec().layer(updates))
    assert found.cf_gap_fedavg <= 1e-14 * found.ideal_norm
    assert found.cf_gap_fedspec <= 1e-14 * found.ideal_norm
    assert found.gap <= 1e-6 * found.ideal_norm


def test_tails_are_shares_of_what_lies_beyond_the_rank(factors: Draw, updates_of: Updates) -> None:
    updates = updates_of([factors() for _ in range(4)], previous=factors())
    S = torch.linalg.svdvals(updates.ideal.dense())
    move, found = updates.movement, tails([updates])
    assert found.nuclear == pytest.approx(float(S[3:].sum() / S.sum()))
    assert found.energy == pytest.approx(float(S[3:].square().sum()) / move**2)
    assert 0 < found.energy <= 1
    assert tails([updates_of([factors()])]).nuclear == pytest.approx(0, abs=1e-14)


def test_no_vectors_are_computed_for_a_method_that_asks_for_none(factors: Draw, updates_of: Updates) -> None:
    averaged, cut = (updates_of([factors() for _ in range(4)]) for _ in range(2))
    measure(averaged, FedAvg().layer(averaged))
    assert "spectrum" not in vars(averaged)
    measure(cut, FedSpec().layer(cut))
    assert cut.singular_values is cut.spectrum.S


def test_what_is_known_of_updates_stays_known_at_another_rank(factors: Draw, updates_of: Updates) -> None:
    updates = updates_of([factors() for _ in range(4)])
    tails([updates])
    grown = updates.at(5)
    assert (grown.rank, updates.rank) == (5, 3)
    assert grown.singular_values is updates.singular_values
    assert grown.movement == updates.movement


def test_updates_that_did_not_move_have_no_tail(factors: Draw, updates_of: Updates) -> None:
    still = factors()
    updates = updates_of([Factors(still.B * 0, still.A)])
    assert tails([updates]) == Tails(0.0, 0.0)
    found = columns({"layer": measure(updates, FedSpec().layer(updates))}, Tails(0.0, 0.0))
    assert found["frobenius_gap"] == 0
    assert found["gap_relative"] is None
    assert found["gap_over_move"] is None


@pytest.mark.parametrize(
    ("rule", "tail", "rank", "grown"),
    [
        ("fixed", Tails(0.9, 0.9), 4, 4),
        ("nuclear", Tails(0.06, 0.0), 4, 6),
        ("nuclear", Tails(0.05, 0.9), 4, 4),
        ("energy", Tails(0.0, 0.06), 4, 6),
        ("energy", Tails(0.9, 0.04), 4, 4),
        ("nuclear", Tails(0.9, 0.9), 7, 8),
        ("nuclear", Tails(0.9, 0.9), 8, 8),
        ("nuclear", Tails(0.9, 0.9), 9, 9),
    ],
)
def test_the_rank_grows_by_steps_up_to_its_maximum_and_never_shrinks(rule: str, tail: Tails, rank: int, grown: int) -> None:
    config = FederatedConfig(rank_rule=rule, rank_step=2, max_rank=8, tail_threshold=0.05)  # type: ignore[arg-type]
    assert next_rank(config, rank, tail) == grown


def test_the_effective_rank_counts_equal_directions() -> None:
    assert effective_rank([2.0, 2.0, 2.0, 0.0]) == pytest.approx(3)
    assert effective_rank([5.0]) == pytest.approx(1)
    assert effective_rank([0.0, 0.0]) == 0
    assert 1 < effective_rank([1.0, 0.1]) < 2


def test_totals_are_norms_over_all_layers() -> None:
    layer = LayerStatistics(10.0, 2.0, 3.0, 6.0, 3.0, (1.0,))
    other = LayerStatistics(0.0, 0.0, 4.0, 8.0, 4.0, (1.0, 1.0))
    found = columns({"one": layer, "two": other}, Tails(0.1, 0.2))
    assert (found["frobenius_gap"], found["gap_relative"], found["gap_over_move"]) == (5.0, 0.5, 2.5)
    assert (found["cf_gap_fedavg"], found["cf_gap_fedspec"]) == (10.0, 5.0)
    assert found["effective_rank"] == pytest.approx(1.5)

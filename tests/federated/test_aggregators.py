"""Laws that every method keeps; a method that breaks one by design says so in its own test."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import pytest
import torch

from fedspec.federated.aggregators import AGGREGATORS
from fedspec.federated.aggregators.base import Aggregator, Installed, LayerUpdates
from fedspec.federated.aggregators.fedavg import FedAvg
from fedspec.federated.aggregators.fedavg_rebalanced import FedAvgRebalanced
from fedspec.federated.aggregators.fedspec import FedSpec
from fedspec.federated.lora import Factors
from fedspec.federated.spectral import LowRank

Draw = Callable[..., Factors]
Updates = Callable[..., LayerUpdates]


def install(method: Aggregator, updates: LayerUpdates) -> Installed:
    return method.apply(method.init({"layer": updates.previous}), {"layer": updates})[0]["layer"]


def product(installed: Installed, scale: float = 2.0) -> torch.Tensor:
    change = LowRank.of(installed.factors, scale).dense()
    return change if installed.folded is None else change + installed.folded.dense()


def close(actual: torch.Tensor, expected: torch.Tensor) -> None:
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-6 * float(expected.norm()))


def test_the_registry_is_read_without_torch() -> None:
    code = (
        "import sys, fedspec.federated, fedspec.federated.events, fedspec.models, fedspec.data\n"
        "from fedspec.federated.aggregators import AGGREGATORS\n"
        "assert list(AGGREGATORS)[:3] == ['fedavg', 'fedavg_rebalanced', 'fedspec']\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    assert len({entry.label for entry in AGGREGATORS.values()}) == len(AGGREGATORS)


def test_one_client_is_the_identity_on_the_product(method: Aggregator, factors: Draw, updates_of: Updates) -> None:
    updates = updates_of([factors()])
    close(product(install(method, updates)), updates.ideal.dense())


def test_identical_clients_leave_no_gap(method: Aggregator, factors: Draw, updates_of: Updates) -> None:
    one = factors()
    updates = updates_of([one, one, one], [0.2, 0.3, 0.5])
    close(product(install(method, updates)), updates.ideal.dense())


def test_the_order_of_the_clients_does_not_matter(method: Aggregator, factors: Draw, updates_of: Updates) -> None:
    clients, weights = [factors() for _ in range(4)], [0.1, 0.2, 0.3, 0.4]
    forward = install(method, updates_of(clients, weights))
    backward = install(method, updates_of(clients[::-1], weights[::-1]))
    close(product(backward), product(forward))


def test_a_client_of_weight_zero_does_not_count(method: Aggregator, factors: Draw, updates_of: Updates) -> None:
    clients = [factors() for _ in range(3)]
    with_guest = install(method, updates_of([*clients, factors()], [0.5, 0.3, 0.2, 0.0]))
    close(product(with_guest), product(install(method, updates_of(clients, [0.5, 0.3, 0.2]))))


def test_two_equal_clients_count_like_one_of_their_weight(method: Aggregator, factors: Draw, updates_of: Updates) -> None:
    one, two = factors(), factors()
    split = install(method, updates_of([one, two, two], [0.5, 0.2, 0.3]))
    close(product(split), product(install(method, updates_of([one, two]))))


def test_finite_in_is_finite_out(method: Aggregator, factors: Draw, updates_of: Updates) -> None:
    tiny, huge = factors(), factors()
    extreme = [Factors(tiny.B * 1e-20, tiny.A), Factors(huge.B * 1e15, huge.A * 1e15), Factors(tiny.B * 0, tiny.A)]
    installed = install(method, updates_of(extreme))
    assert installed.factors.A.isfinite().all()
    assert installed.factors.B.isfinite().all()


def test_the_rank_that_is_asked_for_is_installed(method: Aggregator, factors: Draw, updates_of: Updates) -> None:
    clients = [factors() for _ in range(2)]
    small, large = (install(method, updates_of(clients, rank=rank)) for rank in (3, 8))
    assert (small.factors.rank, large.factors.rank) == (3, 8)
    ideal = updates_of(clients).ideal.dense()
    assert (ideal - product(large)).norm() <= (ideal - product(small)).norm() * (1 + 1e-9)


def test_new_directions_can_learn(method: Aggregator, factors: Draw, updates_of: Updates) -> None:
    """At a rank beyond what the updates span, a gradient still reaches every column of B."""
    installed = install(method, updates_of([factors()], rank=8))
    assert (installed.factors.A.norm(dim=1) > 1e-3).all()


def test_results_are_float64_on_the_cpu(method: Aggregator, factors: Draw, updates_of: Updates) -> None:
    installed = install(method, updates_of([factors(), factors()]))
    for tensor in (installed.factors.A, installed.factors.B):
        assert (tensor.dtype, tensor.device.type) == (torch.float64, "cpu")


def test_nothing_that_is_given_is_changed(method: Aggregator, factors: Draw, updates_of: Updates) -> None:
    clients = [factors() for _ in range(2)]
    copies = [Factors(client.B.clone(), client.A.clone()) for client in clients]
    first = install(method, updates_of(clients))
    assert torch.equal(first.factors.A, install(method, updates_of(clients)).factors.A)
    for client, copy in zip(clients, copies, strict=True):
        assert torch.equal(client.A, copy.A)
        assert torch.equal(client.B, copy.B)


def test_fedavg_averages_each_factor(factors: Draw, updates_of: Updates) -> None:
    one, two = factors(), factors()
    installed = install(FedAvg(), updates_of([one, two], [0.25, 0.75]))
    torch.testing.assert_close(installed.factors.B, 0.25 * one.B.double() + 0.75 * two.B.double())
    torch.testing.assert_close(installed.factors.A, 0.25 * one.A.double() + 0.75 * two.A.double())


def test_rebalancing_keeps_fedavgs_product_and_balances_its_factors(factors: Draw, updates_of: Updates) -> None:
    updates = updates_of([factors() for _ in range(4)])
    balanced = install(FedAvgRebalanced(), updates)
    close(product(balanced), product(install(FedAvg(), updates)))
    torch.testing.assert_close(balanced.factors.B.norm(dim=0), balanced.factors.A.norm(dim=1))


@pytest.mark.parametrize("rank", [3, 5])
def test_fedspec_installs_the_dense_truncated_svd(rank: int, factors: Draw, updates_of: Updates) -> None:
    updates = updates_of([factors() for _ in range(4)], [0.4, 0.3, 0.2, 0.1], rank=rank)
    U, S, V = torch.linalg.svd(updates.ideal.dense(), full_matrices=False)
    expected = U[:, :rank] @ torch.diag(S[:rank]) @ V[:rank]
    torch.testing.assert_close(product(install(FedSpec(), updates)), expected, rtol=0, atol=1e-10)


def test_fedspec_is_exact_where_the_rank_holds_all_clients(factors: Draw, updates_of: Updates) -> None:
    updates = updates_of([factors() for _ in range(4)], rank=12)
    close(product(install(FedSpec(), updates)), updates.ideal.dense())

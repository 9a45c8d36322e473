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
from fedspec.federated.aggregators.fedex import FedEx
from fedspec.federated.aggregators.fedspec import FedSpec
from fedspec.federated.aggregators.fedspec_residual import FedSpecResidual
from fedspec.federated.aggregators.ffa import FFA
from fedspec.federated.aggregators.flora import FLoRA
from fedspec.federated.aggregators.rolora import RoLoRA
from fedspec.federated.lora import Factors
from fedspec.federated.spectral import LowRank
from fedspec.federated.state import Weights

Draw = Callable[..., Factors]
Updates = Callable[..., LayerUpdates]


def install(method: Aggregator, updates: LayerUpdates) -> Installed:
    return method.apply(method.init(Weights({"layer": updates.previous}, {}, {})), {"layer": updates})[0]["layer"]


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


def test_one_client_is_the_identity_on_the_product(method: Aggregator, factors: Draw, sent: Updates) -> None:
    updates = sent([factors()])
    close(product(install(method, updates)), updates.ideal.dense())


# Methods that the clients' mean of products survives unchanged. FedAvg's survives it where one factor is everybody's alike.
EXACT = ("fedspec_residual", "fedex", "ffa", "flora", "rolora")


@pytest.mark.parametrize("method_name", EXACT, indirect=True)
def test_exact_methods_install_the_ideal_update(method: Aggregator, factors: Draw, sent: Updates) -> None:
    updates = sent([factors() for _ in range(4)], [0.1, 0.2, 0.3, 0.4])
    close(product(install(method, updates)), updates.ideal.dense())


@pytest.mark.parametrize("method_name", ["fedavg", "fedavg_rebalanced", "fedspec"], indirect=True)
def test_the_others_do_not(method: Aggregator, factors: Draw, sent: Updates) -> None:
    updates = sent([factors() for _ in range(4)])
    missed = (product(install(method, updates)) - updates.ideal.dense()).norm()
    assert missed > 1e-2 * updates.ideal.norm()


def test_weights_are_respected(method: Aggregator, factors: Draw, sent: Updates) -> None:
    """Whoever has nearly all samples decides nearly everything."""
    clients = [factors() for _ in range(3)]
    lonely = product(install(method, sent(clients[:1])))
    crowded = product(install(method, sent(clients, [1 - 2e-9, 1e-9, 1e-9])))
    close(crowded, lonely)


def test_identical_clients_leave_no_gap(method: Aggregator, factors: Draw, sent: Updates) -> None:
    one = factors()
    updates = sent([one, one, one], [0.2, 0.3, 0.5])
    close(product(install(method, updates)), updates.ideal.dense())


def test_the_order_of_the_clients_does_not_matter(method: Aggregator, factors: Draw, sent: Updates) -> None:
    clients, weights = [factors() for _ in range(4)], [0.1, 0.2, 0.3, 0.4]
    forward = install(method, sent(clients, weights))
    backward = install(method, sent(clients[::-1], weights[::-1]))
    close(product(backward), product(forward))


def test_a_client_of_weight_zero_does_not_count(method: Aggregator, factors: Draw, sent: Updates) -> None:
    clients = [factors() for _ in range(3)]
    with_guest = install(method, sent([*clients, factors()], [0.5, 0.3, 0.2, 0.0]))
    close(product(with_guest), product(install(method, sent(clients, [0.5, 0.3, 0.2]))))


def test_two_equal_clients_count_like_one_of_their_weight(method: Aggregator, factors: Draw, sent: Updates) -> None:
    one, two = factors(), factors()
    split = install(method, sent([one, two, two], [0.5, 0.2, 0.3]))
    close(product(split), product(install(method, sent([one, two]))))


def test_finite_in_is_finite_out(method: Aggregator, factors: Draw, sent: Updates) -> None:
    tiny, huge = factors(), factors()
    extreme = [Factors(tiny.B * 1e-20, tiny.A), Factors(huge.B * 1e15, huge.A * 1e15), Factors(tiny.B * 0, tiny.A)]
    installed = install(method, sent(extreme))
    assert installed.factors.A.isfinite().all()
    assert installed.factors.B.isfinite().all()
    assert product(installed).isfinite().all()


def test_the_rank_that_is_asked_for_is_installed(method: Aggregator, factors: Draw, sent: Updates) -> None:
    clients = [factors() for _ in range(2)]
    small, large = (install(method, sent(clients, rank=rank)) for rank in (3, 8))
    assert (small.factors.rank, large.factors.rank) == (3, 8)
    ideal = sent(clients).ideal.dense()
    assert (ideal - product(large)).norm() <= (ideal - product(small)).norm() * (1 + 1e-9)


def test_new_directions_can_learn(method: Aggregator, factors: Draw, sent: Updates) -> None:
    """At a rank beyond what the updates span, a gradient still reaches every column of B."""
    installed = install(method, sent([factors()], rank=8))
    assert (installed.factors.A.norm(dim=1) > 1e-3).all()


def test_results_are_float64_on_the_cpu(method: Aggregator, factors: Draw, sent: Updates) -> None:
    installed = install(method, sent([factors(), factors()]))
    for tensor in (installed.factors.A, installed.factors.B):
        assert (tensor.dtype, tensor.device.type) == (torch.float64, "cpu")


def test_nothing_that_is_given_is_changed(method: Aggregator, factors: Draw, sent: Updates) -> None:
    clients = [factors() for _ in range(2)]
    copies = [Factors(client.B.clone(), client.A.clone()) for client in clients]
    first = install(method, sent(clients))
    assert torch.equal(first.factors.A, install(method, sent(clients)).factors.A)
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


def test_the_residual_is_sent_in_its_cheapest_exact_form(factors: Draw, updates_of: Updates) -> None:
    clients = [factors() for _ in range(4)]  # rank 3 each, of a (20, 15) matrix: their sum has rank 12
    tail = install(FedSpecResidual(), updates_of(clients)).folded
    assert tail is not None
    assert (tail.left.shape[1], tail.numel) == (9, min(9 * (20 + 15), 20 * 15))
    two = install(FedSpecResidual(), updates_of(clients[:2])).folded
    assert two is not None
    assert two.numel == 3 * (20 + 15)
    # So has the covariance of the factors over the clients, which FedAvg misses.
    residual = install(FedEx(), updates_of(clients[:2])).folded
    assert residual is not None
    assert residual.numel == 3 * (20 + 15)
    assert install(FedEx(), updates_of(clients[:1])).folded is None
    assert install(FedSpecResidual(), updates_of(clients[:1])).folded is None


def test_flora_restarts_with_an_empty_product_that_can_learn(factors: Draw, updates_of: Updates) -> None:
    updates = updates_of([factors(rank=2), factors(rank=3)], rank=3)
    installed = install(FLoRA(), updates)
    assert not installed.factors.B.any()
    assert installed.factors.A.norm(dim=1).min() > 1e-3
    close(product(installed), updates.ideal.dense())
    assert (installed.download, installed.folded.numel if installed.folded else 0) == (frozenset(), 5 * (20 + 15))


def test_who_trains_one_factor_sends_and_gets_one(factors: Draw, updates_of: Updates) -> None:
    assert [sorted(FFA().trained(round)) for round in (1, 2, 3)] == [["B"], ["B"], ["B"]]
    assert [sorted(RoLoRA().trained(round)) for round in (1, 2, 3)] == [["B"], ["A"], ["B"]]
    for method, round in ((FFA(), 1), (FFA(), 2), (RoLoRA(), 1), (RoLoRA(), 2)):
        assert install(method, updates_of([factors()], round=round)).download == method.trained(round)

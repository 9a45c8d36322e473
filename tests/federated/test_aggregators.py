"""Laws that every method keeps; a method that breaks one by design says so in its own test."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import numpy as np
import pytest
import torch

from fedspec.errors import ExperimentError
from fedspec.federated.aggregators import AGGREGATORS, fedrpca
from fedspec.federated.aggregators.base import Aggregator, Installed, LayerUpdates
from fedspec.federated.aggregators.fedavg import FedAvg
from fedspec.federated.aggregators.fedavg_rebalanced import FedAvgRebalanced
from fedspec.federated.aggregators.fedex import FedEx
from fedspec.federated.aggregators.fedrpca import FedRPCA, sparse_part
from fedspec.federated.aggregators.fedspec import FedSpec
from fedspec.federated.aggregators.fedspec_residual import FedSpecResidual
from fedspec.federated.aggregators.fedsvd import FedSVD
from fedspec.federated.aggregators.ffa import FFA
from fedspec.federated.aggregators.flexlora import FlexLoRA
from fedspec.federated.aggregators.flora import FLoRA
from fedspec.federated.aggregators.florist import FLoRIST
from fedspec.federated.aggregators.lora_fair import LoRAFair, corrected_b
from fedspec.federated.aggregators.rolora import RoLoRA
from fedspec.federated.lora import Factors
from fedspec.federated.spectral import LowRank
from fedspec.federated.state import Weights
from tests.federated.conftest import all_but, draw

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


@pytest.mark.parametrize("method_name", all_but("florist"), indirect=True)
def test_one_client_is_the_identity_on_the_product(method: Aggregator, factors: Draw, sent: Updates) -> None:
    updates = sent([factors()])
    close(product(install(method, updates)), updates.ideal.dense())


# Methods that the clients' mean of products survives unchanged. FedAvg's survives it where one factor is everybody's alike.
EXACT = ("fedspec_residual", "fedex", "ffa", "flora", "rolora", "fedsvd")


@pytest.mark.parametrize("method_name", EXACT, indirect=True)
def test_exact_methods_install_the_ideal_update(method: Aggregator, factors: Draw, sent: Updates) -> None:
    updates = sent([factors() for _ in range(4)], [0.1, 0.2, 0.3, 0.4])
    close(product(install(method, updates)), updates.ideal.dense())


@pytest.mark.parametrize("method_name", all_but(*EXACT), indirect=True)
def test_the_others_do_not(method: Aggregator, factors: Draw, sent: Updates) -> None:
    updates = sent([factors() for _ in range(4)])
    missed = (product(install(method, updates)) - updates.ideal.dense()).norm()
    assert missed > 1e-2 * updates.ideal.norm()


@pytest.mark.parametrize("method_name", all_but("fedrpca"), indirect=True)
def test_weights_are_respected(method: Aggregator, factors: Draw, sent: Updates) -> None:
    """Whoever has nearly all samples decides nearly everything."""
    clients = [factors() for _ in range(3)]
    lonely = product(install(method, sent(clients[:1])))
    crowded = product(install(method, sent(clients, [1 - 2e-9, 1e-9, 1e-9])))
    close(crowded, lonely)


@pytest.mark.parametrize("method_name", all_but("florist", "fedrpca"), indirect=True)
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


@pytest.mark.parametrize("method_name", all_but("fedrpca"), indirect=True)
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
    assert (ideal - product(large)).norm() <= (ideal - product(small)).norm() + 1e-9 * ideal.norm()


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


def test_flora_sends_the_stacks_also_where_they_have_a_factor_in_common(factors: Draw, updates_of: Updates) -> None:
    """After one step from B = 0 no A has moved, and nothing that is sent may hang on that."""
    one, *others = (factors() for _ in range(4))
    apart, shared = updates_of([one, *others]), updates_of([one, *(Factors(f.B, one.A) for f in others)])
    sent = [FLoRA().layer(updates).folded for updates in (apart, shared)]
    assert sent[0] is not None
    assert sent[1] is not None
    assert sent[1].left.shape == sent[0].left.shape
    close(sent[1].dense(), shared.ideal.dense())
    assert shared.ideal.left.shape[1] == one.rank


def test_who_trains_one_factor_sends_and_gets_one(factors: Draw, updates_of: Updates) -> None:
    assert [sorted(FFA().trained(round)) for round in (1, 2, 3)] == [["B"], ["B"], ["B"]]
    assert [sorted(RoLoRA().trained(round)) for round in (1, 2, 3)] == [["B"], ["A"], ["B"]]
    for method, round in ((FFA(), 1), (FFA(), 2), (RoLoRA(), 1), (RoLoRA(), 2)):
        assert install(method, updates_of([factors()], round=round)).download == method.trained(round)
    # The next A is none that clients have.
    assert (FedSVD().trained(1), install(FedSVD(), updates_of([factors()])).download) == ({"B"}, {"A", "B"})


@pytest.mark.parametrize("rank", [3, 6, 18])
def test_fedsvds_a_has_orthonormal_rows_also_where_the_product_has_none(rank: int, factors: Draw, updates_of: Updates) -> None:
    """Of 18 rows in 15 dimensions, 15 can be."""
    shared = factors()
    clients = [Factors(factors().B, shared.A) for _ in range(3)]
    installed = install(FedSVD(), updates_of(clients, previous=shared, rank=rank))
    rows = installed.factors.A[:15]
    torch.testing.assert_close(rows @ rows.T, torch.eye(len(rows), dtype=torch.float64), rtol=0, atol=1e-12)
    # What the further rows see, no column of B holds.
    torch.testing.assert_close(2.0 * installed.factors.B[:, :3] @ rows[:3], product(installed), rtol=0, atol=1e-12)
    assert not installed.factors.B[:, 3:].any()


def test_flexlora_installs_fedspecs_product_with_all_of_s_in_b(factors: Draw, updates_of: Updates) -> None:
    updates = updates_of([factors() for _ in range(4)], [0.4, 0.3, 0.2, 0.1])
    installed = install(FlexLoRA(), updates)
    close(product(installed), product(install(FedSpec(), updates)))
    A = installed.factors.A
    torch.testing.assert_close(A @ A.T, torch.eye(3, dtype=torch.float64), rtol=0, atol=1e-12)
    torch.testing.assert_close(2.0 * installed.factors.B.norm(dim=0), updates.spectrum.S[:3])


@pytest.mark.parametrize("share", [0.3, 0.9, 0.999, 1.0])
@pytest.mark.parametrize("rank", [3, 6])
def test_florist_keeps_the_fewest_directions_that_hold_its_share(
    share: float, rank: int, factors: Draw, updates_of: Updates
) -> None:
    updates = updates_of([factors() for _ in range(4)], [0.4, 0.3, 0.2, 0.1], rank=rank)
    installed = install(FLoRIST(share), updates)
    energy = updates.spectrum.S.square()
    kept = int(torch.linalg.matrix_rank(product(installed), rtol=1e-9))
    assert energy[:kept].sum() >= share * energy.sum() * (1 - 1e-12)
    assert energy[: kept - 1].sum() < share * energy.sum()
    missed = (product(installed) - updates.ideal.dense()).square().sum()
    assert float(missed) == pytest.approx(float(energy[kept:].sum()), rel=1e-9, abs=1e-12 * float(energy.sum()))
    # The adapter has the first of them; what it cannot hold is folded, and what it does not need is drawn.
    folded = 0 if installed.folded is None else installed.folded.left.shape[1]
    assert (installed.drawn, folded) == (max(0, rank - kept), max(0, kept - rank))
    assert not installed.factors.B[:, rank - installed.drawn :].any()


def test_florist_of_nothing_is_nothing(factors: Draw, updates_of: Updates) -> None:
    one = factors()
    installed = install(FLoRIST(0.9), updates_of([Factors(one.B * 0, one.A)]))
    assert (product(installed).any().item(), installed.drawn, installed.folded) == (False, 3, None)


def cosine(one: torch.Tensor, two: torch.Tensor) -> float:
    return float((one * two).sum() / (one.norm() * two.norm()))


@pytest.mark.parametrize("weight", [1e-6, 1e-2, 1.0])
def test_lora_fair_minimises_its_objective(weight: float, factors: Draw, updates_of: Updates) -> None:
    """No gradient is left, as automatic differentiation of the dense objective sees it, and A is the mean."""
    updates = updates_of([factors() for _ in range(4)], [0.4, 0.3, 0.2, 0.1])
    installed, mean = install(LoRAFair(weight), updates), updates.mean
    assert torch.equal(installed.factors.A, mean.A)
    B = installed.factors.B.clone().requires_grad_()
    dense = (B @ mean.A).flatten()
    alike = torch.nn.functional.cosine_similarity(dense, updates.ideal.dense().flatten(), dim=0)
    objective = 1 - alike + weight * (B - mean.B).square().sum()
    objective.backward()
    assert B.grad is not None
    assert B.grad.norm() < 1e-7 * weight
    assert objective <= 1 - cosine(mean.B @ mean.A, updates.ideal.dense())
    assert cosine(product(installed), updates.ideal.dense()) > cosine(mean.B @ mean.A, updates.ideal.dense())


def test_lora_fair_goes_from_the_best_direction_to_fedavg_as_its_weight_grows(factors: Draw, updates_of: Updates) -> None:
    updates = updates_of([factors() for _ in range(4)])
    ideal, mean = updates.ideal.dense(), updates.mean
    # The best that any B can do beside the mean of A is the projection of the ideal onto its rows.
    projected = ideal @ torch.linalg.pinv(mean.A) @ mean.A
    nearest, *_, farthest = (install(LoRAFair(weight), updates) for weight in (1e-7, 1e-4, 1e6))
    assert cosine(product(nearest), ideal) == pytest.approx(cosine(projected, ideal), abs=1e-4)
    torch.testing.assert_close(farthest.factors.B, mean.B, rtol=0, atol=1e-5)


def test_fedrpca_at_a_scale_of_one_is_fedavg(factors: Draw, updates_of: Updates) -> None:
    updates = updates_of([factors() for _ in range(4)], [0.4, 0.3, 0.2, 0.1], rank=5)
    fedavg, fedrpca = install(FedAvg(), updates), install(FedRPCA(1.0), updates)
    assert torch.equal(fedrpca.factors.B, fedavg.factors.B)
    assert torch.equal(fedrpca.factors.A, fedavg.factors.A)


@pytest.mark.parametrize("weights", [[1 / 6] * 6, [0.3, 0.2, 0.1, 0.1, 0.1, 0.2]])
def test_fedrpca_amplifies_what_single_clients_have_learnt_and_not_what_they_share(
    weights: list[float], factors: Draw, updates_of: Updates
) -> None:
    """Clients that go one way together, and each in two entries of B another way, which robust PCA tells apart."""
    generator = torch.Generator().manual_seed(1)
    start, way = draw(generator, out=60, width=40), draw(generator, out=60, width=40)
    way = Factors(way.B.sign(), way.A.sign())  # in all entries alike: none of it is sparse
    sparse = torch.zeros(6, 60, 3)
    for client in range(6):
        sparse[client, 7 * client, 0], sparse[client, 7 * client + 3, 2] = 20.0, -15.0
    clients = [Factors(start.B + way.B + own, start.A + way.A) for own in sparse]
    installed = install(FedRPCA(3.0), updates_of(clients, weights, previous=start))
    specific = torch.tensordot(torch.tensor(weights), sparse, dims=1).double()
    expected = (start.B + way.B).double() + 3.0 * specific
    torch.testing.assert_close(installed.factors.B, expected, rtol=0, atol=0.05)
    fedavg = install(FedAvg(), updates_of(clients, weights, previous=start)).factors
    torch.testing.assert_close(fedavg.B + 2 * specific, installed.factors.B, rtol=0, atol=0.05)


@pytest.mark.parametrize("shape", [(40, 5), (8, 12)])
def test_robust_pca_solves_principal_component_pursuit(shape: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    """For equal shares: one matrix is a subgradient of the nuclear norm at L and of lambda times the l1 norm at S."""
    generator = torch.Generator().manual_seed(2)
    M = torch.randn(shape, generator=generator, dtype=torch.float64).abs()
    M[3, 1] += 30
    monkeypatch.setattr(fedrpca, "SETTLED", 1e-6)
    S = torch.from_numpy(sparse_part(M.T.numpy(), np.full(shape[1], 1 / shape[1]))).T
    bound = 1 / max(shape) ** 0.5
    U, values, V = torch.linalg.svd(M - S, full_matrices=False)
    rank = int((values > 1e-3 * values[0]).sum())
    assert 0 < rank < min(shape)
    assert 0 < int((S != 0).sum()) < S.numel()
    U, V = U[:, :rank], V[:rank]
    of_l1 = bound * S.sign()
    for _ in range(2000):  # to the nearest of the other set, back and forth
        rest = of_l1 - U @ (U.T @ of_l1)
        left, angles, right = torch.linalg.svd(rest - rest @ V.T @ V, full_matrices=False)
        of_nuclear = U @ V + (left * angles.clamp(max=1)) @ right
        of_l1 = torch.where(S != 0, bound * S.sign(), of_nuclear.clamp(-bound, bound))
    assert float((of_l1 - of_nuclear).norm()) < 1e-3 * rank**0.5


@pytest.mark.parametrize("seed", range(5))
def test_the_mean_of_the_sparse_parts_is_right_to_less_than_a_hundredth(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    generator = np.random.default_rng(seed)
    common = generator.normal(size=(10, 2)) @ generator.normal(size=(2, 200))
    changes = common + generator.normal(size=(10, 200)) * (generator.random((10, 200)) < 0.1)
    shares = generator.dirichlet(np.ones(10))
    rough = shares @ sparse_part(changes, shares)
    monkeypatch.setattr(fedrpca, "SETTLED", 1e-9)
    exact = shares @ sparse_part(changes, shares)
    assert np.linalg.norm(rough - exact) < 1e-2 * np.linalg.norm(exact)


def test_a_client_of_nearly_all_samples_is_nearly_alone_in_fedrpca_too(factors: Draw, updates_of: Updates) -> None:
    """What its own law leaves of respecting weights: whoever counts for nothing moves nothing."""
    clients = [factors() for _ in range(3)]
    crowded = install(FedRPCA(2.0), updates_of(clients, [0.5 - 1e-9, 0.5 - 1e-9, 2e-9]))
    alone = product(install(FedRPCA(2.0), updates_of(clients[:2], [0.5, 0.5])))
    torch.testing.assert_close(product(crowded), alone, rtol=0, atol=1e-4 * float(alone.norm()))


def test_lora_fair_only_goes_down_wherever_it_starts() -> None:
    """Means that point away from the ideal, more directions than the layer has, factors of any size."""
    generator = torch.Generator().manual_seed(4)
    for case in range(200):
        out, width, rank = (int(torch.randint(1, 9, (1,), generator=generator)) for _ in range(3))
        size, weight = (10 ** float(torch.empty(1).uniform_(-6, 3, generator=generator)) for _ in range(2))
        drawn = draw(generator, out, width, rank)
        mean = Factors(size * drawn.B.double(), drawn.A.double())
        ideal = LowRank.of(draw(generator, out, width, 1 + case % 5), 1.0) if case % 4 else LowRank(-mean.B, mean.A)
        found = corrected_b(mean, ideal, weight)
        before, after = (1 - cosine(B @ mean.A, ideal.dense()) for B in (mean.B, found))
        assert after + weight * float((found - mean.B).square().sum()) <= before + 1e-9
        assert torch.equal(corrected_b(Factors(mean.B * 0, mean.A), ideal, weight), mean.B * 0)


def test_robust_pca_does_not_depend_on_the_order_of_memory() -> None:
    changes = np.random.default_rng(3).standard_normal((4, 30))
    weights = np.array([0.1, 0.2, 0.3, 0.4])
    expected = sparse_part(changes, weights)
    junk = np.full(4 * 30, 1e300)
    del junk  # what an array that is not filled would hold
    assert np.array_equal(sparse_part(np.asfortranarray(changes), weights), expected)


@pytest.mark.parametrize("size", [1e160, 1e308, np.inf, np.nan])
def test_robust_pca_refuses_what_it_cannot_compute_with(size: float) -> None:
    changes = np.full((3, 4), 1.0)
    changes[1, 2] = size
    with pytest.raises(ExperimentError, match="too large"):
        sparse_part(changes, np.array([0.2, 0.3, 0.5]))

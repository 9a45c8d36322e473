import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedspec.errors import ExperimentError
from fedspec.federated.partition import Partition, dirichlet, iid

LABELS = np.random.Generator(np.random.PCG64(0)).integers(0, 10, size=629)


@given(
    labels=st.lists(st.integers(0, 5), min_size=20, max_size=200),
    alpha=st.floats(0.3, 100),
    clients=st.integers(1, 5),
    seed=st.integers(0, 2**32),
)
def test_every_sample_has_exactly_one_client(labels: list[int], alpha: float, clients: int, seed: int) -> None:
    array = np.array(labels)
    for partition in (dirichlet(array, alpha=alpha, clients=clients, seed=seed), iid(array, clients=clients, seed=seed)):
        assert len(partition.clients) == clients
        assert sorted(np.concatenate(partition.clients)) == list(range(len(labels)))
        assert all(len(mine) for mine in partition.clients)


@pytest.mark.parametrize("alpha", [0.1, 0.5, 1.0])
def test_no_client_is_smaller_than_the_minimum(alpha: float) -> None:
    for seed in range(20):
        partition = dirichlet(LABELS, alpha=alpha, clients=10, seed=seed, min_samples=8)
        assert min(map(len, partition.clients)) >= 8


def test_a_smaller_alpha_gives_more_uneven_clients() -> None:
    def unevenness(alpha: float) -> float:
        partitions = (dirichlet(LABELS, alpha=alpha, clients=10, seed=seed) for seed in range(20))
        return float(np.mean([np.square(partition.label_shares(LABELS, 10)).sum(axis=1).mean() for partition in partitions]))

    assert unevenness(0.1) > unevenness(1.0) > unevenness(100.0) > 0.1


def test_a_partition_depends_on_its_arguments_and_nothing_else() -> None:
    first = dirichlet(LABELS, alpha=0.5, clients=10, seed=42, min_samples=8)
    np.random.seed(1)
    assert dirichlet(LABELS, alpha=0.5, clients=10, seed=42, min_samples=8).hash == first.hash
    others = [
        dirichlet(LABELS, alpha=0.5, clients=10, seed=43, min_samples=8),
        dirichlet(LABELS, alpha=0.6, clients=10, seed=42, min_samples=8),
        dirichlet(LABELS, alpha=0.5, clients=9, seed=42, min_samples=8),
        iid(LABELS, clients=10, seed=42),
    ]
    assert len({first.hash, *(other.hash for other in others)}) == 5


def test_known_partitions_keep_their_hashes() -> None:
    """All machines of a run must agree; a numpy that draws differently shows here."""
    labels = np.arange(1000) % 10
    assert dirichlet(labels, alpha=0.5, clients=10, seed=42, min_samples=8).hash == "5ddaa3a86f9b"
    assert iid(labels, clients=10, seed=42).hash == "116b2f18062a"


def test_a_hash_is_12_hex_digits_and_sees_who_owns_what() -> None:
    one = Partition((np.array([0, 1]), np.array([2])))
    assert len(one.hash) == 12
    assert int(one.hash, 16) >= 0
    assert one.hash != Partition((np.array([0]), np.array([1, 2]))).hash


def test_label_shares_are_each_clients_own_mix() -> None:
    partition = Partition((np.array([0, 1]), np.array([2, 3, 4, 5])))
    shares = partition.label_shares(np.array([0, 1, 2, 2, 2, 0]), 4)
    assert shares.tolist() == [[0.5, 0.5, 0, 0], [0.25, 0, 0.75, 0]]


def test_iid_clients_have_equal_sizes() -> None:
    assert {len(mine) for mine in iid(LABELS, clients=10, seed=0).clients} == {62, 63}


@pytest.mark.parametrize("alpha", [0.0, -1.0, float("nan"), float("inf")])
def test_an_alpha_that_is_not_positive_is_refused(alpha: float) -> None:
    with pytest.raises(ExperimentError, match="alpha"):
        dirichlet(LABELS, alpha=alpha, clients=10, seed=0)


@pytest.mark.parametrize(("clients", "min_samples"), [(630, 1), (10, 63), (0, 1)])
def test_more_than_the_data_can_give_is_refused_with_a_remedy(clients: int, min_samples: int) -> None:
    with pytest.raises(ExperimentError) as caught:
        dirichlet(LABELS, alpha=0.5, clients=clients, seed=0, min_samples=min_samples)
    assert "clients" in caught.value.fix
    with pytest.raises(ExperimentError):
        iid(LABELS, clients=clients, seed=0, min_samples=min_samples)


def test_a_minimum_that_no_draw_meets_ends_quickly() -> None:
    started = time.perf_counter()
    with pytest.raises(ExperimentError, match="No Dirichlet"):
        dirichlet(LABELS, alpha=0.01, clients=10, seed=0, min_samples=62)
    assert time.perf_counter() - started < 10

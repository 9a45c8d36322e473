"""The server's part of a round, on updates made by hand."""

from __future__ import annotations

from collections.abc import Callable

import torch

from fedspec.config import FederatedConfig
from fedspec.federated.aggregation import ClientUpdate, aggregate
from fedspec.federated.aggregators.base import Aggregator
from fedspec.federated.lora import Factors
from fedspec.federated.state import Weights


def test_random_rows_are_new_in_every_round_layer_and_seed_and_the_same_when_repeated(
    method: Aggregator, factors: Callable[..., Factors]
) -> None:
    """Two clients of rank 1 span two directions; the installed rank 6 has at least four without a product."""
    one, two, start = (factors(rank=1) for _ in range(3))
    before = Weights({"one": start, "two": start}, {}, {})
    updates = [ClientUpdate(n, 10, 1, 1.0, Weights({"one": sent, "two": sent}, {}, {})) for n, sent in enumerate((one, two))]

    def random_rows(seed: int, round: int) -> torch.Tensor:
        config = FederatedConfig(seed=seed, rank_rule="nuclear", rank_step=5, tail_threshold=0.01)
        adapter = aggregate(config, method, method.init(before), before, updates, round).weights.adapter
        assert [layer.rank for layer in adapter.values()] == [6, 6]
        return torch.cat([layer.A[2:] for layer in adapter.values()])

    assert torch.equal(random_rows(42, 1), random_rows(42, 1))
    rows = torch.cat([random_rows(42, 1), random_rows(42, 2), random_rows(43, 1)])
    assert len(rows.unique(dim=0)) == len(rows) == 3 * 2 * 4

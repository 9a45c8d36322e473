"""Small experiments, and updates as clients send them."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import pytest
import torch

from fedspec.config import CentralizedConfig, FederatedConfig
from fedspec.federated.aggregators import AGGREGATORS, LORA
from fedspec.federated.aggregators.base import Aggregator, LayerUpdates
from fedspec.federated.experiment import Experiment, prepare
from fedspec.federated.lora import Factors
from fedspec.federated.state import State

OUT, IN, RANK, SCALE = 20, 15, 3, 2.0


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def saved_and_loaded(state: State) -> State:
    """A state as a checkpoint gives it back."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    loaded: State = torch.load(io.BytesIO(buffer.getvalue()), weights_only=True)
    return loaded


def draw(generator: torch.Generator, out: int = OUT, width: int = IN, rank: int = RANK) -> Factors:
    """Random factors as a client sends them, in float32."""
    return Factors(torch.randn(out, rank, generator=generator), torch.randn(rank, width, generator=generator))


def make_updates(
    factors: list[Factors],
    weights: list[float] | None = None,
    rank: int | None = None,
    previous: Factors | None = None,
    **more: Any,
) -> LayerUpdates:
    """One layer's updates around ``factors``."""
    shares = tuple(weights) if weights else (1 / len(factors),) * len(factors)
    start = previous or Factors(torch.zeros_like(factors[0].B), factors[0].A)
    return LayerUpdates(
        factors=tuple(factors),
        weights=shares,
        scale=SCALE,
        previous=start,
        rank=rank or factors[0].rank,
        round=more.get("round", 1),
        split=more.get("split", "even"),
        purpose=more.get("purpose", (0, 1, "layer")),
    )


@pytest.fixture
def factors() -> Callable[..., Factors]:
    """`draw` on one stream of random numbers."""
    generator = torch.Generator().manual_seed(0)
    return lambda **sizes: draw(generator, **sizes)


@pytest.fixture
def updates_of() -> Callable[..., LayerUpdates]:
    """`make_updates`."""
    return make_updates


@pytest.fixture(params=[1, 2])
def turn(request: pytest.FixtureRequest) -> int:
    """Two rounds in a row: what a method trains may alternate."""
    return int(request.param)


@pytest.fixture
def sent(method: Aggregator, turn: int) -> Callable[..., LayerUpdates]:
    """`make_updates` as clients of ``method`` send them in round ``turn``: factors that it does not train are as they were."""
    previous = draw(torch.Generator().manual_seed(9))
    parts = method.trained(turn)

    def make(factors: list[Factors], weights: list[float] | None = None, **more: Any) -> LayerUpdates:
        as_trained = [Factors(f.B if "B" in parts else previous.B, f.A if "A" in parts else previous.A) for f in factors]
        return make_updates(as_trained, weights, previous=previous, round=turn, **more)

    return make


ADAPTER_METHODS = [name for name, entry in AGGREGATORS.items() if entry.traits >= LORA]


def all_but(*names: str) -> list[str]:
    """The methods that keep a law; those that have another one say so in a test of their own."""
    assert set(names) < set(ADAPTER_METHODS)
    return [name for name in ADAPTER_METHODS if name not in names]


@pytest.fixture(params=ADAPTER_METHODS)
def method_name(request: pytest.FixtureRequest) -> str:
    """Each registered method that aggregates adapters."""
    return str(request.param)


@pytest.fixture
def method(method_name: str) -> Aggregator:
    """The implementation of each registered method."""
    implementation: Aggregator = AGGREGATORS[method_name].load().of(FederatedConfig())
    return implementation


@pytest.fixture(scope="session")
def small() -> Callable[..., Experiment]:
    """A federated experiment on digits that takes a moment: 3 clients, 4 rounds. All of them share one frozen base."""
    base = prepare(CentralizedConfig(), device="cpu").base

    def make(**changes: Any) -> Experiment:
        config = FederatedConfig(**{"clients": 3, "rounds": 4, "batch_size": 64, "lr": 0.02, **changes})
        return prepare(config, device="cpu", base=base)

    return make

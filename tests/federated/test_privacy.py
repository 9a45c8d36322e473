"""Clipping and noise: what the server gets to see, and what the accountant makes of it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from math import exp, sqrt
from typing import Any

import pytest
import torch
from scipy.optimize import brentq
from scipy.stats import norm
from torch import Tensor

from fedspec.config import FederatedConfig
from fedspec.errors import CapabilityError
from fedspec.federated.aggregation import ClientUpdate
from fedspec.federated.aggregators import AGGREGATORS, LORA, MEAN
from fedspec.federated.aggregators.base import BOTH, Aggregator, LayerUpdates
from fedspec.federated.client import train
from fedspec.federated.events import RoundDone
from fedspec.federated.experiment import Experiment
from fedspec.federated.lora import Factors
from fedspec.federated.privacy import epsilon, protected
from fedspec.federated.rounds import rounds
from fedspec.federated.spectral import LowRank
from fedspec.federated.state import State, Weights
from tests.federated.conftest import draw, saved_and_loaded

Small = Callable[..., Experiment]
Updates = Callable[..., LayerUpdates]
NOISY: dict[str, Any] = {"clip": 0.5, "noise": 0.3}


def weights(seed: int, out: int = 20) -> Weights:
    """Two adapters and a head."""
    generator = torch.Generator().manual_seed(seed)
    adapter = {name: draw(generator, out=out) for name in ("one", "two")}
    return Weights(adapter, {"head": torch.randn(4, 5, generator=generator)}, {})


def updates(count: int, **sizes: int) -> list[ClientUpdate]:
    return [ClientUpdate(client, 10 + client, 1, 0.5, weights(client + 1, **sizes)) for client in range(count)]


def moved(before: Weights, after: Weights) -> dict[str, Tensor]:
    start, end = before.flat(), after.flat()
    return {name: end[name].double() - start[name].double() for name in start}


def size(moves: dict[str, Tensor]) -> float:
    return sqrt(sum(float(move.square().sum()) for move in moves.values()))


def mean(sent: list[ClientUpdate]) -> dict[str, Tensor]:
    flats = [update.weights.flat() for update in sent]
    return {name: torch.stack([flat[name].double() for flat in flats]).mean(0) for name in flats[0]}


def protect(
    sent: list[ClientUpdate], sampled: int | None = None, round: int = 1, out: int = 20, **more: Any
) -> list[ClientUpdate]:
    return list(protected(FederatedConfig(**more), weights(0, out), BOTH, sent, sampled or len(sent), round))


def test_without_a_clip_updates_are_what_was_sent() -> None:
    sent = updates(2)
    assert [one is other for one, other in zip(protect(sent), sent, strict=True)] == [True, True]


@pytest.mark.parametrize("clip", [1e-3, 5.0, 1e3])
def test_a_whole_update_is_clipped_and_keeps_its_direction(clip: float) -> None:
    before, sent = weights(0), updates(3)
    for one, safe in zip(sent, protect(sent, clip=clip), strict=True):
        moves, kept = moved(before, one.weights), moved(before, safe.weights)
        assert size(kept) == pytest.approx(min(size(moves), clip), rel=1e-9)
        for name, move in moves.items():
            torch.testing.assert_close(kept[name], move * min(1.0, clip / size(moves)), rtol=1e-6, atol=1e-12)
        assert safe.samples == one.samples


def test_what_is_not_trained_is_neither_counted_nor_changed() -> None:
    before, sent = weights(0), []
    for update in updates(2):
        adapter = {name: Factors(f.B, before.adapter[name].A) for name, f in update.weights.adapter.items()}
        sent.append(replace(update, weights=replace(update.weights, adapter=adapter)))
    for safe in protected(FederatedConfig(method="ffa", clip=1.0, noise=2.0), before, {"B"}, sent, 2, 1):
        for name, factors in safe.weights.adapter.items():
            assert torch.equal(factors.A, before.adapter[name].A)
            assert not torch.equal(factors.B, before.adapter[name].B)
    for safe in protected(FederatedConfig(method="ffa", clip=1.0), before, {"B"}, sent, 2, 1):
        assert size(moved(before, safe.weights)) == pytest.approx(1.0, rel=1e-9)


def test_an_update_of_nothing_stays_nothing() -> None:
    still = [ClientUpdate(0, 5, 1, 0.1, weights(0))]
    [safe] = protect(still, clip=1.0)
    assert size(moved(weights(0), safe.weights)) == 0


def test_the_mean_gets_noise_of_z_times_clip_over_the_number_of_clients() -> None:
    sent, z, clip = updates(4, out=4000), 1.5, 2.0
    plain = mean(protect(sent, clip=clip, out=4000))
    noisy = mean(protect(sent, clip=clip, noise=z, out=4000))
    noise = {name: noisy[name] - plain[name] for name in plain}
    expected = z * clip / 4
    for name in ("B/one", "B/two"):
        assert float(noise[name].std()) == pytest.approx(expected, rel=0.03)
        assert abs(float(noise[name].mean())) < 0.05 * expected
    assert float((noise["B/one"] * noise["B/two"]).mean()) < 0.05 * expected**2


def test_with_noise_all_clients_count_alike_and_without_it_by_their_samples() -> None:
    assert [update.samples for update in protect(updates(3), clip=1.0, noise=1.0)] == [1, 1, 1]
    assert [update.samples for update in protect(updates(3), clip=1.0)] == [10, 11, 12]


def test_a_rejected_update_counts_as_zero() -> None:
    """Or a single client would decide how much the others count."""
    before, sent = weights(0), updates(3)
    for name, tensor in mean(protect(sent, sampled=4, clip=2.0, noise=1e-12)).items():
        clipped = mean(protect(sent, clip=2.0))[name]
        start = before.flat()[name].double()
        torch.testing.assert_close(tensor - start, 0.75 * (clipped - start), rtol=1e-6, atol=1e-9)


def test_where_all_are_rejected_there_is_as_much_noise() -> None:
    """Or its absence would tell so of all of them."""
    before, noisy = weights(0), {"clip": 2.0, "noise": 0.3}
    [nobody] = protect([], sampled=3, **noisy)
    same = mean(protect([ClientUpdate(client, 10, 1, 0.5, before) for client in range(3)], **noisy))
    for name, tensor in nobody.weights.flat().items():
        torch.testing.assert_close(tensor, same[name])
        assert not torch.equal(tensor, before.flat()[name].double())
    assert protect([], sampled=3, clip=2.0) == []


@pytest.mark.parametrize("noisy", [True, False])
def test_a_run_whose_updates_are_all_rejected_hides_it_in_noise_if_there_is_any(small: Small, noisy: bool) -> None:
    # Steps of infinite length.
    experiment = small(rounds=1, head="aggregate", lr=1e38, **(NOISY if noisy else {}))
    [event] = done(experiment)
    start = experiment.initial_weights()
    stays = all(torch.equal(event.state["adapter"][name]["B"], factors.B) for name, factors in start.adapter.items())
    assert (event.row.participating, stays) == (0, not noisy)


def test_noise_is_named_by_seed_and_round() -> None:
    def drawn(round: int = 1, **more: Any) -> Tensor:
        return protect(updates(2), round=round, clip=1.0, noise=1.0, **more)[0].weights.dense["head"]

    assert torch.equal(drawn(), drawn())
    assert not torch.equal(drawn(), drawn(round=2))
    assert not torch.equal(drawn(), drawn(seed=43))


@pytest.mark.parametrize("method_name", [name for name, entry in AGGREGATORS.items() if entry.traits >= LORA], indirect=True)
def test_a_method_takes_noise_if_it_knows_only_the_mean(method_name: str, method: Aggregator, updates_of: Updates) -> None:
    """Clients that differ, and clients that do not, with the same mean."""
    generator = torch.Generator().manual_seed(5)
    previous, centre, apart = (draw(generator) for _ in range(3))
    parts = method.trained(1)

    def client(sign: float) -> Factors:
        B = centre.B.double() + sign * apart.B if "B" in parts else previous.B.double()
        A = centre.A.double() + sign * apart.A if "A" in parts else previous.A.double()
        return Factors(B, A)

    def installed(*signs: float) -> Tensor:
        given = updates_of([client(sign) for sign in signs], previous=previous)
        layer = method.apply(method.init(Weights({"layer": previous}, {}, {})), {"layer": given})[0]["layer"]
        change = LowRank.of(layer.factors, given.scale).dense()
        return change if layer.folded is None else change + layer.folded.dense()

    same, other = installed(0.0, 0.0), installed(1.0, -1.0)
    assert (float((same - other).norm()) < 1e-9 * float(same.norm())) == (AGGREGATORS[method_name].traits >= MEAN)


KINDS: dict[str, dict[str, Any]] = {
    "clipped fedspec": {"method": "fedspec", "clip": 0.5, "head": "aggregate"},
    "clipped ranks": {"method": "flexlora", "clip": 0.5, "ranks": (2, 4)},
    "fedavg": {**NOISY, "head": "aggregate", "participation": 0.7},
    "ffa": {**NOISY, "method": "ffa"},
    "rolora fedavgm": {**NOISY, "method": "rolora", "server": "momentum"},
    "fedsvd": {**NOISY, "method": "fedsvd", "lora_dropout": 0.1},
    "full weights": {**NOISY, "tune": "full", "optimizer": "sgd", "dtype": "float64"},
}


def done(experiment: Experiment, state: State | None = None) -> list[RoundDone]:
    return [event for event in rounds(experiment, state) if isinstance(event, RoundDone)]


@pytest.mark.parametrize("kind", KINDS)
def test_resuming_equals_never_stopping(kind: str, small: Small) -> None:
    whole = done(small(**KINDS[kind]))
    for event in whole[:-1]:
        rest = done(small(**KINDS[kind]), saved_and_loaded(event.state))
        assert [later.row for later in rest] == [later.row for later in whole[event.round :]]
        leaves = [torch.utils._pytree.tree_leaves(run[-1].state) for run in (rest, whole)]
        for one, other in zip(*leaves, strict=True):
            assert torch.equal(one, other) if isinstance(one, Tensor) else one == other
    assert [event.row.epsilon is None for event in whole] == 4 * ["noise" not in KINDS[kind]]


def test_a_runs_model_moves_by_the_clipped_mean_and_the_noise(small: Small) -> None:
    """All of it by hand, from what the clients of the first round have learnt."""
    experiment = small(**NOISY, head="aggregate", rounds=1)
    [event] = done(experiment)
    start = experiment.initial_weights()
    experiment.resident.install(start)
    total: dict[str, Tensor] = {}
    for client, data in enumerate(experiment.clients):
        moves = moved(start, train(experiment.resident, data, experiment.config, 1, client).weights)
        assert size(moves) > 0.5
        total = {name: total.get(name, 0) + move * 0.5 / size(moves) / 3 for name, move in moves.items()}
    left = {name: move - total[name] for name, move in moved(start, Weights.from_state(event.state)).items()}
    numbers = torch.cat([move.flatten() for move in left.values()])
    assert float(numbers.std()) == pytest.approx(0.3 * 0.5 / 3, rel=0.05)
    assert abs(float(numbers.mean())) < 0.005
    assert size(total) <= 0.5


def exact_epsilon(noise: float, rounds: int, delta: float) -> float:
    """Of so many Gaussian mechanisms of sensitivity 2 / noise together (Balle and Wang 2018, arXiv 1805.06530)."""
    mu = sqrt(rounds) * 2 / noise
    return float(brentq(lambda e: norm.cdf(-e / mu + mu / 2) - exp(e) * norm.cdf(-e / mu - mu / 2) - delta, 0.0, 500.0))


@pytest.mark.parametrize(("noise", "rounds"), [(20.0, 1), (20.0, 20), (8.0, 5), (100.0, 200)])
@pytest.mark.parametrize("delta", [1e-5, 1e-3])
def test_epsilon_is_never_below_the_exact_one_where_all_clients_take_part_and_little_above(
    noise: float, rounds: int, delta: float
) -> None:
    told = epsilon(FederatedConfig(clip=1.0, noise=noise, delta=delta), rounds)
    exact = exact_epsilon(noise, rounds, delta)
    assert told is not None
    assert exact * (1 - 1e-5) <= told < 1.25 * exact


def test_epsilon_falls_with_noise_and_with_sampling_and_rises_with_the_rounds() -> None:
    def told(rounds: int = 10, **more: Any) -> float:
        found = epsilon(FederatedConfig(**{"clients": 200, "participation": 0.05, "clip": 1.0, "noise": 2.0, **more}), rounds)
        assert found is not None
        return found

    assert told(1) < told(10) < told(20)
    assert told(noise=4.0) < told() < told(noise=1.0)
    assert told() < told(participation=0.2) < told(participation=1.0)
    assert told(delta=1e-3) < told()
    # What it is clipped to is in the noise already, and how much is trained has no part in it.
    assert told(clip=7.0, rank=9) == told()
    # A cruder sampling of clients than 1 in 200 is none that this knows.
    assert told(participation=0.001) == told(participation=0.005)


def test_without_noise_there_is_no_epsilon() -> None:
    assert epsilon(FederatedConfig(clip=1.0), 5) is None


def test_where_the_accountant_is_missing_the_item_is_another_machines(small: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "dp_accounting", None)
    small(clip=1.0)
    with pytest.raises(CapabilityError, match="dp-accounting, which is not installed") as caught:
        small(**NOISY)
    assert "fedspec[privacy]" in caught.value.fix

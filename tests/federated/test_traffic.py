"""Bytes: numbers times their size, and what a client that was away has to catch up on."""

from __future__ import annotations

from typing import Any

import torch

from fedspec.federated.aggregators.base import BOTH, Installed
from fedspec.federated.lora import Factors
from fedspec.federated.spectral import LowRank
from fedspec.federated.traffic import Exchange, no_debts

BEFORE = {"layer": Factors(torch.zeros(10, 2), torch.zeros(2, 5))}  # B 20 and A 10 numbers
AFTER = Factors(torch.zeros(10, 3), torch.zeros(3, 5))  # B 30 and A 15 numbers
DENSE = {"weight": torch.zeros(4, 2), "bias": torch.zeros(2)}  # 10 numbers
FOLDED = LowRank(torch.zeros(10, 1), torch.zeros(1, 5))  # 15 numbers


def exchange(**more: Any) -> Exchange:
    """Three clients, both factors, a head and a folded residual in float32."""
    usual: dict[str, Any] = {
        "sampled": [0, 1, 2],
        "before": BEFORE,
        "trained": BOTH,
        "installed": {"layer": Installed(AFTER, FOLDED)},
        "is_new": True,
        "dense": DENSE,
        "copies": 1,
        "itemsize": 4,
    }
    return Exchange(**{**usual, **more})


def test_bytes_are_numbers_times_their_size() -> None:
    assert exchange().columns(no_debts(3)) == {
        "bytes_up": 3 * 4 * (30 + 10),
        "bytes_down": 3 * 4 * (45 + 10 + 15),
        "bytes_head": 6 * 4 * 10,
        "bytes_residual": 3 * 4 * 15,
        "communication_bytes": 3 * 4 * 40 + 3 * 4 * 70,
    }


def test_one_factor_is_half_of_the_bytes() -> None:
    half = exchange(trained={"B"}, installed={"layer": Installed(AFTER, download=frozenset({"A"}))}, dense={})
    columns = half.columns(no_debts(3))
    assert (columns["bytes_up"], columns["bytes_down"]) == (3 * 4 * 20, 3 * 4 * 15)


def test_variates_double_the_dense_bytes_both_ways() -> None:
    columns = exchange(before={}, installed={}, copies=2).columns(no_debts(3))
    assert (columns["bytes_up"], columns["bytes_down"], columns["bytes_head"]) == (3 * 4 * 20, 3 * 4 * 20, 6 * 4 * 20)


def test_a_model_that_stays_is_not_sent_again_and_nobody_misses_it() -> None:
    stays = exchange(installed={}, is_new=False)
    assert stays.columns(no_debts(3))["bytes_down"] == 0
    assert stays.debts(no_debts(3)) == no_debts(3)


def test_who_was_away_catches_up_on_the_present_factors_once_and_on_every_residual() -> None:
    away = exchange(sampled=[0, 1])
    once = away.debts(no_debts(3))
    assert once[:2] == no_debts(2)
    twice = away.debts(once)
    assert twice[2] == {"A": 15, "B": 30, "dense": True, "residual": {"layer": 30}}
    present, back = exchange(sampled=[2]).columns(no_debts(3)), exchange(sampled=[2]).columns(twice)
    assert back["bytes_up"] == present["bytes_up"]
    assert back["bytes_down"] - present["bytes_down"] == 4 * (45 + 10 + 30)
    assert back["bytes_residual"] - present["bytes_residual"] == 4 * 30
    assert exchange(sampled=[2]).debts(twice)[2] == no_debts(1)[0]


def test_who_was_away_for_long_downloads_the_sum_of_the_residuals_and_no_more() -> None:
    """A sum of ever more residuals is a matrix of 10 x 5 at most."""
    debts = no_debts(2)
    for missed in (15, 30, 45, 50, 50):
        debts = exchange(sampled=[0]).debts(debts)
        assert debts[1]["residual"] == {"layer": missed}


def test_who_has_caught_up_owes_nothing_though_the_round_came_to_nothing() -> None:
    owing = exchange(sampled=[0]).debts(no_debts(2))
    stays = exchange(sampled=[1], installed={}, is_new=False)
    assert stays.columns(owing)["bytes_down"] == 4 * (45 + 10 + 15)
    assert stays.debts(owing) == no_debts(2)


def test_who_draws_the_adapter_from_the_seed_owes_residuals_alone() -> None:
    restarts = exchange(sampled=[0], installed={"layer": Installed(AFTER, FOLDED, frozenset())}, dense={})
    assert restarts.debts(no_debts(2))[1] == {"A": 0, "B": 0, "dense": False, "residual": {"layer": 15}}


def test_who_was_away_owes_each_factor_as_it_was_last_sent() -> None:
    """Where only one factor is sent in a round, the other's size stays owed; the present size counts once."""
    alone = exchange(sampled=[0], installed={"layer": Installed(BEFORE["layer"], download=frozenset({"A"}))}, dense={})
    both = exchange(sampled=[0], dense={}).debts(no_debts(2))
    assert both[1] == {"A": 15, "B": 30, "dense": False, "residual": {"layer": 15}}
    assert alone.debts(both)[1] == {"A": 10, "B": 30, "dense": False, "residual": {"layer": 15}}


def test_directions_that_all_draw_from_the_seed_are_not_sent() -> None:
    """Two of three directions are drawn: one column of B and one row of A are downloaded, now or later."""
    drawn = exchange(sampled=[0], installed={"layer": Installed(AFTER, drawn=2)}, dense={})
    assert drawn.columns(no_debts(2))["bytes_down"] == 4 * (10 + 5)
    assert drawn.debts(no_debts(2))[1] == {"A": 5, "B": 10, "dense": False, "residual": {}}

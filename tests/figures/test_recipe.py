"""The plan that a report gives makes the very experiments again."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from fedspec.config import CentralizedConfig, FederatedConfig, complaints
from fedspec.figures.recipe import identity, recipe
from fedspec.jobs import VOCABULARY
from fedspec.plan import Item, load, make_item, with_engine

SHIPPED = sorted((Path(__file__).parents[2] / "experiments").glob("*.toml"))


def again(items: Sequence[Item], folder: Path) -> frozenset[str]:
    """The ids of the experiments that the recipe's plan has."""
    found = recipe(items, 'a "title"\\')
    assert found is not None
    path = folder / "mine.toml"
    path.write_text(found.text, encoding="utf-8")
    plan = load(path, VOCABULARY)
    assert not plan.undecided
    return plan.ids


@pytest.mark.parametrize("plan", SHIPPED, ids=lambda path: path.stem)
def test_each_shipped_plan_comes_back(plan: Path, tmp_path: Path) -> None:
    items = load(plan, VOCABULARY).items
    assert again(items, tmp_path) == {item.id for item in items}
    found = recipe(items, "")
    assert found is not None
    assert found.more == 0


@settings(max_examples=40, deadline=None)
@given(
    own=st.fixed_dictionaries(
        {},
        optional={
            "lr": st.floats(1e-6, 10),
            "rank": st.integers(1, 64),
            "clients": st.integers(1, 50),
            "rounds": st.integers(1, 2000),
            "batch_size": st.integers(1, 512),
            "weight_decay": st.floats(0, 1),
            "prox": st.floats(0, 1),
            "participation": st.floats(0.01, 1),
            "engine": st.sampled_from(["sequential", "stacked"]),
            "ranks": st.lists(st.integers(1, 9), max_size=3).map(tuple),
            "head": st.sampled_from(["aggregate", "frozen"]),
            "dtype": st.sampled_from(["float32", "float64"]),
        },
    ),
    lr=st.floats(1e-6, 10),
    iid=st.booleans(),
    baseline=st.booleans(),
)
def test_any_settings_come_back(
    own: dict[str, Any], lr: float, iid: bool, baseline: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    configs: list[FederatedConfig | CentralizedConfig] = []
    for seed in (1, 2):
        for alpha in (None,) if iid else (0.1, 3.0):
            split: Any = "iid" if iid else "dirichlet"
            base = FederatedConfig(alpha=alpha, split=split, seed=seed, lr=lr)
            configs += [
                msgspec.structs.replace(base, **own),
                msgspec.structs.replace(base, method="fedspec", **own, lora_alpha=4.0),
            ]
        if baseline:
            configs.append(CentralizedConfig(seed=seed, batch_size=7))
    items = [make_item("federated" if isinstance(c, FederatedConfig) else "centralized", c) for c in configs]
    assume(not any(complaint for config in configs for complaint in complaints(config)))
    assert again(items, tmp_path_factory.mktemp("plan")) == {item.id for item in items}


def test_what_a_full_grid_has_more_is_counted() -> None:
    items = [make_item("federated", FederatedConfig(seed=seed, alpha=alpha)) for seed, alpha in ((1, 0.1), (1, 0.5), (2, 0.1))]
    found = recipe(items, "")
    assert found is not None
    assert found.more == 1


def test_an_experiment_is_itself_whatever_the_engine_and_the_version() -> None:
    item = make_item("federated", FederatedConfig())
    earlier = msgspec.structs.replace(item, config={key: value for key, value in item.config.items() if key != "prox"})
    assert identity(item) == identity(with_engine(item, "stacked")) == identity(earlier)
    assert identity(item) != identity(make_item("federated", FederatedConfig(prox=0.5)))


def test_several_settings_of_one_method_are_no_plan() -> None:
    assert recipe([make_item("federated", FederatedConfig(lr=lr)) for lr in (0.1, 0.2)], "") is None
    assert recipe([make_item("centralized", CentralizedConfig())], "") is None


def test_an_experiment_of_a_later_version_is_no_plan() -> None:
    item = make_item("federated", FederatedConfig())
    later = msgspec.structs.replace(item, config={**item.config, "a_key_of_tomorrow": 1})
    assert recipe([later], "") is None

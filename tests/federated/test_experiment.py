from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from fedspec import devices
from fedspec.config import CentralizedConfig, FederatedConfig
from fedspec.errors import CapabilityError, DamagedError, ExperimentError
from fedspec.federated.evaluation import evaluate
from fedspec.federated.events import RoundDone
from fedspec.federated.experiment import Experiment, prepare
from fedspec.federated.rounds import rounds


def test_the_base_reads_turned_digits_at_chance() -> None:
    """Else the adapters would have nothing to do."""
    experiment = prepare(CentralizedConfig(), device="cpu")
    experiment.resident.install(experiment.initial_weights())
    [found] = evaluate(experiment.resident.module, [experiment.test], 10)
    assert found.accuracy < 0.25


def test_the_base_is_a_function_of_data_model_and_seed() -> None:
    one, same, other = (prepare(CentralizedConfig(seed=seed), device="cpu").base for seed in (1, 1, 2))
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not torch.equal(one["out.weight"], other["out.weight"])
    assert {value.dtype for value in one.values()} == {torch.float32}


def test_a_base_that_is_given_is_used_as_it_is() -> None:
    base = prepare(CentralizedConfig(seed=1), device="cpu").base
    again = prepare(CentralizedConfig(seed=1), device="cpu", base=base).base
    assert all(torch.equal(base[name], again[name]) for name in base)
    with pytest.raises(DamagedError, match="base"):
        prepare(CentralizedConfig(model="2nn"), device="cpu", base=base)


def test_preparing_leaves_the_global_generator_alone() -> None:
    before = torch.get_rng_state()
    prepare(CentralizedConfig(), device="cpu")
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    ("config", "problem"),
    [
        (FederatedConfig(alpha=None), "needs an alpha"),
        (FederatedConfig(clients=100), "100 clients"),
        (FederatedConfig(train_samples=50), "10 clients with at least 8 samples"),
        (FederatedConfig(train_samples=9, min_client_samples=0, split="iid", alpha=None), "10 clients with at least 1 samples"),
    ],
)
def test_what_cannot_run_anywhere_is_refused(config: FederatedConfig, problem: str) -> None:
    with pytest.raises(ExperimentError, match=problem):
        prepare(config, device="cpu")


@pytest.mark.parametrize("unknown", ["dataset", "model", "method"])
def test_a_name_that_a_newer_version_may_know_is_left_to_machines_that_do(unknown: str) -> None:
    with pytest.raises(CapabilityError, match="called 'nope'"):
        prepare(FederatedConfig(**{unknown: "nope"}), device="cpu")


def test_float64_is_refused_where_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "resolve", lambda request: torch.device("mps"))
    with pytest.raises(CapabilityError, match="float64"):
        prepare(CentralizedConfig(dtype="float64"), device="mps")


def test_clients_share_out_the_training_part(small: Callable[..., Experiment]) -> None:
    experiment = small(clients=5)
    assert sum(len(data) for data in experiment.clients) == 629
    torch.testing.assert_close(torch.from_numpy(experiment.label_shares.sum(axis=1)), torch.ones(5, dtype=torch.float64))


def test_a_run_on_each_accelerator_of_this_machine_agrees_with_the_cpu(small: Callable[..., Experiment]) -> None:
    kinds = sorted(devices.capabilities() - {"cpu"})
    if not kinds:
        pytest.skip("needs an accelerator: this machine has only a CPU")
    on_cpu = small(method="fedspec", rounds=2)
    expected = [event.row for event in rounds(on_cpu) if isinstance(event, RoundDone)]
    for kind in kinds:
        experiment = prepare(on_cpu.config, device=kind, base=on_cpu.base)
        found = [event.row for event in rounds(experiment) if isinstance(event, RoundDone)]
        for mine, theirs in zip(found, expected, strict=True):
            assert mine.train_loss == pytest.approx(theirs.train_loss, rel=1e-2)
            assert mine.ideal_norm == pytest.approx(theirs.ideal_norm, rel=1e-2)


def test_fewer_training_samples_are_shared_out_among_the_same_clients(small: Callable[..., Experiment]) -> None:
    every, some = small(), small(train_samples=100, min_client_samples=1)
    assert sum(len(data) for data in some.clients) == 100
    assert torch.equal(every.test.inputs, some.test.inputs)
    samples = [{image.numpy().tobytes() for data in one.clients for image in data.inputs} for one in (every, some)]
    assert samples[1] < samples[0]
    other_seed = small(train_samples=100, min_client_samples=1, seed=7)
    assert samples[1] == {image.numpy().tobytes() for data in other_seed.clients for image in data.inputs}
    with pytest.raises(ExperimentError, match="has 629 training samples"):
        small(train_samples=630)


@pytest.mark.parametrize(
    ("config", "problem", "fix"),
    [
        (FederatedConfig(rank=65), r"rank is 65, and hidden\.0, the smallest adapted layer, is 128 x 64", "rank to 64"),
        (FederatedConfig(rank=8, rank_rule="energy", max_rank=80), "max_rank is 80", "max_rank to 64"),
        (FederatedConfig(ranks=(2, 65)), "the highest of ranks is 65", "the highest of ranks to 64"),
        (FederatedConfig(model="resnet8"), "resnet8 has no linear layer", 'tune = "full"'),
    ],
)
def test_adapters_that_do_not_fit_the_model_are_refused(config: FederatedConfig, problem: str, fix: str) -> None:
    with pytest.raises(ExperimentError, match=problem) as caught:
        prepare(config, device="cpu")
    assert fix in caught.value.fix


def test_a_rank_that_never_grows_may_have_any_limit(small: Callable[..., Experiment]) -> None:
    assert small(max_rank=80).config.max_rank == 80


def test_arrays_of_ones_own_train(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    labels = np.arange(300) % 3
    np.savez(tmp_path / "mine.npz", x=rng.normal(size=(300, 5)) + labels[:, None], y=labels)
    config = FederatedConfig(
        dataset="npz", data_file="mine.npz", clients=3, rounds=5, head="aggregate", method="fedspec", split="iid", alpha=None
    )
    *_, last = rounds(prepare(config, device="cpu", data_root=tmp_path))
    assert isinstance(last, RoundDone)
    assert last.row.accuracy > 0.7


def test_mnist_trains(data_root: Path) -> None:
    config = FederatedConfig(
        dataset="mnist", model="2nn", head="aggregate", rounds=1, lr=0.003, batch_size=256, method="fedspec"
    )
    [event] = [e for e in rounds(prepare(config, device="cpu", data_root=data_root)) if isinstance(e, RoundDone)]
    assert event.row.accuracy > 0.3

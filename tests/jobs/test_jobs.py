"""Laws of every kind of job: what it says, that resuming equals never stopping, and what its saved states may hold."""

from __future__ import annotations

import io
from typing import Any

import msgspec
import pytest
import torch

from fedspec.config import CentralizedConfig, FederatedConfig, TrainingConfig
from fedspec.errors import CapabilityError, ExperimentError
from fedspec.federated.events import Aggregated, ClientDone, RoundDone
from fedspec.jobs import JOBS, VOCABULARY, Job, opener
from fedspec.plan import KINDS, Item, make_item
from fedspec.results import to_table

CONFIGS: dict[str, TrainingConfig] = {
    "federated": FederatedConfig(method="fedspec", clients=2, rounds=3, batch_size=64, seed=3),
    "centralized": CentralizedConfig(rounds=3, batch_size=64, seed=3),
}


def item_of(kind: str) -> Item:
    return make_item(kind, CONFIGS[kind])


def open_job(kind: str, base: Any = None) -> Job:
    return opener(None)(item_of(kind), base)


def rounds_of(job: Job, state: Any = None) -> list[RoundDone]:
    return [event for event in job.run(state) if isinstance(event, RoundDone)]


def saved_and_loaded(value: Any) -> Any:
    """What a checkpoint does to it."""
    buffer = io.BytesIO()
    torch.save(value, buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=True)


def test_every_kind_of_item_that_a_plan_may_hold_has_its_job_and_an_example_here():
    assert JOBS.keys() >= KINDS.keys() == CONFIGS.keys()
    assert {"method", "dataset", "model"} == VOCABULARY.keys()


@pytest.mark.parametrize("kind", CONFIGS)
def test_a_job_yields_each_round_once_with_its_row_and_its_state(kind: str):
    done = rounds_of(open_job(kind))
    assert [event.round for event in done] == [1, 2, 3]
    assert [event.row.round for event in done] == [1, 2, 3]
    assert [event.state["round"] for event in done] == [1, 2, 3]


def test_a_federated_job_tells_of_each_client_and_of_the_aggregation_before_the_round_is_done():
    kinds = [type(event) for event in open_job("federated").run(None)]
    assert kinds == [ClientDone, ClientDone, Aggregated, RoundDone] * 3


@pytest.mark.parametrize("kind", CONFIGS)
def test_a_job_says_on_how_many_samples_its_rounds_train(kind: str):
    job = open_job(kind)
    trained = sum(event.samples for event in job.run(None) if isinstance(event, ClientDone))
    assert job.samples == trained / CONFIGS[kind].rounds


def test_of_sampled_clients_and_several_passes_a_job_says_the_mean():
    config = FederatedConfig(clients=4, rounds=1, batch_size=64, participation=0.5, local_epochs=3, min_client_samples=8)
    job, whole = (opener(None)(make_item("federated", c), None) for c in (config, CONFIGS["federated"]))
    assert job.samples == 3 * whole.samples / 2


@pytest.mark.parametrize("after", [1, 2, 3])
@pytest.mark.parametrize("kind", CONFIGS)
def test_resuming_from_what_a_checkpoint_and_the_base_hold_equals_never_stopping(kind: str, after: int):
    first = open_job(kind)
    whole = rounds_of(first)
    state = saved_and_loaded(dict(whole[after - 1].state))
    resumed = rounds_of(open_job(kind, saved_and_loaded(dict(first.base))), state)
    assert [msgspec.structs.astuple(e.row) for e in resumed] == [msgspec.structs.astuple(e.row) for e in whole[after:]]


@pytest.mark.parametrize("kind", CONFIGS)
def test_what_a_job_says_of_its_machine_can_stand_in_a_checkpoint_that_is_read_without_unpickling(kind: str):
    job = open_job(kind)
    assert type(job.device) is str
    assert type(job.runtime) is str
    row = msgspec.structs.replace(rounds_of(job)[0].row, device=job.device, torch_version=job.runtime)
    assert saved_and_loaded(to_table([row])) == to_table([row])


@pytest.mark.parametrize("kind", CONFIGS)
def test_two_machines_make_the_same_base(kind: str):
    one, other = open_job(kind).base, open_job(kind).base
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_an_item_that_a_newer_version_enqueued_is_left_to_machines_that_know_it():
    item = item_of("federated")
    broken = msgspec.structs.replace(item, config={**item.config, "rounds": "many"})
    unknown = msgspec.structs.replace(item, kind="socket_sync")
    for newer in (broken, unknown):
        with pytest.raises(CapabilityError, match="Update fedspec"):
            opener(None)(newer, None)


def test_an_item_whose_parts_do_not_fit_each_other_is_left_to_versions_in_which_they_do():
    for config in (FederatedConfig(model="bert"), FederatedConfig(dataset="sst2"), FederatedConfig(model="resnet8")):
        with pytest.raises(CapabilityError, match="does not run"):
            opener(None)(make_item("federated", config), None)


def test_an_item_that_no_machine_can_run_says_so_when_it_is_opened():
    impossible = make_item("federated", FederatedConfig(min_client_samples=100_000))
    with pytest.raises(ExperimentError):
        opener(None)(impossible, None)

"""The baseline: the same adapters trained on all clients' data in one place, with equally many passes."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from fedspec.config import CentralizedConfig
from fedspec.errors import ExperimentError
from fedspec.federated.client import train_epoch
from fedspec.federated.events import ClientDone, Event, RoundDone
from fedspec.federated.experiment import Experiment
from fedspec.federated.reporting import make_row
from fedspec.federated.seeding import generator, global_seed
from fedspec.federated.state import State, Weights
from fedspec.federated.updates import Updates


def passes(experiment: Experiment, state: State | None = None) -> Iterator[Event]:
    """Run the passes that are missing: ``local_epochs`` for each of ``config.rounds`` rounds, with one optimiser throughout.

    Args:
        experiment: of a centralized configuration; one generator at a time may use it.
        state: of the last round that is done; ``None`` starts from the first.

    Yields:
        For each round a `ClientDone` (client 0 has all the data) and a `RoundDone` to go on from.

    Raises:
        ExperimentError: the configuration is not a centralized one, or the model has diverged.
        DamagedError: the state is not one of this run.
    """
    config = experiment.config
    if not isinstance(config, CentralizedConfig):
        raise ExperimentError("A federated experiment has no passes.", "Use fedspec.federated.rounds.rounds.")
    torch.set_num_threads(config.threads)
    if state is None:
        state = {"round": 0, "optimizer": {}, **experiment.initial_weights().to_state()}
    else:
        experiment.check(state, "optimizer")
    while state["round"] < config.rounds:
        number = state["round"] + 1
        state, loss = _advance(experiment, config, state, number)
        yield ClientDone(number, 0, len(experiment.clients[0]), loss)
        rank = Weights.from_state(state).rank
        row = make_row(experiment, round=number, rank=rank, rank_next=rank, participating=1, train_loss=loss)
        yield RoundDone(number, row, state)


def _advance(experiment: Experiment, config: CentralizedConfig, state: State, number: int) -> tuple[State, float]:
    resident, data = experiment.resident, experiment.clients[0]
    resident.install(Weights.from_state(state))
    updates = Updates.of(resident.trained(), config)
    # Its moments go through their saved form in every round, so that a resumed run and one that never stopped do the same.
    if number > 1:
        updates.load(state["optimizer"])
    resident.module.train()
    order = generator("shuffle", config.seed, number)
    loss = 0.0
    with global_seed(resident.device, "dropout", config.seed, number):
        for _ in range(config.local_epochs):
            shuffled = data.order(config.batch_size, order).to(resident.device)
            loss += train_epoch(resident.module, updates, data, config.batch_size, shuffled)
    return {"round": number, "optimizer": updates.state(), **resident.snapshot().to_state()}, loss / config.local_epochs

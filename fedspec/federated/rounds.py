"""A federated run, round by round: train each client, aggregate, install, evaluate.

A round is a function of the experiment and of the state before it, and of nothing else: that is why a run that was resumed
and one that never stopped are the same, bit for bit.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from functools import partial
from math import isfinite

import torch

from fedspec.config import FederatedConfig, client_rank, clients_in_a_round
from fedspec.errors import DamagedError, ExperimentError
from fedspec.federated import privacy, server, statistics
from fedspec.federated.aggregation import ClientUpdate, aggregate
from fedspec.federated.aggregators.base import Aggregator
from fedspec.federated.client import Trained, in_turn, steps_of
from fedspec.federated.evaluation import evaluate
from fedspec.federated.events import Aggregated, ClientDone, ClientRejected, Event, RoundDone, StepDone
from fedspec.federated.experiment import Experiment, load_method
from fedspec.federated.lora import dtype_of
from fedspec.federated.reporting import make_row
from fedspec.federated.seeding import generator
from fedspec.federated.stacked import together
from fedspec.federated.state import State, Weights, shape_of
from fedspec.federated.traffic import Exchange, fits, no_debts


def rounds(experiment: Experiment, state: State | None = None) -> Iterator[Event]:
    """Run the rounds that are missing, up to ``config.rounds``.

    Args:
        experiment: of a federated configuration; one generator at a time may use it.
        state: of the last round that is done; ``None`` starts from the first.

    Yields:
        For each round a `ClientDone` or `ClientRejected` per client, `Aggregated`, and a `RoundDone` to go on from.

    Raises:
        ExperimentError: the configuration is not a federated one, or the model has diverged.
        DamagedError: the state is not one of this run.
    """
    config = experiment.config
    if not isinstance(config, FederatedConfig):
        raise ExperimentError("A centralized experiment has no rounds.", "Use fedspec.federated.centralized.passes.")
    torch.set_num_threads(config.threads)
    method = load_method(config)
    if state is None:
        start = experiment.initial_weights()
        state = {
            "round": 0,
            "method": method.init(start),
            "server": server.init(config, start),
            "debts": no_debts(config.clients),
            **start.to_state(),
        }
    else:
        experiment.check(state, "method", "server", "debts")
        weights = Weights.from_state(state)
        usual = shape_of(server.init(config, weights))
        if not (
            method.fits(state["method"], weights)
            and shape_of(state["server"]) == usual
            and fits(state["debts"], config.clients)
        ):
            raise DamagedError("What a checkpoint remembers is not this experiment's.", "Take an older checkpoint.")
    while state["round"] < config.rounds:
        state = yield from _round(experiment, config, method, state)


def _round(experiment: Experiment, config: FederatedConfig, method: Aggregator, state: State) -> Generator[Event, None, State]:
    number = state["round"] + 1
    before = Weights.from_state(state)
    trained = method.trained(number)
    resident = experiment.resident
    resident.install(before, trained)

    updates: list[ClientUpdate] = []
    present = sampled(config, number)
    for done in _train(experiment, config, method, state, present):
        if isinstance(done, StepDone):
            yield done
            continue
        samples = len(experiment.clients[done.client])
        if (broken := done.nonfinite) is not None or not isfinite(done.loss):
            yield ClientRejected(number, done.client, samples, f"{broken or 'its loss'} is not finite")
        else:
            updates.append(ClientUpdate(done.client, samples, steps_of(samples, config), done.loss, done.weights))
            yield ClientDone(number, done.client, samples, done.loss)

    safe = privacy.protected(config, before, trained, updates, len(present), number)
    result = aggregate(config, method, state["method"], before, safe, number)
    after, optimizer = (
        server.step(config, state["server"], before, result.weights, trained) if safe else (before, state["server"])
    )
    yield Aggregated(number, len(updates), result.layers)

    resident.install(after, trained)
    exchange = Exchange(
        sampled=present,
        before=before.adapter,
        trained=trained,
        installed=result.installed,
        is_new=bool(safe),
        dense=before.dense,
        copies=2 if method.variates else 1,
        ranks=[client_rank(config, client) for client in range(config.clients)] if config.ranks else [],
        itemsize=dtype_of(config).itemsize,
    )
    row = make_row(
        experiment,
        round=number,
        rank=before.rank,
        rank_next=after.rank,
        participating=len(updates),
        train_loss=_train_loss(experiment, updates),
        **statistics.columns(result.layers, result.tails),
        **exchange.columns(state["debts"]),
        epsilon=privacy.epsilon(config, number),
    )
    state = {
        "round": number,
        "method": result.server,
        "server": optimizer,
        "debts": exchange.debts(state["debts"]),
        **after.to_state(),
    }
    yield RoundDone(number, row, state)
    return state


def _train(
    experiment: Experiment, config: FederatedConfig, method: Aggregator, state: State, present: Sequence[int]
) -> Iterator[Trained | StepDone]:
    """The clients' work in the round after ``state``, from the installed weights, with the engine that the item names."""
    resident, clients, number = experiment.resident, experiment.clients, state["round"] + 1
    correction = partial(method.correction, state["method"])
    if config.engine == "stacked":
        yield from together(resident, experiment.train, clients, present, config, number)
    elif not config.ranks:
        yield from in_turn(resident, clients, present, config, number, correction)
    else:
        before, trained = Weights.from_state(state), method.trained(number)
        for client in present:
            resident.install(before.cut(client_rank(config, client)), trained)
            yield from in_turn(resident, clients, [client], config, number, correction)


def sampled(config: FederatedConfig, round: int) -> list[int]:
    """The clients of a round, ascending: a share of them without replacement, named by (seed, round) alone."""
    count = clients_in_a_round({"participation": config.participation, "clients": config.clients})
    order = torch.randperm(config.clients, generator=generator("sampling", config.seed, round))
    return sorted(order[:count].tolist())


def _train_loss(experiment: Experiment, updates: list[ClientUpdate]) -> float:
    """The mean over the samples that were trained on; over all of them, with the kept model, where no update was usable."""
    if updates:
        return sum(update.samples * update.loss for update in updates) / sum(update.samples for update in updates)
    module, classes = experiment.resident.module, experiment.classes
    [found] = evaluate(module, [experiment.train], classes)
    return found.loss

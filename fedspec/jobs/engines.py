"""Which engine trains an experiment's clients: measured when it is enqueued, and fixed from then on in its item.

A machine never chooses for an item that is there already: a takeover would change the last bits of a result. So the queue's own
items come first, whichever engine they have, and what is measured here is for new ones.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from fedspec.clock import Clock
from fedspec.errors import FedspecError
from fedspec.federated.events import ClientDone, ClientRejected, StepDone
from fedspec.jobs import Job, OpenJob
from fedspec.jobs.estimate import COST_KEYS, with_samples
from fedspec.plan import Item, Plan, same_experiment, with_engine

SEQUENTIAL, STACKED = "sequential", "stacked"
# For measuring one engine on one kind of item, once its first round has warmed the machine up.
BUDGET_S = 0.25
# The sequential engine is the reference: a gain that another machine might not see is not worth another engine.
WORTH_IT = 1.15


def decide(plan: Plan, present: Iterable[Item], open_job: OpenJob, clock: Clock) -> Plan:
    """The plan with an engine for each of its items.

    Args:
        present: the queue's items.
    """
    by_name = {item.exp: item for item in present}
    chosen: dict[str, str] = {}
    found: dict[tuple[Any, ...], str] = {}
    for item in plan.items:
        if item.id not in plan.undecided:
            continue
        there = by_name.get(item.exp)
        if there is not None and same_experiment(with_engine(there, SEQUENTIAL), item):
            chosen[item.id] = there.config.get("engine", SEQUENTIAL)
            continue
        cost = tuple(str(item.config.get(key)) for key in COST_KEYS)
        if cost not in found:
            found[cost] = faster(item, open_job, clock)
        chosen[item.id] = found[cost]
    return plan.with_engines(chosen)


def faster(item: Item, open_job: OpenJob, clock: Clock) -> str:
    """The engine that trains the item's clients faster on this machine; the sequential one where it is a matter of little, or
    where the item cannot be trained here."""
    if item.config.get("tune") == "full" or item.config.get("clients") == 1:
        return SEQUENTIAL
    try:
        reference = open_job(with_engine(item, SEQUENTIAL), None)
        stacked = open_job(with_engine(item, STACKED), reference.base)
        gain = _samples_a_second(stacked, item.config, clock) / _samples_a_second(reference, item.config, clock)
    except FedspecError:
        # Whoever can run it tells what is wrong with it, if anything is.
        return SEQUENTIAL
    return STACKED if gain > WORTH_IT else SEQUENTIAL


def _samples_a_second(job: Job, config: Mapping[str, Any], clock: Clock) -> float:
    """Over whole rounds where they are short, else over the first clients or steps; without the first of its measurements."""
    lap = clock.monotonic()
    taken: list[tuple[int, float]] = []
    spent = 0.0
    for event, samples in with_samples(job.run(None), config):
        now = clock.monotonic()
        if isinstance(event, StepDone | ClientDone | ClientRejected):
            taken.append((samples, now - lap))
        spent, lap = spent + now - lap, now
        if spent > BUDGET_S and len(taken) > 1:
            break
    later = taken[1:] or taken
    return sum(samples for samples, _ in later) / max(1e-9, sum(seconds for _, seconds in later))

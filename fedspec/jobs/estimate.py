"""How long items will take on this machine, and what they need: measured on a few real rounds, written nowhere."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from fedspec.clock import Clock
from fedspec.federated.events import RoundDone
from fedspec.jobs import OpenJob
from fedspec.plan import Item

MEASURED_ROUNDS = 2
KEPT_GENERATIONS = 2
WARM_UP_S = 5.0
# What the time and the memory of an item depend on; one item stands for all that agree in these.
COST_KEYS = ("dataset", "model", "clients", "local_epochs", "batch_size", "rank", "engine", "dtype", "threads", "device")


@dataclass(frozen=True, slots=True)
class Estimate:
    """Of some items together: seconds on one worker, bytes on disk; and the peak memory of one worker in bytes."""

    seconds: float
    disk_bytes: int
    memory_bytes: int


def estimate(items: Iterable[Item], open_job: OpenJob, clock: Clock) -> Estimate:
    """Run the first rounds of one item of each cost and add up.

    Raises:
        ExperimentError, CapabilityError: an item cannot run (here).
    """
    groups: dict[tuple[Any, ...], list[Item]] = {}
    for item in items:
        groups.setdefault((item.kind, *(str(item.config.get(key)) for key in COST_KEYS)), []).append(item)
    seconds, disk = 0.0, 0
    for group in groups.values():
        start, per_round, state_bytes = _measure(group[0], open_job, clock)
        seconds += sum(start + per_round * int(item.config.get("rounds", 1)) for item in group)
        disk += len(group) * state_bytes * KEPT_GENERATIONS
    return Estimate(seconds, disk, _memory_bytes())


def _measure(item: Item, open_job: OpenJob, clock: Clock) -> tuple[float, float, int]:
    """(seconds until the first round, seconds a round, bytes of the state)."""
    began = clock.monotonic()
    job = open_job(item, None)
    if clock.monotonic() - began < WARM_UP_S:
        # The first time also imports libraries and reads data, which a worker does once for all its items.
        began = clock.monotonic()
        job = open_job(item, None)
    ready = lap = clock.monotonic()
    state_bytes = rounds = 0
    for event in job.run(None):
        if isinstance(event, RoundDone):
            state_bytes, rounds = _bytes(event.state), rounds + 1
            if rounds == 1:  # the first round also warms caches up
                lap = clock.monotonic()
            if rounds == MEASURED_ROUNDS:
                break
    now = clock.monotonic()
    per_round = (now - lap) if rounds > 1 else now - ready
    return ready - began, per_round, state_bytes


def _bytes(state: Any) -> int:
    if isinstance(state, Mapping):
        return sum(_bytes(value) for value in state.values())
    if isinstance(state, list | tuple):
        return sum(_bytes(value) for value in state)
    return int(state.numel() * state.element_size()) if hasattr(state, "numel") else 16


def _memory_bytes() -> int:
    import psutil

    return int(psutil.Process().memory_info().rss)

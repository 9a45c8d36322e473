"""How long items will take on this machine, and what they need: measured on a few real rounds, written nowhere."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from fedspec.clock import Clock
from fedspec.federated.events import ClientDone, ClientRejected, Event, RoundDone, StepDone
from fedspec.jobs import Job, OpenJob
from fedspec.plan import Item

# For all measuring together, beside what it takes to import libraries, read data and train one client.
BUDGET_S = 1.5
MAX_ROUNDS = 10
KEPT_GENERATIONS = 2
# A start that takes longer than this is not repeated to tell imports and reading from what each item pays for.
WARM_UP_S = 20.0
# What a round costs beside training: two writes that survive a power cut, the journal, and a look at the folder.
SAVE_S = 0.005
# What the time and the memory of an item depend on; one item stands for all that agree in these.
COST_KEYS = (
    "dataset", "model", "clients", "participation", "local_epochs", "batch_size", "tune", "rank", "engine", "dtype", "threads",
    "device", "train_samples", "data_file", "ranks", "pretrained",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Estimate:
    """Of some items together: seconds on one worker, bytes on disk; and the memory of one worker in bytes."""

    seconds: float = 0.0
    disk_bytes: int = 0
    memory_bytes: int = 0


class _Cost(NamedTuple):
    """Seconds until an item's first round, seconds a round, bytes of the state."""

    start_s: float
    round_s: float
    state_bytes: int


def estimate(items: Iterable[Item], open_job: OpenJob, clock: Clock, saved: Mapping[str, int] | None = None) -> Estimate:
    """Run the first rounds of one item of each cost and add up.

    Args:
        saved: item id -> rounds that need not be trained again.

    Raises:
        ExperimentError, CapabilityError: an item cannot run (here).
    """
    groups: dict[tuple[Any, ...], list[Item]] = {}
    for item in items:
        groups.setdefault((item.kind, *(str(item.config.get(key)) for key in COST_KEYS)), []).append(item)
    if not groups:
        return Estimate()
    seconds, disk = 0.0, 0
    for group in groups.values():
        cost = _measure(group[0], open_job, clock, BUDGET_S / len(groups))
        rounds = sum(max(0, int(item.config.get("rounds", 1)) - (saved or {}).get(item.id, 0)) for item in group)
        seconds += len(group) * cost.start_s + rounds * (cost.round_s + SAVE_S)
        disk += len(group) * cost.state_bytes * KEPT_GENERATIONS
    return Estimate(seconds, disk, _memory_bytes())


def _measure(item: Item, open_job: OpenJob, clock: Clock, budget_s: float) -> _Cost:
    began = clock.monotonic()
    job = open_job(item, None)
    start_s = clock.monotonic() - began
    if start_s < WARM_UP_S:
        # The first time also imports libraries and reads data, which a worker does once for all its items.
        began = clock.monotonic()
        job = open_job(item, None)
        start_s = clock.monotonic() - began
    round_s, state_bytes = _rounds(job, item, clock, budget_s)
    return _Cost(start_s, round_s, state_bytes)


def _rounds(job: Job, item: Item, clock: Clock, budget_s: float) -> tuple[float, int]:
    """(seconds a round, bytes of the state); a round that outlasts the budget is judged by the samples of its first clients."""
    began = lap = clock.monotonic()
    laps: list[float] = []
    trained, state_bytes = 0, 0
    for event, samples in with_samples(job.run(None), item.config):
        now, trained = clock.monotonic(), trained + samples
        if isinstance(event, RoundDone):
            laps.append(now - lap)
            lap, trained, state_bytes = now, 0, _bytes(event.state)
            if len(laps) == MAX_ROUNDS:
                break
        if now - began > budget_s and (laps or trained):
            break
    if not laps:
        return (clock.monotonic() - lap) * job.samples / trained, 0
    # The first round also warms caches up.
    later = laps[1:] or laps
    return sum(later) / len(later), state_bytes


def with_samples(events: Iterable[Event], config: Mapping[str, Any]) -> Iterator[tuple[Event, int]]:
    """Each event, and how many samples were trained on since the one before."""
    epochs, together = int(config.get("local_epochs", 1)), False
    for event in events:
        samples = 0
        if isinstance(event, StepDone):
            samples, together = event.samples, True
        elif isinstance(event, ClientDone | ClientRejected) and not together:
            # Clients that were trained together only hand in what their steps have counted.
            samples = event.samples * epochs
        yield event, samples


def _bytes(state: Any) -> int:
    if isinstance(state, Mapping):
        return sum(_bytes(value) for value in state.values())
    if isinstance(state, list | tuple):
        return sum(_bytes(value) for value in state)
    return int(state.numel() * state.element_size()) if hasattr(state, "numel") else 16


def _memory_bytes() -> int:
    import psutil

    return int(psutil.Process().memory_info().rss)

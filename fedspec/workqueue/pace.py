"""How long a round takes, now and usually: by the records of the worker that trains, and of those before it on its machine.

Pure, and for display only. What a round takes is taken from one worker's clock alone, so that clocks that differ make nobody
slow.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice

from fedspec.clock import moment
from fedspec.plan import Item
from fedspec.workqueue.fold import Fold, Key
from fedspec.workqueue.records import machine_of
from fedspec.workqueue.store import Beat

# Enough to know a machine's usual pace by.
SAMPLES, OWN_ROUNDS, RECENT_ROUNDS = 32, 3, 3
# What a round's length depends on, besides the machine.
WORKLOAD = ("dataset", "model", "clients", "participation", "local_epochs", "batch_size", "tune", "engine", "dtype", "threads")

Run = tuple[str, Key]  # an item and an attempt at it


class Paces:
    """What is known of paces at one moment. Valid while the fold does not change: what runs are alike is looked up once."""

    def __init__(self, fold: Fold, items: Mapping[str, Item]) -> None:
        self.fold, self.items = fold, items
        self._alike: dict[tuple[str, str, str], list[tuple[Run, float]]] = {}

    def usual_s(self, item: Item, owner: Key) -> float | None:
        """Seconds that a round of such an item takes on the owner's machine: the median of its other runs there, else of the
        rounds of this very run. None if there are too few."""
        others = [seconds for run, seconds in self._like(item, owner) if run != (item.id, owner)][:SAMPLES]
        if others:
            return median(others)
        own = self._own_rounds_s(item.id, owner)
        return median(own) if len(own) >= OWN_ROUNDS else None

    def present_s(self, item_id: str, owner: Key, beat: Beat) -> float:
        """Seconds that a round takes now: of the latest ones, or of the present one if it has lasted longer."""
        recent = self._own_rounds_s(item_id, owner)[-RECENT_ROUNDS:]
        saved = self._saved_walls(item_id, owner)
        start = self.fold.item(item_id).attempts[owner].start
        began = saved[max(saved)] if saved else start.wall if start is not None else ""
        return max(median(recent) if recent else 0.0, _between_s(began, beat.wall) or 0.0)

    def _like(self, item: Item, owner: Key) -> list[tuple[Run, float]]:
        """Runs that had as much to do, on the same machine and device, with seconds a round; enough of them."""
        kind = (machine_of(owner[1]), self._device(item.id, owner), _workload(item))
        if kind not in self._alike:
            # One more than are wanted, since whoever asks leaves itself out.
            self._alike[kind] = list(islice(self._runs(*kind), SAMPLES + 1))
        return self._alike[kind]

    def _runs(self, machine: str, device: str, workload: str) -> Iterator[tuple[Run, float]]:
        of_the_machine = {i for worker, items in self.fold.items_of.items() if machine_of(worker) == machine for i in items}
        for item_id, other in self.items.items():
            if item_id not in of_the_machine or _workload(other) != workload:
                continue
            for key in self.fold.item(item_id).attempts:
                if machine_of(key[1]) != machine or self._device(item_id, key) != device:
                    continue
                saved = self._saved_walls(item_id, key)
                first, last = min(saved, default=0), max(saved, default=0)
                if last - first >= OWN_ROUNDS and (seconds := _between_s(saved[first], saved[last])) is not None:
                    yield (item_id, key), seconds / (last - first)

    def _device(self, item_id: str, key: Key) -> str:
        start = self.fold.item(item_id).attempts[key].start
        return start.device if start is not None else ""

    def _saved_walls(self, item_id: str, key: Key) -> dict[int, str]:
        """Round -> when this attempt saved it, by its worker's clock."""
        return {ckpt.round: ckpt.wall for ckpt in self.fold.item(item_id).generations.values() if ckpt.key == key}

    def _own_rounds_s(self, item_id: str, key: Key) -> list[float]:
        saved = self._saved_walls(item_id, key)
        spans = (_between_s(saved[round_ - 1], saved[round_]) for round_ in sorted(saved) if round_ - 1 in saved)
        return [span for span in spans if span is not None]


def _workload(item: Item) -> str:
    # In words, since a peer may have put values into it that cannot be a key.
    return repr((item.kind, *(item.config.get(key) for key in WORKLOAD)))


def median(values: Sequence[float]) -> float:
    """The middle one. (The standard library's brings along more modules than a status line should load.)"""
    ordered = sorted(values)
    half = len(ordered) // 2
    return ordered[half] if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) / 2


def _between_s(one: str, other: str) -> float | None:
    then, later = moment(one), moment(other)
    return None if then is None or later is None else max(0.0, (later - then).total_seconds())

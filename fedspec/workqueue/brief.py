"""What the records alone say of an item, in brief: enough for its line in the table of progress.

Pure. It stays right until one of the item's records comes or a worker of it is gone, so that it can be kept (`snapshot`).
"""

from __future__ import annotations

import msgspec

from fedspec.workqueue.fold import Fold, remembered
from fedspec.workqueue.itemstate import Key
from fedspec.workqueue.records import machine_of


class Handover(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A start that carried on what a worker of another machine had left; ``lost`` is that one."""

    lam: int
    lost: str
    worker: str
    seq: int
    attempt: int


class Brief(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """An item, as far as records tell.

    Attributes:
        status: `Fold.status`.
        worker: of the result, else of the claim that counts, with its ``attempt``; "" if there is neither.
        round: of the result the last, else the latest that was saved by anybody; with its ``accuracy``.
        reason: `Fold.failure`, "" if it is not given up.
    """

    status: str
    worker: str = ""
    attempt: int = 0
    round: int = 0
    accuracy: float | None = None
    reason: str = ""
    handovers: tuple[Handover, ...] = ()

    @property
    def key(self) -> Key:
        """(attempt, worker)."""
        return self.attempt, self.worker


@remembered
def brief(fold: Fold, item_id: str) -> Brief:
    """What the records say of the item."""
    status, done = fold.status(item_id), fold.canonical(item_id)
    handovers = tuple(_handovers(fold, item_id))
    if done is not None:
        return Brief(status, done.worker, done.attempt, done.rounds, done.accuracy, handovers=handovers)
    attempt, worker = fold.owner(item_id) or (0, "")
    best = next(iter(fold.generations(item_id)), None)
    round_, accuracy = (best.round, best.accuracy) if best else (0, None)
    return Brief(status, worker, attempt, round_, accuracy, fold.failure(item_id) or "", handovers)


def _handovers(fold: Fold, item_id: str) -> list[Handover]:
    attempts = fold.item(item_id).attempts
    found: list[Handover] = []
    if len(attempts) < 2:
        return found
    writers = {ckpt.file: ckpt.worker for ckpt in fold.generations(item_id)}
    before: Key | None = None
    for key in fold.item(item_id).counted():
        start = attempts[key].start
        if start is not None:
            # What was given back before anything was saved is not taken over by whoever begins anew.
            given_back = before is None or (not writers and attempts[before].ended is not None)
            lost = writers.get(start.source, "") if start.source else "" if given_back or before is None else before[1]
            if lost and machine_of(lost) != machine_of(key[1]):
                found.append(Handover(start.lam, lost, start.worker, start.seq, start.attempt))
        before = key
    return found

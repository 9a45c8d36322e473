"""A queue of three items that whoever is there runs to the end, and what became of them: for folders that lose and regain."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from queuekit import Share, claimed, item, pass_time, table, together

from fedspec.errors import FolderError
from fedspec.workqueue.distributor import WorkDistributor
from fedspec.workqueue.fold import Fold
from fedspec.workqueue.liveness import NETWORK_SHARE
from fedspec.workqueue.rules import Held
from fedspec.workspace import Workspace

ITEMS = [item(seed) for seed in (1, 2, 3)]
ONE = ITEMS[0]
OTHER = Workspace(Path("/other"))


def finish(queue: WorkDistributor) -> str:
    """Run one item; returns its id."""
    held = claimed(queue)
    queue.done(held, table(), 1, 0.5)
    return held.item.id


def finish_all(queue: WorkDistributor, accuracy: float) -> None:
    """Run all that nobody else has or has done, as far as this machine knows."""
    while isinstance(held := queue.claim(), Held):
        queue.done(held, table(accuracy=accuracy), 1, accuracy)


def statuses(fold: Fold) -> set[str]:
    return {fold.status(one.id) for one in ITEMS}


def results(fold: Fold) -> set[float | None]:
    """The accuracies of the results that count."""
    return {done.accuracy for one in ITEMS if (done := fold.canonical(one.id)) is not None}


def sealed_by(mac: WorkDistributor, pc: WorkDistributor, meet: Callable[[], None] = lambda: None) -> None:
    """The one runs and seals all, since the other one has confirmed it and is not heard for a while.

    At a late Lamport time: of two seals that meet the earlier one counts, so a rival's would.
    """
    for _ in range(10):
        mac.give_back(claimed(mac), "later")
    finish_all(mac, 0.7)
    meet()
    pass_time(pc, 2 * pc.timing.beat)
    meet()
    pass_time(mac, 2 * mac.timing.dead)
    meet()
    pc.refresh()
    assert statuses(pc.store.fold) == {"sealed"}
    assert {worker for one in ITEMS for _, worker, _ in pc.store.fold.item(one.id).seals} == {mac.worker}


class Refusal:
    """Once it is ``on``, the shared folder takes no journal line of a process any more; the machine's own disk does."""

    on = False

    def __call__(self, step: str) -> None:
        if self.on and step.startswith("append") and step.count(".") > 1:  # the machine's own copy has no number
            raise FolderError("No space left.", "Free some.")


def sealed_after_a_backup(share: Share) -> tuple[dict[str, bytes], WorkDistributor, WorkDistributor]:
    """A share was backed up; then the Mac ran and sealed all, and the PC confirmed it. The backup, the Mac and the PC."""
    share.enqueue(*ITEMS)
    for queue in (share.member("mac", timing=NETWORK_SHARE), share.member("pc", timing=NETWORK_SHARE)):
        queue.leave()
    backup = share.backup()
    mac, pc = share.member("mac", timing=NETWORK_SHARE), share.member("pc", timing=NETWORK_SHARE)
    together(300, mac, pc)
    sealed_by(mac, pc)
    return backup, mac, pc

"""Says again what the folder has lost: plans, and journals whose authors may not be able to.

A copy of the folder that is put back to an earlier state, and a sync service that takes that for news, can take away records
that all machines have read. Their author says them again. If it never comes back, only those who have read them can.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from fedspec.errors import FolderError
from fedspec.workqueue.records import machine_of
from fedspec.workqueue.store import author_of

if TYPE_CHECKING:
    from fedspec.plan import Item
    from fedspec.workqueue.distributor import WorkDistributor


class Rescue:
    """What one process has read of others' journals, against what the folder holds of them."""

    def __init__(self, queue: WorkDistributor) -> None:
        self.queue = queue
        self._since: float | None = None

    def look(self, *, leaving: bool = False) -> list[str]:
        """Say again what has been missing for as long as a dead peer is waited for; at once if this process is ``leaving``.

        What cannot be read just now may not be lost: it waits as long again.

        Returns:
            The workers whose records were said again. They stand in files of this worker's own.
        """
        queue, store = self.queue, self.queue.store
        with store.lock:
            plans = self._missing_plans()
            if not (store.short or plans) or not queue.joined:
                self._since = None
                return []
            now = queue.clock.awake_or_asleep()
            self._since = now if self._since is None else self._since
            if not leaving and now - self._since < queue.timing.dead:
                return []
            rescued = []
            with suppress(FolderError):  # then it is tried again at the next look
                for item in plans:
                    store.write_plan(item)
                # This machine's own have their copy here.
                lost = {worker for worker in map(author_of, store.short) if machine_of(worker) != machine_of(queue.worker)}
                held = store.held(lost)
                for worker, length in sorted(held.items()):
                    if missing := store.histories.lines(worker, length):
                        store.say_again(worker, queue.worker, missing)
                        rescued.append(worker)
                unknown = lost - held.keys()
                store.short = {name: size for name, size in store.short.items() if author_of(name) in unknown}
                self._since = None
            return rescued

    def _missing_plans(self) -> list[Item]:
        """Items whose files are gone from a folder that has others, or are no longer what was read.

        A folder without any plan is away, or somebody has emptied it.
        """
        store = self.queue.store
        there = store.files.sizes(store.workspace.plans)
        names = {item.id: store.workspace.plan(item.id).name for item in store.items.values()}
        return [i for i in store.items.values() if there.get(names[i.id]) != store.plans.get(names[i.id])] if there else []

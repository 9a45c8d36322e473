"""Says again what the folder has lost: plans, and journals whose authors may not be able to.

A copy of the folder that is put back to an earlier state, and a sync service that takes that for news, can take away records
that all machines have read. Their author says them again. If it never comes back, only those who have read them can.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from fedspec.errors import FolderError
from fedspec.workqueue.store import author_of

if TYPE_CHECKING:
    from fedspec.workqueue.distributor import WorkDistributor


class Rescue:
    """What one process has read of others' journals, against what the folder holds of them."""

    def __init__(self, queue: WorkDistributor) -> None:
        self.queue = queue
        self._since: float | None = None
        # Files of plans that were gone, or others than were read, at the last look at all of them.
        self._plans: set[str] = set()
        self._plans_at: float | None = None

    def look(self, *, leaving: bool = False) -> list[str]:
        """Say again what has been missing for as long as a dead peer is waited for; at once if this process is ``leaving``.

        What cannot be read just now may not be lost: it waits as long again. In a folder without any plan nothing is said: it
        is away, or somebody has emptied it.

        Returns:
            The workers whose records were said again. They stand in files of this worker's own.
        """
        queue, store = self.queue, self.queue.store
        if not queue.joined:
            return []
        now = queue.clock.awake_or_asleep()
        if leaving or self._plans_at is None or now - self._plans_at >= queue.timing.dead:
            self._look_at_plans()
            self._plans_at = self._plans_at if leaving else now
        with store.lock:
            if not (store.short or self._plans):
                self._since = None
                return []
            self._since = now if self._since is None else self._since
            if not leaving and now - self._since < queue.timing.dead:
                return []
            rescued = []
            with suppress(FolderError):  # then it is tried again at the next look
                if not store.files.has_files(store.workspace.plans):
                    return []
                self._put_plans_back()
                # What it has lost of its own journal a process says again itself.
                lost = {author_of(name) for name in store.short} - {queue.worker}
                held = store.held(lost)
                for worker, length in sorted(held.items()):
                    if missing := store.histories.lines(worker, length):
                        store.say_again(worker, queue.worker, missing)
                        rescued.append(worker)
                unknown = lost - held.keys()
                store.short = {name: size for name, size in store.short.items() if author_of(name) in unknown}
                self._since = None
            return rescued

    def _look_at_plans(self) -> None:
        """Their sizes too: one may be put back to when it was half there. Without the lock, since thousands take long."""
        store = self.queue.store
        there = store.files.sizes(store.workspace.plans)
        with store.lock:
            self._plans = {name for name, size in store.plans.items() if there.get(name) != size} if there else set()

    def _put_plans_back(self) -> None:
        store = self.queue.store
        items = {store.workspace.plan(item.id).name: item for item in store.items.values()} if self._plans else {}
        for name in self._plans - items.keys():
            store.plans.pop(name, None)  # a conflict copy
        for item in [items[name] for name in sorted(self._plans & items.keys())]:
            try:
                store.files.read(store.workspace.plan(item.id), 0, 1)
            except FileNotFoundError:
                pass
            except OSError:
                continue  # a sync client has evicted it, and its stub may tell no size
            store.write_plan(item)
        self._plans = set()

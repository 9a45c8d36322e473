"""The queue as anybody sees it: what is in it, how far it is, and adding items to it."""

from __future__ import annotations

import difflib
import re
import secrets
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from fnmatch import fnmatchcase
from pathlib import Path

from fedspec.clock import Clock, SystemClock
from fedspec.errors import FolderError, QueueMissingError, UsageError
from fedspec.files import FencedFiles, Files
from fedspec.folders import conflict_copy
from fedspec.plan import Item, same_experiment
from fedspec.workqueue.liveness import Timing
from fedspec.workqueue.modes import Notes
from fedspec.workqueue.naming import RETIRED, display_names, machine_called
from fedspec.workqueue.progress import Progress, Reader
from fedspec.workqueue.records import machine_of
from fedspec.workqueue.rules import scope
from fedspec.workqueue.slots import NewHex, Slots
from fedspec.workqueue.store import Store
from fedspec.workqueue.view import Publisher
from fedspec.workspace import LocalState, Workspace

# How plans and journals are called; of very many, only those with other names are looked at closely.
_OURS = re.compile(r"p-[0-9a-f]{12}\.json|[0-9a-f]{8}-[0-9a-f]{6}\.(?:\d{4}|by-[0-9a-f]{8}-[0-9a-f]{6})\.jsonl")

# So many characters of an id are enough, if no other id begins so.
SHORTEST_ID = 3

# How long a process waits for whoever renders the queue for people, times the folder's time scale.
VIEW_LOCK_S = 1.0


def is_pattern(name: str) -> bool:
    """Whether it may stand for several items."""
    return any(sign in name for sign in "*?[")


class Board:
    """The queue of one workspace, read by a process that need not be a member. Methods may be called from any thread.

    ``store_type``: what reads the folder. Tests of the tests put known mistakes in here, and in `Store.fold_type`.
    """

    store_type: type[Store] = Store

    def __init__(
        self,
        workspace: Workspace | str | Path | None = None,
        *,
        files: Files | None = None,
        clock: Clock | None = None,
        timing: Timing | None = None,
        local: LocalState | None = None,
        new_hex: NewHex = secrets.token_hex,
    ) -> None:
        self.workspace = workspace if isinstance(workspace, Workspace) else Workspace.find(workspace)
        self.files = files or FencedFiles(self.workspace.root)
        self.clock = clock or SystemClock()
        self.timing = timing or Notes(self.workspace, local, self.files).choice().timing()
        self.store = self.store_type(self.files, self.workspace)
        self.publisher = Publisher(self.files, self.store)
        self.slots = Slots(self.files, local or LocalState.find(), self.workspace, new_hex)
        # Covers fold, publishing `seen`, and gate + append: the beat must not acknowledge what the trainer contradicts.
        self._lock = self.store.lock
        self._stuck: set[Path] = set()  # locks whose holder does not let go
        self._set_up()

    def _set_up(self) -> None:
        """What a kind of process has besides, which is made from the same surroundings; the constructor is one for all."""

    def refresh(self) -> None:
        """Read what others have written."""
        with self._lock:
            self.store.refresh()

    def require_queue(self) -> None:
        """Raises QueueMissingError if there is nothing to work on: the folder may not have synced yet."""
        self.refresh()
        if not self.store.items:
            fix = "Start one with 'fedspec run quick', or wait for the folder to sync."
            if self.files.size(self.workspace.view):
                fix += f" An original's {self.workspace.view.name} is taken in by 'fedspec work'."
            raise QueueMissingError(f"No work queue in {self.workspace.queue}.", fix)

    def progress(self) -> Progress:
        """How far the queue is."""
        with self._lock:
            reader = self.look()
            return reader.progress(self.store.notes(), self._conflict_copies())

    def look(self) -> Reader:
        """All that is known now, for what is told to people. Valid while nothing more is read."""
        with self._lock:
            store = self.store
            store.refresh()
            store.read_beats()
            read = self.slots.have_read(self._is_known) if store.fold.unsealed else {}
            crashed = frozenset(self._own_dead())
            return Reader(store.fold, store.items, store.beats, self.timing, self.clock.now(), store.told, crashed, read)

    def _own_dead(self) -> list[str]:
        """This machine's workers whose process has ended, though no journal says so yet."""
        return [worker for worker in self.slots.dead(self._is_known) if not self.store.fold.gone(worker)]

    def _is_known(self, worker: str) -> bool:
        return worker in self.store.fold.workers

    def _conflict_copies(self) -> list[str]:
        """What a sync client has put beside the queue's own files; those that are read are no harm either."""
        names = [name for name in self.store.sources() if not _OURS.fullmatch(name)]
        for folder in (self.workspace.queue, self.workspace.results):
            with suppress(FolderError):  # it is worth a line, not an error
                names += self.files.names(folder)
        return [name for name in names if conflict_copy(name) is not None]

    def print_progress(self) -> None:
        """Print the summary block."""
        print(self.progress().block())  # noqa: T201 - the original's public method

    def machine_name(self, worker: str) -> str:
        """The display name of a worker's machine."""
        with self._lock:
            return display_names(self.store.fold).get(machine_of(worker), worker)

    def find_item(self, name: str) -> Item:
        """The item with this id or published name, or the only one whose id begins so.

        Raises:
            QueueMissingError: there is no item at all. UsageError: none is called so, or several ids begin so.
        """
        self.require_queue()
        names = self.store.names()
        for item_id, published in names.items():
            if name in (item_id, published):
                return self.store.items[item_id]
        begun = [item_id for item_id in names if len(name) >= SHORTEST_ID and item_id.startswith(name)]
        if len(begun) == 1:
            return self.store.items[begun[0]]
        if begun:
            raise UsageError(f"The ids of {len(begun)} items begin with {name}.", f"Name one: {', '.join(sorted(begun)[:3])}.")
        close = difflib.get_close_matches(name, names.values(), 1)
        hint = f"Did you mean {close[0]}? " if close else ""
        raise UsageError(f"There is no item {name} in the queue.", f"{hint}List them with 'fedspec queue list'.")

    def find_items(self, pattern: str) -> list[Item]:
        """The items whose published name or id matches a pattern with ``*``, ``?`` or ``[...]``, in the queue's order; of what
        is no pattern, that of `find_item`. Raises what that raises."""
        if not is_pattern(pattern):
            return [self.find_item(pattern)]
        self.require_queue()
        with self._lock:
            names = self.store.names()
            found = [
                item
                for item in scope(self.store.items, None, self.store.fold)
                if fnmatchcase(names[item.id], pattern) or fnmatchcase(item.id, pattern)
            ]
        if not found:
            raise UsageError(f"No item in the queue matches {pattern}.", "List them with 'fedspec queue list'.")
        return found

    def find_machine(self, name: str) -> tuple[str, str]:
        """The id and the display name of the machine with this id or name. Raises UsageError if none takes part that has it."""
        reader = self.look()
        fold = reader.fold
        names, found = display_names(fold), machine_called(fold, name)
        if found is not None and found not in fold.retirements:
            return found, names[found]
        if found is None and name in map(machine_of, reader.strangers):
            return name, name
        known = ", ".join(sorted(shown for machine, shown in names.items() if machine not in fold.retirements)) or "none yet"
        if found is not None:
            what = f"{names[found].removesuffix(RETIRED)} was retired, and nothing that is said to it counts."
            raise UsageError(what, f"If it is at work after all, it goes by another name. Name one of: {known}.")
        raise UsageError(f"No machine {name} has taken part in this queue.", f"Name one of: {known}.")

    def enqueue(self, items: Iterable[Item]) -> tuple[list[Item], int]:
        """Add what is missing; an experiment that is there already keeps its item.

        Returns:
            The queue's items for ``items``, and how many of them are new.

        Raises:
            UsageError: another configuration already has an experiment's name; nothing was added.
        """
        with self._alone(), self._lock:
            self.store.refresh()
            by_name = {item.exp: item for item in self.store.items.values()}
            chosen = [self._reconcile(i, self.store.items.get(i.id, by_name.get(i.exp))) for i in items]
            added = sum(self.store.write_plan(item) for item in chosen)
            self.store.refresh()
        return chosen, added

    def _reconcile(self, item: Item, present: Item | None) -> Item:
        if present is None or present.id == item.id or same_experiment(present, item):
            return present or item
        new, old = item.config, present.config
        keys = sorted(key for key in new.keys() | old.keys() if new.get(key) != old.get(key)) or ["needs"]
        fix = "Use another workspace for it, or run the plan that is in the queue."
        raise UsageError(f"The queue already has {item.exp} with another {', '.join(keys)}.", fix)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Keep rivals out while claiming, as far as locks go: this machine's always, the folder's where it has any.

        Taken before the process's own lock, so that the heart goes on beating. A rival that was stopped while it held a lock
        is waited for as long as a dead one, and only once: no lock is the safety argument, the fold settles who owns what.
        """
        paths = [self.slots.local.claim_lock(self.workspace), *([self.workspace.queue_lock] if self.timing.locks else [])]
        with ExitStack() as locks:
            for path in paths:
                if not locks.enter_context(self._locked(path, self.timing.dead)):
                    self._stuck.add(path)
            yield

    def view_lock(self) -> AbstractContextManager[bool | None]:
        """Yields False if somebody else is at the queue for people: of derived files, whoever comes next does them."""
        return self._locked(self.workspace.queue_lock, VIEW_LOCK_S * self.timing.scale)

    @contextmanager
    def _locked(self, path: Path, timeout_s: float) -> Iterator[bool | None]:
        """Yields whether the lock was had, None if there is none to be had.

        One whose holder did not let go the last time is tried, and not waited for.
        """
        with ExitStack() as locks:
            try:
                alone = locks.enter_context(self.files.lock(path, 0.0 if path in self._stuck else timeout_s))
            except FolderError:  # something else has its place; a folder that takes no writes will say so at the next one
                alone = None
            if alone:
                self._stuck.discard(path)
            yield alone

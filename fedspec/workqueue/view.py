"""What is derived from the fold for people: ``work_queue.json`` in the original's words, and one CSV per finished experiment.

Both can be deleted at any time and come back; neither is ever the basis of a decision.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import msgspec

from fedspec.errors import DamagedError, FolderError
from fedspec.files import Files
from fedspec.plan import Item, published_names
from fedspec.results import Row, from_table, to_csv
from fedspec.workqueue.fold import Fold
from fedspec.workqueue.naming import display_names
from fedspec.workqueue.records import Done, machine_of, unpack_rows
from fedspec.workqueue.rules import scope
from fedspec.workqueue.store import Store
from fedspec.workqueue.wording import one_line

VIEW_DIGITS = 12
# The original knew four status words.
WORDS = {"sealed": "completed", "done": "completed", "running": "in_progress", "failed": "failed", "cancelled": "failed"}


def render_view(fold: Fold, items: dict[str, Item]) -> bytes:
    """The queue as the original's list of objects, each with its experiment's name and the hash of the whole."""
    names, machines = published_names(items.values()), display_names(fold)
    entries = [_entry(number, item, fold, names[item.id], machines) for number, item in enumerate(scope(items, None, fold))]
    digest = view_hash(entries)
    return msgspec.json.format(msgspec.json.encode([entry | {"view": digest} for entry in entries]), indent=2) + b"\n"


def view_hash(entries: list[dict[str, Any]]) -> str:
    """12 hex digits over the entries without their key ``view``: bytes that do not match are somebody's hand edit."""
    return hashlib.sha256(b"[%s]" % b",".join(map(hashed, entries))).hexdigest()[:VIEW_DIGITS]


def hashed(entry: dict[str, Any]) -> bytes:
    """What of an entry goes into the hash of the whole."""
    return msgspec.json.encode({key: value for key, value in entry.items() if key != "view"}, order="sorted")


def _entry(number: int, item: Item, fold: Fold, name: str, machines: dict[str, str]) -> dict[str, Any]:
    owner, done = fold.owner(item.id), fold.canonical(item.id)
    state = fold.item(item.id)
    key = done.key if done is not None else owner
    claimed = state.attempts.get(key) if key else None
    return {
        "item_id": number,
        "alpha": item.config.get("alpha"),
        "method": item.config.get("method", item.kind),
        "split_type": item.config.get("split", "pooled"),
        "status": WORDS.get(fold.status(item.id), "pending"),
        "assigned_to": machines.get(machine_of(key[1])) if key else None,
        "started_at": claimed.claimed_at or None if claimed else None,
        "completed_at": done.wall if done is not None else None,
        "experiment": name,
        "id": item.id,
        # Of the whole list: the same edit of it, made again after the first was taken in, is another file than the first.
        "edits": len(fold.imported),
    }


class Publisher:
    """Writes the derived files of a store's workspace, each only if its bytes differ."""

    def __init__(self, files: Files, store: Store) -> None:
        self.files, self.store = files, store
        self._published: dict[str, tuple[Done, bool]] = {}
        self.refused: FolderError | None = None

    def publish(self, *, check_all: bool = False, machine: str | None = None) -> list[str]:
        """Write the CSV of every result that is new to this process; ``check_all`` looks at every file again.

        A file that another program holds (a CSV in a spreadsheet) is tried again next time; ``refused`` is why, or None.

        Args:
            machine: where copies of the folder meet later, the id of this machine: a result that may still change is then
                written by its author's machine alone, and by others at ``check_all`` if there is none at all.

        Returns:
            Names of the experiments whose CSV was written.
        """
        written = []
        self.refused = None
        for name, done, final in self._results():
            if not check_all and self._published.get(name) == (done, final):
                continue
            if not final and machine not in (None, machine_of(done.worker)) and not (check_all and self._is_absent(name)):
                continue
            try:
                data = to_csv(self.rows(done))
            except (DamagedError, ValueError) as error:
                self.store.damaged[f"result of {name}"] = f"The result of {name} cannot be read: {one_line(str(error))}."
                continue
            try:
                if self._replace(name, data):
                    written.append(name)
                self._published[name] = (done, final)
            except FolderError as error:
                self.refused = error
        return written

    def rows(self, done: Done) -> list[Row]:
        """A result's rows. Raises DamagedError or ValueError if they cannot be read."""
        return from_table(unpack_rows(done.rows))

    def _results(self) -> list[tuple[str, Done, bool]]:
        """Of each experiment its name, its result, and whether that never changes."""
        with self.store.lock:
            names, fold = self.store.names(), self.store.fold
            results = [(name, fold.canonical(item_id), item_id not in fold.unsealed) for item_id, name in names.items()]
        return [(name, done, final) for name, done, final in results if done is not None]

    def _is_absent(self, name: str) -> bool:
        return self.files.size(self.store.workspace.result(name)) is None

    def _replace(self, name: str, data: bytes) -> bool:
        path = self.store.workspace.result(name)
        if self._holds(path, data):
            return False
        self.files.write(path, data, durable=False)
        return True

    def write_view(self) -> None:
        """Render ``work_queue.json``. Whether it may be replaced is for the caller to know. Raises FolderError."""
        with self.store.lock:
            data = render_view(self.store.fold, self.store.items)
        if not self._holds(self.store.workspace.view, data):
            self.files.write(self.store.workspace.view, data, durable=False)

    def _holds(self, path: Path, data: bytes) -> bool:
        try:
            return self.files.read(path, 0, len(data) + 1) == data
        except OSError:
            return False  # absent, or held by another program: then the write says so

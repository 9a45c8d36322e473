"""Keeps what is derived in order: publishes results, renders `work_queue.json`, takes in what people wrote into it, and clears
away what sync clients leave beside our files.

Who does what depends on the folder. Where its locks work, whoever holds the lock renders the queue for people. Where copies of
it meet later, two that write one file only make conflict copies: one elected member renders, and a result that may still change
is written by its author's machine. A file that is neither ours nor taken in is never replaced.
"""

from __future__ import annotations

import hashlib
import re
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from fedspec.errors import DamagedError, FolderError
from fedspec.files import ORPHANED_S
from fedspec.folders import original_of
from fedspec.plan import Item, published_names
from fedspec.results import MACHINE_COLUMNS, Row, from_csv, from_table, to_csv
from fedspec.workqueue.edits import MAX_BYTES, Edit, understand
from fedspec.workqueue.records import Ctl, Import, machine_of, unpack_rows
from fedspec.workqueue.rescue import Rescue
from fedspec.workqueue.wording import one_line

if TYPE_CHECKING:
    from fedspec.workqueue.distributor import WorkDistributor

# The elected member renders the queue for people so often, times the folder's time scale.
RENDER_EVERY_S = 60.0
# Beside that whoever ends an item, where folders do not sync: no oftener than people look, since items may take a second, and a
# queue of hundreds takes a share of that to render.
SHOW_EVERY_S = 2.0
MODEL = "_model.pt"  # how the copy of a checkpoint ends
MAX_MODEL_BYTES = 2 << 30
ARCHIVE = b"PK"  # how a checkpoint begins
# How a heartbeat, and the copy for people that says how far an experiment is, begin; the group is whose it is. A conflict copy
# that was torn on its way may be brought back as it was then, and has no more than that.
BEAT = re.compile(rb'\{"v":\d+,"worker":"([^"]*)",')
PROGRESS = re.compile(rb'\{\s*"experiment": ?"([^"]*)",\s*"generation": ?"r\d{4,}\.a\d{2,}\.')


class Caretaker:
    """The derived files of one process's workspace. Methods may be called from any thread."""

    def __init__(self, queue: WorkDistributor) -> None:
        self.queue = queue
        self.rescue = Rescue(queue)
        self._shown_at: float | None = None
        self._owed = False  # whether there may be something new to show
        self._notes: deque[str] = deque()
        self._odd: dict[str, str] = {}  # file name -> content that people were told of, until the file is replaced or removed
        self._ours = ""  # the content that was found to be a rendering of ours last

    def news(self) -> list[str]:
        """What people should know of what was taken in since the last call, in sentences."""
        fresh = []
        with suppress(IndexError):  # the heart may be asking too
            while True:
                fresh.append(self._notes.popleft())
        return list(dict.fromkeys(fresh))

    def tell(self, note: str) -> None:
        """Let people know; ``note`` is a sentence."""
        self._notes.append(note)

    def _tell_once(self, path: Path, content: str, *notes: str) -> None:
        """Say of a file what it is, though it may stay as it is and be looked at again and again."""
        if self._odd.get(path.name) != content:
            self._odd[path.name] = content
            self._notes.extend(notes)

    def look_after(self, *, thorough: bool = False, leaving: bool = False) -> None:
        """Bring all derived files up to date. ``thorough``, at the start and the end of a worker: look at every one."""
        self.rescue.look(leaving=leaving)
        self.publish(thorough=thorough)
        syncs = self.queue.timing.syncs
        if thorough:
            self.clear()
            self.sweep()
        self._owed = True
        if thorough or leaving or self._is_time(RENDER_EVERY_S if syncs else SHOW_EVERY_S):
            self.show(copies=thorough or syncs, leaving=leaving)

    def glance(self) -> None:
        """Look at the queue for people when it is time: hours may lie between two items, and an edit may cancel this one."""
        syncs = self.queue.timing.syncs
        if self.queue.joined and self._is_time(SHOW_EVERY_S if self._owed and not syncs else RENDER_EVERY_S):
            self.rescue.look()
            self.show(copies=syncs)

    def publish(self, *, thorough: bool = False) -> list[str]:
        """Write CSVs that are due to this process; returns the experiments' names."""
        queue = self.queue
        machine = None
        if queue.timing.syncs:
            machine = machine_of(queue.worker) if queue.joined else ""
        return queue.publisher.publish(check_all=thorough, machine=machine)

    def show(self, *, copies: bool = False, leaving: bool = False) -> None:
        """Render `work_queue.json` where that is for this process to do, after taking in what people wrote into it.

        Args:
            copies: take in its conflict copies as well, and remove them.
            leaving: this process may be the last one, so that nobody is waited for.
        """
        queue = self.queue
        path, files = queue.workspace.view, queue.files
        if queue.timing.syncs and not queue.elected("view", leaving=leaving) and (queue.joined or files.size(path) is not None):
            return
        # Also if somebody else is at it just now: the heart, which asks too, must not wait for the lock at every beat.
        self._shown_at, self._owed = queue.clock.awake_or_asleep(), False
        with suppress(FolderError), queue.view_lock() as alone:
            if alone is False:
                return
            if self._take_in(path):
                queue.publisher.write_view()
                self._odd.pop(path.name, None)
            for copy in self._copies(queue.workspace.queue) if copies else ():
                if original_of(copy.name) == path.name and self._take_in(copy):
                    files.remove(copy)
                    self._odd.pop(copy.name, None)

    def adopt(self) -> None:
        """Take in the original's list where there is no plan yet, so that there is something to work on."""
        queue = self.queue
        queue.refresh()
        if queue.store.items:
            return
        with suppress(FolderError), queue.view_lock():
            data = self._read(queue.workspace.view)
            # Without experiments to add it is a rendering of ours whose plans have not arrived yet.
            if data is not None and self._understood(data).items:
                self._take_in(queue.workspace.view)

    def _is_time(self, wait_s: float) -> bool:
        wait = wait_s * self.queue.timing.scale
        return self._shown_at is None or self.queue.clock.awake_or_asleep() - self._shown_at >= wait

    # Hand edits

    def _take_in(self, path: Path) -> bool:
        """Whether nothing is lost if the file is replaced: it is absent, ours, or taken in by now."""
        queue = self.queue
        try:
            data = queue.files.read(path, 0, MAX_BYTES + 1)
        except FileNotFoundError:
            return True
        except OSError:
            return False  # a sync client has evicted it, or somebody is writing it just now
        if len(data) > MAX_BYTES:
            self._tell_once(path, "", f"{path.name} is too large to be read; it is left alone.")
            return False
        content = hashlib.sha256(data).hexdigest()
        if content == self._ours:
            return True
        with queue.store.lock:
            queue.store.refresh()
            if content in queue.store.fold.imported:
                return True
            edit = self._understood(data)
            if edit.kind in ("ours", "torn"):
                self._ours = content
                return True
            if edit.kind == "foreign" or edit.notes:
                self._keep(data, content)
            kept = f"{path.name} was no list of experiments. It is kept in quarantine and written again."
            told = [kept] if edit.kind == "foreign" else []
            self._tell_once(path, content, *told, *(f"{path.name}: {note}" for note in edit.notes))
            if edit.asks:
                for item in edit.items:
                    queue.store.write_plan(item)
                with queue.pen() as append:
                    for op, item in edit.commands:
                        append(Ctl, op=op, item=item.id, attempt=queue.store.fold.item(item.id).last_attempt())
                    append(Import, content=content)  # last: who dies before is followed by one who does it again
                self.tell(f"Taken over from {path.name}: {edit.summary}.")
        return True

    def asked(self, path: Path) -> Edit | None:
        """What the file asks for, as `show` will understand it; None where nothing is read from it. Changes nothing."""
        queue = self.queue
        data = self._read(path)
        if data is None:
            return None
        with queue.store.lock:
            queue.store.refresh()
            if hashlib.sha256(data).hexdigest() in queue.store.fold.imported:
                return None
            return self._understood(data)

    def _understood(self, data: bytes) -> Edit:
        """What the bytes ask for; they are anybody's, so whatever they do to whoever reads them ends no worker."""
        try:
            return understand(data, self.queue.store.fold, self.queue.store.items, self._finished())
        except Exception as error:
            return Edit("foreign", notes=(f"It cannot be understood: {type(error).__name__}: {one_line(str(error))}.",))

    def _keep(self, data: bytes, content: str) -> None:
        kept = self.queue.workspace.quarantined(f"{self.queue.workspace.view.stem}.{content[:12]}.json")
        if self.queue.files.size(kept) is None:
            self.queue.files.write(kept, data)

    def _finished(self) -> frozenset[str]:
        names = self.queue.files.names(self.queue.workspace.results)
        return frozenset(Path(name).stem for name in names if name.endswith(".csv"))

    # Conflict copies

    def clear(self) -> list[str]:
        """Delete conflict copies of derived files, if what is in them is ours; returns their names.

        Journals and plans are sources, whatever their names. Those of the queue for people are for `show`.
        """
        queue, removed = self.queue, []
        places = (queue.workspace.results, queue.workspace.checkpoints, queue.workspace.beats)
        copies = [copy for folder in places for copy in self._copies(folder)]
        named = self._by_name() if copies else {}
        for path in copies:
            if self._is_derived(path, original_of(path.name) or "", named):
                with suppress(FolderError):  # somebody holds it; the next one that looks deletes it
                    queue.files.remove(path)
                    removed.append(path.name)
        return removed

    def sweep(self) -> None:
        """Delete temporary files of processes that were killed in the midst of a write."""
        workspace = self.queue.workspace
        queue = (workspace.queue, workspace.plans, workspace.journals, workspace.beats)
        for folder in (*queue, workspace.checkpoints, workspace.results):
            with suppress(FolderError):  # somebody holds one, or the folder is away
                self.queue.files.remove_orphans(folder, ORPHANED_S)

    def _copies(self, folder: Path) -> Iterator[Path]:
        with suppress(FolderError):
            yield from (folder / name for name in self.queue.files.names(folder) if original_of(name) is not None)

    def _read(self, path: Path, most: int = MAX_BYTES) -> bytes | None:
        """The file's bytes, None if they cannot be had, or are more than any file of ours has."""
        try:
            return self.queue.files.read(path) if (self.queue.files.size(path) or 0) <= most else None
        except (OSError, FolderError):
            return None

    def _by_name(self) -> dict[str, list[Item]]:
        """The experiments by the names that their files have or had: until its twin arrived, an item had the name itself."""
        named: dict[str, list[Item]] = {}
        with self.queue.store.lock:
            items = self.queue.store.items
            for item_id, name in published_names(items.values()).items():
                for known in {name, items[item_id].exp}:
                    named.setdefault(known, []).append(items[item_id])
        return named

    def _is_derived(self, path: Path, original: str, named: dict[str, list[Item]]) -> bool:
        """Whether what is in the file is what a derived file of this name once held."""
        workspace = self.queue.workspace
        if path.parent == workspace.beats:
            return _told(BEAT, self._read(path) or b"") == original.removesuffix(".json")
        endings = (".csv",) if path.parent == workspace.results else (MODEL, ".json")
        ending = next(filter(original.endswith, endings), "")
        items = named.get(original.removesuffix(ending)) if ending else None
        data = None if items is None else self._read(path, MAX_MODEL_BYTES if ending == MODEL else MAX_BYTES)
        if items is None or data is None:
            return False
        with self.queue.store.lock:
            fold = self.queue.store.fold
            if ending == ".csv":
                results = [done for item in items for done in fold.item(item.id).results()]
                return any(_rendered(done.rows).startswith(data) or _says_the_same(data, done.rows) for done in results)
            if ending == ".json":
                return _told(PROGRESS, data) in {original.removesuffix(ending), *(item.exp for item in items)}
            digest = hashlib.sha256(data).hexdigest()
            known = any(ckpt.sha256 == digest for item in items for ckpt in fold.generations(item.id))
            # Of a worker that was lost before its journal arrived; of a sealed result nobody needs it.
            return known or (data.startswith(ARCHIVE) and all(fold.status(item.id) == "sealed" for item in items))


def _told(begins: re.Pattern[bytes], data: bytes) -> str | None:
    match = begins.match(data)
    return match[1].decode(errors="replace") if match else None


def _says_the_same(data: bytes, rows: str) -> bool:
    """Whether a CSV differs from a result in what depends on the machine and nothing else: a lost worker's of the same run."""
    try:
        ours = to_csv(_bare(from_table(unpack_rows(rows))))
        return to_csv(_bare(from_csv(data))) == ours
    except (DamagedError, ValueError):
        return False


def _bare(rows: list[Row]) -> list[Row]:
    empty = dict.fromkeys(MACHINE_COLUMNS)
    return [msgspec.structs.replace(row, **empty) for row in rows]


def _rendered(rows: str) -> bytes:
    try:
        return to_csv(from_table(unpack_rows(rows)))
    except (DamagedError, ValueError):
        return b""

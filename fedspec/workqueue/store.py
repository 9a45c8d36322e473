"""The queue's files in the shared folder as one process reads them: plans, journals and heartbeats, damaged ones set aside.

Reading is incremental and forgiving: what is torn, foreign or not there yet is left out and counted, never obeyed.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Mapping
from math import inf
from pathlib import Path
from typing import Annotated

import msgspec

from fedspec.errors import DamagedError
from fedspec.files import Files
from fedspec.plan import Item, decoded, encoded, published_names
from fedspec.workqueue.fold import Fold
from fedspec.workqueue.histories import Histories
from fedspec.workqueue.records import MAX_LAM, Claim, Done, Hello, WorkerName, machine_of
from fedspec.workqueue.tail import PIECE_BYTES, Puzzles, Tail
from fedspec.workqueue.wording import one_line
from fedspec.workspace import Workspace, inside

Count = Annotated[int, msgspec.Meta(ge=0, le=MAX_LAM)]

# A configuration is a few hundred bytes.
MAX_PLAN_BYTES = 64 << 10
# A beat of thousands of members; a folder of files that only look like beats costs no more than so many reads a poll.
MAX_BEAT_BYTES = 1 << 20
MAX_BEATS = 1000
# Bytes of journals that are read at one poll, those that tell nothing new counted so many times: a heart must not stand still
# meanwhile. Files of which much is unread come last, the smallest first.
MAX_POLL_BYTES, VAIN, MUCH_BYTES = 256 << 20, 4, 1 << 20
# A journal that is odd, or lacks what its worker says to have written, is read again first after so many polls; and so many
# bytes of such files, or one file, at one poll.
DOUBTED_POLLS, MAX_DOUBTED_BYTES = 4, 8 << 20
# What people are told of at once.
MAX_NOTES = 10


class Beat(msgspec.Struct, frozen=True, kw_only=True):
    """A worker's heartbeat, overwritten every few seconds.

    Attributes:
        n: counts the beats; a change is what peers take for life.
        seq: records in the worker's journal when it wrote the beat.
        running: id of the item it trains, "" if none; ``round`` the last complete round; ``eta`` seconds left.
        steps: grows with every client trained; standing still while ``n`` grows means stalled.
        idle: seconds for which ``steps`` has stood still, by the worker's own clock and without its sleep.
        seen: records of each worker that this one has read: an acknowledgement.
        have: the highest round of each unfinished item whose generation is in this machine's folder.
        gone: what this worker knows of those that are gone (`Fold.view_of_the_gone`).
    """

    v: int = 1
    worker: WorkerName
    n: Count
    seq: Count
    running: str = ""
    round: Count = 0
    clients: str = ""
    steps: Count = 0
    idle: Annotated[float, msgspec.Meta(ge=0)] = 0.0
    eta: float | None = None
    wall: str = ""
    seen: dict[str, int] = {}
    have: dict[str, int] = {}
    gone: str = ""


def author_of(name: str) -> str:
    """Whose records a journal file should have, by its name; conflict copies and relayed files begin with it too."""
    return name.partition(".")[0]


class Store:
    """Items, the fold of all journals, and the last beat of every worker."""

    fold_type: type[Fold] = Fold

    def __init__(self, files: Files, workspace: Workspace) -> None:
        self.files, self.workspace = files, workspace
        self.items: dict[str, Item] = {}
        self._names: dict[str, str] = {}
        self.fold = self.fold_type()
        self.beats: dict[str, Beat] = {}
        # Of each worker the latest beat whose author's own journal is here up to then: only that is an acknowledgement.
        self.told: dict[str, Beat] = {}
        self.damaged: dict[str, str] = {}
        # Held by whoever changes the fold or reads it in several steps, where a heartbeat runs in another thread.
        self.lock = threading.RLock()
        # Counts what others say that waits for an answer: a claim, a result, or that somebody has come.
        self.asked = 0
        self.histories = Histories()
        self.tails: dict[str, Tail] = {}
        self.plans: dict[str, int] = {}  # file name -> size, of those that were taken in
        # Journals of which the folder once held more, by file name: bytes that it held.
        self.short: dict[str, int] = {}
        self.journals: dict[str, int] = {}  # file name -> size, when the folder was last listed
        self._all_read = False  # whether nothing was unread or missing then
        self._begins_anew = False
        self._odd_plans, self._odd_beats, self._odd_journals = Puzzles(), Puzzles(), Puzzles()

    def refresh(self) -> None:
        """Read what is new, and now and then again what made no sense."""
        self._read_plans()
        self.catch_up(doubting=True)

    def go_on(
        self, items: dict[str, Item], plans: dict[str, int], fold: Fold, tails: dict[str, Tail], histories: Histories
    ) -> None:
        """Know what an earlier process knew that had read the same files so far."""
        self.items, self.plans, self.fold, self.tails, self.histories = items, plans, fold, tails, histories
        self._names = {}
        for name, tail in tails.items():
            if tail.damaged or tail.refused:
                self._note_damage(name)

    def names(self) -> Mapping[str, str]:
        """The items' `published_names`: asked for with each result, and found again when there are more items."""
        with self.lock:
            if len(self._names) != len(self.items):
                self._names = published_names(self.items.values())
            return self._names

    def add_line(self, line: bytes) -> None:
        """Fold a line that this process has just written itself."""
        self._take([line])

    def length(self, worker: str) -> int:
        """How many records of the worker are accepted."""
        return self.histories.length(worker)

    def cloned(self) -> frozenset[str]:
        """Workers that two processes wrote for; they count as gone."""
        return self.histories.forked()

    def notes(self) -> tuple[str, ...]:
        """What cannot be read, for people: the first few, and how many more."""
        told = list(self.damaged.values())
        more = (f"... and {len(told) - MAX_NOTES} more that cannot be read.",) if len(told) > MAX_NOTES else ()
        return (*told[:MAX_NOTES], *more)

    def read_beats(self) -> None:
        """Read every heartbeat; one that is torn keeps its last good state."""
        names = self.files.names(self.workspace.beats)
        self._odd_beats.poll(names)
        due = [name for name in names if self._odd_beats.is_due(name)]
        if len(due) > MAX_BEATS:
            # Those first that workers known from the journals would have.
            living = {f"{worker}.json" for worker in self.fold.workers if not self.fold.gone(worker)}
            due = sorted(due, key=lambda name: name not in living)[:MAX_BEATS]
        for name in due:
            beat = self._beat(name)
            if beat is None:
                self._odd_beats.failed(name)
                continue
            self._odd_beats.solved(name)
            held = self.beats.get(beat.worker)
            if held is None or held.n < beat.n:
                self.beats[beat.worker] = beat
            if self.length(beat.worker) >= self.beats[beat.worker].seq:
                self.told[beat.worker] = self.beats[beat.worker]

    def sources(self) -> list[str]:
        """Names of the plans and journals that were read."""
        return [*sorted(self.plans), *sorted(self.tails)]

    @property
    def acks(self) -> dict[str, dict[str, int]]:
        """How many records of each worker the others have said to have read."""
        return {worker: beat.seen for worker, beat in self.told.items()}

    def _beat(self, name: str) -> Beat | None:
        try:
            data = self.files.read(inside(self.workspace.beats, name), 0, MAX_BEAT_BYTES + 1)
            return msgspec.json.decode(data, type=Beat) if len(data) <= MAX_BEAT_BYTES else None
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return None

    def write_beat(self, beat: Beat) -> None:
        """Replace this worker's heartbeat."""
        data = msgspec.json.encode(beat)
        if len(data) > MAX_BEAT_BYTES:
            # Somebody has invented thousands of workers; a beat that nobody reads would be a death.
            data = msgspec.json.encode(msgspec.structs.replace(beat, seen={}, have={}))
        self.files.write(self.workspace.beat(beat.worker), data, durable=False)

    def remove_old_beats(self, machine: str) -> None:
        """A machine's earlier processes beat no more; of its last one the sign of life stays until the next comes."""
        for worker in (Path(name).stem for name in self.files.names(self.workspace.beats)):
            # Conflict copies are for the caretaker.
            if worker in self.fold.workers and machine_of(worker) == machine and self.fold.gone(worker):
                self.files.remove(self.workspace.beat(worker))

    def relay(self, worker: str, by: str, lines: list[bytes]) -> int:
        """Bring to the folder what it lacks of a journal that nobody writes any more; returns the last seq that is known.

        ``lines``: the machine's own copy of it, whole, without line feeds. They go into a file of ``by``'s own.
        """
        known = self.length(worker)
        if worker in self.cloned():
            return known - 1  # nobody takes more of it
        if len(lines) > known:
            self.say_again(worker, by, lines[known:])
            self.refresh()
        return max(len(lines), known) - 1

    def say_again(self, worker: str, by: str, lines: list[bytes]) -> None:
        """Put lines of another's journal, without line feeds, into a file of ``by``'s own. Raises FolderError."""
        self.files.append(self.workspace.relayed(worker, by), b"".join(line + b"\n" for line in lines))

    def held(self, workers: Collection[str]) -> dict[str, int]:
        """How many records of these workers the folder holds now, in files that go by their names.

        Left out is each of whom a file cannot be read to its end now. Raises FolderError.
        """
        sizes = self.files.sizes(self.workspace.journals)
        theirs = {name: size for name, size in sizes.items() if author_of(name) in workers}
        fresh = Store(self.files, self.workspace)
        for name, size in theirs.items():
            fresh._read_journal(name, size, inf)
        unread = {author_of(name) for name, size in theirs.items() if fresh._seen(name) < size}
        return {worker: fresh.length(worker) for worker in workers if worker not in unread}

    def write_plan(self, item: Item) -> bool:
        """Put an item into the queue; True unless its file is already there, whole."""
        path, data = self.workspace.plan(item.id), encoded(item)
        try:
            present = self.files.read(path, 0, len(data) + 1) == data
        except OSError:  # absent, or a sync client has evicted it: the same bytes do no harm
            present = False
        if not present:
            self.files.write(path, data)
            self._take_plan(path.name, len(data), item)
        return not present

    def _read_plans(self) -> None:
        sizes = self.files.sizes_beyond(self.workspace.plans, self.plans.keys())
        self._odd_plans.poll(sizes)
        for name, size in sizes.items():
            if name.endswith(".json") and self._odd_plans.is_due(name, size):
                self._read_plan(name, size)

    def _read_plan(self, name: str, size: int) -> None:
        """Take a plan file in. One that is damaged is read again later: its bytes may still be on their way."""
        try:
            if size > MAX_PLAN_BYTES:
                raise DamagedError(f"The plan file {name} is too large to be one.", "Enqueue the plan again.")
            item = decoded(self.files.read(self.workspace.plans / name, 0, MAX_PLAN_BYTES), name)
        except OSError:
            self._odd_plans.failed(name, size)
        except DamagedError as error:
            self._odd_plans.failed(name, size)
            self.damaged[name] = one_line(error.what)
        else:
            self._take_plan(name, size, item)

    def _take_plan(self, name: str, size: int, item: Item) -> None:
        self.items[item.id] = item
        self.plans[name] = size
        self._odd_plans.solved(name)
        self.damaged.pop(name, None)

    def catch_up(self, *, doubting: bool = False) -> None:
        """Read what is new in the journals: all that the state of known items follows from."""
        self._read_journals(doubting=doubting)
        if self._begins_anew:
            # A history has ended before a record whose successors were read by an earlier process.
            self.fold, self.histories, self.tails, self._begins_anew = self.fold_type(), Histories(), {}, False
            self._all_read = False
            self._read_journals()

    def _read_journals(self, *, doubting: bool = False) -> None:
        sizes = self.files.sizes(self.workspace.journals)
        as_before = self._all_read and sizes == self.journals
        self.journals = sizes
        if not as_before:
            self._note_short(sizes)
        if not (doubting and self._doubt(sizes)) and as_before:
            return  # as nearly always
        unread = {name: size - self._seen(name) for name, size in sizes.items() if self._seen(name, -1) != size}
        self._all_read = not unread and all(name in sizes for name in self.tails)
        left = MAX_POLL_BYTES
        for name in sorted(unread, key=lambda name: max(unread[name], MUCH_BYTES)):
            if left > 0:
                left -= self._read_journal(name, sizes[name], left)

    def _seen(self, name: str, none: int = 0) -> int:
        tail = self.tails.get(name)
        return none if tail is None else tail.seen

    def _doubt(self, sizes: dict[str, int]) -> bool:
        """Take back what was read of journals that may have been other bytes on their way, so that they are read again.

        A file that a sync client preallocates, or fills block by block, need not change its size or its end when it is right.

        Returns:
            Whether there are such.
        """
        behind = self._behind()
        doubted = {n for n, tail in self.tails.items() if tail.is_odd or (behind and author_of(n) in behind)}
        odd, read = self._odd_journals, 0
        odd.poll(doubted)
        for name in odd.due():
            tail, size = self.tails[name], sizes.get(name, -1)
            if tail.seen != size:
                continue  # it is being read anyway, or has just vanished
            tail = self.tails[name] = Tail() if author_of(name) in behind else tail.taken_back()
            odd.failed(name, held=size - tail.seen)
            read += size - tail.seen
            if read >= MAX_DOUBTED_BYTES:
                break
        for name in doubted:
            if name not in odd:
                odd.failed(name, first=DOUBTED_POLLS, held=sizes.get(name, 0))
        return bool(doubted)

    def _behind(self) -> set[str]:
        """Workers of whom more exists than was read: lines whose predecessors are not here, or a beat that tells."""
        return self.histories.gaps() | {worker for worker, beat in self.beats.items() if beat.seq > self.length(worker)}

    def _note_short(self, sizes: Mapping[str, int]) -> None:
        """Note which files have become shorter or are gone, to be read as a whole, and forget those that are as long again."""
        for name in [name for name, tail in self.tails.items() if sizes.get(name, -1) < tail.seen]:
            tail = self.tails[name]
            if self._is_lost(name, tail):
                self.short[name] = max(tail.seen, self.short.get(name, 0))
                del self.tails[name]
            else:
                tail.seen = tail.offset  # only whole lines are known to be there
        if self.short:
            self.short = {name: length for name, length in self.short.items() if sizes.get(name, 0) < length}

    def _is_lost(self, name: str, tail: Tail) -> bool:
        """Whether what was read last stands there no more. A share's listing may be older, a stub need not tell the size."""
        try:
            return self.files.read(self.workspace.journals / name, tail.begin, len(tail.mark)) != tail.mark
        except FileNotFoundError:
            return True
        except OSError:
            return False  # nobody can tell just now

    def _read_journal(self, name: str, size: int, most: float) -> int:
        """Read what is new in a journal. What has taken its place is read as a whole: what we know already changes nothing.

        Returns:
            Bytes that were read, weighed; after ``most`` of them the rest is left for another time.
        """
        path, read = self.workspace.journals / name, 0
        tail = self.tails.setdefault(name, Tail())
        while tail.seen < size and read < most:
            if tail.is_no_journal:
                tail.seen = size
                break
            try:
                data = self.files.read(path, tail.begin, len(tail.mark) + PIECE_BYTES)
            except OSError:
                return read
            before = tail.seen
            lines = tail.feed(data)
            if lines is None:
                tail = self.tails[name] = Tail()
                continue
            damaged, refused, is_news = self._take(lines)
            tail.damaged += damaged
            tail.refused += refused
            read += len(data) * (1 if is_news else VAIN)
            if tail.seen <= before:
                break  # it is shorter than a moment ago
        if tail.damaged or tail.refused:
            self._note_damage(name)
        else:
            self.damaged.pop(name, None)
        return read

    def _note_damage(self, name: str) -> None:
        what = "lines that cannot be read" if self.tails[name].damaged else "too many lines whose predecessors are not here"
        self.damaged[name] = f"{one_line(name)} has {what}; they are left out."

    def _take(self, lines: list[bytes]) -> tuple[int, int, bool]:
        """Fold lines; returns how many are damaged, how many were refused, and whether they changed anything."""
        before = self.histories.refused
        fresh, revoked, damaged = self.histories.offer(lines)
        if revoked and not self.histories.is_whole:
            self._begins_anew = True
        elif revoked:
            self.fold = self.fold_type(self.histories.records())
        else:
            for record in fresh:
                self.fold.add(record)
        self.asked += sum(isinstance(record, Claim | Done | Hello) for record in fresh)
        return damaged, self.histories.refused - before, bool(fresh) or revoked

"""Builders for the queue's tests: journals line by line, items, and machines around one shared folder in memory."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from hypothesis import strategies as st

from fedspec.clock import FakeClock
from fedspec.config import FederatedConfig
from fedspec.files import MemoryDisk, MemoryFiles
from fedspec.plan import Item, make_item
from fedspec.results import Row, to_table
from fedspec.workqueue.distributor import WorkDistributor
from fedspec.workqueue.fold import Fold
from fedspec.workqueue.histories import Histories
from fedspec.workqueue.liveness import LOCAL_DISK, Timing
from fedspec.workqueue.records import (
    FIRST,
    KINDS,
    MAX_COUNT,
    Attempt,
    Ckpt,
    Claim,
    Count,
    Hello,
    Lamport,
    LastSeq,
    Record,
    Start,
    WorkerName,
    Yield,
    decode,
    encode,
    line_hash,
)
from fedspec.workqueue.rules import Held
from fedspec.workspace import LocalState, Workspace

WORKSPACE = Workspace(Path("/share"))
WALL = "2026-01-01T00:00:00Z"
ALICE, BOB, CAROL = "aaaaaaaa-000001", "bbbbbbbb-000001", "cccccccc-000001"

R = TypeVar("R", bound=Record)


def item(seed: int = 42, **config: Any) -> Item:
    """A federated item; the keys of ``config`` are those of `FederatedConfig`."""
    return make_item("federated", FederatedConfig(seed=seed, **config))


def table(rounds: int = 1, accuracy: float = 0.5) -> dict[str, Any]:
    """The table of a run's result."""
    fixed: dict[str, Any] = {
        "method": "fedavg", "dataset": "digits", "model": "mlp", "seed": 42, "n_clients": 2, "participating": 2,
        "local_epochs": 1, "lr": 0.01, "rank": 4, "rank_next": 4, "loss": 0.5, "train_loss": 0.5,
    }  # fmt: skip
    return to_table([Row(round=number, accuracy=accuracy, **fixed) for number in range(1, rounds + 1)])


class Author:
    """A worker's pen: each record continues the one before. ``lam`` grows by one unless it is given."""

    def __init__(self, worker: str = ALICE) -> None:
        self.worker = worker
        self.records: list[Record] = []
        self.lines: list[bytes] = []

    def write(self, kind: type[R], lam: int | None = None, **fields: Any) -> R:
        seq = len(self.records)
        prev = line_hash(self.lines[-1]) if self.lines else FIRST
        record = kind(worker=self.worker, seq=seq, lam=seq if lam is None else lam, prev=prev, wall=WALL, **fields)
        self.records.append(record)
        self.lines.append(encode(record)[:-1])
        return record


def arrived(worker: str, name: str, lam: int = 0) -> Author:
    """A worker that has said hello, on a machine of this name."""
    author = Author(worker)
    author.write(Hello, lam=lam, machine=worker[:8], name=name)
    return author


def fold_of(*authors: Author) -> Fold:
    return Fold(record for author in authors for record in author.records)


def killed(item_id: str, count: int, *, save_at: int = 0, word: bool = False) -> list[Author]:
    """Workers of one machine, one an attempt, that begin and end without a ``word``. Attempt ``save_at`` saved a round."""
    authors = []
    for attempt in range(1, count + 1):
        author = Author(f"dddddddd-{attempt:06x}")
        author.write(Claim, item=item_id, attempt=attempt)
        author.write(Start, item=item_id, attempt=attempt, round=0, base="")
        if attempt == save_at:
            author.write(Ckpt, item=item_id, attempt=attempt, round=1, file="f", sha256="s", base="")
        if word:
            author.write(Yield, item=item_id, attempt=attempt, reason="stopped")
        authors.append(author)
    return authors


def closing(authors: list[Author]) -> Author:
    """The machine's next process, which says of these workers that they are dead."""
    survivor = Author("dddddddd-ffffff")
    survivor.write(Hello, machine="dddddddd", name="PC", closes={author.worker: len(author.records) - 1 for author in authors})
    return survivor


TEXT = st.text(st.characters(blacklist_categories=("Cs",)), max_size=8)
WORKERS = st.from_regex(r"[0-9a-f]{8}-[0-9a-f]{6}", fullmatch=True)
NUMBERS = st.integers(0, MAX_COUNT)
_FIELDS: dict[Any, st.SearchStrategy[Any]] = {
    str: TEXT,
    WorkerName: WORKERS,
    int: NUMBERS,
    Count: NUMBERS,
    Lamport: NUMBERS,
    float | None: st.none() | st.floats(allow_nan=False, allow_infinity=False),
    list[str]: st.lists(TEXT, max_size=3),
    dict[WorkerName, LastSeq]: st.dictionaries(WORKERS, NUMBERS, max_size=3),
}


def records_of(kind: type[Record]) -> st.SearchStrategy[Record]:
    fields = {f.name: _FIELDS[f.type] for f in msgspec.structs.fields(kind) if f.name != "v"}
    return st.builds(kind, **fields)


ANY_RECORD: st.SearchStrategy[Record] = st.one_of([records_of(kind) for kind in KINDS.__args__])


class Share:
    """A shared folder in memory, and the processes of machines that use it, each with its own clock.

    Args:
        numbers: what the names of machines and workers are made of: several folders must not make one name twice.
    """

    def __init__(self, numbers: Iterator[int] | None = None) -> None:
        self.disk = MemoryDisk()
        self._numbers = numbers or itertools.count(1)

    def process(
        self,
        machine: str,
        *,
        kind: type[WorkDistributor] = WorkDistributor,
        workspace: Workspace = WORKSPACE,
        timing: Timing = LOCAL_DISK,
        skew: timedelta = timedelta(0),
        before_write: Callable[[str], None] = lambda step: None,
    ) -> WorkDistributor:
        """A process that has not joined. Its machine's own folder is outside the share."""
        name = f"{machine}-{next(self._numbers)}"
        return kind(
            workspace,
            files=MemoryFiles(self.disk, name, before_write),
            clock=FakeClock(skew),
            timing=timing,
            local=local_state(machine),
            new_hex=lambda count: next(self._numbers).to_bytes(count, "big").hex(),
        )

    def member(self, machine: str, capabilities: Collection[str] = ("cpu",), **about: Any) -> WorkDistributor:
        queue = self.process(machine, **about)
        queue.join(machine, capabilities)
        return queue

    def kill(self, queue: WorkDistributor) -> None:
        """The process is gone without a word; the system frees its locks."""
        files = queue.files
        assert isinstance(files, MemoryFiles)
        self.disk.end(files.process)

    def enqueue(self, *items: Item) -> None:
        self.process("planner").enqueue(items)

    def backup(self) -> dict[str, bytes]:
        """What the folder holds now, by the paths in it."""
        return self.disk.contents.below(WORKSPACE.root)

    def empty(self) -> None:
        """Somebody deletes what the folder holds."""
        for name in self.backup():
            del self.disk.contents[WORKSPACE.root / name]

    def put(self, backup: Mapping[str, bytes], workspace: Workspace = WORKSPACE) -> None:
        """Somebody copies the files of a backup into a folder; what else is there stays."""
        for name, data in backup.items():
            self.disk.contents[workspace.root / name] = data

    def restore(self, backup: Mapping[str, bytes]) -> None:
        """The folder is put back to how it was; what came since is gone."""
        self.empty()
        self.put(backup)

    def records(self) -> list[Record]:
        """What a reader that comes now accepts."""
        histories = Histories()
        for path, data in self.disk.contents.items():
            if path.parent == WORKSPACE.journals:
                histories.offer(data.split(b"\n")[:-1])
        return histories.accepted()

    def fold(self) -> Fold:
        return Fold(self.records())


def fork(share: Share, worker: str, seq: int) -> None:
    """Another process writes as the worker: its machine was copied after ``seq`` records, or put back to how it was then."""
    line = next(line for line in share.disk.contents[WORKSPACE.journal(worker, 0)].split(b"\n") if b'"seq":%d,' % seq in line)
    record = decode(line)
    assert record is not None
    path = WORKSPACE.journals / f"{worker}.0000 {seq}.jsonl"
    share.disk.contents[path] = encode(msgspec.structs.replace(record, wall="2026-01-01T00:00:05Z"))


def by(worker: str, records: list[Record]) -> list[str]:
    """What a worker wrote about attempts, in order."""
    return [type(r).__name__ for r in records if r.worker == worker and isinstance(r, Attempt)]


def local_state(machine: str) -> LocalState:
    return LocalState(Path("/local") / machine)


def claimed(queue: WorkDistributor) -> Held:
    held = queue.claim()
    assert isinstance(held, Held)
    return held


def pass_time(queue: WorkDistributor, seconds: float) -> None:
    """Let a process live on, polling as its heart does."""
    clock = queue.clock
    assert isinstance(clock, FakeClock)
    until = clock.seconds + seconds
    while clock.seconds < until:
        clock.advance(queue.timing.poll)
        queue.tick()


def together(seconds: float, *queues: WorkDistributor) -> None:
    """Let processes live on, side by side."""
    poll = max(queue.timing.poll for queue in queues)
    for _ in range(round(seconds / poll)):
        for queue in queues:
            pass_time(queue, poll)

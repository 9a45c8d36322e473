"""Laws of the folder: whatever a sync service makes of the files, the same records say the same.

The histories are those of a small protocol, played at random by workers that read each other late.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st
from queuekit import WORKSPACE, Author, item, local_state, table

from fedspec.clock import FakeClock
from fedspec.files import MemoryDisk, MemoryFiles
from fedspec.plan import encoded
from fedspec.results import from_table, to_csv
from fedspec.workqueue.distributor import WorkDistributor
from fedspec.workqueue.fold import Fold
from fedspec.workqueue.liveness import SYNC_FOLDER
from fedspec.workqueue.records import (
    Bye,
    Ckpt,
    Claim,
    Ctl,
    Done,
    Fail,
    Hello,
    Record,
    Seal,
    Start,
    Yield,
    pack_rows,
)
from fedspec.workqueue.rules import gate
from fedspec.workqueue.store import Beat, Store
from fedspec.workqueue.view import render_view
from fedspec.workspace import CheckpointPaths

ITEMS = [item(seed) for seed in (42, 43, 44)]
MACHINES = ("aaaaaaaa", "bbbbbbbb", "cccccccc")
ROWS = pack_rows(table())
# How the services name the copy of a file that two machines have changed; each may be made again and again.
CONFLICT_NAMES = (
    "{stem}.sync-conflict-20260101-12000{n}-ABCDEFG{suffix}",
    "{stem} (Büro-PC's conflicted copy 2026-01-0{n}){suffix}",
    "{stem}-BUERO-PC-{n}{suffix}",
    "{stem} {n}{suffix}",
)
FAULTS = ("transient", "code", "final", "capability")
ITEM_OPS = ("release", "retry", "cancel", "resume", "priority")
MACHINE_OPS = ("pause", "drain", "resume", "retire")

Files = dict[Path, bytes]


# Histories


class Player:
    """One machine: its present worker, what that has read of the others, and what it is at."""

    def __init__(self, machine: str) -> None:
        self.machine = machine
        self.processes = itertools.count(1)
        self.dead: dict[str, int] = {}
        self.authors: list[Author] = []
        self.come()

    def come(self) -> None:
        """The next process: it closes the ones that died."""
        self.author = Author(f"{self.machine}-{next(self.processes):06x}")
        self.authors.append(self.author)
        self.fold = Fold(record for author in self.authors for record in author.records)
        self.read: dict[str, int] = {author.worker: len(author.records) for author in self.authors}
        self.held: tuple[str, int] | None = None
        self.round = 0
        self.write(Hello, machine=self.machine, name=self.machine[0], capabilities=["cpu"], closes=self.dead)

    def write(self, kind: type[Record], **fields: Any) -> None:
        self.fold.add(self.author.write(kind, lam=self.fold.lam + 1, **fields))
        self.read[self.author.worker] = len(self.author.records)

    def go(self, bye: bool) -> None:
        if bye:
            self.write(Bye)
        else:
            self.dead = {**self.dead, self.author.worker: len(self.author.records) - 1}
        self.come()

    def take_in(self, other: Author, count: int) -> None:
        at = self.read.get(other.worker, 0)
        for record in other.records[at : at + count]:
            self.fold.add(record)
        self.read[other.worker] = max(at, min(len(other.records), at + count))

    def claim(self, item_id: str) -> None:
        if self.held is None and self.fold.status(item_id) in ("pending", "running"):
            self.held = item_id, self.fold.item(item_id).last_attempt() + 1
            self.write(Claim, item=self.held[0], attempt=self.held[1])
            self.round = max((ckpt.round for ckpt in self.fold.generations(item_id)), default=0)
            self.write(Start, item=self.held[0], attempt=self.held[1], round=self.round, base="b")

    def work(self, kind: type[Record], **fields: Any) -> None:
        """Something about the held item, behind the gate; it is dropped by everything but a saved round."""
        if self.held is None:
            return
        item_id, attempt = self.held
        if gate(self.fold, item_id, (attempt, self.author.worker)) is not None:
            kind, fields = Yield, {"reason": "taken over"}
        if kind is Ckpt:
            self.round += 1
            fields = {"round": self.round, "file": f"r{self.round}", "sha256": self.author.worker, "base": "b"}
        self.write(kind, item=item_id, attempt=attempt, **fields)
        if kind is not Ckpt:
            self.held = None

    def seal(self, item_id: str) -> None:
        if (done := self.fold.canonical(item_id)) is not None:
            self.write(Seal, item=item_id, attempt=done.attempt, author=done.worker)

    def order(self, op: int, item_id: str, value: int) -> None:
        if op < len(ITEM_OPS):
            attempt = self.fold.item(item_id).last_attempt()
            self.write(Ctl, op=ITEM_OPS[op], item=item_id, attempt=attempt, value=str(value))
        else:
            target = MACHINES[value - 1] if value or MACHINE_OPS[op - len(ITEM_OPS)] == "retire" else ""
            self.write(Ctl, op=MACHINE_OPS[op - len(ITEM_OPS)], value=target)


NUMBER = st.integers(0, 3)
MOVES = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 14), NUMBER, st.integers(0, 8)), min_size=12, max_size=60)


def played(moves: list[tuple[int, int, int, int]]) -> list[Author]:
    """The journals after these moves: who, what, and two numbers that say what of it."""
    players = [Player(machine) for machine in MACHINES]
    for who, what, number, more in moves:
        player, item_id = players[who], ITEMS[number % len(ITEMS)].id
        match what:
            case 0 | 1 | 2:
                others = [author for other in players if other is not player for author in other.authors]
                player.take_in(others[(number + more) % len(others)], 1 + more)
            case 3 | 4:
                player.claim(item_id)
            case 5 | 6 | 7:
                player.work(Ckpt)
            case 8:
                player.work(Done, rows=ROWS, rounds=1, accuracy=0.5)
            case 9:
                kind, fields = (Yield, {}) if more % 2 else (Fail, {"fault": FAULTS[number]})
                player.work(kind, reason="r", **fields)
            case 10 | 11:
                player.seal(item_id)
            case 12 | 13:
                player.order(more, item_id, number)
            case _:
                player.go(bye=bool(more % 2))
    return [author for player in players for author in player.authors]


HISTORIES = MOVES.map(played)


def records_in(authors: list[Author]) -> list[Record]:
    return [record for author in authors for record in author.records]


# Folders


@st.composite
def folders(draw: st.DrawFn, authors: list[Author]) -> Files:
    """What a machine may have of these journals: of each worker a part, in segments, some torn, some also as copies."""
    files: Files = {}
    for author in authors:
        lines = author.lines[: draw(st.integers(0, len(author.lines)))]
        cuts = sorted(draw(st.lists(st.integers(0, len(lines)), max_size=2)))
        for segment, (start, end) in enumerate(itertools.pairwise([0, *cuts, len(lines)])):
            data = text(lines[start:end])
            path = WORKSPACE.journal(author.worker, segment)
            files[path] = data[: draw(st.integers(0, len(data)))] if draw(st.integers(0, 4)) == 0 else data
            if draw(st.integers(0, 3)) == 0:
                files[copy_of(path, draw(NUMBER), 1)] = data
    return files


def text(lines: list[bytes]) -> bytes:
    return b"".join(line + b"\n" for line in lines)


def copy_of(path: Path, style: int, number: int) -> Path:
    return path.with_name(CONFLICT_NAMES[style].format(stem=path.stem, suffix=path.suffix, n=number))


def merged(one: Files, other: Files, style: int = 0) -> Files:
    """As a sync service merges two folders: of two versions of a file one stays, and the other becomes a copy beside it."""
    files = dict(one)
    for path, data in other.items():
        number = 1
        while files.setdefault(path, data) != data:
            path, number = copy_of(path, style, number + 1), number + 1
    return files


def reading(files: Mapping[Path, bytes]) -> Store:
    disk = MemoryDisk()
    disk.contents.update(files)
    store = Store(MemoryFiles(disk), WORKSPACE)
    store.refresh()
    return store


def said(fold: Fold) -> tuple[dict[str, Any], bytes]:
    """All that a fold holds, and the queue for people."""
    kept = {name: value for name, value in vars(fold).items() if name != "found"}
    return kept, render_view(fold, {item.id: item for item in ITEMS})


# The laws


def test_the_play_brings_forth_what_the_laws_are_about():
    """Rivals, deaths, seals and orders come about, or the laws say little."""
    dice = random.Random(0)
    plays = [
        played([(dice.randrange(3), dice.randrange(15), dice.randrange(4), dice.randrange(9)) for _ in range(60)])
        for _ in range(80)
    ]
    folds = [Fold(records_in(authors)) for authors in plays]
    kinds = {type(record) for authors in plays for record in records_in(authors)}
    assert kinds == {Hello, Claim, Start, Ckpt, Yield, Fail, Done, Seal, Ctl, Bye}
    assert any(fold.closed for fold in folds)
    assert any(fold.retirements for fold in folds)
    assert any(fold.orders for fold in folds)
    for most in ("live", "generations"):
        assert any(len(getattr(fold, most)(item.id)) > 1 for fold in folds for item in ITEMS)
    assert any(len(fold.item(item.id).seals) > 1 for fold in folds for item in ITEMS)


@given(HISTORIES, st.data())
def test_a_history_says_the_same_in_any_order_with_duplicates_and_in_two_parts(authors: list[Author], data: st.DataObject):
    records = records_in(authors)
    again = data.draw(st.permutations([*records, *data.draw(st.lists(st.sampled_from(records), max_size=5))]))
    cut = data.draw(st.integers(0, len(again)))
    fold = Fold(again[:cut])
    for record in again[cut:]:
        fold.add(record)
    assert said(fold) == said(Fold(records))


@given(HISTORIES, st.data())
def test_how_a_history_is_split_into_files_changes_nothing(authors: list[Author], data: st.DataObject):
    names = [f"{data.draw(NUMBER)} any name.jsonl", "b (Kopie).jsonl", "c-PC.jsonl"]
    files: Files = {}
    for line in data.draw(st.permutations([line for author in authors for line in author.lines])):
        path = WORKSPACE.journals / data.draw(st.sampled_from(names))
        files[path] = files.get(path, b"") + line + b"\n"
    assert said(reading(files).fold) == said(Fold(records_in(authors)))


@given(HISTORIES, st.data(), NUMBER)
def test_folders_merge_in_any_order_and_as_often_as_one_likes(authors: list[Author], data: st.DataObject, style: int):
    one, other, third = (data.draw(folders(authors)) for _ in range(3))

    def outcome(*parts: Files) -> tuple[dict[str, Any], bytes]:
        whole: Files = {}
        for part in parts:
            whole = merged(whole, part, style)
        return said(reading(whole).fold)

    assert outcome(one, one) == outcome(one)
    assert outcome(one, other) == outcome(other, one) == outcome(one, other, one, other)
    assert outcome(one, other, third) == outcome(one, merged(other, third)) == outcome(third, other, one)


@given(HISTORIES, st.data())
def test_a_merge_knows_all_that_either_folder_knew(authors: list[Author], data: st.DataObject):
    one, other = data.draw(folders(authors)), data.draw(folders(authors))
    both = reading(merged(one, other))
    for author in authors:
        known = max(reading(one).length(author.worker), reading(other).length(author.worker))
        assert both.length(author.worker) >= known


@settings(max_examples=40)
@given(HISTORIES, st.data())
def test_reading_on_is_reading_from_the_start_at_every_step(authors: list[Author], data: st.DataObject):
    disk = MemoryDisk()
    store = Store(MemoryFiles(disk), WORKSPACE)
    pieces: list[tuple[Path, bytes]] = []
    for author in authors:
        # Wherever a service cuts: in the middle of a line too.
        data_of = text(author.lines)
        cuts = sorted(data.draw(st.lists(st.integers(0, len(data_of)), max_size=2)))
        pieces += [(WORKSPACE.journal(author.worker, 0), data_of[a:b]) for a, b in itertools.pairwise([0, *cuts, len(data_of)])]
    # Of two pieces of one file the first comes first; files come in any order.
    order = data.draw(st.permutations([path for path, _ in pieces]))
    waiting = {path: [piece for of, piece in pieces if of == path] for path, _ in pieces}
    for path in order:
        disk.contents[path] = disk.contents.get(path, b"") + waiting[path].pop(0)
        store.refresh()
        assert said(store.fold) == said(reading(disk.contents).fold)
    assert said(store.fold) == said(Fold(records_in(authors)))


# Copies of any file


def workspace_of(authors: list[Author]) -> Files:
    """A whole workspace after such a history, with every kind of file."""
    fold = Fold(records_in(authors))
    files = {WORKSPACE.plan(item.id): encoded(item) for item in ITEMS}
    files |= {WORKSPACE.journal(author.worker, 0): text(author.lines) for author in authors}
    for author in authors:
        files[WORKSPACE.beat(author.worker)] = beat_of(author, n=7, fold=fold)
    files[WORKSPACE.view] = render_view(fold, {item.id: item for item in ITEMS})
    for one in ITEMS:
        if fold.canonical(one.id) is not None:
            files[WORKSPACE.result(one.exp)] = to_csv(from_table(table()))
        for ckpt in fold.generations(one.id):
            files[CheckpointPaths(WORKSPACE.checkpoints).generation(one.exp, ckpt.file)] = b"a generation"
    return files


def beat_of(author: Author, n: int, fold: Fold) -> bytes:
    seen = {worker: state.length for worker, state in fold.workers.items()}
    running = [record.item for record in author.records if isinstance(record, Claim)][-1:]
    beat = Beat(
        worker=author.worker,
        n=n,
        seq=len(author.records),
        running="".join(running),
        round=n,
        seen=seen,
        gone=fold.view_of_the_gone(),
    )
    return msgspec.json.encode(beat)


def older(path: Path, data: bytes, share: int) -> bytes:
    """What a machine that was behind may have had under that name: less of it, torn, or an earlier beat."""
    if path.parent == WORKSPACE.beats and share % 2:
        return msgspec.json.encode(msgspec.structs.replace(msgspec.json.decode(data, type=Beat), n=3, round=3, seq=0, seen={}))
    return data[: len(data) * share // 8]


def looked_at(files: Mapping[Path, bytes]) -> tuple[Any, ...]:
    """What anybody who looks is told, and what a machine that comes claims."""
    disk = MemoryDisk()
    disk.contents.update(files)
    numbers = itertools.count(1)
    queue = WorkDistributor(
        WORKSPACE,
        files=MemoryFiles(disk),
        clock=FakeClock(),
        timing=SYNC_FOLDER,
        local=local_state("newcomer"),
        new_hex=lambda count: next(numbers).to_bytes(count, "big").hex(),
    )
    lines = queue.progress().lines
    queue.join("newcomer", {"cpu"})
    return lines, said(queue.store.fold), queue.claim(), queue.seal()


@settings(max_examples=60)
@given(HISTORIES, st.lists(st.tuples(st.integers(0, 200), NUMBER, st.integers(0, 8)), min_size=1, max_size=5))
def test_conflict_copies_of_any_file_change_nothing_that_anybody_says_or_does(
    authors: list[Author], copies: list[tuple[int, int, int]]
):
    files = workspace_of(authors)
    # What is overwritten every few seconds is what copies are most often made of.
    beats = {path: data for path, data in files.items() if path.parent == WORKSPACE.beats}
    with_copies = files | {copy_of(path, style, 9): older(path, data, 1) for path, data in beats.items() for style in (0, 1)}
    kinds = sorted({path.parent for path in files})
    for number, (which, style, share) in enumerate(copies, start=2):
        of_a_kind = sorted(path for path in files if path.parent == kinds[which % len(kinds)])
        path = of_a_kind[which // len(kinds) % len(of_a_kind)]
        with_copies[copy_of(path, style, number)] = older(path, files[path], share)
    assert looked_at(with_copies) == looked_at(files)

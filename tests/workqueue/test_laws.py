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
from playkit import HISTORIES, ITEMS, NUMBER, played, records_in, text
from queuekit import WORKSPACE, Author, local_state, table

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
    Seal,
    Start,
    Yield,
)
from fedspec.workqueue.store import Beat, Store
from fedspec.workqueue.view import render_view
from fedspec.workspace import CheckpointPaths

# How the services name the copy of a file that two machines have changed; each may be made again and again.
CONFLICT_NAMES = (
    "{stem}.sync-conflict-20260101-12000{n}-ABCDEFG{suffix}",
    "{stem} (Büro-PC's conflicted copy 2026-01-0{n}){suffix}",
    "{stem}-BUERO-PC-{n}{suffix}",
    "{stem} {n}{suffix}",
)
Files = dict[Path, bytes]


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

"""What a long queue costs, in calls and not in seconds: linear where all of it is read, nothing where nothing has changed."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from playkit import text
from queuekit import ALICE, BOB, WORKSPACE, Author, Share, fold_of, item

from fedspec.files import FencedFiles
from fedspec.files.kernel import SystemKernel
from fedspec.plan import encoded
from fedspec.workqueue.liveness import LOCAL_DISK
from fedspec.workqueue.members import Settlement
from fedspec.workqueue.progress import Reader
from fedspec.workqueue.records import Ckpt, Claim, Done, Hello, Seal, Start
from fedspec.workqueue.rules import Situation, Take, next_action
from fedspec.workqueue.store import Store
from fedspec.workspace import Workspace

FEW, MANY = 20, 80
ITEMS = [item(seed) for seed in range(MANY)]
FREE = item(seed=1000)
TIMING_AND_NOW = (LOCAL_DISK, datetime(2026, 1, 2, tzinfo=UTC))


def calls(act: Callable[[], object]) -> int:
    """How many functions are called meanwhile."""
    count = 0

    def look(frame: FrameType, event: str, argument: Any) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    gc.collect()
    gc.disable()
    sys.setprofile(look)
    try:
        act()
    finally:
        sys.setprofile(None)
        gc.enable()
    return count


def finished(count: int, worker: str = ALICE, *, sealed: bool = True) -> Author:
    """The journal of a worker that has finished so many items."""
    author = Author(worker)
    author.write(Hello, machine=worker[:8], name="Mac", capabilities=["cpu"])
    for one in ITEMS[:count]:
        author.write(Claim, item=one.id, attempt=1)
        author.write(Start, item=one.id, attempt=1, round=0, base="b")
        for round_ in (1, 2, 3):
            author.write(Ckpt, item=one.id, attempt=1, round=round_, file=f"f{round_}", sha256="s", base="b")
        author.write(Done, item=one.id, attempt=1, rows="", rounds=3)
        if sealed:
            author.write(Seal, item=one.id, attempt=1, author=worker)
    return author


def test_folding_is_linear_in_records():
    def folding(count: int) -> int:
        author = finished(count)
        return calls(lambda: fold_of(author))

    assert folding(MANY) < 1.1 * MANY / FEW * folding(FEW)


def test_items_that_are_finished_cost_a_claim_no_call():
    def claiming(count: int) -> int:
        fold, items = fold_of(finished(count)), {one.id: one for one in (*ITEMS[:count], FREE)}
        situation = Situation(fold, items, "aaaaaaaa", {"cpu"})
        assert next_action(situation) == Take(FREE, 1, None)
        return calls(lambda: next_action(situation))

    assert claiming(MANY) == claiming(FEW)


def test_progress_is_linear_in_items():
    def showing(count: int) -> int:
        fold, items = fold_of(finished(count)), {one.id: one for one in ITEMS[:count]}
        return calls(lambda: Reader(fold, items, {}, *TIMING_AND_NOW).progress())

    showing(MANY)  # what Python imports at the first call, and what each item remembers of itself
    assert showing(MANY) < 1.1 * MANY / FEW * showing(FEW)


def test_one_more_conflict_copy_costs_the_same_in_every_queue():
    def clearing(count: int, copies: int) -> int:
        share = Share()
        mac = share.member("mac")
        mac.store.items.update({one.id: one for one in ITEMS[:count]})
        for number in range(copies):
            for folder, name in ((WORKSPACE.results, f"{ITEMS[0].exp}.csv"), (WORKSPACE.checkpoints, "theirs_model.pt")):
                path = folder / name
                share.disk.contents[path.with_stem(f"{path.stem} (conflicted copy 2026-01-0{number + 1})")] = b"theirs"
        return calls(mac.caretaker.clear)

    clearing(MANY, 1)  # what Python imports at the first call, and what each item remembers of itself
    assert clearing(MANY, 9) - clearing(MANY, 1) == clearing(FEW, 9) - clearing(FEW, 1)


@pytest.mark.parametrize("others", [2, 20])
def test_whether_a_result_may_change_is_asked_in_the_same_time_however_many_take_part(others: int):
    peers = [Author(f"bbbbbbbb-{number:06x}") for number in range(others)]
    for peer in peers:
        peer.write(Hello, machine="bbbbbbbb", name="PC")
    mine = finished(FEW, sealed=False)
    fold = fold_of(mine, *peers)
    acks = {peer.worker: {ALICE: len(mine.records) - 1} for peer in peers}
    settlement = Settlement(fold, acks, dict.fromkeys(acks, fold.view_of_the_gone()), ALICE)
    results = [done for one in ITEMS[:FEW] if (done := fold.canonical(one.id)) is not None]
    assert [settlement.may_change(done) for done in results] == [False] * (FEW - 1) + [True]
    assert [settlement.may_change(done) for done in results] == [any(settlement.missing(done)) for done in results]
    assert calls(lambda: [settlement.may_change(done) for done in results]) < 6 * FEW


class Counting(SystemKernel):
    """The system; counts what it is asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = 0

    def __getattribute__(self, name: str) -> Any:
        if name in ("read", "stat", "listed", "names"):
            self.asked += 1
        return super().__getattribute__(name)


def test_a_look_at_the_folder_asks_no_more_for_more_plans_and_records(tmp_path: Path):
    def looking(count: int) -> tuple[int, int, int]:
        workspace, kernel = Workspace(tmp_path / str(count)), Counting()
        workspace.plans.mkdir(parents=True)
        workspace.journals.mkdir()
        for one in ITEMS[:count]:
            workspace.plan(one.id).write_bytes(encoded(one))
        author, other = finished(count), Author(BOB)
        workspace.journal(ALICE, 0).write_bytes(text(author.lines))
        store = Store(FencedFiles(workspace.root, kernel=kernel), workspace)
        store.refresh()
        other.write(Hello, machine="bbbbbbbb", name="PC")
        workspace.journal(BOB, 0).write_bytes(text(other.lines))
        kernel.asked = 0
        made = calls(store.catch_up)
        assert store.length(BOB) == 1
        first = kernel.asked
        store.refresh()
        return made, first, kernel.asked - first

    assert looking(MANY) == looking(FEW)

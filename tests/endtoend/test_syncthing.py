"""The queue's promises where two real Syncthing daemons carry the folder: no kill, stop, cut or hand edit changes a result."""

from __future__ import annotations

import hashlib
import shutil
import sys
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

import pytest
from conftest import Undisturbed
from course import Course, Run, Side, draw
from machines import Machine, enqueue, of_kind, results, share_lines, small
from proof import LongProof, spelled
from syncthing import CONFLICT, Daemon, SyncthingPair, conflict_copies, contents, original_of, wait

from fedspec.plan import Item
from fedspec.results import from_table, to_csv
from fedspec.workqueue.fold import Fold
from fedspec.workqueue.histories import Histories
from fedspec.workqueue.liveness import SYNC_FOLDER
from fedspec.workqueue.records import Ckpt, Claim, Done, decode, unpack_rows
from fedspec.workqueue.view import render_view

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs SIGSTOP, which Windows does not have")

# The one factor of all waiting times, the queue's and Syncthing's.
SCALE = 0.02
TIMING = SYNC_FOLDER.scaled(SCALE)
ITEMS = [small(seed, method=method) for seed in range(42, 48) for method in ("fedavg", "fedspec")]
SHORT = (2, 32)
LONG = range(100, 150)
# What one worker writes, and nobody else ever.
OWN = ("distributed_work/journal/", "distributed_work/beat/", "checkpoints_distributed/gen/")
NEVER_IN_CONFLICT = (*OWN, "distributed_work/plan/")

Say = Callable[[str], None]


def test_the_pair_carries_files_is_cut_and_makes_conflict_copies(tmp_path: Path):
    with SyncthingPair(tmp_path, SCALE) as pair:
        one, other = pair.a.folder, pair.b.folder
        (one / "from a").write_text("a", encoding="utf-8")
        (one / "~x.tmp").write_text("temporary", encoding="utf-8")
        for folder in (one, other):
            (folder / "same").write_text("same", encoding="utf-8")
        pair.sync()
        assert (other / "from a").read_text(encoding="utf-8") == "a"
        assert not (other / "~x.tmp").exists()
        assert pair.b.writers("from a") == {pair.a.device.partition("-")[0]}
        with pair.partition():
            (one / "both.txt").write_text("a", encoding="utf-8")
            (other / "both.txt").write_text("b", encoding="utf-8")
            for side in pair.sides:
                side.scan()
            assert (one / "both.txt").read_text(encoding="utf-8") == "a"
        pair.sync()
        (copy,) = conflict_copies(one)
        assert original_of(copy) == "both.txt"
        assert {(one / name).read_text(encoding="utf-8") for name in (copy, "both.txt")} == {"a", "b"}
        (other / "from a").write_text("b too", encoding="utf-8")
        pair.sync()
        wait(lambda: len(pair.writers("from a")) == 2, "both writers to be known")
    assert not pair.a.running
    assert not pair.b.running


def test_an_item_that_both_sides_did_while_they_were_apart_is_published_once(tmp_path: Path, undisturbed: Undisturbed):
    (item, *_) = ITEMS
    with SyncthingPair(tmp_path, SCALE) as pair:
        machines = [Machine(name, tmp_path / name, side.folder) for name, side in zip(("mac", "pc"), pair.sides, strict=True)]
        try:
            with pair.partition():
                for machine in machines:
                    enqueue(machine.workspace, [item])
                running = [machine.work(SCALE) for machine in machines]
                assert [one.wait() for one in running] == [0, 0]
            pair.sync()
            last_look(pair, machines)
        finally:
            for machine in machines:
                for one in machine.started:
                    one.end()
        for side in pair.sides:
            assert len(of_kind(accepted(share_lines(side.folder)).accepted(), Done)) == 2
            assert is_canonical(side.folder, item)
        assert {name: rows for name, rows in results(pair.a.folder).items() if CONFLICT not in name} == undisturbed(item)
        assert published(pair.a.folder, item) == [f"{item.exp}.csv"]


@pytest.mark.parametrize("seed", SHORT)
def test_two_workers_on_two_sides_of_syncthing_end_with_one_result_of_each_item(
    seed: int, tmp_path: Path, undisturbed: Undisturbed, say: Say
):
    say(f"time scale {SCALE}, {spelled(run_course(draw(seed, TIMING), tmp_path, undisturbed))}")


@pytest.mark.long
def test_two_workers_on_two_sides_of_syncthing_end_with_one_result_of_each_item_long(
    tmp_path: Path, undisturbed: Undisturbed, pytestconfig: pytest.Config, say: Say
):
    say(f"time scale {SCALE}: beat {TIMING.beat:g} s, settle {TIMING.settle:g} s, presumed dead after {TIMING.dead:g} s")
    proof = LongProof(pytestconfig, __file__, len(LONG))
    total = proof.go_on(lambda number: run_course(draw(LONG[number], TIMING), tmp_path / str(number), undisturbed), say)
    assert total["kills"] > 0
    assert total["stops"] > 0
    assert total["pauses"] > 0


def run_course(course: Course, folder: Path, undisturbed: Undisturbed) -> Counter[str]:
    """One run, from an empty folder to equal results on both sides; what happened in it."""
    expected = undisturbed(*ITEMS)
    machines: list[Machine] = []
    with SyncthingPair(folder, SCALE) as pair:
        try:
            sides = []
            for name, daemon, blows in zip(("mac", "pc"), pair.sides, course.blows, strict=True):
                # Both have the plan, as two people who start the same command have.
                enqueue(daemon.folder, ITEMS)
                machines.append(Machine(name, folder / name, daemon.folder))
                sides.append(Side(daemon, machines[-1], blows, SCALE))
            run = Run(course, pair, (sides[0], sides[1]))
            run.go()
            pair.sync()
            stale = [item.exp for item in ITEMS if not is_canonical(pair.a.folder, item)]
            last_look(pair, machines)
            run.look()
        finally:
            for machine in machines:
                for running in machine.started:
                    running.end()
        found = violations(pair, run, expected)
        assert not found, f"seed {course.seed}: {course}\n" + "\n".join(found)
        counted = statistics(pair.a.folder, run, stale)
    shutil.rmtree(folder)
    return counted


def last_look(pair: SyncthingPair, machines: list[Machine]) -> None:
    """The same command once more on each side, as a person would: one worker may have left before the other's news came."""
    for machine in machines:
        running = machine.fedspec("work", scale=SCALE)
        assert running.wait() == 0, running.output
        pair.sync()


def violations(pair: SyncthingPair, run: Run, expected: Mapping[str, list[tuple[str, ...]]]) -> list[str]:
    """What must not be, as sentences."""
    found = []
    for side in pair.sides:
        found += [f"{side.name}: {text}" for text in wrong_on(side, run, expected)]
    one, other = (contents(side.folder) for side in pair.sides)
    found += [f"{name} differs" for name in sorted(one.keys() | other.keys()) if one.get(name) != other.get(name)]
    views = {render_view(fold(side.folder), {item.id: item for item in ITEMS}) for side in pair.sides}
    if len(views) > 1:
        found.append("the folds of the two sides differ")
    found += [f"{name} was written on both sides" for name in own_files(pair.a) if len(pair.writers(name)) > 1]
    return found


def wrong_on(side: Daemon, run: Run, expected: Mapping[str, list[tuple[str, ...]]]) -> list[str]:
    """What is wrong in one side's folder."""
    found = []
    state = fold(side.folder)
    for item in ITEMS:
        if state.canonical(item.id) is None:
            found.append(f"{item.exp} is lost: {state.status(item.id)}")
        elif not is_canonical(side.folder, item):
            found.append(f"the CSV of {item.exp} is not that of the result that counts")
        elif (files := published(side.folder, item, run.planted)) != [f"{item.exp}.csv"]:
            found.append(f"{item.exp} was published as {files}")
    copies = conflict_copies(side.folder)
    found += [f"{name} is a conflict copy" for name in copies if name.startswith(NEVER_IN_CONFLICT)]
    tables = {name: rows for name, rows in results(side.folder).items() if CONFLICT not in name}
    found += [f"{exp} was published and is none of the items" for exp in tables.keys() - expected.keys()]
    found += [f"{exp} is not the undisturbed run's" for exp in expected if tables.get(exp) != expected[exp]]
    present = share_lines(side.folder)
    found += [f"a journal line is lost: {line[:160]!r}" for line in run.lines if decode(line) and line not in present]
    histories = accepted(present)
    if histories.forked():
        found.append(f"two processes wrote as {sorted(histories.forked())}")
    for path in sorted((side.folder / "checkpoints_distributed" / "gen").glob("*/*.pt")):
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        if digest[:12] not in path.name:
            found.append(f"{path.name} does not hold what its name says")
    return found


def is_canonical(folder: Path, item: Item) -> bool:
    """Whether the item's CSV is that of the one result that counts."""
    done = fold(folder).canonical(item.id)
    path = folder / "paper_results" / f"{item.exp}.csv"
    return done is not None and path.exists() and path.read_bytes() == to_csv(from_table(unpack_rows(done.rows)))


def published(folder: Path, item: Item, planted: Collection[str] = ()) -> list[str]:
    """Every CSV with rows of the item, whatever its name; not what hand edits left."""
    found = []
    for path in sorted((folder / "paper_results").glob("*.csv")):
        by_hand = CONFLICT in path.name and original_of(path.relative_to(folder).as_posix()) in planted
        if f"\n{item.id}," in path.read_text(encoding="utf-8") and not by_hand:
            found.append(path.name)
    return found


def own_files(side: Daemon) -> list[str]:
    """Files that one worker alone writes. A frozen base is named by its content: whoever writes it writes the same."""
    return [name for name in contents(side.folder) if name.startswith(OWN) and "/gen/base/" not in name]


def accepted(lines: set[bytes]) -> Histories:
    """The histories that a set of lines adds up to."""
    histories = Histories()
    histories.offer(lines)
    return histories


def fold(folder: Path) -> Fold:
    """What the journals in a folder add up to."""
    return Fold(accepted(share_lines(folder)).accepted())


def statistics(folder: Path, run: Run, stale: list[str]) -> Counter[str]:
    """What happened in a run: misfortunes, conflict copies, and what was done twice."""
    records = accepted(share_lines(folder)).accepted()
    rounds = Counter((ckpt.item, ckpt.round) for ckpt in of_kind(records, Ckpt))
    copies = conflict_copies(folder)
    counted = Counter({"runs": 1, "items": len(ITEMS)})
    for name in ("kills", "stops", "pauses", "hand edits"):
        counted[name] = run.counts[name]
    counted["takeovers and rivals"] = len(of_kind(records, Claim)) - len(ITEMS)
    counted["items trained twice"] = len({item for (item, _), times in rounds.items() if times > 1})
    counted["rounds trained twice"] = sum(times - 1 for times in rounds.values())
    counted["items done twice"] = sum(n > 1 for n in Counter(done.item for done in of_kind(records, Done)).values())
    counted["conflict copies"] = len(copies)
    counted["of them not by hand edits"] = len([name for name in copies if original_of(name) not in run.planted])
    counted["stale CSVs before the last look"] = len(stale)
    state = Fold(records)
    counted["lost"] = sum(state.canonical(item.id) is None for item in ITEMS)
    counted["published twice"] = sum(len(published(folder, item, run.planted)) > 1 for item in ITEMS)
    return counted

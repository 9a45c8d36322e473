"""What must hold when a schedule is over, whatever struck."""

from __future__ import annotations

import random
from collections.abc import Iterator

from msgspec.structs import asdict

from fedspec.results import MACHINE_COLUMNS, Row, from_table, to_csv
from fedspec.simulation.rehearsal import expected_rows
from fedspec.simulation.schedule import WORKSPACE, Course
from fedspec.workqueue.distributor import WorkDistributor
from fedspec.workqueue.fold import MAX_DEATHS, Fold
from fedspec.workqueue.records import Attempt, Fail, Histories, Record, Yield, unpack_rows


def violations(course: Course) -> list[str]:
    """Every broken invariant, in words; none if all hold."""
    return [
        *course.world.breaches,
        *_everything_ends(course),
        *_one_result_each(course),
        *_nothing_failed(course),
        *_one_writer_a_file(course),
        *_silence_after_a_yield(course),
        *_order_changes_nothing(course),
    ]


def _everything_ends(course: Course) -> Iterator[str]:
    if not course.finished:
        yield "somebody was still waiting at the end of time"
    fold = _reread(course).store.fold
    for item in course.items:
        # Crashes that happen to strike thrice between a start and its first checkpoint look like an item that kills workers.
        if fold.status(item.id) != "done" and len(fold.deaths(item.id)) < MAX_DEATHS:
            yield f"{item.exp} is {fold.status(item.id)}"


def _one_result_each(course: Course) -> Iterator[str]:
    """One CSV an item, equal to the canonical result and to the hash chain of an undisturbed run."""
    reader = _reread(course)
    expected_files = set()
    for item in course.items:
        path = WORKSPACE.result(item.exp)
        expected_files.add(path)
        done = reader.store.fold.canonical(item.id)
        if done is None:
            continue
        rows = from_table(unpack_rows(done.rows))
        if course.world.disk.contents.get(path) != to_csv(rows):
            yield f"{path.name} is not the canonical result"
        if [_comparable(row) for row in rows] != [_comparable(row) for row in expected_rows(item)]:
            yield f"{item.exp} has a result that no undisturbed run has"
    for path in course.world.disk.contents:
        if path.parent == WORKSPACE.results and path.suffix == ".csv" and path not in expected_files:
            yield f"{path.name} belongs to nobody"


def _nothing_failed(course: Course) -> Iterator[str]:
    """Rehearsals have no bugs: whatever a worker journals as a failure is one of the queue's or the worker's own."""
    for record in _records(course):
        if isinstance(record, Fail):
            yield f"{record.worker} failed: {record.reason}"


def _one_writer_a_file(course: Course) -> Iterator[str]:
    shared = (WORKSPACE.journals, WORKSPACE.beats)
    for path, writers in course.world.writers.items():
        immutable = WORKSPACE.checkpoints / "gen" in path.parents and path.parent.name != "base"
        if (path.parent in shared or immutable) and len(writers) > 1:
            yield f"{path.name} was written by {', '.join(sorted(writers))}"


def _silence_after_a_yield(course: Course) -> Iterator[str]:
    ended: set[tuple[str, int, str]] = set()
    for record in sorted(_records(course), key=lambda r: (r.worker, r.seq)):
        if isinstance(record, Attempt):
            key = (record.item, record.attempt, record.worker)
            if key in ended:
                yield f"{record.worker} wrote {type(record).__name__} for an attempt that it had yielded"
            if isinstance(record, Yield):
                ended.add(key)


def _order_changes_nothing(course: Course) -> Iterator[str]:
    records = _records(course)
    shuffled = random.Random(0).sample(records, len(records))
    one, other = Fold(records), Fold(shuffled)
    if any(_judgement(one, item.id) != _judgement(other, item.id) for item in course.items):
        yield "the order of the records changes the fold"


def _judgement(fold: Fold, item_id: str) -> tuple[object, ...]:
    return fold.status(item_id), fold.owner(item_id), fold.canonical(item_id), fold.generations(item_id)


def _reread(course: Course) -> WorkDistributor:
    reader = course.reader()
    reader.refresh()
    return reader


def _records(course: Course) -> list[Record]:
    histories = Histories()
    for path, data in course.world.disk.contents.items():
        if path.parent == WORKSPACE.journals:
            histories.offer(data.split(b"\n")[:-1])
    return histories.accepted()


def _comparable(row: Row) -> dict[str, object]:
    return {key: value for key, value in asdict(row).items() if key not in MACHINE_COLUMNS}

"""What must hold when a schedule is over, whatever struck; `bystander` sees the rest while it runs. The promises by number:

I1 every item ends. I2 all folds and views are equal, and rivals agree. I3 one CSV an item, equal to the canonical result. I4 it
is that of an undisturbed run. I5 no file that matters has two writers. I6 nothing is written for an attempt that is known to be
over. I7 rivals repeat no more rounds than news of them takes. I8 a sealed result never changes. I9 what the journal names is on
disk, and the best generation of an unsealed item stays. I10 no decision reads a wall clock. I11 nothing journalled is lost,
whatever could not be read meanwhile. I13 nobody takes over from a peer but after watching it being silent. I14 nobody
acknowledges what it has not read. I16 what a person asked for is done by all who have read it.

While the weather clears: I12 no gang waits while enough machines are at work. I15 who has read the folder as it changed
believes what a fresh reader does (`agreement`).
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from msgspec.structs import asdict

from fedspec.errors import DamagedError
from fedspec.results import MACHINE_COLUMNS, Row, to_csv
from fedspec.simulation.agreement import Readers, judgement
from fedspec.simulation.bystander import may_give_way
from fedspec.simulation.machine import Machine
from fedspec.simulation.rehearsal import expected_rows
from fedspec.simulation.schedule import WORKSPACE, Course, left_over
from fedspec.workqueue.distributor import WorkDistributor
from fedspec.workqueue.edits import understand
from fedspec.workqueue.fold import MAX_DEATHS, Fold
from fedspec.workqueue.histories import Histories
from fedspec.workqueue.records import Attempt, Ckpt, Claim, Fail, Record, Yield


class Ending:
    """What a schedule has left in the machines' folders, each read once."""

    def __init__(self, course: Course) -> None:
        self.course = course
        self._readers = course.readers or Readers(course)
        self._records: dict[int, list[Record]] = {}

    def queue(self, machine: Machine | None = None, *, own: bool = False) -> WorkDistributor:
        """The queue as somebody sees it who looks at a machine's folder; by default that of the first.

        ``own``: who reads as the schedule's processes did, perhaps with a known mistake.
        """
        machine = machine or self.course.machines[0]
        return self._readers.own(machine) if own else self._readers.queue(machine)

    def records(self, machine: Machine | None = None) -> list[Record]:
        """What a reader that comes now accepts of the journals in a machine's folder; by default of the first living one."""
        machine = machine or self.course.living[0]
        if machine.number not in self._records:
            histories = Histories()
            for data in machine.ground.disk.contents.inside(WORKSPACE.journals).values():
                histories.offer(data.split(b"\n")[:-1])
            self._records[machine.number] = histories.accepted()
        return self._records[machine.number]

    def violations(self) -> list[str]:
        """Every broken invariant, in words; none if all hold."""
        course = self.course
        if course.world.stuck:
            return course.world.breaches  # what was cut short in the middle says nothing more
        return [
            *course.world.breaches,  # what `bystander` saw (I6, I8, I9), and a worker that ended in an exception
            *_everything_ends(self),
            *_all_agree(self),
            *(broken for machine in course.living for broken in _one_result_each(self, machine)),
            *_nothing_failed(self),
            *_one_writer_a_file(course),
            *_silence_after_a_yield(self),
            *_little_is_repeated(self),
            *_sealed_stays(self),
            *_wishes_are_done(self),
            *_nothing_is_lost(self),
            *_order_changes_nothing(self),
        ]

    def duplicate_rounds(self) -> tuple[int, int]:
        """How many rounds were saved beyond one of each item, and how many there are."""
        course = self.course
        saved = {(r.item, r.round, r.key) for m in course.living for r in self.records(m) if isinstance(r, Ckpt)}
        rounds = Counter((item, round_) for item, round_, _ in saved)
        return sum(count - 1 for count in rounds.values()), sum(int(item.config["rounds"]) for item in course.items)


def violations(course: Course) -> list[str]:
    """Every broken invariant, in words; none if all hold."""
    return Ending(course).violations()


def duplicate_rounds(course: Course) -> tuple[int, int]:
    """How many rounds were saved beyond one of each item, and how many there are."""
    return Ending(course).duplicate_rounds()


def _everything_ends(ending: Ending) -> Iterator[str]:
    """I1."""
    course = ending.course
    if not course.finished:
        yield "I1: somebody was still waiting at the end of time"
    fold = ending.queue().store.fold
    for item in course.items:
        # Crashes that happen to strike thrice between a start and its first checkpoint look like an item that kills workers.
        if fold.status(item.id) not in ("done", "sealed") and len(fold.deaths(item.id)) < MAX_DEATHS:
            yield f"I1: {item.exp} is {fold.status(item.id)}"


def _all_agree(ending: Ending) -> Iterator[str]:
    """I2: the folds, and the queue for people, are the same on every machine."""
    course = ending.course
    first, *others = course.living
    fold = ending.queue(first).store.fold
    for other in others:
        theirs = ending.queue(other).store.fold
        for item in course.items:
            if judgement(fold, item.id) != judgement(theirs, item.id):
                yield f"I2: {first.name} and {other.name} differ about {item.exp}"
    views = {machine.ground.disk.contents.get(WORKSPACE.view) for machine in course.living}
    if len(views) > 1:
        yield "I2: the machines have different queues for people"
    if course.service is not None and not course.service.agree():
        yield "I2: the copies of the folder differ"


def _one_result_each(ending: Ending, machine: Machine) -> Iterator[str]:
    """I3 and I4: one CSV an item, equal to the canonical result and to the hash chain of an undisturbed run."""
    course = ending.course
    reader = ending.queue(machine, own=True)
    contents = machine.ground.disk.contents
    expected_files: set[Path] = set()
    for item in course.items:
        path = WORKSPACE.result(item.exp)
        expected_files.add(path)
        done = reader.store.fold.canonical(item.id)
        if done is None:
            continue
        try:
            rows = reader.publisher.rows(done)
        except (DamagedError, ValueError) as error:
            yield f"I3: {item.exp} is done, and {machine.name} has no rows of it: {error}"
            continue
        if contents.get(path) != to_csv(rows):
            yield f"I3: {path.name} on {machine.name} is not the canonical result"
        if [_comparable(row) for row in rows] != [_comparable(row) for row in expected_rows(item)]:
            yield f"I4: {item.exp} has a result that no undisturbed run has"
    for name in contents.inside(WORKSPACE.results):
        if name.endswith(".csv") and WORKSPACE.results / name not in expected_files:
            yield f"I3: {name} on {machine.name} belongs to nobody"
    for left in left_over(machine):
        if left.parent != WORKSPACE.results:
            yield f"I3: {left.name} on {machine.name} is a copy of what is derived"


def _nothing_failed(ending: Ending) -> Iterator[str]:
    """Rehearsals have no bugs: whatever a worker journals as a failure is one of the queue's or the worker's own."""
    for record in ending.records():
        if isinstance(record, Fail) and record.fault != "transient":
            yield f"{record.worker} failed: {record.reason}"


def _one_writer_a_file(course: Course) -> Iterator[str]:
    """I5."""
    shared = (WORKSPACE.journals, WORKSPACE.beats)
    for path, writers in course.world.writers.items():
        immutable = WORKSPACE.checkpoints / "gen" in path.parents and path.parent.name != "base"
        if (path.parent in shared or immutable) and len(writers) > 1:
            yield f"I5: {path.name} was written by {', '.join(sorted(writers))}"


def _silence_after_a_yield(ending: Ending) -> Iterator[str]:
    """I6."""
    ended: set[tuple[str, int, str]] = set()
    for record in sorted(ending.records(), key=lambda r: (r.worker, r.seq)):
        if isinstance(record, Attempt):
            key = (record.item, record.attempt, record.worker)
            if key in ended:
                yield f"I6: {record.worker} wrote {type(record).__name__} for an attempt that it had yielded"
            if isinstance(record, Yield):
                ended.add(key)


def news_takes_s(course: Course) -> float:
    """The longest time for which a machine may have gone on in good faith, from what really happened in this schedule."""
    timing = course.profile.timing
    return sum(course.world.longest.values()) + course.profile.stale_s + timing.settle + timing.poll


def _little_is_repeated(ending: Ending) -> Iterator[str]:
    """I7: a rival costs no more rounds than news of it takes. A folder put back, or a cloned machine, may cost any number."""
    course = ending.course
    if course.counts["restore"] or course.counts["clone"]:
        return
    round_s = course.profile.clients * course.profile.client_s
    a_rival = math.ceil(news_takes_s(course) / round_s) + 1
    records = {r.worker + str(r.seq): r for machine in course.living for r in ending.records(machine)}.values()
    for item in course.items:
        attempts = {r.key for r in records if isinstance(r, Claim) and r.item == item.id}
        saved = Counter(
            round_ for round_, _ in {(r.round, r.key) for r in records if isinstance(r, Ckpt) and r.item == item.id}
        )
        repeated = sum(count - 1 for count in saved.values())
        if repeated > (most := (len(attempts) - 1) * a_rival):
            yield f"I7: {item.exp} repeated {repeated} rounds, and {most} is the most that its {len(attempts)} attempts explain"


def _sealed_stays(ending: Ending) -> Iterator[str]:
    """I8: what any machine has ever seen sealed is the result everywhere in the end, but where it `may_give_way`."""
    course = ending.course
    for machine in course.living:
        fold = ending.queue(machine).store.fold
        for (number, item_id), told in course.books.seen_sealed.items():
            done = fold.canonical(item_id)
            held = done is not None and (done.attempt, done.worker, done.rows) == told
            if not held and not may_give_way(course, item_id, told[1]):
                yield f"I8: m{number} saw {item_id} sealed, and {machine.name} has another result"


def _wishes_are_done(ending: Ending) -> Iterator[str]:
    """I16: what a person asked for is so on every machine that has read it, and the queue for people is a rendering again."""
    commands = ending.course.books.commands
    for machine in ending.course.living:
        store = ending.queue(machine, own=True).store
        for command in commands.ignored(store):
            yield f"I16: {machine.name} has read the {command}, and it had no effect"
        view = machine.ground.disk.contents.get(WORKSPACE.view)
        if commands.edits and view is not None and understand(view, store.fold, store.items).kind != "ours":
            yield f"I16: the queue for people on {machine.name} is as somebody left it"


def _nothing_is_lost(ending: Ending) -> Iterator[str]:
    """I11: what a living machine has journalled, and every item, is there in the end, whatever could not be read meanwhile."""
    course = ending.course
    living = {machine.number for machine in course.living}
    for machine in course.living:
        store = ending.queue(machine).store
        for worker, (count, number) in course.books.journalled.items():
            if number in living and store.length(worker) < count and worker not in store.cloned():
                yield f"I11: {machine.name} has {store.length(worker)} of the {count} records of {worker}"
        for item in course.items:
            if item.id not in store.items:
                yield f"I11: {machine.name} has lost {item.exp}"


def _order_changes_nothing(ending: Ending) -> Iterator[str]:
    records = ending.records()
    shuffled = random.Random(0).sample(records, len(records))
    one, other = Fold(records), Fold(shuffled)
    if any(judgement(one, item.id) != judgement(other, item.id) for item in ending.course.items):
        yield "I2: the order of the records changes the fold"


def _comparable(row: Row) -> dict[str, object]:
    return {key: value for key, value in asdict(row).items() if key not in MACHINE_COLUMNS}

"""What is believed once all has arrived: by those who look into a folder then, and by the processes that have lived through it.

Invariants judge with fresh readers, and each morning makes fresh processes. A process that has read the same files bit by bit,
some of them torn, replaced or late, may believe something else; so it is asked before anybody starts anew (I15). Nobody waits
then for what could go on (I12).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from fedspec.files import MemoryFiles
from fedspec.workqueue.distributor import WorkDistributor
from fedspec.workqueue.fold import Fold
from fedspec.workqueue.store import Store
from fedspec.workqueue.tail import MAX_WAIT_POLLS
from fedspec.workspace import LocalState

if TYPE_CHECKING:
    from fedspec.simulation.machine import Machine
    from fedspec.simulation.schedule import Course


class Readers:
    """The queue as somebody sees it who looks into a machine's folder now. Of folders that hold the same, one is read."""

    def __init__(self, course: Course) -> None:
        self.course = course
        self._read: list[tuple[tuple[Mapping[str, bytes], ...], WorkDistributor]] = []
        self._mutants: dict[int, WorkDistributor] = {}

    def queue(self, machine: Machine) -> WorkDistributor:
        """As the production code reads it."""
        workspace, contents = self.course.workspace, machine.ground.disk.contents
        held = tuple(contents.inside(folder) for folder in (workspace.plans, workspace.journals))
        for known, queue in self._read:
            if known == held:
                return queue
        queue = self._fresh(machine, WorkDistributor)
        self._read.append((held, queue))
        return queue

    def own(self, machine: Machine) -> WorkDistributor:
        """As the schedule's own kind reads it, which may have a known mistake."""
        if self.course.distributor is WorkDistributor:
            return self.queue(machine)
        if machine.number not in self._mutants:
            self._mutants[machine.number] = self._fresh(machine, self.course.distributor)
        return self._mutants[machine.number]

    def _fresh(self, machine: Machine, kind: type[WorkDistributor]) -> WorkDistributor:
        files, local = MemoryFiles(machine.ground.disk), LocalState(Path("/local/reader"))
        queue = kind(self.course.workspace, files=files, local=local, timing=self.course.profile.timing)
        queue.refresh()
        return queue


def judgement(fold: Fold, item_id: str) -> tuple[object, ...]:
    """All that the fold says of an item."""
    return fold.status(item_id), fold.owner(item_id), fold.canonical(item_id), fold.generations(item_id)


def astray(machine: Machine, readers: Readers) -> Iterator[str]:
    """I15: who has read the folder as it changed believes what somebody does who reads it now.

    A process reads what has arrived since it last looked, as its next polls would; what has not is not in the folder either.
    It may know more where a folder was put back, or took its own last word no more, until the author's machine says it again.
    """
    fresh = readers.own(machine).store
    for name, queue in machine.minds.items():
        store = queue.store
        hands, store.files = store.files, MemoryFiles(machine.ground.disk)
        for _ in range(MAX_WAIT_POLLS + 1):
            store.refresh()
            if not (ahead := _ahead(store, fresh)) and store.items.keys() == fresh.items.keys():
                break
        store.files = hands
        if ahead and all(more > 0 and _may_be_unsaid(machine, worker) for worker, more in ahead.items()):
            continue
        if ahead:
            yield f"I15: {name} has read other records than are in its folder"
        elif store.items.keys() != fresh.items.keys():
            yield f"I15: {name} knows other items than are in its folder"
        for item in machine.course.items:
            if judgement(store.fold, item.id) != judgement(fresh.fold, item.id):
                yield f"I15: {name} believes other things of {item.exp} than its folder says"


def _ahead(store: Store, fresh: Store) -> dict[str, int]:
    """Workers of which the one has read more records than the other, or fewer (below 0), and how many."""
    workers = fresh.fold.workers.keys() | store.fold.workers.keys()
    more = {worker: store.length(worker) - fresh.length(worker) for worker in workers}
    return {worker: count for worker, count in more.items() if count}


def _may_be_unsaid(machine: Machine, worker: str) -> bool:
    _, author = machine.course.books.journalled.get(worker, (0, None))
    return author == machine.number or bool(machine.course.counts["restore"])


def stalled_gangs(course: Course, readers: Readers) -> Iterator[str]:
    """I12: what several run together does not wait after hours of fair weather in which as many machines were at work."""
    at_work = [machine for machine in course.living if machine.living]
    for item in course.items:
        waits = all(readers.queue(machine).store.fold.status(item.id) in ("pending", "running") for machine in course.living)
        if item.members and waits and len(at_work) >= len(item.members):
            yield f"I12: {item.exp} waits, and {', '.join(machine.name for machine in at_work)} are at work"

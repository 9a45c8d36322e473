"""A worker's part in an item that several run together: wait for the others, meet them, and work for the root."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, cast

from fedspec.errors import SupersededError
from fedspec.jobs import GangJob
from fedspec.jobs.meeting import Found
from fedspec.worker.patience import found_base, had_in_time, pause
from fedspec.worker.signals import Stopped
from fedspec.workqueue import wording
from fedspec.workqueue.fold import ROOT, weight
from fedspec.workqueue.records import Lost, Meet
from fedspec.workqueue.rules import Held
from fedspec.workqueue.wording import in_words

if TYPE_CHECKING:
    from fedspec.worker.loop import Worker

# A gang that is not complete after so many settle times, or polls where a folder settles at once, is left again.
SETTLES, POLLS = 2, 5


class Incomplete(Exception):  # noqa: N818 - no error: there are just too few of us now
    """Not all roles of the gang could be filled."""


class Place:
    """A worker's place in a gang: the `Meeting` of its job."""

    def __init__(self, worker: Worker, held: Held) -> None:
        self.queue, self.held = worker.queue, held
        self.role, self.attempt = held.role, held.attempt

    def announce(self, addresses: Sequence[str], token: str) -> None:
        """Root: tell the members where to find it. Raises SupersededError."""
        self.queue.note(self.held, Meet, addresses=list(addresses), token=token)

    def found(self) -> Found:
        """What the root has announced. Raises SupersededError if it has left, or a rival has its place."""
        if (found := self.announced()) is None:
            raise self._out("left by the root that this worker had met")
        return found

    def announced(self) -> Found | None:
        """What the root has announced, None if nothing has arrived yet."""
        root = self.queue.gang(self.held).holders.get(ROOT)
        with self.queue.store.lock:
            meet = self.queue.store.fold.item(self.held.item.id).meets.get(root) if root else None
        return None if meet is None else Found(tuple(meet.addresses), meet.token)

    def base(self) -> str:
        """The name of the frozen base that the root works with, "" if it has left."""
        root = self.queue.gang(self.held).holders.get(ROOT)
        with self.queue.store.lock:
            attempted = self.queue.store.fold.item(self.held.item.id).attempts.get(root) if root else None
        return attempted.start.base if attempted is not None and attempted.start is not None else ""

    def members(self) -> Mapping[str, str]:
        """Role -> worker, this one's own among them. Raises SupersededError if it has its place no more."""
        found = {role: worker for role, (_, worker) in self.queue.gang(self.held).holders.items()}
        if found.get(self.role) != self.held.worker:
            raise self._out("begun anew without this worker")
        return found

    def lost(self, role: str) -> None:
        """Root: the member was silent. Raises SupersededError."""
        member = self.members().get(role)
        if member is not None:
            self.queue.note(self.held, Lost, member=member)

    def _out(self, why: str) -> SupersededError:
        return SupersededError(f"{self.held.item.exp} was {why}.", "Nothing is lost; this worker takes the next item.")


def gather(worker: Worker, held: Held) -> Iterator[float]:
    """Wait until every role is taken.

    Raises:
        Incomplete: some are not; this worker gives its place back and takes something else meanwhile.
        SupersededError: somebody else has this place.
    """
    queue, clock, exp = worker.queue, worker.clock, held.item.exp
    patience = max(SETTLES * queue.timing.settle, POLLS * queue.timing.poll)
    until = clock.awake_or_asleep() + patience
    while missing := queue.gang(held).open:
        left = until - clock.awake_or_asleep()
        if left <= 0:
            # Those who gave up together must not come back together.
            queue.avoid(held, patience * (0.5 + weight(exp, held.worker)[0] / 128))
            raise Incomplete(f"{exp} lacks {wording.count(len(missing), 'member')}")
        worker.reporter.status(f"{exp}: {held.role} is here. Waiting up to {in_words(left)} for {len(missing)} more.")
        yield from pause(worker, held)


def assist(worker: Worker, held: Held) -> Iterator[float]:
    """A member's part: meet the root and work for it until the run is over.

    Raises:
        Incomplete: the root fell silent before it said where to meet it. Later the link tells of that, and sooner.
        SupersededError: somebody else has this place.
    """
    place, met, base = Place(worker, held), None, None
    while met is None or place.announced() != met:  # while it waits for the base, a rival may come to be the root
        met = yield from _meet(worker, held, place)
        base = yield from had_in_time(
            worker, held, partial(found_base, worker, [place.base()], place.base()), worker.queue.timing.dead
        )
    job = cast(GangJob, worker.open_job(held.item, base, place))
    worker.reporter.event(f"Joining {held.item.exp} as {held.role}")
    worker.queue.report.running = held.item.id
    for _ in job.assist():
        worker.queue.report.steps += 1
        if worker.queue.stop_reason is not None:
            break
        if worker.stop.requested:
            raise Stopped
        yield 0.0
    reason = worker.queue.stop_reason or "its root has ended the run"
    worker.queue.give_back(held, reason)
    worker.reporter.event(f"{held.item.exp}: {held.role} is free again ({reason})")


def _meet(worker: Worker, held: Held, place: Place) -> Generator[float, None, Found]:
    while (found := place.announced()) is None:
        if worker.queue.is_over(held):
            raise Incomplete(f"{held.item.exp} lacks its root, which is silent")
        worker.reporter.status(f"{held.item.exp}: {held.role} is here. Waiting for its root.")
        yield from pause(worker, held)
    return found

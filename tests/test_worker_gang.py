"""A member's part in an item that several run together: whatever becomes of the root, nobody waits for ever."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import Any

import pytest
import torch

from fedspec.config import FederatedConfig
from fedspec.files import MemoryDisk
from fedspec.jobs.meeting import Meeting
from fedspec.plan import Item, Role, make_item
from fedspec.workqueue.fold import weight
from fedspec.workqueue.liveness import LOCAL_DISK, SYNC_FOLDER, Timing
from fedspec.workqueue.records import Claim, Fail, Hello, Meet, Start, Yield
from tests.test_worker import IN_THE_CLOUD, SHARE, FakeJob, Process, check, disk, fill, item_of, refuse
from tests.workqueue.queuekit import Author

__all__ = ["disk"]

GANG = make_item("federated", FederatedConfig(seed=1, clients=2, rounds=2), roles=[Role(name="root"), Role(name="eye")])
SINGLE = item_of(5)


class Together(FakeJob):
    """A member asks where its root is, and works until it is told to stop; the root needs it for nothing but to be there."""

    meeting: Meeting | None = None

    def run(self, state: Mapping[str, Any] | None) -> Iterator[Any]:
        if self.meeting is not None:
            self.meeting.announce(["here"], "token")
        yield from super().run(state)

    def assist(self) -> Iterator[None]:
        assert self.meeting is not None
        assert self.meeting.found().token
        while True:
            yield


class Killed(BaseException):
    """Nothing more comes from this process."""


class Couple:
    """Two workers that have claimed a gang; ``opened(role)`` runs when one of them opens its job, and may kill it."""

    def __init__(self, disk: MemoryDisk, timing: Timing, opened: Callable[[str], None] = lambda role: None) -> None:
        fill(disk, GANG)
        both = [Process(disk, machine, timing=timing) for machine in ("aa", "bb")]
        for one in both:
            one.worker.open_job = self._open(opened)
        steps = {one: one.worker.steps() for one in both}
        while any(one.queue._held is None for one in both):
            for one in both:
                one.clock.advance(timing.poll)
                one.queue.tick()
                if one.queue._held is None:
                    with suppress(Killed):
                        next(steps[one])
        self.root, self.member = sorted(both, key=lambda one: one.queue._held.role != "root")  # type: ignore[union-attr]
        self.at_member = steps[self.member]

    def _open(self, opened: Callable[[str], None]) -> Any:
        def open_job(item: Item, base: Mapping[str, torch.Tensor] | None, meeting: Meeting | None = None) -> Together:
            job = Together(item, base or {"w": torch.full((3,), 1.0)}, lambda number, client: None)
            job.meeting = meeting
            opened(meeting.role if meeting else "")
            return job

        return open_job


@pytest.mark.parametrize("timing", [LOCAL_DISK, SYNC_FOLDER], ids=["local", "sync"])
def test_a_root_that_dies_before_it_says_where_to_meet_it_is_waited_for_no_longer_than_a_dead_peer(
    disk: MemoryDisk, timing: Timing
):
    def opened(role: str) -> None:
        if role == "root":
            raise Killed

    couple = Couple(disk, timing, opened)
    member = couple.member
    couple.root.die()
    fill(disk, SINGLE)
    began = member.clock.seconds
    for seconds in couple.at_member:
        member.clock.advance(seconds or 0.01)
        member.queue.tick()
        if member.queue.store.fold.canonical(SINGLE.id) is not None:
            break
        assert member.clock.seconds < began + 3 * timing.dead
    check(member, SINGLE)
    (left,) = member.of(Yield)
    assert "root" in left.reason
    assert member.of(Fail) == []


def rival_root(couple: Couple) -> Author:
    """Another worker that has claimed the root's role in the same attempt, and wins it; to be published."""
    root = couple.root.queue.worker
    mine = next(w for w in (f"cccccccc-{n:06x}" for n in itertools.count()) if weight(GANG.id, w) > weight(GANG.id, root))
    rival = Author(mine)
    rival.write(Hello, machine="cccccccc", name="rival")
    rival.write(Claim, item=GANG.id, attempt=1, role="root")
    return rival


def publish(disk: MemoryDisk, author: Author) -> None:
    disk.contents[SHARE.journal(author.worker, 0)] = b"".join(line + b"\n" for line in author.lines)


def meet(couple: Couple) -> str:
    """The root begins and announces itself; returns the name of its frozen base."""
    held = couple.root.queue._held
    assert held is not None
    base = couple.root.worker.checkpoints.save_base({"w": torch.full((3,), 2.0)})
    couple.root.queue.started(held, 0, base, "", "none")
    couple.root.queue.note(held, Meet, addresses=["here"], token="token")
    return base


def test_a_rival_that_comes_to_be_the_root_while_a_member_opens_its_job_is_no_fault_of_the_item(disk: MemoryDisk):
    def opened(role: str) -> None:
        if role == "eye":
            publish(disk, rival_root(couple))
            couple.member.queue.tick()

    couple = Couple(disk, SYNC_FOLDER, opened)
    member = couple.member
    meet(couple)
    while not member.of(Fail, Yield):
        member.clock.advance(next(couple.at_member))
        member.queue.tick()
    assert member.of(Fail) == []
    assert [record.worker for record in member.of(Yield)] == [member.queue.worker]


def test_a_rival_that_comes_to_be_the_root_while_a_member_waits_for_the_base_is_met_instead(disk: MemoryDisk):
    met: list[str] = []
    couple = Couple(disk, SYNC_FOLDER, met.append)
    member, rival = couple.member, rival_root(couple)
    base = meet(couple)
    refuse(member, IN_THE_CLOUD, SHARE.checkpoints / "gen" / "base" / f"{base}.pt", until_s=300.0)
    until = member.clock.seconds + 600.0
    while "eye" not in met:
        member.clock.advance(next(couple.at_member))
        member.queue.tick()
        if "Waiting up to" in member.statuses[-1] and "base" in member.statuses[-1]:
            publish(disk, rival)
        if member.clock.seconds > 400.0 and len(rival.records) == 2:
            assert member.statuses[-1].endswith("Waiting for its root.")
            rival.write(Start, item=GANG.id, attempt=1, round=0, base=base)
            rival.write(Meet, item=GANG.id, attempt=1, addresses=["there"], token="other")
            publish(disk, rival)
        assert member.clock.seconds < until
    next(couple.at_member)
    assert member.of(Fail, Yield) == []

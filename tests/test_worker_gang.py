"""A member's part in an item that several run together: whatever becomes of the root, nobody waits for ever."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import Any

import pytest
import torch

from fedspec.config import FederatedConfig
from fedspec.files import MemoryDisk
from fedspec.jobs.meeting import Meeting
from fedspec.plan import Item, Role, make_item
from fedspec.workqueue.liveness import LOCAL_DISK, SYNC_FOLDER, Timing
from fedspec.workqueue.records import Fail, Yield
from tests.test_worker import FakeJob, Process, check, disk, fill, item_of

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
        found = self.meeting.found()
        assert found is not None
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

"""Several copies of one folder in memory, each on a machine's own disk: files travel between them when a test says so."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
from queuekit import WORKSPACE, Share, together

from fedspec.workqueue.distributor import WorkDistributor
from fedspec.workqueue.fold import Fold
from fedspec.workqueue.liveness import SYNC_FOLDER
from fedspec.workqueue.store import Beat


class Replicas:
    """Machines that each have a copy of a synced folder; what one writes is on its own disk until copies meet.

    Attributes:
        copies: of each machine its copy of the folder, and its processes.
    """

    def __init__(self, *machines: str) -> None:
        numbers = itertools.count(1)
        self.copies = {machine: Share(numbers) for machine in machines}

    def member(self, machine: str, **about: Any) -> WorkDistributor:
        """A process of the machine that has joined."""
        return self.copies[machine].member(machine, timing=SYNC_FOLDER, **about)

    def fold(self, machine: str) -> Fold:
        """What a reader of the machine's copy that comes now makes of it."""
        return self.copies[machine].fold()

    def send(self, source: str, target: str, begin: Path = WORKSPACE.root) -> None:
        """Files of one copy whose paths begin so arrive in another one. Each has one writer, so the later state counts."""
        there, arriving = self.copies[target].backup(), self.copies[source].backup()
        files = {name: data for name, data in arriving.items() if str(WORKSPACE.root / name).startswith(str(begin))}
        self.copies[target].put({name: data for name, data in files.items() if _age(name, data) > _age(name, there.get(name))})

    def meet(self) -> None:
        """Everything travels everywhere."""
        for source, target in itertools.permutations(self.copies, 2):
            self.send(source, target)

    def together(self, seconds: float, *queues: WorkDistributor) -> None:
        """Processes live on side by side, and their copies meet all the time. For a life apart: `queuekit.together`."""
        for _ in range(round(seconds / SYNC_FOLDER.poll)):
            together(SYNC_FOLDER.poll, *queues)
            self.meet()

    def restore(self, backup: Mapping[str, bytes]) -> None:
        """All copies are put back to how one was."""
        for copy in self.copies.values():
            copy.restore(backup)


def _age(name: str, data: bytes | None) -> int:
    """Grows with each state of a file: a beat is counted, everything else is only ever added to."""
    if data is None:
        return -1
    is_beat = (WORKSPACE.root / name).parent == WORKSPACE.beats
    return msgspec.json.decode(data, type=Beat).n if is_beat else len(data)

"""Processes that use the same files, for each kind of `Files`; and a system that refuses."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fedspec.files import DiskFiles, Files, MemoryDisk, MemoryFiles
from fedspec.files.kernel import SystemKernel
from fedspec.files.powercut import LossyKernel, Remains

KINDS = ["disk", "memory", "lossy disk"]
NewProcess = Callable[[], Files]
Orphan = Callable[[Path, float], str]


def processes(kind: str, folder: Path) -> NewProcess:
    """Each call is another process; ``folder`` is there."""
    disk, kernel, names = MemoryDisk(), LossyKernel(Remains({}, frozenset({folder}))), itertools.count()
    kinds: dict[str, NewProcess] = {
        "disk": DiskFiles,
        "memory": lambda: MemoryFiles(disk, f"process{next(names)}"),
        "lossy disk": lambda: DiskFiles(kernel=kernel),
    }
    return kinds[kind]


class Refusing(SystemKernel):
    """A system on which somebody else holds files: Windows refuses the calls named in ``refused``, ``times`` times in all."""

    def __init__(self, winerror: int = 32) -> None:
        super().__init__()
        self.winerror, self.times = winerror, 0
        self.refused: set[str] = set()

    def __getattribute__(self, name: str) -> Any:
        value = super().__getattribute__(name)
        if name == "refused" or name not in self.refused:
            return value

        def call(*arguments: Any) -> Any:
            if self.times > 0:
                self.times -= 1
                error = PermissionError(13, "The process cannot access the file")
                error.winerror = self.winerror  # type: ignore[attr-defined]
                raise error
            return value(*arguments)

        return call

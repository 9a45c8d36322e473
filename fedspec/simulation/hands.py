"""A simulated process's hands on its machine's folder: each operation may fail, hang, stop the process or end it."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from fedspec.errors import FolderError
from fedspec.files import Crash, MemoryDisk, MemoryFiles
from fedspec.simulation.profiles import Profile
from fedspec.simulation.syncing import Replica, SyncService
from fedspec.simulation.world import Process, World

LOCK_POLL_S = 0.5
FULL_FOR_S = 300.0
DOWNLOAD_S = 120.0


@dataclass(slots=True)
class Ground:
    """What a machine's processes stand on: its disk, and whoever carries it to others.

    Attributes:
        full_until: the disk takes no more until then. away_until: the share does not answer until then.
        listings: folders as they were listed last, where a client caches that.
    """

    world: World
    profile: Profile
    root: Path
    disk: MemoryDisk
    service: SyncService | None = None
    replica: Replica | None = None
    full_until: float = 0.0
    away_until: Callable[[], float] = lambda: 0.0
    listings: dict[Path, tuple[float, dict[str, int]]] = field(default_factory=dict)


class Witness(Protocol):
    """Sees what a process does to its files, so that a broken promise is told where it is broken."""

    def writes(self, path: Path, data: bytes) -> None:
        """About to happen; it may still fail."""
        ...

    def appends(self, path: Path, data: bytes) -> None:
        """About to happen; it may still fail."""
        ...

    def appended(self, path: Path, data: bytes) -> None:
        """It is on the disk."""
        ...

    def removes(self, path: Path) -> None:
        """About to happen to a file that is there."""
        ...

    def looks(self) -> None:
        """The process has just read the folder."""
        ...


class SimulatedFiles(MemoryFiles):
    """The files port on a machine's ground. Its own folder outside the share never fails but by the process's death."""

    def __init__(self, process: Process, ground: Ground) -> None:
        super().__init__(ground.disk, process.name, self._strike)
        self.owner, self.ground, self.world = process, ground, process.world
        self._root = str(ground.root)
        self.witness: Witness | None = None

    def read(self, path: Path, offset: int = 0, limit: int = -1) -> bytes:
        """Read; what a sync client has evicted is not here, or comes late."""
        self._reach(path)
        if self._shared(path):
            self._evict(path)
        return super().read(path, offset, limit)

    def size(self, path: Path) -> int | None:
        """Look at the file."""
        self._reach(path)
        return super().size(path)

    def sizes(self, folder: Path) -> dict[str, int]:
        """List the folder, perhaps as it was some seconds ago."""
        self._reach(folder)
        stale, ground = self.ground.profile.stale_s, self.ground
        if not stale or self.world.calm:
            return super().sizes(folder)
        held = ground.listings.get(folder)
        if held is None or self.world.now - held[0] > stale * self.world.random.random():
            held = ground.listings[folder] = (self.world.now, super().sizes(folder))
        else:
            self.world.counts["stale listing"] += 1
        return dict(held[1])

    def write(self, path: Path, data: bytes, *, durable: bool = True) -> None:
        """Replace the file, and remember who did."""
        self._begin(path)
        if self.witness is not None:
            self.witness.writes(path, data)
        super().write(path, data, durable=durable)
        self._changed(path)

    def append(self, path: Path, data: bytes) -> None:
        """Add to the file, and remember who did."""
        self._begin(path)
        if self.witness is not None:
            self.witness.appends(path, data)
        try:
            super().append(path, data)
        finally:
            self._changed(path)
        if self.witness is not None:
            self.witness.appended(path, data)

    def remove(self, path: Path) -> None:
        """Delete the file."""
        self._reach(path)
        self._refuse(path)
        there = path in self.contents
        if there and self.witness is not None:
            self.witness.removes(path)
        super().remove(path)
        if there:
            self._changed(path)

    def move(self, path: Path, target: Path) -> None:
        """Rename the file."""
        self._begin(path)
        self._begin(target)
        super().move(path, target)
        self._changed(path)
        self._changed(target)

    @contextmanager
    def lock(self, path: Path, timeout_s: float) -> Iterator[bool]:
        """A lock as the system gives it: freed when its holder dies, but not while it is stopped."""
        until = self.world.now + timeout_s
        release = self.hold(path)
        while release is None and self.world.now < until:
            self.owner.park(LOCK_POLL_S)
            release = self.hold(path)
        try:
            yield release is not None
        finally:
            if release is not None:
                release()

    def _shared(self, path: Path) -> bool:
        return str(path).startswith(self._root)  # the parents of a path are slow to look through

    def _begin(self, path: Path) -> None:
        self._reach(path)
        self._refuse(path)
        self.world.writers.setdefault(path, set()).add(self.process)

    def _changed(self, path: Path) -> None:
        self.ground.listings.pop(path.parent, None)
        if self.ground.service is not None and self.ground.replica is not None:
            self.ground.service.changed(self.ground.replica, path)

    def _reach(self, path: Path) -> None:
        self.world.step(self.owner)
        ground = self.ground
        if ground.service is None and ground.away_until() > self.world.now and self._shared(path):
            raise FolderError(f"Cannot reach {path}: the network name is gone.", "Connect the share again.")

    def _evict(self, path: Path) -> None:
        world, profile = self.world, self.ground.profile
        if self.ground.replica is None:
            if world.chance(profile.unreadable):
                world.counts["held"] += 1
                raise PermissionError(errno.EACCES, "another program holds the file", str(path))
            return
        evicted = self.ground.replica.evicted
        if evicted and path in evicted:
            if evicted[path] > world.now:
                raise OSError(errno.EAGAIN, "is being downloaded", str(path))
            del evicted[path]
        elif path in self.contents and world.chance(profile.unreadable):
            world.struck("evicted", self.process, path.name)
            evicted[path] = world.now + world.random.uniform(0.0, DOWNLOAD_S)
            world.took("download", evicted[path] - world.now)
            raise OSError(errno.EAGAIN, "is being downloaded", str(path))
        elif world.chance(profile.blocking):
            world.struck("blocked", self.process, path.name)
            self._pause(DOWNLOAD_S, "download")

    def _strike(self, step: str) -> None:
        world, profile = self.world, self.ground.profile
        if world.calm:
            return
        chance = world.random.random()
        if chance < profile.crash:
            world.struck("crash", self.process, step)
            raise Crash
        if chance < profile.crash + profile.stop:
            world.struck("stop", self.process, step)
            self._pause(3 * profile.timing.dead, "stop")

    def _pause(self, most_s: float, why: str) -> None:
        length = self.world.random.uniform(0.0, most_s)
        self.world.took(why, length)
        self.owner.park(length)

    def _refuse(self, path: Path) -> None:
        """Raise FolderError where the folder takes no write just now."""
        world = self.world
        if not self._shared(path) or world.calm:
            return
        if self.ground.full_until > world.now:
            raise FolderError(f"Cannot write {path}: No space left on device.", "Free some space there.")
        if world.chance(self.ground.profile.refuse):
            if world.chance(0.1):
                world.struck("disk full", self.process, path.name)
                self.ground.full_until = world.now + world.random.uniform(0.0, FULL_FOR_S)
            else:
                world.struck("sharing violation", self.process, path.name)
            raise FolderError(f"Cannot write {path}: The process cannot access the file.", "Try again.")

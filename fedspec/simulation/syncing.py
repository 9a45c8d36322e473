"""A sync service: every machine has a copy of the folder, and changes travel between copies late, out of order and in conflict.

Each file has a version vector. What arrives replaces what it knows of, is ignored where more is known, and meets it in conflict
otherwise; all sides then choose the later one, and the other becomes a conflict copy, or nothing.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from fedspec.files import MemoryDisk

if TYPE_CHECKING:
    from fedspec.simulation.profiles import Weather
    from fedspec.simulation.world import World

Version = tuple[int, ...]
# When a file's content was made: what all sides of a conflict go by.
Stamp = tuple[float, int]
# The network is tried again so long after it came back.
RECONNECT_S = 3.0
LONGEST_WAIT_S = 1800.0


@dataclass(slots=True)
class Replica:
    """One machine's copy of the folder.

    Attributes:
        reachable_at: when the machine is next online, at or before now if it is; infinite once it is gone for good.
        evicted: files whose bytes are not here, and from when on they are again.
    """

    number: int
    disk: MemoryDisk = field(default_factory=MemoryDisk)
    versions: dict[Path, Version] = field(default_factory=dict)
    stamps: dict[Path, Stamp] = field(default_factory=dict)
    reachable_at: Callable[[], float] = lambda: 0.0
    evicted: dict[Path, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Change:
    """What travels: ``data`` is None where the file was deleted. ``is_news``: how long it took is told.

    ``origin``: whose copy it comes from.
    """

    path: Path
    version: Version
    data: bytes | None
    stamp: Stamp
    is_news: bool
    origin: int


class SyncService:
    """Carries changes below ``root`` between ``count`` replicas. How long it took is told of files in the folders ``news``."""

    def __init__(self, world: World, weather: Weather, root: Path, count: int, news: Collection[Path] = ()) -> None:
        self.world, self.weather, self.root, self.news = world, weather, root, news
        self.replicas = [Replica(number) for number in range(count)]
        self._root = str(root)
        self._zero: Version = (0,) * count
        # Pairs of machines between which nothing travels, and until when.
        self.apart: dict[frozenset[int], float] = {}
        self._copies = self._changes = 0

    def changed(self, replica: Replica, path: Path) -> None:
        """A process has written or deleted ``path`` on this replica."""
        if path.name.endswith(".tmp") or not str(path).startswith(self._root):
            return
        replica.evicted.pop(path, None)
        version = list(replica.versions.get(path, self._zero))
        version[replica.number] += 1
        self._spread(replica, path, tuple(version))

    def _spread(self, replica: Replica, path: Path, version: Version) -> None:
        replica.versions[path] = version
        self._changes += 1
        stamp = replica.stamps[path] = (self.world.now, self._changes)
        change = _Change(path, version, replica.disk.contents.get(path), stamp, path.parent in self.news, replica.number)
        delay = self._delay()
        up = self.world.now + delay * self.world.random.random()
        self.world.at(up, lambda: self._upload(replica, change, delay))

    def _delay(self) -> float:
        random, weather = self.world.random, self.weather
        if weather.steady:
            return weather.delay
        if self.world.chance(weather.late):
            self.world.counts["late"] += 1
            return weather.late_s * random.uniform(0.5, 1.5)
        return weather.delay * (0.2 + random.expovariate(1.0))

    def _upload(self, source: Replica, change: _Change, delay: float) -> None:
        """A change leaves its machine; what a machine had not sent when it died is lost."""
        until = source.reachable_at()
        if until == float("inf"):
            self.world.counts["unsent"] += 1
        elif until > self.world.now:
            self.world.at(self._retry_at(until), lambda: self._upload(source, change, delay))
        else:
            for target in self.replicas:
                if target is not source:
                    late = delay * self.world.random.random()
                    self.world.at(self.world.now + late, lambda t=target: self._download(t, change))  # type: ignore[misc]

    def _download(self, target: Replica, change: _Change) -> None:
        until = target.reachable_at()
        if self.apart:
            until = max(until, self.apart.get(frozenset((change.origin, target.number)), 0.0))
        if until > self.world.now:
            if until < float("inf"):
                self.world.at(self._retry_at(until), lambda: self._download(target, change))
            return
        if change.is_news:
            self.world.took("delay", self.world.now - change.stamp[0])
        mine = target.versions.get(change.path, self._zero)
        if _covers(mine, change.version):
            return
        if _covers(change.version, mine):
            if change.data is not None and mine == self._zero and self.world.chance(self.weather.torn):
                self._tear(target, change)
                return
            self._put(target, change, change.version)
        else:
            self._conflict(target, change, mine)

    def _retry_at(self, until: float) -> float:
        # Somebody who is away may be back sooner than it seemed: when the weather clears.
        return min(until + RECONNECT_S, self.world.now + LONGEST_WAIT_S)

    def _tear(self, target: Replica, change: _Change) -> None:
        self.world.struck("torn", f"sync->m{target.number}", change.path.name)
        assert change.data is not None
        target.disk.contents[change.path] = change.data[: len(change.data) * 2 // 3]
        self.world.at(self.world.now + 2 * self.weather.delay, lambda: self._download(target, change))

    def _put(self, target: Replica, change: _Change, version: Version) -> None:
        path = change.path
        target.versions[path], target.stamps[path] = version, change.stamp
        target.evicted.pop(path, None)
        if change.data is not None:
            target.disk.contents[path] = change.data
        elif path in target.disk.contents:
            if self.world.chance(self.weather.revive):
                # The service brings a deleted file back, as if somebody had edited it here.
                self.world.struck("revived", f"sync->m{target.number}", path.name)
                self.changed(target, path)
            else:
                del target.disk.contents[path]

    def _conflict(self, target: Replica, change: _Change, mine: Version) -> None:
        """The later content wins everywhere; where it replaces the other one, that is kept beside it."""
        path = change.path
        held = target.disk.contents.get(path)
        merged = tuple(map(max, mine, change.version))
        if held == change.data or target.stamps[path] >= change.stamp:
            target.versions[path] = merged
            target.stamps[path] = max(target.stamps[path], change.stamp)
            return
        self.world.struck("conflict", f"sync->m{target.number}", path.name)
        self._put(target, change, merged)
        if held is not None:
            if self.world.chance(self.weather.silent):
                self.world.struck("silent", f"sync->m{target.number}", path.name)
            else:
                self._keep_copy(target, path, held)

    def _keep_copy(self, target: Replica, path: Path, data: bytes) -> None:
        self._copies += 1
        name = self.weather.conflict_name.format(stem=path.stem, suffix=path.suffix, number=self._copies + 1)
        copy = path.with_name(name)
        target.disk.contents[copy] = data
        self.changed(target, copy)

    def agree(self) -> bool:
        """Whether all copies of machines that are still there are the same."""
        trees = [
            {path: data for path, data in replica.disk.contents.below(self.root).items() if not path.endswith(".tmp")}
            for replica in self.replicas
            if replica.reachable_at() < float("inf")
        ]
        return all(tree == trees[0] for tree in trees)


def _covers(one: Version, other: Version) -> bool:
    return all(map(operator.ge, one, other))

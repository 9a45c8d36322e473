"""Which peers are presumed dead, judged by this process's own clock alone.

A peer is as old as the time for which we watched it not change. Pure: observations and monotonic seconds in, ages out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

MIN_UNCHANGED_POLLS = 10
# A poll this many times later than due means that we slept or were stopped.
GAP_FACTOR = 3.0


@dataclass(frozen=True, slots=True)
class Timing:
    """The waiting times of a kind of folder, in seconds. ``syncs``: copies of it meet later, and its locks exclude nobody."""

    beat: float
    poll: float
    settle: float
    dead: float
    syncs: bool = False
    scale: float = 1.0

    def scaled(self, scale: float) -> Timing:
        """All times by one factor: how tests and demonstrations run in seconds."""
        return replace(
            self,
            beat=self.beat * scale,
            poll=self.poll * scale,
            settle=self.settle * scale,
            dead=self.dead * scale,
            scale=self.scale * scale,
        )


LOCAL_DISK = Timing(beat=5.0, poll=2.0, settle=0.0, dead=60.0)
NETWORK_SHARE = Timing(beat=5.0, poll=2.0, settle=3.0, dead=60.0)
SYNC_FOLDER = Timing(beat=30.0, poll=15.0, settle=60.0, dead=900.0, syncs=True)


@dataclass(slots=True)
class _Watched:
    sign: tuple[int, int]
    age: float = 0.0
    unchanged: int = 0


@dataclass(slots=True)
class Watch:
    """Ages of peers. Our own sleep makes nobody older: a poll adds at most two poll intervals."""

    timing: Timing
    last_poll: float | None = None
    settled_at: float = 0.0
    _peers: dict[str, _Watched] = field(default_factory=dict)

    def poll(self, now: float, signs: Mapping[str, tuple[int, int]]) -> None:
        """Look at every peer's (journal length, beat number)."""
        elapsed = 0.0 if self.last_poll is None else now - self.last_poll
        if self._overdue(now):
            self.settled_at = now + self.timing.settle
        self.last_poll = now
        for peer, sign in signs.items():
            watched = self._peers.get(peer)
            if watched is None or watched.sign != sign:
                self._peers[peer] = _Watched(sign)
            else:
                watched.age += min(elapsed, 2 * self.timing.poll)
                watched.unchanged += 1
        for peer in self._peers.keys() - signs.keys():
            del self._peers[peer]

    def settled(self, now: float) -> bool:
        """Whether the folder has had its settle time since we last slept."""
        return now >= self.settled_at and not self._overdue(now)

    def _overdue(self, now: float) -> bool:
        return self.last_poll is not None and now - self.last_poll > GAP_FACTOR * self.timing.poll

    def age(self, peer: str) -> float:
        """Seconds for which the peer was watched without a change."""
        watched = self._peers.get(peer)
        return 0.0 if watched is None else watched.age

    def presumed_dead(self) -> frozenset[str]:
        """Peers that were silent for too long."""
        return frozenset(
            peer for peer, w in self._peers.items() if w.age >= self.timing.dead and w.unchanged >= MIN_UNCHANGED_POLLS
        )

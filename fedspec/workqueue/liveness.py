"""Which peers are presumed dead, judged by this process's own clock alone.

A peer is as old as the time for which we watched it not change. Pure: observations and monotonic seconds in, ages out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

MIN_UNCHANGED_POLLS = 10
# A poll this many times later than due means that we slept or were stopped.
GAP_FACTOR = 3.0
MAX_SAMPLES = 256
# How much longer than news takes a claim waits for rivals, and a silent machine is believed to live; and where that ends.
SETTLE_LAGS, LONGEST_SETTLE_S = 1.5, 600.0
DEAD_LAGS, LONGEST_DEAD_S = 6.0, 3600.0


@dataclass(frozen=True, slots=True)
class Timing:
    """The waiting times of a kind of folder, in seconds.

    ``syncs``: copies of it meet later. ``locks``: a lock in it is believed to exclude other machines.
    """

    beat: float
    poll: float
    settle: float
    dead: float
    syncs: bool = False
    locks: bool = True
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

    def with_lag(self, lag: Lag) -> Timing:
        """Times for a folder that has been seen to take so long; never shorter, and never so long that nobody takes over."""
        if not self.syncs or not lag.samples:
            return self
        return self.at_least(SETTLE_LAGS * lag.quantile(0.95), DEAD_LAGS * lag.quantile(0.99))

    def at_least(self, settle_s: float, dead_s: float) -> Timing:
        """The same, with longer waits where the folder asks for them, up to `LONGEST_SETTLE_S` and `LONGEST_DEAD_S`."""
        settle = max(self.settle, min(settle_s, LONGEST_SETTLE_S * self.scale))
        dead = max(self.dead, min(dead_s, LONGEST_DEAD_S * self.scale))
        return replace(self, settle=settle, dead=dead)


@dataclass(slots=True)
class Lag:
    """How long the folder takes, measured without clocks: from a record of mine until I read a peer's word that it has it.

    ``samples``: the latest ones, in seconds.
    """

    samples: list[float] = field(default_factory=list)
    _sent: list[tuple[int, float]] = field(default_factory=list)
    _counted: dict[str, int] = field(default_factory=dict)

    def wrote(self, seq: int, now: float) -> None:
        """My record ``seq`` was written now."""
        self._sent = [*self._sent[1 - MAX_SAMPLES :], (seq, now)]

    def acknowledged(self, peer: str, count: int, now: float) -> None:
        """The peer has been found to have read ``count`` of my records."""
        before = self._counted.get(peer, -1)
        fresh = [now - then for seq, then in self._sent if before <= seq < count]
        if count > before:
            self._counted[peer] = count
        # Of a peer that was new or away for long, what it missed meanwhile says nothing of the folder.
        if before >= 0 and fresh:
            self.samples = [*self.samples, *fresh][-MAX_SAMPLES:]

    def forget(self, peer: str) -> None:
        """The peer was away: what it acknowledges next is no measure."""
        self._counted.pop(peer, None)

    def quantile(self, share: float) -> float:
        """The lag that this share of the samples does not exceed."""
        ordered = sorted(self.samples)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0


LOCAL_DISK = Timing(beat=5.0, poll=2.0, settle=0.0, dead=60.0)
NETWORK_SHARE = Timing(beat=5.0, poll=2.0, settle=3.0, dead=60.0)
SYNC_FOLDER = Timing(beat=30.0, poll=15.0, settle=60.0, dead=900.0, syncs=True, locks=False)


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

    def sign(self, peer: str) -> tuple[int, int] | None:
        """What was last seen of the peer, None if it is not watched."""
        watched = self._peers.get(peer)
        return None if watched is None else watched.sign

    def presumed_dead(self) -> frozenset[str]:
        """Peers that were silent for too long."""
        return frozenset(
            peer for peer, w in self._peers.items() if w.age >= self.timing.dead and w.unchanged >= MIN_UNCHANGED_POLLS
        )

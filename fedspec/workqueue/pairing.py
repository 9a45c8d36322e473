"""How two machines find out, through a folder alone, whether its locks exclude them and how long news takes.

Pure: what the other side has said and this side's own clock in, what to say and which lock to touch out. Reading, writing and
locking are `encounter`'s. Nothing here compares two clocks, but for the difference that people are shown.

Each machine writes one file, with a word for every other. A round trip is the time from a ``ping`` until the peer's ``pong``
names it. For locks there is a trial in each direction, with a lock of its own: the holder takes it and says ``held``; the taker
tries it, says ``refused`` or ``got``, and only when the holder has read that does it let go and say ``released``; a taker that
was refused must get it now. So whatever the folder's delay, the lock was held for as long as the first try lasted: who "got" it
then proves that it excludes nobody, and who cannot even get it afterwards has no lock at all.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import Enum
from typing import Annotated, Literal

import msgspec

# Round trips that make a good distribution; where news takes long, fewer must do after a while.
ENOUGH_TRIPS = 20
FEWER_TRIPS, FEWER_AFTER_S = 5, 120.0
ONE_TRIP_AFTER_S = 600.0
# How long a lock is tried while the other says that it holds it, and for how many of its words; how long once it is free.
TRY_S, TRY_WORDS = 2.0, 2
FREE_S = 20.0
# A peer that says nothing new for so long, or for so many of its longest round trips, has gone.
SILENT_S, SILENT_TRIPS = 60.0, 10
MAX_PEERS, MAX_NAME = 64, 40

Id = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{8}$")]
Session = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{6}$")]
Count = Annotated[int, msgspec.Meta(ge=0)]
Hold = Literal["", "held", "released", "broken"]
Take = Literal["", "got", "refused", "freed", "stuck", "broken"]


class Word(msgspec.Struct, frozen=True, kw_only=True):
    """What one machine says to one other.

    Attributes:
        session: the other's session that it means; a word to an earlier process is none.
        ping: number of the open question; ``pong`` the other's that it has read last, and ``at`` its own wall time then.
        hold: how far it is with the lock that it holds; ``take`` with the one that the other holds.
    """

    session: Session
    ping: Count = 1
    pong: Count = 0
    at: str = ""
    hold: Hold = ""
    take: Take = ""


class Side(msgspec.Struct, frozen=True, kw_only=True):
    """A machine's file: ``n`` counts its writes, ``words`` are by machine, ``done`` says that it has found out all it wants."""

    v: Literal[1] = 1
    machine: Id
    session: Session
    name: str
    n: Count
    wall: str
    done: bool = False
    words: Annotated[dict[Id, Word], msgspec.Meta(max_length=MAX_PEERS)] = {}


class LagSpread(msgspec.Struct, frozen=True, kw_only=True):
    """Seconds from a write until the answer to it is read: there and back, and both sides' polling."""

    median: float
    p95: float
    p99: float
    max: float
    samples: int


class Do(Enum):
    """What to do with a lock now."""

    NOTHING = "nothing"
    HOLD = "hold"
    RELEASE = "release"
    TRY = "try"


@dataclass(frozen=True, slots=True)
class Apart:
    """How far the peer's wall clock is ahead of ours, give or take ``error_s``. For people only."""

    seconds: float
    error_s: float


@dataclass(frozen=True, slots=True)
class Pair:
    """What this machine knows of one other, and says to it. Times are this machine's monotonic seconds.

    Attributes:
        word: what we say; ``theirs`` what it last said to us, None before it has heard of this process.
        n: the peer's last counter, read at ``news_at``.
        met_at: when it first spoke to this process, which no file from before can do.
        lags: seconds of each round trip.
        since, since_n: when its lock began to be tried, and its counter then.
    """

    machine: str
    session: str
    name: str
    word: Word
    n: int
    news_at: float
    pinged_at: float
    pinged_wall: datetime
    theirs: Word | None = None
    done: bool = False
    met_at: float | None = None
    lags: tuple[float, ...] = ()
    apart: Apart | None = None
    since: float | None = None
    since_n: int = 0

    @property
    def excludes(self) -> bool | None:
        """Whether locks exclude, in both directions; None while that is open."""
        if self.theirs is None:
            return None
        trials = (verdict(self.word.hold, self.theirs.take), verdict(self.theirs.hold, self.word.take))
        return None if None in trials else all(trials)


def begin(side: Side, now: float, wall: datetime) -> Pair:
    """A file of another machine has turned up; whether anybody is behind it will show."""
    name = "".join(letter for letter in side.name if letter.isprintable())[:MAX_NAME].strip() or side.machine
    return Pair(side.machine, side.session, name, Word(session=side.session), side.n, now, now, wall)


def hear(pair: Pair, side: Side, me: str, session: str, now: float, wall: datetime, timestamp: str) -> Pair:
    """Take in what the peer's file says. ``wall`` and ``timestamp`` are our wall clock, as a value and as text."""
    if side.n < pair.n:
        return pair  # a sync client may bring an older version back
    if side.n > pair.n:
        pair = replace(pair, n=side.n, news_at=now)
    word = side.words.get(me)
    if word is None or word.session != session:
        return pair
    pair = replace(pair, theirs=word, done=side.done, met_at=now if pair.met_at is None else pair.met_at)
    if word.ping > pair.word.pong:
        pair = replace(pair, word=msgspec.structs.replace(pair.word, pong=word.ping, at=timestamp))
    if word.pong == pair.word.ping:
        pair = replace(
            pair,
            lags=(*pair.lags, now - pair.pinged_at),
            apart=closer(pair.apart, _apart(word.at, pair.pinged_wall, wall)),
            word=msgspec.structs.replace(pair.word, ping=pair.word.ping + 1),
            pinged_at=now,
            pinged_wall=wall,
        )
    return pair


def verdict(hold: Hold, take: Take) -> bool | None:
    """Whether the lock excluded, by what its holder and its taker say; None while that is open."""
    if "broken" in (hold, take) or take == "stuck":
        return False
    if take == "freed":
        return True
    # Only a holder that lets go *after* it has read this was alive, and held it, at that time.
    return False if take == "got" and hold == "released" else None


def own_lock(pair: Pair) -> Do:
    """What to do with the lock that we hold and the peer tries."""
    if pair.theirs is None:
        return Do.NOTHING
    if pair.word.hold == "":
        return Do.HOLD
    answered = pair.theirs.take in ("got", "refused", "broken")
    return Do.RELEASE if pair.word.hold == "held" and answered else Do.NOTHING


def their_lock(pair: Pair) -> Do:
    """What to do with the lock that the peer holds."""
    if pair.theirs is None:
        return Do.NOTHING
    due = (pair.theirs.hold, pair.word.take) in (("held", ""), ("released", "refused"))
    return Do.TRY if due else Do.NOTHING


def held(pair: Pair, ok: bool) -> Pair:
    """We tried to take our own lock. It is new and nobody else knows of it yet: without it the folder has no locks."""
    return replace(pair, word=msgspec.structs.replace(pair.word, hold="held" if ok else "broken"))


def released(pair: Pair) -> Pair:
    """We let our own lock go."""
    return replace(pair, word=msgspec.structs.replace(pair.word, hold="released"))


def tried(pair: Pair, got: bool | None, now: float, scale: float) -> Pair:
    """We tried the peer's lock, and let go at once if we got it. ``got`` is None where the folder has no locks at all."""
    first = pair.word.take == ""
    if got is None:
        return _judged(pair, "broken")
    if got:
        return _judged(pair, "got" if first else "freed")
    if pair.since is None:
        return replace(pair, since=now, since_n=pair.n)
    waited, lives = now - pair.since, pair.n - pair.since_n >= TRY_WORDS
    if first:
        return _judged(pair, "refused") if waited >= TRY_S * scale and lives else pair
    return _judged(pair, "stuck") if waited >= FREE_S * scale else pair


def complete(pair: Pair, now: float, scale: float) -> bool:
    """Whether there is nothing more to find out about this peer."""
    if pair.excludes is None or pair.met_at is None:
        return False
    trips, time = len(pair.lags), now - pair.met_at
    fewer = trips >= FEWER_TRIPS and time >= FEWER_AFTER_S * scale
    return trips >= ENOUGH_TRIPS or fewer or (trips >= 1 and time >= ONE_TRIP_AFTER_S * scale)


def silent(pair: Pair, now: float, scale: float) -> bool:
    """Whether the peer has said nothing new for so long that it counts as gone. Judged by our clock alone."""
    return now - pair.news_at >= max(SILENT_S * scale, SILENT_TRIPS * max(pair.lags, default=0.0))


def lag_of(seconds: Sequence[float]) -> LagSpread | None:
    """The distribution of round trips, by the nearest rank; None if there were none."""
    if not seconds:
        return None
    ordered = sorted(seconds)

    def rank(share: float) -> float:
        return round(ordered[max(0, math.ceil(share * len(ordered)) - 1)], 3)

    return LagSpread(median=rank(0.5), p95=rank(0.95), p99=rank(0.99), max=rank(1.0), samples=len(ordered))


def slower(one: LagSpread | None, other: LagSpread | None) -> LagSpread | None:
    """Of two peers' lags the one to be prepared for."""
    known = [lag for lag in (one, other) if lag is not None]
    return max(known, key=lambda lag: (lag.p95, lag.max), default=None)


def closer(one: Apart | None, other: Apart | None) -> Apart | None:
    """Of two estimates the one that can be less wrong."""
    known = [apart for apart in (one, other) if apart is not None]
    return min(known, key=lambda apart: apart.error_s, default=None)


def _apart(at: str, asked: datetime, read: datetime) -> Apart | None:
    """The peer wrote its answer some time between our question and our reading of it."""
    try:
        answered = datetime.fromisoformat(at)
        half = (read - asked).total_seconds() / 2
        ahead = (answered - asked).total_seconds() - half
    except (ValueError, TypeError, OverflowError):  # garbage, or a time without a zone
        return None
    return Apart(round(ahead, 3), round(abs(half), 3))


def _judged(pair: Pair, take: Take) -> Pair:
    return replace(pair, word=msgspec.structs.replace(pair.word, take=take), since=None)

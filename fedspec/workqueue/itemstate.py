"""What was journalled about one item: its attempts, saved rounds, results, and what people want of it. Pure.

What needs to know of workers too (who is gone, who owns the item) is for `fold`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeVar

from fedspec.workqueue.records import Ckpt, Claim, Ctl, Done, Fail, Meet, Record, Seal, Start, Yield, encode

# An attempt's number is one above the highest that its writer knew. Whatever is this far above the number of attempts known
# here is nobody's next one: it neither counts nor uses the numbers up, or one odd record would stop an item for good.
LEAP = 1_000_000
MAX_PRIORITY = 1000

Key = tuple[int, str]
R = TypeVar("R", bound=Record)


@dataclass(slots=True)
class Attempted:
    """One worker's attempt at an item, as far as its journal tells."""

    claim: Claim | None = None
    start: Start | None = None
    saved: int = 0
    ended: Yield | Fail | None = None

    @property
    def claimed_at(self) -> str:
        """The claimant's wall clock, "" if the claim is not there."""
        return self.claim.wall if self.claim is not None else ""


@dataclass(slots=True)
class ItemState:
    """All that was journalled about one item."""

    attempts: dict[Key, Attempted] = field(default_factory=dict)
    generations: dict[tuple[int, int, str, str], Ckpt] = field(default_factory=dict)
    done: dict[Key, Done] = field(default_factory=dict)
    seals: dict[tuple[int, str, int], Seal] = field(default_factory=dict)
    disputed: dict[str, Done | Seal] = field(default_factory=dict)  # by line, in the names of cloned workers: see `dispute`
    releases: set[int] = field(default_factory=set)
    retries: set[int] = field(default_factory=set)
    meets: dict[Key, Meet] = field(default_factory=dict)
    losses: set[tuple[Key, str]] = field(default_factory=set)  # (the member's claim, whoever says that it is lost)
    cancel: tuple[int, bool, str, str] = (-1, False, "", "")
    priority: tuple[int, str, int] = (-1, "", 0)

    @property
    def sealed(self) -> Done | None:
        """The result that every machine has acknowledged. If two seals conflict, the lowest (lam, worker) counts."""
        if self.disputed:
            return self._sealed_of_disputed()
        for _, seal in sorted(self.seals.items()):
            if (done := self.done.get((seal.attempt, seal.author))) is not None:
                return done
        return None

    def _sealed_of_disputed(self) -> Done | None:
        """The same where two processes wrote as one worker: what was sealed before others knew stays sealed."""
        told = [(line, record) for line, record in sorted(self.disputed.items()) if isinstance(record, Seal)]
        seals = [*(("", seal) for seal in self.seals.values()), *told]
        results = [(line, record) for line, record in sorted(self.disputed.items()) if isinstance(record, Done)]
        for _, seal in sorted(seals, key=lambda told: (told[1].lam, told[1].worker, told[1].seq, told[0])):
            key = (seal.attempt, seal.author)
            rivals = {line: done for line, done in results if done.key == key}
            # A seal of an old version does not say which line it means.
            meant = rivals.get(seal.line) or self.done.get(key) or (None if seal.line else next(iter(rivals.values()), None))
            if meant is not None:
                return meant
        return None

    @property
    def has_result(self) -> bool:
        """Whether there is a result."""
        return bool(self.done) or (bool(self.disputed) and self.sealed is not None)

    def results(self) -> list[Done]:
        """All that ever counted, or may."""
        return [*self.done.values(), *(record for record in self.disputed.values() if isinstance(record, Done))]

    @property
    def cancelled(self) -> bool:
        """Whether the last word of a person is cancel."""
        return self.cancel[1]

    @property
    def limit(self) -> int:
        """The highest attempt number that counts: a function of the set of records, which grows with it."""
        return LEAP + len(self.attempts)

    @property
    def released(self) -> int:
        """Attempts up to this one have been taken from their workers by hand."""
        return max(filter(self._is_meant, self.releases), default=0)

    @property
    def retried(self) -> int:
        """Failures of attempts up to this one are forgiven."""
        return max(filter(self._is_meant, self.retries), default=0)

    def _is_meant(self, attempt: int) -> bool:
        """Whether a person may have spoken of that attempt: a word about one far ahead must not meet whoever gets there."""
        return attempt <= LEAP or any(attempt == made for made, _ in self.attempts)

    def counted(self) -> list[Key]:
        """The attempts that count, oldest first."""
        limit = self.limit
        return sorted(key for key in self.attempts if key[0] <= limit)

    def last_attempt(self) -> int:
        """The highest attempt number in use, 0 if nobody ever claimed the item."""
        return max((attempt for attempt, _ in self.attempts if attempt <= self.limit), default=0)

    def next_attempt(self) -> int:
        """The number of the next claim: above all in use, and above those that a person has spoken of."""
        return max(self.last_attempt(), self.released, self.retried) + 1

    def failures(self, fault: str) -> list[Fail]:
        """Failed attempts of one kind since the last retry, oldest first."""
        failed = [(key, a.ended) for key, a in self.attempts.items() if isinstance(a.ended, Fail) and a.ended.fault == fault]
        if not failed:
            return []  # as nearly always
        retried, limit = self.retried, self.limit
        return [end for key, end in sorted(failed, key=lambda pair: pair[0]) if retried < key[0] <= limit]

    @property
    def advanced(self) -> int:
        """The last attempt that saved a round, 0 if none did."""
        limit = self.limit
        return max((key[0] for key, attempted in self.attempts.items() if attempted.saved and key[0] <= limit), default=0)

    def setbacks(self) -> list[Fail]:
        """Transient failures since the last retry and the last attempt that saved a round, its own among them."""
        advanced = self.advanced
        return [fail for fail in self.failures("transient") if fail.attempt >= advanced]

    def take(self, record: Claim | Start | Ckpt | Yield | Fail | Done | Meet) -> None:
        """Take in what a worker says of its attempt."""
        key = record.key
        attempted = self.attempts.get(key)
        if attempted is None:
            attempted = self.attempts[key] = Attempted()
        match record:
            case Ckpt():
                attempted.saved = max(attempted.saved, record.round)
                saved = (record.round, record.attempt, record.worker, record.sha256)
                self.generations[saved] = later(self.generations.get(saved), record)
            case Claim():
                attempted.claim = later(attempted.claim, record)
            case Start():
                attempted.start = later(attempted.start, record)
            case Done():
                self.done[key] = later(self.done.get(key), record)
            case Meet():
                self.meets[key] = later(self.meets.get(key), record)
            case Yield() | Fail():
                attempted.ended = later(attempted.ended, record)

    def dispute(self, line: str, record: Done | Seal | Ckpt) -> None:
        """Take in what was written in the name of a worker that was cloned, where its history has ended.

        A round that is on disk can be gone on from, whoever saved it. A result counts if it was sealed, and a seal as long as
        there is that result; else the item goes to others again.
        """
        if isinstance(record, Ckpt):
            saved = (record.round, record.attempt, record.worker, record.sha256)
            known = self.generations.get(saved, record)
            self.generations[saved] = max(known, record, key=lambda ckpt: (ckpt.seq, encode(ckpt)))
        else:
            self.disputed[line] = record

    def obey(self, ctl: Ctl) -> None:
        """Take in what a person wants of the item."""
        match ctl.op:
            case "release":
                self.releases.add(ctl.attempt)
            case "retry":
                self.retries.add(ctl.attempt)
            case "cancel" | "resume":
                # At equal Lamport time cancel beats resume.
                self.cancel = max(self.cancel, (ctl.lam, ctl.op == "cancel", ctl.worker, ctl.wall))
            case "priority" if (value := _priority(ctl.value)) is not None:
                self.priority = max(self.priority, (ctl.lam, ctl.worker, value))
            case _:
                pass


def later(old: R | None, new: R) -> R:
    """Of two records of one worker that say the same thing, the later one, in whatever order they are read."""
    return new if old is None or old.seq < new.seq else old


def _priority(text: str) -> int | None:
    try:
        return max(-MAX_PRIORITY, min(MAX_PRIORITY, int(text[:8])))
    except ValueError:
        return None

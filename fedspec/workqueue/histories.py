"""Which lines of a worker form its accepted history: the hash-chained prefix from its first record. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from hashlib import sha256

import msgspec

from fedspec.workqueue.records import FIRST, Record, decode, encode, named

DIGEST_BYTES = 32


class Chain(msgspec.Struct, frozen=True, array_like=True):
    """One worker's history without its records: enough to go on from. ``early``: lines whose predecessors are not here."""

    digests: bytes
    forked: bool
    early: list[bytes]


@dataclass(slots=True)
class _Chain:
    """One worker's history: the accepted lines' records and digests, and by seq the lines whose predecessors are not here.

    The records of the first ``unkept`` lines are not here, if an earlier process has read them.
    """

    accepted: list[Record] = field(default_factory=list)
    digests: bytearray = field(default_factory=bytearray)
    early: dict[int, dict[bytes, Record]] = field(default_factory=dict)
    forked: bool = False
    length: int = 0
    unkept: int = 0
    tip: str = FIRST

    def take(self, line: bytes, record: Record) -> None:
        """Take a line in, and those that waited for it."""
        self._place(line, record)
        while self.early and not self.forked and (waiting := self.early.pop(self.length, None)):
            for later, other in waiting.items():
                self._place(later, other)

    def _place(self, line: bytes, record: Record) -> None:
        seq = record.seq
        if seq < self.length:
            # What does not continue the prefix before it never will; what does is this very line, or a rival of it.
            if record.prev == self._named(seq - 1) and sha256(line).digest() != self._digest(seq):
                self._end_before(seq)
        elif self.forked:
            pass
        elif seq > self.length:
            self.early.setdefault(seq, {})[line] = record
        elif record.prev == self.tip:
            digest = sha256(line).digest()
            self.accepted.append(record)
            self.digests += digest
            self.length += 1
            self.tip = named(digest)

    def _end_before(self, seq: int) -> None:
        del self.accepted[max(0, seq - self.unkept) :], self.digests[DIGEST_BYTES * seq :]
        self.length, self.forked = seq, True
        self.unkept = min(self.unkept, seq)

    def _digest(self, seq: int) -> bytes:
        return bytes(self.digests[DIGEST_BYTES * seq : DIGEST_BYTES * (seq + 1)])

    def _named(self, seq: int) -> str:
        return FIRST if seq < 0 else named(self._digest(seq))


class Histories:
    """The union of all lines ever read, and of each worker the hash-chained prefix from seq 0.

    The outcome is a function of the set of lines: order, duplicates and the files they came from change nothing. Two
    different lines that both continue one prefix mean that the worker was cloned; its history ends before them.
    """

    def __init__(self, chains: dict[str, Chain] | None = None) -> None:
        """``chains``: what `chains` of an earlier reader of the same journals gave; their records are not kept."""
        self._chains: dict[str, _Chain] = {}
        for worker, kept in (chains or {}).items():
            length = len(kept.digests) // DIGEST_BYTES
            chain = self._chains[worker] = _Chain(digests=bytearray(kept.digests), length=length, unkept=length)
            chain.tip, chain.forked = chain._named(length - 1), kept.forked
            self.offer(kept.early)

    def chains(self) -> dict[str, Chain]:
        """Of each worker what a later reader needs to go on."""
        return {
            worker: Chain(bytes(chain.digests), chain.forked, [line for lines in chain.early.values() for line in lines])
            for worker, chain in self._chains.items()
        }

    @property
    def is_whole(self) -> bool:
        """Whether the records of all that was ever accepted are here."""
        return not any(chain.unkept for chain in self._chains.values())

    def offer(self, lines: Iterable[bytes]) -> tuple[list[Record], bool, int]:
        """Take lines in.

        Returns:
            Newly accepted records (each worker's in order); whether a fork revoked records accepted before, so that whoever
            folds must start again from `accepted`; how many lines were damaged.
        """
        before: dict[str, int] = {}
        chains, damaged = self._chains, 0
        for line in lines:
            record = decode(line)
            if record is None:
                damaged += 1
                continue
            worker = record.worker
            chain = chains.get(worker)
            if chain is None:
                chain = chains[worker] = _Chain()
            if worker not in before:
                before[worker] = chain.length
            chain.take(line, record)
        touched = [(chains[worker], known) for worker, known in before.items()]
        fresh = [record for chain, known in touched for record in chain.accepted[max(0, known - chain.unkept) :]]
        return fresh, any(chain.length < known for chain, known in touched), damaged

    def accepted(self) -> list[Record]:
        """All accepted records that are kept."""
        return [record for chain in self._chains.values() for record in chain.accepted]

    def workers(self) -> list[str]:
        """All whose lines were read."""
        return list(self._chains)

    def lines(self, worker: str, since: int) -> list[bytes]:
        """The worker's accepted lines from seq ``since`` on, as far as they can be written from their records."""
        chain, lines = self._chains.get(worker, _Chain()), list[bytes]()
        for record in chain.accepted[max(0, since - chain.unkept) :]:
            try:
                line = encode(record)[:-1]
            except ValueError:
                break
            # Another version may know more of it than its record holds.
            if sha256(line).digest() != chain._digest(record.seq):
                break
            lines.append(line)
        return lines

    def length(self, worker: str) -> int:
        """How many records of the worker are accepted."""
        chain = self._chains.get(worker)
        return 0 if chain is None else chain.length

    def gaps(self) -> set[str]:
        """Workers of whom lines are here without their predecessors."""
        return {worker for worker, chain in self._chains.items() if chain.early and not chain.forked}

    def forked(self) -> frozenset[str]:
        """Workers that were cloned."""
        return frozenset(worker for worker, chain in self._chains.items() if chain.forked)

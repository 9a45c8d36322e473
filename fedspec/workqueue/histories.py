"""Which lines of a worker form its accepted history: the hash-chained prefix from its first record. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from hashlib import sha256

import msgspec

from fedspec.workqueue.records import FIRST, Ckpt, Done, Fork, Record, Seal, decode, encode, named

DIGEST_BYTES = 32
# Lines whose predecessors are not here are kept while they take so many bytes of one worker and in all, with what Python needs
# for each. More of them are refused, and come again when their file is read again.
MAX_EARLY_BYTES, MAX_EARLY_BYTES_IN_ALL, OVERHEAD_BYTES = 8 << 20, 64 << 20, 1000


class Chain(msgspec.Struct, frozen=True, array_like=True):
    """One worker's history without its records: enough to go on from. ``early``: lines whose predecessors are not here;
    ``beside``: digests and lines of what is told where a fork is found."""

    digests: bytes
    forked: bool
    early: list[bytes]
    beside: list[tuple[bytes, bytes]] = []


@dataclass(slots=True)
class _Room:
    """What early lines take in all, and how many there was no room for."""

    taken: int = 0
    refused: int = 0


@dataclass(slots=True)
class _Chain:
    """One worker's history: the accepted lines' records and digests, and by seq the lines whose predecessors are not here.

    The records of the first ``unkept`` lines are not here, if an earlier process has read them. ``beside``: by digest, the
    results, seals and saved rounds that are in its name and not accepted; ``untold``: where the worker was cloned, those that
    readers do not know of yet, None if they know all.
    """

    room: _Room
    accepted: list[Record] = field(default_factory=list)
    digests: bytearray = field(default_factory=bytearray)
    early: dict[int, dict[bytes, Record]] = field(default_factory=dict)
    beside: dict[bytes, Done | Seal | Ckpt] = field(default_factory=dict)
    untold: list[tuple[bytes, Done | Seal | Ckpt]] | None = None
    forked: bool = False
    length: int = 0
    unkept: int = 0
    tip: str = FIRST
    taken: int = 0

    def take(self, line: bytes, record: Record) -> None:
        """Take a line in, and those that waited for it."""
        self._place(line, record)
        while self.early and (waiting := self.early.pop(self.length, None)):
            self._make_room(waiting)
            for later, other in waiting.items():
                self._place(later, other)

    def _place(self, line: bytes, record: Record) -> None:
        seq = record.seq
        if seq < self.length:
            # What does not continue the prefix before it never will; what does is this very line, or a rival of it.
            if record.prev != self._named(seq - 1):
                self._set_aside(sha256(line).digest(), record, line)
            elif (digest := sha256(line).digest()) != self._digest(seq):
                self._end_before(seq)
                self._set_aside(digest, record, line)
        elif self.forked:
            self._set_aside(sha256(line).digest(), record, line)
        elif seq > self.length:
            self._keep(line, record)
        elif record.prev == self.tip:
            digest = sha256(line).digest()
            self.accepted.append(record)
            self.digests += digest
            self.length += 1
            self.tip = named(digest)
        else:
            self._set_aside(sha256(line).digest(), record, line)

    def _set_aside(self, digest: bytes, record: Record, line: bytes = b"") -> None:
        """Keep what may have been sealed. What was accepted before is here anyway; of others, ``line``, there is a limit."""
        if not isinstance(record, Done | Seal | Ckpt) or digest in self.beside or not self._has_room(line):
            return
        self.beside[digest] = record
        if self.forked:
            self.untold = self.untold or []
            self.untold.append((digest, record))

    def _keep(self, line: bytes, record: Record) -> None:
        if line not in self.early.get(record.seq, ()) and self._has_room(line):
            self.early.setdefault(record.seq, {})[line] = record

    def _has_room(self, line: bytes) -> bool:
        """Whether one more line may be kept; if so, its room is taken."""
        cost = _cost(line)
        if line and (self.taken + cost > MAX_EARLY_BYTES or self.room.taken + cost > MAX_EARLY_BYTES_IN_ALL):
            self.room.refused += 1
            return False
        self.taken += cost
        self.room.taken += cost
        return True

    def _make_room(self, lines: Iterable[bytes]) -> None:
        cost = sum(map(_cost, lines))
        self.taken -= cost
        self.room.taken -= cost

    def _end_before(self, seq: int) -> None:
        first = max(seq, self.unkept)
        for number, record in enumerate(self.accepted[first - self.unkept :], first):
            self._set_aside(self._digest(number), record)
        for lines in self.early.values():
            self._make_room(lines)
            for line, record in lines.items():
                self._set_aside(sha256(line).digest(), record, line)
        self.early.clear()
        self.untold = list(self.beside.items())
        del self.accepted[max(0, seq - self.unkept) :], self.digests[DIGEST_BYTES * seq :]
        self.length, self.forked = seq, True
        self.unkept = min(self.unkept, seq)

    def _digest(self, seq: int) -> bytes:
        return bytes(self.digests[DIGEST_BYTES * seq : DIGEST_BYTES * (seq + 1)])

    def _named(self, seq: int) -> str:
        return FIRST if seq < 0 else named(self._digest(seq))


def _cost(line: bytes) -> int:
    return 2 * len(line) + OVERHEAD_BYTES  # as bytes, and as a record


class Histories:
    """The union of all lines ever read, and of each worker the hash-chained prefix from seq 0.

    The outcome is a function of the set of lines: order, duplicates and the files they came from change nothing. Two
    different lines that both continue one prefix mean that the worker was cloned; its history ends before them. What else was
    written in its name may yet be needed: a result may have been sealed before the fork was known.
    Only of lines without their predecessors there may be more than are kept: what is `refused` must be offered again.
    """

    def __init__(self, chains: dict[str, Chain] | None = None) -> None:
        """``chains``: what `chains` of an earlier reader of the same journals gave; their records are not kept."""
        self._chains: dict[str, _Chain] = {}
        self._room = _Room()
        for worker, kept in (chains or {}).items():
            length = len(kept.digests) // DIGEST_BYTES
            chain = self._chains[worker] = _Chain(self._room, digests=bytearray(kept.digests), length=length, unkept=length)
            chain.tip, chain.forked = chain._named(length - 1), kept.forked
            chain.beside = {digest: decode(line) for digest, line in kept.beside}  # type: ignore[misc]
            self.offer(kept.early)

    def chains(self) -> dict[str, Chain]:
        """Of each worker what a later reader needs to go on."""
        return {
            worker: Chain(
                bytes(chain.digests),
                chain.forked,
                [line for lines in chain.early.values() for line in lines],
                [(digest, encode(record)[:-1]) for digest, record in chain.beside.items()],
            )
            for worker, chain in self._chains.items()
        }

    @property
    def is_whole(self) -> bool:
        """Whether the records of all that was ever accepted are here."""
        return not any(chain.unkept for chain in self._chains.values())

    def offer(self, lines: Iterable[bytes]) -> tuple[list[Record], bool, int]:
        """Take lines in.

        Returns:
            Newly accepted records (each worker's in order) and what was found out of forks; whether a fork revoked records
            accepted before, so that whoever folds must start again from `records`; how many lines were damaged.
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
                chain = chains[worker] = _Chain(self._room)
            if worker not in before:
                before[worker] = chain.length
            chain.take(line, record)
        touched = [(chains[worker], known) for worker, known in before.items()]
        fresh = [record for chain, known in touched for record in chain.accepted[max(0, known - chain.unkept) :]]
        for worker in before:
            chain = chains[worker]
            if chain.untold is not None:
                fresh.append(_found(worker, chain, chain.untold))
                chain.untold = None
        return fresh, any(chain.length < known for chain, known in touched), damaged

    def records(self) -> list[Record]:
        """`accepted`, and all that was found out of forks: what the state follows from."""
        forked = ((worker, chain) for worker, chain in self._chains.items() if chain.forked)
        return [*self.accepted(), *(_found(worker, chain, chain.beside.items()) for worker, chain in forked)]

    def name_of(self, worker: str, seq: int) -> str:
        """The `line_hash` of an accepted line."""
        return self._chains[worker]._named(seq)

    def accepted(self) -> list[Record]:
        """All accepted records that are kept."""
        return [record for chain in self._chains.values() for record in chain.accepted]

    def workers(self) -> list[str]:
        """All whose lines were read."""
        return list(self._chains)

    def lines(self, worker: str, since: int) -> list[bytes]:
        """The worker's accepted lines from seq ``since`` on, as far as they can be written from their records."""
        chain, lines = self._chains.get(worker, _Chain(self._room)), list[bytes]()
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
        return {worker for worker, chain in self._chains.items() if chain.early}

    @property
    def refused(self) -> int:
        """How many lines were left out so far, since too many are here without their predecessors."""
        return self._room.refused

    def forked(self) -> frozenset[str]:
        """Workers that were cloned."""
        return frozenset(worker for worker, chain in self._chains.items() if chain.forked)


def _found(worker: str, chain: _Chain, told: Iterable[tuple[bytes, Done | Seal | Ckpt]]) -> Fork:
    disputed = tuple((named(digest), record) for digest, record in told if record.seq >= chain.length)
    lam = max((record.lam for _, record in disputed), default=0)
    return Fork(worker=worker, seq=chain.length - 1, lam=lam, prev="", wall="", disputed=disputed)

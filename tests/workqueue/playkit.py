"""A small protocol, played at random by workers that read each other late: histories for laws to hold of."""

from __future__ import annotations

import itertools
from typing import Any

from hypothesis import strategies as st
from queuekit import Author, item, table

from fedspec.workqueue.fold import Fold
from fedspec.workqueue.records import (
    Bye,
    Ckpt,
    Claim,
    Ctl,
    Done,
    Fail,
    Hello,
    Record,
    Seal,
    Start,
    Yield,
    pack_rows,
)
from fedspec.workqueue.rules import gate

ITEMS = [item(seed) for seed in (42, 43, 44)]
MACHINES = ("aaaaaaaa", "bbbbbbbb", "cccccccc")
ROWS = pack_rows(table())
FAULTS = ("transient", "code", "final", "capability")
ITEM_OPS = ("release", "retry", "cancel", "resume", "priority")
MACHINE_OPS = ("pause", "drain", "resume", "retire")


class Player:
    """One machine: its present worker, what that has read of the others, and what it is at."""

    def __init__(self, machine: str) -> None:
        self.machine = machine
        self.processes = itertools.count(1)
        self.dead: dict[str, int] = {}
        self.authors: list[Author] = []
        self.come()

    def come(self) -> None:
        """The next process: it closes the ones that died."""
        self.author = Author(f"{self.machine}-{next(self.processes):06x}")
        self.authors.append(self.author)
        self.fold = Fold(record for author in self.authors for record in author.records)
        self.read: dict[str, int] = {author.worker: len(author.records) for author in self.authors}
        self.held: tuple[str, int] | None = None
        self.round = 0
        self.write(Hello, machine=self.machine, name=self.machine[0], capabilities=["cpu"], closes=self.dead)

    def write(self, kind: type[Record], **fields: Any) -> None:
        self.fold.add(self.author.write(kind, lam=self.fold.lam + 1, **fields))
        self.read[self.author.worker] = len(self.author.records)

    def go(self, bye: bool) -> None:
        if bye:
            self.write(Bye)
        else:
            self.dead = {**self.dead, self.author.worker: len(self.author.records) - 1}
        self.come()

    def take_in(self, other: Author, count: int) -> None:
        at = self.read.get(other.worker, 0)
        for record in other.records[at : at + count]:
            self.fold.add(record)
        self.read[other.worker] = max(at, min(len(other.records), at + count))

    def claim(self, item_id: str) -> None:
        if self.held is None and self.fold.status(item_id) in ("pending", "running"):
            self.held = item_id, self.fold.item(item_id).last_attempt() + 1
            self.write(Claim, item=self.held[0], attempt=self.held[1])
            self.round = max((ckpt.round for ckpt in self.fold.generations(item_id)), default=0)
            self.write(Start, item=self.held[0], attempt=self.held[1], round=self.round, base="b")

    def work(self, kind: type[Record], **fields: Any) -> None:
        """Something about the held item, behind the gate; it is dropped by everything but a saved round."""
        if self.held is None:
            return
        item_id, attempt = self.held
        if gate(self.fold, item_id, (attempt, self.author.worker)) is not None:
            kind, fields = Yield, {"reason": "taken over"}
        if kind is Ckpt:
            self.round += 1
            fields = {"round": self.round, "file": f"r{self.round}", "sha256": self.author.worker, "base": "b"}
        self.write(kind, item=item_id, attempt=attempt, **fields)
        if kind is not Ckpt:
            self.held = None

    def seal(self, item_id: str) -> None:
        if (done := self.fold.canonical(item_id)) is not None:
            self.write(Seal, item=item_id, attempt=done.attempt, author=done.worker)

    def order(self, op: int, item_id: str, value: int) -> None:
        if op < len(ITEM_OPS):
            attempt = self.fold.item(item_id).last_attempt()
            self.write(Ctl, op=ITEM_OPS[op], item=item_id, attempt=attempt, value=str(value))
        else:
            target = MACHINES[value - 1] if value or MACHINE_OPS[op - len(ITEM_OPS)] == "retire" else ""
            self.write(Ctl, op=MACHINE_OPS[op - len(ITEM_OPS)], value=target)


NUMBER = st.integers(0, 3)
MOVES = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 14), NUMBER, st.integers(0, 8)), min_size=12, max_size=60)


def played(moves: list[tuple[int, int, int, int]]) -> list[Author]:
    """The journals after these moves: who, what, and two numbers that say what of it."""
    players = [Player(machine) for machine in MACHINES]
    for who, what, number, more in moves:
        player, item_id = players[who], ITEMS[number % len(ITEMS)].id
        match what:
            case 0 | 1 | 2:
                others = [author for other in players if other is not player for author in other.authors]
                player.take_in(others[(number + more) % len(others)], 1 + more)
            case 3 | 4:
                player.claim(item_id)
            case 5 | 6 | 7:
                player.work(Ckpt)
            case 8:
                player.work(Done, rows=ROWS, rounds=1, accuracy=0.5)
            case 9:
                kind, fields = (Yield, {}) if more % 2 else (Fail, {"fault": FAULTS[number]})
                player.work(kind, reason="r", **fields)
            case 10 | 11:
                player.seal(item_id)
            case 12 | 13:
                player.order(more, item_id, number)
            case _:
                player.go(bye=bool(more % 2))
    return [author for player in players for author in player.authors]


HISTORIES = MOVES.map(played)


def records_in(authors: list[Author]) -> list[Record]:
    return [record for author in authors for record in author.records]


def text(lines: list[bytes]) -> bytes:
    return b"".join(line + b"\n" for line in lines)

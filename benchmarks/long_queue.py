"""A long queue as many machines would have left it: its plans, journals and heartbeats, written line by line."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from fedspec.clock import SystemClock, timestamp
from fedspec.config import FederatedConfig
from fedspec.files.kernel import SystemKernel
from fedspec.plan import Item, encoded, make_item
from fedspec.results import Row, to_table
from fedspec.workqueue.journal import SEGMENT_BYTES
from fedspec.workqueue.records import (
    FIRST,
    Bye,
    Ckpt,
    Claim,
    Done,
    Fail,
    Hello,
    Record,
    Seal,
    Start,
    encode,
    line_hash,
    pack_rows,
)
from fedspec.workqueue.store import Beat
from fedspec.workspace import Workspace

MACHINES, ROUNDS = 5, 6


@dataclass(frozen=True, slots=True)
class Size:
    """How much of everything there is; ``times``: how often each part is measured."""

    items: int
    workers: int
    times: int


class NoSync(SystemKernel):
    """A system whose disk is infinitely fast to make things last."""

    def sync(self, handle: int) -> None:
        """Nothing."""

    def sync_folder(self, path: Path) -> None:
        """Nothing."""


class Pen:
    """A worker's journal on its way into the folder, in segments as a worker would write them."""

    def __init__(self, workspace: Workspace, worker: str) -> None:
        self.workspace, self.worker = workspace, worker
        self.seq, self.prev = 0, FIRST
        self.segments = [bytearray()]

    def write(self, kind: type[Record], lam: int, **fields: Any) -> None:
        """One more record."""
        record = kind(worker=self.worker, seq=self.seq, lam=lam, prev=self.prev, wall=wall(lam), **fields)
        line = encode(record)
        if len(self.segments[-1]) + len(line) > SEGMENT_BYTES:
            self.segments.append(bytearray())
        self.segments[-1] += line
        self.seq, self.prev = self.seq + 1, line_hash(line[:-1])

    def put_down(self) -> None:
        """Write the files."""
        for number, data in enumerate(self.segments):
            self.workspace.journal(self.worker, number).write_bytes(data)


def wall(lam: int) -> str:
    """A wall clock that goes on by a second with each record."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(1_767_225_600 + lam))


def experiments(count: int) -> list[Item]:
    """That many, as a grid would make them."""
    alphas, methods = (0.1, 0.5, 1.0, 5.0), ("fedavg", "fedspec")
    return [
        make_item(
            "federated",
            FederatedConfig(seed=number // 8, alpha=alphas[number % 4], method=methods[number // 4 % 2], rounds=ROUNDS),
        )
        for number in range(count)
    ]


class Course:
    """A queue in the middle of its work: sealed, done, running, failed and pending items, and workers that came and went.

    Every twentieth item is pending, one failed, one done; one was taken over and one failed once before it was sealed; the
    others were sealed at once. Each live worker runs one besides.
    """

    def __init__(self, workspace: Workspace, size: Size) -> None:
        self.workspace, self.size = workspace, size
        self.items = experiments(size.items)
        self.lam = 0
        self.events = 0
        self.live = [Pen(workspace, f"{number % MACHINES:08x}-{number:06x}") for number in range(size.workers)]
        self.gone = [Pen(workspace, f"{n % MACHINES:08x}-{0xF00000 + n:06x}") for n in range(max(2, size.workers // 5))]
        row: dict[str, Any] = {
            "method": "fedspec", "dataset": "digits", "model": "mlp", "seed": 42, "n_clients": 10, "participating": 10,
            "local_epochs": 1, "lr": 0.02, "rank": 4, "rank_next": 4, "train_loss": 0.32, "device": "cpu",
            "worst_client_accuracy": 0.87, "torch_version": "2.13.0+cpu", "run_id": "c55158d70ad9",
        }  # fmt: skip
        self.rows = pack_rows(to_table([Row(round=r, accuracy=0.5 + r / 100, loss=1 / r, **row) for r in range(1, ROUNDS + 1)]))

    def _say(self, pen: Pen, kind: type[Record], **fields: Any) -> None:
        self.lam += 1
        self.events += 1
        pen.write(kind, self.lam, **fields)

    def write(self) -> None:
        """All files of it."""
        for folder in (self.workspace.plans, self.workspace.journals, self.workspace.beats):
            folder.mkdir(parents=True)
        for item in self.items:
            self.workspace.plan(item.id).write_bytes(encoded(item))
        for pen in (*self.gone, *self.live):
            machine = pen.worker[:8]
            self._say(pen, Hello, machine=machine, name=f"Mac {machine[-1]}", capabilities=["cpu", f"machine:{machine}"])
        for number, item in enumerate(self.items[: -self.size.workers]):
            self._work_on(item.id, number)
        for pen in self.gone:
            self._say(pen, Bye, reason="finished")
        running = {}
        for pen, item in zip(self.live, self.items[-self.size.workers :], strict=False):
            self._claim(pen, item.id, 1)
            self._save(pen, item.id, 1, range(1, 4))
            running[pen.worker] = item.id
        for pen in (*self.gone, *self.live):
            pen.put_down()
        self._beat(running)

    def _beat(self, running: dict[str, str]) -> None:
        """Everybody beats, and one of them has not read the latest results yet: each look at what can be sealed is in vain."""
        now = timestamp(SystemClock().now())
        for number, pen in enumerate(self.live):
            seen = {other.worker: 1 if number == 0 else other.seq for other in self.live}
            beat = Beat(worker=pen.worker, n=7, seq=pen.seq, running=running.get(pen.worker, ""), round=3, wall=now, seen=seen)
            self.workspace.beat(pen.worker).write_bytes(msgspec.json.encode(beat))

    def _work_on(self, item: str, number: int) -> None:
        one, other = self.live[number % len(self.live)], self.live[(number + 7) % len(self.live)]
        match number % 20:
            case 0:
                pass
            case 1:
                for attempt in (1, 2, 3):
                    self._claim(one, item, attempt)
                    self._save(one, item, attempt, range(1, ROUNDS))
                    self._say(
                        one, Fail, item=item, attempt=attempt, fault="code", reason="no such layer", traceback="..." * 200
                    )
            case 2:
                self._finish(one, item, 1, range(1, ROUNDS + 1))
            case 3:
                lost = self.gone[number % len(self.gone)]
                self._claim(lost, item, 1)
                self._save(lost, item, 1, range(1, ROUNDS - 1))
                self._finish(one, item, 2, range(ROUNDS - 1, ROUNDS + 1), sealer=other)
            case 4:
                self._claim(one, item, 1)
                self._say(one, Fail, item=item, attempt=1, fault="transient", reason="the disk was full")
                self._finish(one, item, 2, range(1, ROUNDS + 1), sealer=other)
            case _:
                self._finish(one, item, 1, range(1, ROUNDS + 1), sealer=other)

    def _claim(self, pen: Pen, item: str, attempt: int) -> None:
        self._say(pen, Claim, item=item, attempt=attempt)
        self._say(pen, Start, item=item, attempt=attempt, round=0, base="1b5d313e0753", device="cpu")

    def _save(self, pen: Pen, item: str, attempt: int, rounds: range) -> None:
        for round_ in rounds:
            sha = f"{self.lam:064x}"
            file = f"r{round_:04d}.a{attempt:02d}.{pen.worker}.{sha[-12:]}.pt"
            about: dict[str, Any] = {"item": item, "attempt": attempt, "round": round_}
            self._say(pen, Ckpt, **about, file=file, sha256=sha, base="1b5d313e0753", accuracy=0.9)

    def _finish(self, pen: Pen, item: str, attempt: int, rounds: range, sealer: Pen | None = None) -> None:
        self._claim(pen, item, attempt)
        self._save(pen, item, attempt, rounds)
        self._say(pen, Done, item=item, attempt=attempt, rows=self.rows, rounds=ROUNDS, accuracy=0.9)
        if sealer is not None:
            self._say(sealer, Seal, item=item, attempt=attempt, author=pen.worker)

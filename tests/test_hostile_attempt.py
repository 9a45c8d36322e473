"""A peer's saved rounds that are whole and of no use: the item is finished all the same, with the result it should have."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch

from fedspec.checkpoints import CheckpointManager
from fedspec.errors import FolderError
from fedspec.files import MemoryDisk, MemoryFiles
from fedspec.workqueue.liveness import LOCAL_DISK, SYNC_FOLDER, Timing
from fedspec.workqueue.records import Ckpt, Claim, Fail, Start, Yield
from tests.test_worker import SHARE, Process, check, disk, fill, item_of, killed_after, link, row

sys.path.insert(0, str(Path(__file__).parent / "workqueue"))

from queuekit import Author

__all__ = ["disk"]

ITEM = item_of()
EVIL = "0badc0de-000001"


def chain_of(rounds: int) -> str:
    chain = ""
    for number in range(1, rounds + 1):
        chain = link(ITEM, number, chain)
    return chain


def honest_rows(rounds: int) -> list[Any]:
    return [row(ITEM, number, chain_of(number)) for number in range(1, rounds + 1)]


class Peer:
    """Saves rounds whose bytes and hashes are right, on the honest base, and journals them."""

    def __init__(self, disk: MemoryDisk) -> None:
        self.files = MemoryFiles(disk)
        self.manager = CheckpointManager(SHARE.checkpoints, self.files)
        self.base = self.manager.save_base({"w": torch.full((3,), 1.0)})
        self.author = Author(EVIL)
        self.author.write(Claim, item=ITEM.id, attempt=1)
        self.author.write(Start, item=ITEM.id, attempt=1, round=0, base=self.base)

    def save(self, round_: int, state: dict[str, Any], rows: list[Any], base: str = "") -> None:
        base = base or self.base
        saved = self.manager.save(ITEM.exp, ITEM.id, round_, 1, EVIL, state, rows, base)
        about = {"file": saved.file, "sha256": saved.sha256, "base": base}
        self.author.write(Ckpt, item=ITEM.id, attempt=1, round=round_, **about)

    def publish(self) -> None:
        self.author.write(Yield, item=ITEM.id, attempt=1, reason="your turn")
        self.files.write(SHARE.journals / "evil", b"".join(line + b"\n" for line in self.author.lines))


STATES: dict[str, dict[str, Any]] = {
    "nothing": {},
    "a round that is text": {"round": "2", "chain": ""},
    "no chain": {"round": 2},
    "an earlier round": {"round": 1, "chain": chain_of(1)},
    "a later round": {"round": 3, "chain": chain_of(3)},
    "all rounds": {"round": 99, "chain": ""},
    "a round below 0": {"round": -5, "chain": ""},
}


@pytest.mark.parametrize("name", STATES)
def test_a_state_of_no_use_costs_its_round_and_not_the_item(disk: MemoryDisk, name: str):
    fill(disk, ITEM)
    peer = Peer(disk)
    peer.save(1, {"round": 1, "chain": chain_of(1)}, honest_rows(1))
    peer.save(2, STATES[name], honest_rows(2))
    peer.publish()
    process = Process(disk)
    process.work()
    check(process, ITEM)
    assert process.of(Fail) == []
    assert [start.round for start in process.of(Start) if start.worker != EVIL][-1] == 1, "an earlier round is gone on from"


def test_a_state_of_no_use_that_appears_while_we_train_is_tried_once(disk: MemoryDisk):
    fill(disk, ITEM)

    def rival(number: int, client: int) -> None:
        if number == 2 and client == 0 and SHARE.journals / "evil" not in disk.contents:
            peer = Peer(disk)
            peer.save(3, {}, honest_rows(3))
            peer.publish()

    process = Process(disk, hook=rival)
    process.work()
    check(process, ITEM)
    assert process.of(Fail) == []
    assert sum("of no use" in event for event in process.events) == 1


def test_a_thousand_saved_rounds_that_nobody_has_are_told_in_a_few_lines(disk: MemoryDisk):
    fill(disk, ITEM)
    peer = Peer(disk)
    peer.save(1, {"round": 1, "chain": chain_of(1)}, honest_rows(1))
    for number in range(1000):
        file = f"r{2 + number % 3:04d}.a01.{EVIL}.{number:012x}.pt"
        about = {"file": file, "sha256": f"{number:012x}", "base": peer.base}
        peer.author.write(Ckpt, item=ITEM.id, attempt=1, round=2 + number % 3, **about)
        peer.author.write(Ckpt, item=ITEM.id, attempt=1, round=10**9 - number, **about)
    peer.publish()
    process = Process(disk)
    process.work()
    check(process, ITEM)
    assert len(process.events) < 20


def test_a_base_of_another_kind_is_no_base(disk: MemoryDisk):
    fill(disk, ITEM)
    peer = Peer(disk)
    peer.save(2, {"round": 2, "chain": ""}, honest_rows(2), base=peer.manager.save_base({"w": "no tensor"}))  # type: ignore[dict-item]
    peer.save(1, {"round": 1, "chain": chain_of(1)}, honest_rows(1), base="../../../etc/passwd")
    peer.publish()
    process = Process(disk)
    process.work()
    check(process, ITEM)
    assert process.of(Fail) == []


# Each in the place of a saved round's file name: what no file here may be called, and numbers that no reader could count with.
NAMES = {
    "elsewhere": "../../../etc/passwd",
    "nothing": "",
    "a device": "con",
    "capitals": f"R0001.A01.{EVIL}.{'0' * 12}.PT",
    "a round without end": f"r{'0' * 4999}1.a01.{EVIL}.{'0' * 12}.pt",
    "an attempt without end": f"r0001.a{'0' * 4999}1.{EVIL}.{'0' * 12}.pt",
    "a worker without end": f"r0001.a01.{'0' * 5000}-1.{'0' * 12}.pt",
    "digits of another script": f"r٠٠٠١.a01.{EVIL}.{'0' * 12}.pt",
}
WHEN = {"before": 0, "while another item is trained": 2}


@pytest.mark.parametrize("timing", [LOCAL_DISK, SYNC_FOLDER], ids=["a disk", "a sync folder"])
@pytest.mark.parametrize("when", WHEN)
@pytest.mark.parametrize("name", NAMES)
def test_a_saved_round_whose_file_can_have_no_such_name_is_none(disk: MemoryDisk, name: str, when: str, timing: Timing):
    other = item_of(43)
    fill(disk, ITEM, other)
    peer = Peer(disk)
    peer.author.write(Ckpt, item=ITEM.id, attempt=1, round=1, file=NAMES[name], sha256="0" * 64, base=peer.base)

    def hook(number: int, client: int) -> None:
        if number == WHEN[when] and SHARE.journals / "evil" not in disk.contents:
            peer.publish()

    hook(0, 0)
    process = Process(disk, hook=hook, timing=timing)
    process.work()
    check(process, ITEM, other)
    assert process.of(Fail) == []


def test_a_saved_round_of_another_item_that_nobody_may_look_at_stops_no_training(disk: MemoryDisk):
    other = item_of(43)
    fill(disk, ITEM)
    rival = killed_after(disk, 2, "bb", timing=SYNC_FOLDER)
    fill(disk, other)
    process = Process(disk, timing=SYNC_FOLDER)
    size = process.files.size

    def refused(path: Path) -> int | None:
        if path.parent == process.worker.checkpoints.paths.generations(ITEM.exp) and rival.queue.worker in path.name:
            raise FolderError(f"Cannot read {path}: Permission denied.", "Make it readable.", passing=False)
        return size(path)

    process.files.size = refused  # type: ignore[method-assign]
    process.worker.take_stock()
    assert process.queue.report.have == {ITEM.id: 0}


def test_whatever_a_saved_round_is_called_those_of_a_final_result_are_cleared_away(disk: MemoryDisk):
    peer = Peer(disk)
    peer.save(1, {"round": 1, "chain": chain_of(1)}, honest_rows(1))
    honest = [record for record in peer.author.records if isinstance(record, Ckpt)]
    odd = msgspec.structs.replace(honest[0], file="R0001.PT")
    disk.contents[peer.manager.paths.generations(ITEM.exp) / odd.file] = b""
    peer.manager.clear(ITEM.exp, [odd, *honest])
    assert peer.files.names(peer.manager.paths.generations(ITEM.exp)) == [odd.file]

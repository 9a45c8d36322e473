"""Workers that are killed again and again, at any moment: each restart recovers, and nothing that was journalled is lost."""

from __future__ import annotations

import hashlib
import random
import signal
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from conftest import Undisturbed
from machines import (
    Machine,
    Running,
    Trap,
    enqueue,
    journal,
    local_lines,
    of_kind,
    on_the_brink,
    queued,
    repeated_rounds,
    results,
    share_lines,
    small,
    until,
)
from proof import LongProof

from fedspec.plan import Item
from fedspec.workqueue.fold import Fold
from fedspec.workqueue.histories import Histories
from fedspec.workqueue.records import Ckpt, Done, Seal, Start, decode

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL, which Windows does not have")

KILLS = 25
LONG_RUNS = 20
# The longest life that a trap waits for: a little more than one item.
MOMENTS = 100
LONGEST_LIFE_S = 0.6
BATCH = 4


class Slaughter:
    """Workers of one machine, of which one after the other is killed and started again.

    Half of the kills strike before a step of a write or after a client, the others at any time, from outside.

    Attributes:
        items: what was put into the queue: more whenever a worker ends because all is done.
        lines: every whole journal line that was ever seen, in the folder or in the machine's own copies.
        wrong: what was found while it went on, as sentences.
    """

    def __init__(self, machine: Machine, seed: int, workers: int) -> None:
        self.machine, self.workspace, self.workers = machine, machine.workspace, workers
        self.items: list[Item] = []
        self.lines: set[bytes] = set()
        self.wrong: list[str] = []
        self.kills = 0
        self._chance = random.Random(seed)
        self._next_seed = 1000 * seed

    def go(self, kills: int) -> None:
        """Go on until so many kills have struck, then let what is left be done."""
        self._add_items()
        others = [self.machine.work() for _ in range(self.workers - 1)]
        while self.kills < kills:
            victim = self._life()
            self._look([victim])
            # They end in peace when all is done, and there are new items then.
            others = [running if running.alive else self.machine.work() for running in others]
        assert [running.wait() for running in others] == [0] * len(others)
        last = self.machine.work()
        assert last.wait() == 0, last.output
        self._look([*others, last])

    def _life(self) -> Running:
        """One worker's life, to its violent or peaceful end."""
        careful = on_the_brink(self.workspace)
        trap = None if careful or self._chance.random() < 0.5 else Trap(self._chance.randint(1, MOMENTS), signal.SIGKILL)
        saved = self._saved()
        running = self.machine.work(trap=trap)
        if careful:  # three deaths in a row before a checkpoint are the item's fault, by the queue's own rule
            until(lambda: not running.alive or self._saved() > saved, lambda: running.output)
        if trap is None:
            running.process.join(self._chance.uniform(0.0, LONGEST_LIFE_S))
            if running.alive:
                running.send(signal.SIGKILL)
        code = running.wait()
        assert code in (0, -signal.SIGKILL), running.output
        if code == 0:
            self._add_items()
        else:
            self.kills += 1
        return running

    def _look(self, ended: Sequence[Running]) -> None:
        """What must hold at every moment."""
        self.lines |= local_lines(self.machine.local) | share_lines(self.workspace)
        self.wrong += unsaved_rounds(self.workspace, self.machine)
        for running in ended:
            self.wrong += journalled_before_written(self.machine.moments(running))

    def _saved(self) -> int:
        return len(of_kind(journal(self.workspace), Ckpt))

    def _add_items(self) -> None:
        fresh = [small(self._next_seed + number) for number in range(BATCH)]
        self._next_seed += BATCH
        enqueue(self.workspace, fresh)
        self.items += fresh


def unsaved_rounds(workspace: Path, machine: Machine) -> list[str]:
    """Journalled rounds, of the two latest of each item without a final result, whose file is not there as it was journalled.

    Workers go on meanwhile: what is no longer one of the two latest by now may have been cleared away.
    """
    missing = {name: why for name, ckpt in two_latest(workspace, machine).items() if (why := flaw(workspace, name, ckpt))}
    still = two_latest(workspace, machine) if missing else {}
    return [f"{name} was journalled and {why}" for name, why in missing.items() if name in still]


def two_latest(workspace: Path, machine: Machine) -> dict[str, Ckpt]:
    """The journalled generations of each item's two latest rounds, by their path below the generations' folder."""
    names = {item.id: item.exp for item in queued(workspace)}
    records = [decode(line) for line in share_lines(workspace) | local_lines(machine.local)]
    saved: dict[str, list[Ckpt]] = defaultdict(list)
    for record in records:
        if isinstance(record, Ckpt):
            saved[record.item].append(record)
    # The rounds of a result that never changes again are cleared away.
    for sealed in {record.item for record in records if isinstance(record, Seal)}:
        saved.pop(sealed, None)
    latest = {item: sorted({ckpt.round for ckpt in ckpts})[-2:] for item, ckpts in saved.items()}
    return {f"{names[i]}/{c.file}": c for i, ckpts in saved.items() for c in ckpts if c.round in latest[i]}


def flaw(workspace: Path, name: str, ckpt: Ckpt) -> str:
    """What is wrong with a generation's file, "" if nothing."""
    path = workspace / "checkpoints_distributed" / "gen" / name
    if not path.exists():
        return "is not there"
    return "" if hashlib.sha256(path.read_bytes()).hexdigest() == ckpt.sha256 else "has other bytes"


def journalled_before_written(moments: Sequence[str]) -> list[str]:
    """Rounds that a life journalled without having put their file in place just before."""
    wrong, written = [], ""
    for moment in moments:
        if moment.startswith("rename r0"):
            written = moment
        elif moment == "append ckpt to copy":
            if not written:
                wrong.append("a round was journalled before its file was there")
            written = ""
    return wrong


def broken_chains(workspace: Path, lines: set[bytes]) -> list[str]:
    """Journals of which a record is missing, that two processes wrote, or that nobody closed; and lost lines."""
    present = share_lines(workspace)
    histories = Histories()
    histories.offer(present)
    state = Fold(histories.accepted())
    wrong = [f"lost: {line[:120]!r}" for line in lines if decode(line) is not None and line not in present]
    wrong += [f"two processes wrote as {worker}" for worker in histories.forked()]
    last: dict[str, int] = {}
    for record in journal(workspace):
        last[record.worker] = max(record.seq, last.get(record.worker, 0))
    for worker, seq in last.items():
        if histories.length(worker) != seq + 1:
            wrong.append(f"of {worker} {histories.length(worker)} records are accepted, and there are {seq + 1}")
        if not state.gone(worker) or state.closed.get(worker, seq) != seq:
            wrong.append(f"{worker} was closed at {state.closed.get(worker)} and ended at {seq}")
    return wrong


def kill_and_recover(folder: Path, seed: int, workers: int, kills: int, undisturbed: Undisturbed) -> Counter[str]:
    """One run: kills, recovery, and everything as if nothing had happened; returns what was counted."""
    machine = Machine("mac", folder / "mac", folder / "share")
    slaughter = Slaughter(machine, seed, workers)
    try:
        slaughter.go(kills)
    finally:
        for running in machine.started:
            running.end()
    workspace, items = machine.workspace, slaughter.items
    assert not slaughter.wrong
    assert not broken_chains(workspace, slaughter.lines)
    assert results(workspace) == undisturbed(*items)
    records = journal(workspace)
    state = Fold(records)
    assert {state.status(item.id) for item in items} <= {"done", "sealed"}
    assert [state.owner(item.id) for item in items] == [None] * len(items)
    rounds = Counter((ckpt.item, ckpt.round) for ckpt in of_kind(records, Ckpt))
    if workers == 1:
        # A dead worker's last words may be in its own copy alone: its successor brings them, a neighbour does not wait.
        assert not [line for item in items for line in repeated_rounds(workspace, item)]
        assert max(rounds.values()) == 1, "a round that was saved was trained again"
    return Counter(
        {
            "kills": slaughter.kills,
            "lives": len(machine.started),
            "items": len(items),
            "attempts carried on": sum(start.round > 0 for start in of_kind(records, Start)),
            "rounds trained twice": sum(times - 1 for times in rounds.values()),
            "done twice": sum(times - 1 for times in Counter(done.item for done in of_kind(records, Done)).values()),
            "lost": sum(state.canonical(item.id) is None for item in items),
        }
    )


@pytest.mark.parametrize("workers", [1, 2])
def test_whatever_moment_workers_are_killed_at_each_restart_recovers(workers: int, tmp_path: Path, undisturbed: Undisturbed):
    counted = kill_and_recover(tmp_path, workers, workers, KILLS, undisturbed)
    assert counted["kills"] == KILLS
    assert counted["attempts carried on"] > 0, "no kill struck an item that had a checkpoint"


@pytest.mark.long
def test_whatever_moment_workers_are_killed_at_each_restart_recovers_long(
    tmp_path: Path, undisturbed: Undisturbed, pytestconfig: pytest.Config, say: Callable[[str], None]
):
    def run(number: int) -> Counter[str]:
        return kill_and_recover(tmp_path / str(number), 10 + number, 1 + number % 2, KILLS, undisturbed)

    total = LongProof(pytestconfig, __file__, LONG_RUNS).go_on(run, say)
    assert total["kills"] == LONG_RUNS * KILLS
    assert total["lost"] == 0

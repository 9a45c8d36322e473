"""A worker that is stopped in the middle of its work, and woken after another has taken over, does no harm."""

from __future__ import annotations

import json
import random
import signal
import sys
import time
from pathlib import Path

import pytest
from conftest import NewMachine, Undisturbed
from machines import (
    Trap,
    enqueue,
    journal,
    moment_of,
    of_kind,
    results,
    small,
    workers,
)

from fedspec.workqueue.fold import Fold
from fedspec.workqueue.liveness import LOCAL_DISK
from fedspec.workqueue.records import Attempt, Bye, Ckpt, Claim, Done, Record, Start, Yield

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs SIGSTOP, which Windows does not have")

SPREAD = [
    "append claim to copy",
    "rename r0002",
    "tear ckpt in copy",
    "append done to share",
]
LONGEST_LIFE = 84


def stop_and_wake(moment: int, same: bool, workspace: Path, new_machine: NewMachine, undisturbed: Undisturbed) -> None:
    """Stop a worker at this moment of its life, let another finish its item, and wake it."""
    item = small()
    enqueue(workspace, [item])
    mac = new_machine("mac")
    sleeper = mac.work(trap=Trap(moment, signal.SIGSTOP))
    sleeper.wait_stopped()
    stopped_in = mac.moments(sleeper)[-1]
    before = journal(workspace)
    files_before = generations(workspace)
    (sleeping,) = workers(workspace) or ["?"]

    successor = (mac if same else new_machine("pc")).work()
    # The sleeper may hold the queue's lock: the successor waits for it, and for the sleeper, as for a dead one.
    assert successor.wait() == 0, successor.output
    assert results(workspace) == undisturbed(item)
    finished = {record.item: record for record in of_kind(journal(workspace), Done)}

    sleeper.send(signal.SIGCONT)
    assert sleeper.wait() == 0, sleeper.output
    assert results(workspace) == undisturbed(item), "waking up changed the result"
    if sleeping == "?":
        sleeping = next(w for w in workers(workspace) if w != finished[item.id].worker)
    news = [record for record in journal(workspace, sleeping) if record not in before]
    check_words(news, sleeping, stopped_in, finished[item.id])
    check_files(generations(workspace) - files_before, sleeping, stopped_in)
    if not stopped_in.endswith((f"{item.exp}.json", f"{item.exp}_model.pt")):
        shown = json.loads((workspace / "checkpoints_distributed" / f"{item.exp}.json").read_text(encoding="utf-8"))
        assert shown["round"] == item.config["rounds"], "an old copy lies over the newest"
    fold = Fold(journal(workspace))
    assert fold.status(item.id) in ("done", "sealed")
    assert fold.owner(item.id) is None, "the sleeper's claim stands for ever"


def check_words(news: list[Record], sleeping: str, stopped_in: str, done: Done) -> None:
    """What the sleeper said after waking: the line it was at, and that it yields."""
    if done.worker == sleeping:
        return  # it had said `done` before it was stopped
    about = [record for record in news if isinstance(record, Attempt)]
    in_hand = [r for r in about if not isinstance(r, Yield) and type(r).__name__.lower() == stopped_in.split()[1]]
    assert len(in_hand) <= 1
    assert [r for r in about if isinstance(r, Claim | Start | Ckpt | Done) and r not in in_hand] == []
    assert len([r for r in about if isinstance(r, Yield)]) <= 1
    assert isinstance(news[-1], Bye)


def check_files(fresh: set[str], sleeping: str, stopped_in: str) -> None:
    """At most the generation that was in hand was finished, under the sleeper's own name."""
    mine = {name for name in fresh if f".{sleeping}." in name}
    in_hand = {name for name in mine if stopped_in.endswith(name)}
    assert mine == in_hand, f"{mine} after {stopped_in}"


def generations(workspace: Path) -> set[str]:
    """Names of all saved rounds that are there."""
    return {path.name for path in (workspace / "checkpoints_distributed" / "gen").glob("*/r*.pt")}


@pytest.mark.parametrize("label", SPREAD)
def test_a_stopped_worker_is_superseded_and_only_yields_when_it_wakes(
    label: str, workspace: Path, new_machine: NewMachine, undisturbed: Undisturbed, life: list[str]
):
    same = bool(SPREAD.index(label) % 2)
    stop_and_wake(moment_of(life, label, 2), same, workspace, new_machine, undisturbed)


@pytest.mark.long
@pytest.mark.parametrize("moment", range(1, LONGEST_LIFE + 1))
def test_a_worker_may_be_stopped_before_any_step_of_its_life(
    moment: int, workspace: Path, new_machine: NewMachine, undisturbed: Undisturbed, life: list[str]
):
    if moment > len(life):
        pytest.skip("a life has fewer moments")
    stop_and_wake(moment, random.Random(moment).random() < 0.5, workspace, new_machine, undisturbed)


@pytest.mark.long
def test_the_locks_of_a_stopped_worker_are_waited_for_once_and_not_for_every_claim(
    workspace: Path, new_machine: NewMachine, undisturbed: Undisturbed, life: list[str]
):
    items = [small(seed) for seed in (42, 43, 44, 45)]
    enqueue(workspace, items)
    mac = new_machine("mac")
    sleeper = mac.work(trap=Trap(moment_of(life, "tear claim in share"), signal.SIGSTOP))
    sleeper.wait_stopped()
    other = new_machine("pc").work(scale=0.1)
    began = time.monotonic()
    assert other.wait() == 0
    # Once for the lock and once for the sleeper's claim; waiting for the lock before each of the claims would take five times.
    assert time.monotonic() - began < 4 * LOCAL_DISK.scaled(0.1).dead
    assert results(workspace) == undisturbed(*items)
    sleeper.send(signal.SIGCONT)
    assert sleeper.wait() == 0, sleeper.output

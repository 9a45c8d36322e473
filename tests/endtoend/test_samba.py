"""The queue on a real Samba share: worker processes that know each other through SMB alone, its locks, kills and stops.

The kernel is not asked to mount anything. Each machine sees the share at a path of its own where its disk has nothing, so
that whatever goes past the files port fails or shows.
"""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest
from machines import PATIENCE_S, journal, of_kind, until
from msgspec.structs import asdict
from samba import Share, SmbMachine, Trap, count, hold, replace, text_of
from smbfiles import SmbFiles

from fedspec.plan import Item
from fedspec.results import MACHINE_COLUMNS, Row, from_table, to_csv
from fedspec.simulation.rehearsal import expected_rows, rehearsal
from fedspec.workqueue.distributor import WorkDistributor
from fedspec.workqueue.fold import Fold
from fedspec.workqueue.liveness import NETWORK_SHARE
from fedspec.workqueue.records import Done, Fail, Record, Start, unpack_rows
from fedspec.workspace import Workspace

NewSmbMachine = Callable[[str], SmbMachine]

# Ten requests of the beat thread must fit between two beats of a peer, on two cores for four workers and their servers.
SCALE = 0.05


@pytest.fixture
def new_machine(share: Share, tmp_path: Path, workspace: Path) -> Iterator[NewSmbMachine]:
    """Makes machines by name; every process that they start is gone in the end, and nothing is where they see the share."""
    made: dict[str, SmbMachine] = {}

    def machine(name: str) -> SmbMachine:
        return made.setdefault(name, SmbMachine(name, tmp_path / name, workspace, share=share))

    yield machine
    for one in made.values():
        for running in one.started:
            running.end()
        assert not one.mount.exists(), "something went past the files port"


def enqueue(machine: SmbMachine, items: list[Item]) -> None:
    """Put items into the share's queue, over the network as well."""
    timing = NETWORK_SHARE.scaled(SCALE)
    note(f"beat {timing.beat:g} s, poll {timing.poll:g} s, settle {timing.settle:g} s, dead after {timing.dead:g} s")
    with closing(machine.files()) as files:
        root = Workspace(machine.orders().workspace)
        WorkDistributor(root, files=files, timing=timing, local=machine.local).enqueue(items)


def note(*lines: str) -> None:
    """What was measured, for whoever runs the tests with ``-s``."""
    sys.stdout.write("\n".join(("", *lines)))


def comparable(rows: list[Row]) -> list[dict[str, object]]:
    """What may not depend on the machine."""
    return [{key: value for key, value in asdict(row).items() if key not in MACHINE_COLUMNS} for row in rows]


def check_results(folder: Path, items: list[Item]) -> None:
    """One CSV an item, equal to the canonical result and to that of an undisturbed run, and nothing else beside them."""
    fold = Fold(journal(folder))
    for item in items:
        done = fold.canonical(item.id)
        assert done is not None, f"{item.exp} is {fold.status(item.id)}"
        rows = from_table(unpack_rows(done.rows))
        assert comparable(rows) == comparable(expected_rows(item))
        assert (folder / "paper_results" / f"{item.exp}.csv").read_bytes() == to_csv(rows)
    assert sorted(path.name for path in (folder / "paper_results").iterdir()) == sorted(f"{item.exp}.csv" for item in items)


def begun_again(records: list[Record], forgiven: Collection[str] = ()) -> list[str]:
    """Items that several attempts began, though the first one's machine was not ``forgiven``."""
    starts: dict[str, list[Start]] = {}
    for start in of_kind(records, Start):
        starts.setdefault(start.item, []).append(start)
    return [item for item, begun in starts.items() if len(begun) > 1 and not begun[0].worker.startswith(tuple(forgiven))]


def machine_id(machine: SmbMachine) -> str:
    """What the names of its workers begin with."""
    return str(WorkDistributor(machine.workspace, local=machine.local).slots.machine_id())


@pytest.mark.parametrize("number", [24, pytest.param(200, marks=pytest.mark.long)])
def test_four_machines_on_a_share_do_each_item_once(number: int, workspace: Path, new_machine: NewSmbMachine):
    items = [rehearsal(seed, rounds=1, clients=1) for seed in range(number)]
    machines = [new_machine(name) for name in ("mac", "pc", "linux", "laptop")]
    enqueue(machines[0], items)
    began = time.monotonic()
    running = [machine.work_there(SCALE) for machine in machines]
    assert [one.wait(PATIENCE_S + 5 * number) for one in running] == [0] * 4, "\n".join(one.output for one in running)
    note(f"{number} items in {time.monotonic() - began:.1f} s")
    note(*(one.output.splitlines()[-1] for one in running))

    records = journal(workspace)
    assert Counter(done.item for done in of_kind(records, Done)) == Counter(item.id for item in items)
    assert not begun_again(records)
    assert not of_kind(records, Fail)
    assert len({done.worker for done in of_kind(records, Done)}) == 4, "somebody had nothing to do"
    check_results(workspace, items)
    assert not list(workspace.rglob("*.tmp"))


# Where the killed and the stopped one are: in the middle of an item, or in the middle of claiming one, with the share's lock.
SHORT = ("ckpt", "claim")
LONG = [("claim", "ckpt"), ("claim", "claim"), ("done", "start"), ("start", "done")]


@pytest.mark.parametrize(("killed_at", "stopped_at"), [SHORT, *(pytest.param(*at, marks=pytest.mark.long) for at in LONG)])
def test_items_of_a_killed_and_of_a_stopped_machine_end_as_if_nothing_had_happened(
    killed_at: str, stopped_at: str, workspace: Path, new_machine: NewSmbMachine
):
    items = [rehearsal(seed, rounds=2, clients=1) for seed in range(8)]
    doomed, sleepy, *others = (new_machine(name) for name in ("mac", "pc", "linux", "laptop"))
    enqueue(others[0], items)
    victim = doomed.work_there(SCALE, Trap(killed_at, 2, signal.SIGKILL))
    sleeper = sleepy.work_there(SCALE, Trap(stopped_at, 2, signal.SIGSTOP))
    assert victim.wait() == -signal.SIGKILL, victim.output
    sleeper.wait_stopped()

    healthy = [machine.work_there(SCALE) for machine in others]
    assert [one.wait() for one in healthy] == [0, 0], "\n".join(one.output for one in healthy)
    check_results(workspace, items)
    published = {path.name: path.read_bytes() for path in (workspace / "paper_results").iterdir()}

    sleeper.send(signal.SIGCONT)
    assert sleeper.wait() == 0, sleeper.output
    check_results(workspace, items)
    assert published == {path.name: path.read_bytes() for path in (workspace / "paper_results").iterdir()}
    records, forgiven = journal(workspace), (machine_id(doomed), machine_id(sleepy))
    assert not begun_again(records, forgiven)
    assert not of_kind(records, Fail)
    # Whoever sleeps between its last question and its result hands in a second one, which loses.
    late = [done.item for done in of_kind(records, Done) if done.worker.startswith(forgiven[1])] if stopped_at == "done" else []
    counts = Counter(done.item for done in of_kind(records, Done))
    assert {item: times for item, times in counts.items() if times > 1 + (item in late)} == {}


# What the protocol asks of the share


def test_a_held_lock_is_nobody_else_s_and_the_server_frees_it_when_its_process_is_killed(
    workspace: Path, new_machine: NewSmbMachine
):
    mac, pc = new_machine("mac"), new_machine("pc")
    holder = mac.start(hold, mac.orders())
    until(lambda: holder.output, lambda: holder.output)
    assert holder.output == "held: True\n"
    with closing(pc.files()) as files:
        path = pc.orders().workspace / "a.lock"
        assert files.hold(path) is None
        with files.lock(path, 0.1) as alone:
            assert not alone
        holder.send(signal.SIGKILL)
        killed = time.monotonic()
        with files.lock(path, 30.0) as alone:
            note(f"free {(time.monotonic() - killed) * 1000:.0f} ms after the kill")
            assert alone
        assert holder.wait() == -signal.SIGKILL


def test_four_machines_that_count_under_the_lock_miss_nothing(workspace: Path, new_machine: NewSmbMachine):
    machines = [new_machine(name) for name in ("mac", "pc", "linux", "laptop")]
    (workspace / "number").write_bytes(b"0")
    running = [machine.start(count, machine.orders(times=25)) for machine in machines]
    assert [one.wait() for one in running] == [0] * 4, "\n".join(one.output for one in running)
    assert (workspace / "number").read_bytes() == b"100"


def test_a_file_that_another_machine_replaces_is_whole_whenever_it_is_read(workspace: Path, new_machine: NewSmbMachine):
    mac, pc = new_machine("mac"), new_machine("pc")
    (workspace / "text").write_bytes(text_of(0))
    writer = mac.start(replace, mac.orders(times=150))
    seen = set()
    with closing(pc.files()) as files:
        while writer.process.is_alive():
            text = files.read(pc.orders().workspace / "text")
            assert text == text_of(int(text[:6]))
            seen.add(text)
        assert writer.wait() == 0, writer.output
        assert files.read(pc.orders().workspace / "text") == text_of(150)
        note(f"{files.calls['read']} reads of {len(seen)} texts, {files.calls['retry']} tried again")


def test_one_of_two_that_claim_at_once_gets_the_lock_where_both_may_win_a_rename(workspace: Path, new_machine: NewSmbMachine):
    mac, pc = new_machine("mac"), new_machine("pc")
    rounds = 30
    for number in range(rounds):
        (workspace / f"item{number}").write_bytes(b"")
    wins: dict[str, list[list[bool]]] = {"lock": [], "rename": []}
    with closing(mac.files()) as one, closing(pc.files()) as other:
        rivals = [(one, mac.orders().workspace), (other, pc.orders().workspace)]
        for number in range(rounds):
            wins["lock"].append(at_once(rivals, partial(locked, number)))
            wins["rename"].append(at_once(rivals, partial(renamed, number)))
    both = {way: sum(all(won) for won in each) for way, each in wins.items()}
    note(f"of {rounds} claims both won: {both['lock']} by an exclusive open, {both['rename']} by a rename")
    assert [sum(won) for won in wins["lock"]] == [1] * rounds


def locked(number: int, files: SmbFiles, root: Path) -> bool:
    """Whether the item's lock file could be held."""
    return files.hold(root / f"item{number}.lock") is not None


def renamed(number: int, files: SmbFiles, root: Path) -> bool:
    """Whether the item's file could be moved to a name of this machine's own."""
    try:
        files.move(root / f"item{number}", root / f"item{number}.{files.tag}")
    except FileNotFoundError:
        return False
    return True


def at_once(rivals: list[tuple[SmbFiles, Path]], claim: Callable[[SmbFiles, Path], bool]) -> list[bool]:
    """What each of the rivals gets that begin together."""
    together, won = threading.Barrier(len(rivals)), [False] * len(rivals)

    def run(index: int) -> None:
        together.wait()
        won[index] = claim(*rivals[index])

    threads = [threading.Thread(target=run, args=(index,)) for index in range(len(rivals))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return won

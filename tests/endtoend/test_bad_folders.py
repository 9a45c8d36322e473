"""A folder that refuses, vanishes or holds garbage: a clear message, nothing lost, and the undisturbed results in the end."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from conftest import NewMachine, Undisturbed
from machines import Machine, enqueue, journal, of_kind, plan_file, queued, results, saved_round, small, until

from fedspec.workqueue.records import Start

# Some hundreds of milliseconds of rounds: something happens to the run in their midst.
ITEM = small(rounds=40, local_epochs=2)


def say_error(output: str) -> None:
    """The one form of an error, and nothing that frightens."""
    assert "error: " in output, output
    assert "fix: " in output
    assert "Traceback" not in output


def mount(*arguments: str) -> None:
    """Mount, or skip where this is not allowed."""
    if sys.platform != "linux" or shutil.which("mount") is None:
        pytest.skip("needs Linux's mount")
    done = subprocess.run(["mount", *arguments], capture_output=True, encoding="utf-8", check=False)
    if done.returncode:
        pytest.skip(f"may not mount: {done.stderr.strip()}")


@pytest.fixture
def small_disk(workspace: Path) -> Iterator[Callable[[str], None]]:
    """Makes the workspace a file system of its own of a size such as ``400k``; called again it changes the size."""
    mount("-t", "tmpfs", "-o", "size=1m", "tmpfs", str(workspace))
    yield lambda size: mount("-o", f"remount,size={size}", str(workspace))
    subprocess.run(["umount", "--lazy", str(workspace)], check=True)


def test_a_read_only_folder_can_be_looked_at_but_not_worked_in(
    workspace: Path, new_machine: NewMachine, undisturbed: Undisturbed
):
    mac = new_machine("mac")
    enqueue(workspace, [small()])
    mount("--bind", str(workspace), str(workspace))
    try:
        mount("-o", "remount,ro,bind", str(workspace))
        running = mac.fedspec("work")
        assert running.wait() == 3, running.output
        say_error(running.output)
        assert "Read-only" in running.output
        looked = mac.fedspec("progress")
        assert looked.wait() == 0, looked.output
        assert "Total items: 1" in looked.output
    finally:
        subprocess.run(["umount", "--lazy", str(workspace)], check=True)
    assert mac.fedspec("work").wait() == 0
    assert results(workspace) == undisturbed(small())


def test_a_full_disk_ends_the_run_with_a_fix_and_the_same_command_finishes_when_there_is_room(
    workspace: Path, new_machine: NewMachine, undisturbed: Undisturbed, small_disk: Callable[[str], None]
):
    mac = new_machine("mac")
    enqueue(workspace, [ITEM])
    first = mac.fedspec("work")
    until(lambda: saved_round(workspace, ITEM) >= 2, lambda: first.output)
    filler = workspace / "holiday.mov"
    with filler.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            pass
    assert first.wait() == 3, first.output
    say_error(first.output)
    assert "No space left" in first.output
    saved = saved_round(workspace, ITEM)

    again = mac.fedspec("work")
    assert again.wait() == 3, again.output
    say_error(again.output)
    filler.unlink()
    small_disk("8m")
    last = mac.fedspec("work")
    assert last.wait() == 0, last.output
    assert results(workspace) == undisturbed(ITEM)
    assert of_kind(journal(workspace), Start, ITEM)[-1].round >= saved >= 2


def test_a_folder_that_is_not_there_is_never_made(new_machine: NewMachine, tmp_path: Path):
    absent = tmp_path / "not" / "connected"
    for command in (["run", plan_file(tmp_path)], ["work"], ["progress"]):
        running = new_machine("mac").fedspec(*command, "-w", str(absent))
        assert running.wait() == 3, running.output
        say_error(running.output)
    assert not absent.parent.exists()


def test_a_folder_that_vanishes_during_a_run_ends_it_and_no_other_queue_is_made_there(
    workspace: Path, new_machine: NewMachine, undisturbed: Undisturbed
):
    mac = new_machine("mac")
    enqueue(workspace, [ITEM])
    running = mac.fedspec("work")
    until(lambda: saved_round(workspace, ITEM) >= 2, lambda: running.output)
    away = workspace.with_name("away")
    workspace.rename(away)
    assert running.wait() == 3, running.output
    say_error(running.output)
    # What was being written at that moment may lie there, but nothing that looks like a queue or a result.
    assert not list(workspace.glob("distributed_work/plan/*")) + list(workspace.glob("paper_results/*"))
    shutil.rmtree(workspace, ignore_errors=True)
    away.rename(workspace)
    assert mac.fedspec("work").wait() == 0
    assert results(workspace) == undisturbed(ITEM)
    assert of_kind(journal(workspace), Start, ITEM)[-1].round >= 2


def test_deleting_the_checkpoints_in_mid_run_costs_work_only(
    workspace: Path, new_machine: NewMachine, undisturbed: Undisturbed
):
    mac = new_machine("mac")
    enqueue(workspace, [ITEM])
    running = mac.fedspec("work")
    until(lambda: saved_round(workspace, ITEM) >= 2, lambda: running.output)
    # Out of the way in one step, as a file manager's bin does it: deleting file by file may meet a write of the run.
    (workspace / "checkpoints_distributed").rename(workspace.with_name("bin"))
    code = running.wait()
    if code == 3:  # exactly between two steps of a write
        say_error(running.output)
        running = mac.fedspec("work")
        code = running.wait()
    assert code == 0, running.output
    assert results(workspace) == undisturbed(ITEM)


# Damage in a run that was killed with some rounds saved


def garbage(path: Path) -> None:
    """Some bytes in the middle turn into others; the size stays."""
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 16] = bytes(255 - byte for byte in data[middle : middle + 16])
    path.write_bytes(data)


def truncate(path: Path) -> None:
    """The second half is missing."""
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty(path: Path) -> None:
    """Nothing is left of it but its name."""
    path.write_bytes(b"")


TARGETS = {
    "queue": "distributed_work/work_queue.json",
    "journal": "distributed_work/journal/*.jsonl",
    "beat": "distributed_work/beat/*.json",
    "plan": "distributed_work/plan/*.json",
    "newest checkpoint": "checkpoints_distributed/gen/f*/r*.pt",
    "all checkpoints": "checkpoints_distributed/gen/f*/r*.pt",
    "base": "checkpoints_distributed/gen/base/*.pt",
    "derived": "checkpoints_distributed/*.*",
    "result": "paper_results/*.csv",
}


@pytest.fixture(scope="session")
def half_done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which one item is done and another was killed with some rounds saved: ``share``, and ``mac``'s notes."""
    folder = tmp_path_factory.mktemp("half")
    enqueue(folder / "share", [small(43)])
    mac = Machine("mac", folder / "mac", folder / "share")
    try:
        assert mac.work().wait() == 0
        enqueue(folder / "share", [ITEM])
        running = mac.work()
        until(lambda: saved_round(folder / "share", ITEM) >= 3)
        running.send(signal.SIGKILL)
        assert running.wait() == -signal.SIGKILL
    finally:
        for one in mac.started:
            one.end()
    return folder


def check_damage(target: str, damage: Callable[[Path], None], half: Path, mac: Machine, undisturbed: Undisturbed) -> None:
    workspace = mac.workspace
    shutil.copytree(half / "share", workspace, dirs_exist_ok=True)
    shutil.copytree(half / "mac" / "state", mac.folder / "state")
    items, saved = [small(43), ITEM], saved_round(workspace, ITEM)
    paths = sorted(workspace.glob(TARGETS[target]))
    for path in paths[-1:] if target == "newest checkpoint" else paths:
        damage(path)

    # As a person would: the same command again, which enqueues what it wants and works. No machine takes hand edits for orders.
    enqueue(workspace, items)
    running = mac.fedspec("work")
    assert running.wait() == 0, running.output
    assert "Traceback" not in running.output
    assert results(workspace) == undisturbed(*items)
    assert sorted(item.id for item in queued(workspace)) == sorted(item.id for item in items)
    resumed = of_kind(journal(workspace), Start, ITEM)[-1].round
    match target:
        case "journal":
            assert resumed in range(saved + 1)
        case "newest checkpoint":
            assert resumed == saved - 1
            assert "fix: Nothing to do" in running.output
        case "all checkpoints":
            assert resumed == 0
            assert "fix: Nothing to do" in running.output
        case _:
            assert resumed == saved
    looked = mac.fedspec("progress")
    assert looked.wait() == 0
    assert "Completed:   2 (100.0%)" in looked.output


@pytest.mark.parametrize("target", [name for name in TARGETS if name not in ("beat", "derived", "queue", "result")])
def test_garbage_in_any_file_changes_no_result(target: str, half_done: Path, new_machine: NewMachine, undisturbed: Undisturbed):
    check_damage(target, garbage, half_done, new_machine("mac"), undisturbed)


@pytest.mark.long
@pytest.mark.parametrize("damage", [garbage, truncate, empty, Path.unlink])
@pytest.mark.parametrize("target", TARGETS)
def test_no_file_can_be_damaged_or_deleted_so_that_a_result_changes(
    target: str, damage: Callable[[Path], None], half_done: Path, new_machine: NewMachine, undisturbed: Undisturbed
):
    check_damage(target, damage, half_done, new_machine("mac"), undisturbed)

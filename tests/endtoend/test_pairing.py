"""Real processes that run `fedspec doctor --pair` find out the truth about the folder between them."""

from __future__ import annotations

import json
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from conftest import NewMachine
from machines import Machine, Running, until

from fedspec.workqueue.modes import Choice, Notes
from fedspec.workspace import Workspace

SCALE = 0.2
COPY_EVERY_S, LAG_S = 0.02, 0.3


@pytest.fixture
def synced(tmp_path: Path) -> Iterator[tuple[Path, Path]]:
    """Two folders and a sync client between them: each change of one arrives in the other a moment later."""
    folders = (tmp_path / "here" / "Dropbox", tmp_path / "there" / "Dropbox")
    for folder in folders:
        folder.mkdir(parents=True)
    end = threading.Event()
    client = threading.Thread(target=_sync, args=(folders, end))
    client.start()
    yield folders
    end.set()
    client.join()


def _sync(folders: tuple[Path, Path], end: threading.Event) -> None:
    known: list[dict[str, bytes]] = [{}, {}]
    while not end.wait(COPY_EVERY_S):
        changes = []
        for number, folder in enumerate(folders):
            here = _files(folder)
            changed = [name for name in here.keys() | known[number].keys() if here.get(name) != known[number].get(name)]
            changes += [(1 - number, name, here.get(name)) for name in changed]
            known[number] = here
        if changes:
            end.wait(LAG_S)
        for target, name, data in changes:
            path = folders[target] / name
            if data is None:
                known[target].pop(name, None)
                path.unlink(missing_ok=True)
            else:
                known[target][name] = data
                path.parent.mkdir(parents=True, exist_ok=True)
                with suppress(FileNotFoundError):
                    temporary = path.with_name(f"~{path.name}.sync.tmp")
                    temporary.write_bytes(data)
                    temporary.replace(path)


def _files(folder: Path) -> dict[str, bytes]:
    found = {}
    for path in folder.rglob("*"):
        if not path.name.endswith(".tmp"):
            with suppress(OSError):  # a folder, or gone since
                found[str(path.relative_to(folder))] = path.read_bytes()
    return found


def pair(machine: Machine, *more: str) -> Running:
    return machine.fedspec("doctor", "--pair", "--json", "--timeout", "7", "--time-scale", str(SCALE), *more)


def said(running: Running) -> dict[str, Any]:
    """The document among what it printed."""
    output = running.output
    document: dict[str, Any] = json.loads(output[output.index("{\n") : output.rindex("\n}") + 2])
    return document


def use(machine: Machine) -> Choice:
    return Notes(Workspace(machine.workspace), machine.local).choice({})


def test_on_one_folder_locks_exclude_and_both_machines_keep_that(new_machine: NewMachine, workspace: Path):
    mac, pc = new_machine("Mac"), new_machine("PC")
    running = [pair(mac), pair(pc)]
    assert [one.wait() for one in running] == [0, 0], [one.output for one in running]
    for machine, one, other in ((mac, running[0], "PC"), (pc, running[1], "Mac")):
        document = said(one)
        assert document["pair"]["mode"] == "lock"
        assert [(peer["name"], peer["locks"]) for peer in document["pair"]["peers"]] == [(other, True)]
        lag = document["pair"]["lag_s"]
        assert lag["samples"] >= 20
        assert 0 < lag["median"] <= lag["p95"] <= lag["p99"] <= lag["max"]
        assert abs(document["pair"]["peers"][0]["clock_s"]) <= document["pair"]["peers"][0]["clock_error_s"] + 0.5
        assert (document["folder"]["mode"], document["folder"]["locks"]) == ("network", True)
        assert use(machine).locks
    assert not _files(workspace)


def test_three_machines_all_meet(new_machine: NewMachine, workspace: Path):
    running = [pair(new_machine(name), "--machines", "3") for name in ("Mac", "PC", "Laptop")]
    assert [one.wait() for one in running] == [0, 0, 0], [one.output for one in running]
    assert [len(said(one)["pair"]["peers"]) for one in running] == [2, 2, 2]
    assert {said(one)["pair"]["mode"] for one in running} == {"lock"}
    assert not _files(workspace)


def test_between_synced_folders_locks_exclude_nobody(new_machine: NewMachine, synced: tuple[Path, Path]):
    machines = [new_machine(name, at=folder) for name, folder in zip(("Mac", "PC"), synced, strict=True)]
    running = [pair(machine) for machine in machines]
    assert [one.wait() for one in running] == [0, 0], [one.output for one in running]
    for machine, one in zip(machines, running, strict=True):
        document = said(one)
        assert document["pair"]["mode"] == "sync"
        assert document["pair"]["lag_s"]["median"] > LAG_S
        assert (document["folder"]["mode"], document["folder"]["locks"]) == ("sync", False)
        assert not use(machine).locks


@pytest.mark.skipif(sys.platform == "win32", reason="sends POSIX signals")
def test_ctrl_c_leaves_nothing_behind_and_changes_nothing(new_machine: NewMachine, workspace: Path):
    mac = new_machine("Mac")
    running = pair(mac)
    until(lambda: list(workspace.rglob("pair/*.json")) != [], lambda: running.output)
    running.send(signal.SIGINT)
    assert running.wait() == 130
    assert "Stopped; nothing is changed." in running.output
    assert "Traceback" not in running.output
    assert not _files(workspace)
    assert use(mac).measured is None


@pytest.mark.skipif(sys.platform == "win32", reason="sends POSIX signals")
def test_a_machine_that_was_killed_is_met_again_when_it_comes_back(new_machine: NewMachine, workspace: Path):
    mac, pc = new_machine("Mac"), new_machine("PC")
    waiting, killed = pair(mac), pair(pc, "--machines", "3")
    until(lambda: "Found PC" in waiting.output, lambda: waiting.output)
    killed.send(signal.SIGKILL)
    killed.wait()
    again = pair(pc)
    assert [again.wait(), waiting.wait()] == [0, 0], again.output + waiting.output
    assert said(waiting)["pair"]["mode"] == said(again)["pair"]["mode"] == "lock"
    assert not _files(workspace)

"""The naive way, for comparison: a file lock around one rewritten queue file, a heartbeat in it, and checkpoints by one name.

It runs in the same faulty folders as the production code; what it loses is what the protocol is for.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from fedspec.clock import moment, timestamp
from fedspec.errors import FedspecError
from fedspec.simulation.hands import SimulatedFiles
from fedspec.simulation.machine import Machine
from fedspec.simulation.profiles import Profile
from fedspec.simulation.rehearsal import accuracy, expected_rows, next_link
from fedspec.simulation.schedule import WORKSPACE, run_schedule
from fedspec.simulation.world import Process

LOCK_S = 60.0
POLL_S = 30.0
STALE = timedelta(minutes=15)

Entries = list[dict[str, Any]]


def run_naive(seed: int, profile: Profile, machines: int | None = None) -> Counter[str]:
    """One schedule the naive way: how many items and rounds there were, and what became of them."""
    course = run_schedule(seed, profile, machines=machines, plan=_plan, work=_work)
    rounds = [line for line in course.world.trace if " trains " in line]
    outcome: Counter[str] = Counter(items=len(course.items), rounds=len(course.items) * profile.rounds)
    outcome["repeated rounds"] = max(0, len(rounds) - outcome["rounds"])
    for item in course.items:
        ends = [line for line in course.world.trace if line.endswith(f"completes {item.exp}")]
        results = {machine.ground.disk.contents.get(WORKSPACE.result(item.exp)) for machine in course.living}
        outcome["published more than once"] += len(ends) > 1
        outcome["lost"] += None in results or any(_status(machine, item.exp) != "completed" for machine in course.living)
        outcome["with conflict copies"] += any(_copies(machine, item.exp) for machine in course.living)
        outcome["with a wrong result"] += bool(results - {None, _csv([row.accuracy for row in expected_rows(item)])})
    return outcome


def _plan(machine: Machine, process: Process) -> None:
    files = SimulatedFiles(process, machine.ground)
    try:
        if files.size(WORKSPACE.view) is None:
            entries = [{"experiment": item.exp, "status": "pending"} for item in machine.course.items]
            files.write(WORKSPACE.view, json.dumps(entries).encode())
    except FedspecError as error:
        machine.give_up(process, error.what)


def _work(machine: Machine, process: Process) -> None:
    naive = _Naive(machine, process)
    try:
        while (exp := naive.claim()) is not None:
            if exp:
                naive.run(exp)
            else:
                process.sleep(POLL_S)
    except FedspecError as error:
        machine.give_up(process, error.what)


class _Naive:
    def __init__(self, machine: Machine, process: Process) -> None:
        self.machine, self.process = machine, process
        self.files = SimulatedFiles(process, machine.ground)

    def claim(self) -> str | None:
        """The experiment to run, "" to wait, None when all is completed."""
        now = self.process.now()
        chosen = ""

        def take(entries: Entries) -> None:
            nonlocal chosen
            free = [e for e in entries if e["status"] == "pending" or (e["status"] == "in_progress" and _is_stale(e, now))]
            if free:
                chosen = free[0]["experiment"]
                free[0].update(status="in_progress", assigned_to=self.machine.name, beat=timestamp(now))

        entries = self._update(take)
        return None if not chosen and entries and all(e["status"] == "completed" for e in entries) else chosen

    def run(self, exp: str) -> None:
        """Train from the last checkpoint; the round's number and the model lie in two files, as the original had it."""
        profile = self.machine.course.profile
        item = next(item for item in self.machine.course.items if item.exp == exp)
        about, model = WORKSPACE.checkpoints / f"{exp}.json", WORKSPACE.checkpoints / f"{exp}_model.pt"
        values, link = self._saved(about), self._read(model)
        for number in range(len(values) + 1, profile.rounds + 1):
            self.process.sleep(profile.client_s * profile.clients)
            link = next_link(item, number, link)
            self.process.world.note(self.process.name, f"trains {exp}")
            values.append(accuracy(link))
            self.files.write(about, json.dumps(values).encode())
            self.files.write(model, link.encode())
            self._update(lambda entries: self._set(entries, exp, beat=timestamp(self.process.now())))
        self.files.write(WORKSPACE.result(exp), _csv(values))
        self._update(lambda entries: self._set(entries, exp, status="completed"))
        self.process.world.note(self.process.name, f"completes {exp}")

    def _saved(self, about: Path) -> list[float]:
        try:
            return [float(value) for value in json.loads(self._read(about))]
        except ValueError:
            return []

    def _read(self, path: Path) -> str:
        try:
            return self.files.read(path).decode()
        except OSError:
            return ""

    def _update(self, change: Callable[[Entries], None]) -> Entries:
        with self.files.lock(WORKSPACE.queue_lock, LOCK_S):
            try:
                entries: Entries = json.loads(self.files.read(WORKSPACE.view))
            except (OSError, ValueError):
                return []
            change(entries)
            self.files.write(WORKSPACE.view, json.dumps(entries).encode())
            return entries

    @staticmethod
    def _set(entries: Entries, exp: str, **fields: str) -> None:
        for entry in entries:
            if entry["experiment"] == exp:
                entry.update(fields)


def _is_stale(entry: dict[str, Any], now: datetime) -> bool:
    then = moment(entry.get("beat", ""))
    return then is None or now - then > STALE


def _csv(values: list[float]) -> bytes:
    return "".join(f"{number},{value}\n" for number, value in enumerate(values, 1)).encode()


def _status(machine: Machine, exp: str) -> str:
    try:
        entries = json.loads(machine.ground.disk.contents[WORKSPACE.view])
        return str(next(e["status"] for e in entries if e["experiment"] == exp))
    except (KeyError, ValueError, StopIteration):
        return ""


def _copies(machine: Machine, exp: str) -> list[str]:
    names = machine.ground.disk.contents.inside(WORKSPACE.results)
    return [name for name in names if name.startswith((f"{exp} ", f"{exp}.")) and name != f"{exp}.csv"]

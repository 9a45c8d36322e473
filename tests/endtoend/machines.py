"""Real worker and command-line processes on pretended machines that share one folder, and what they leave behind.

A machine is a folder for its local state; its processes are forked (Linux) or spawned from one server that has imported the
libraries, so that each starts in a moment. Every process can be told to kill or to stop itself at the n-th moment of its life:
before each step of each write, and after each client.
"""

from __future__ import annotations

import csv
import io
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from fedspec.config import FederatedConfig
from fedspec.files import DiskFiles
from fedspec.plan import Item, make_item
from fedspec.results import MACHINE_COLUMNS
from fedspec.workqueue.distributor import WorkDistributor
from fedspec.workqueue.fold import Fold
from fedspec.workqueue.records import Attempt, Ckpt, Record, Start, decode
from fedspec.workspace import LocalState

# A dead machine is presumed dead after 1.2 s; a living one beats ten times as often.
FAST = 0.02
PATIENCE_S = 90.0
POLL_S = 0.01

_context = multiprocessing.get_context("forkserver" if sys.platform == "linux" else "spawn")
if sys.platform == "linux":
    _context.set_forkserver_preload(
        ["torch._dynamo", "sklearn.datasets", "pandas", "matplotlib.pyplot", "fedspec.supervisor", "fedspec.cli.app"]
    )


def small(seed: int = 42, **changes: Any) -> Item:
    """An item of three rounds of some milliseconds."""
    settings = {"method": "fedspec", "clients": 2, "rounds": 3, "batch_size": 64, "lr": 0.01, **changes}
    return make_item("federated", FederatedConfig(seed=seed, **settings))


@dataclass(frozen=True)
class Trap:
    """What a process does to itself at its ``moment``-th moment: ``SIGKILL`` or ``SIGSTOP``."""

    moment: int
    number: signal.Signals


@dataclass(frozen=True)
class Order:
    """What a worker process is told. With ``meet`` it waits after its first client until that file exists."""

    workspace: str
    scale: float
    trap: Trap | None = None
    trace: str = ""
    meet: str = ""


class Moments:
    """Counts the moments of the trainer's life, writes each down, and springs the trap."""

    def __init__(self, trace: str, trap: Trap | None) -> None:
        self.trap, self.passed = trap, 0
        self._out = os.open(trace, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def step(self, label: str) -> None:
        """One moment."""
        if threading.current_thread() is not threading.main_thread():
            return
        self.passed += 1
        os.write(self._out, label.encode() + b"\n")
        if self.trap is not None and self.passed == self.trap.moment:
            os.kill(os.getpid(), self.trap.number)


class TrappedFiles(DiskFiles):
    """A disk whose every change is taken in steps, each of them a moment."""

    def __init__(self, moments: Moments) -> None:
        super().__init__()
        self.moments = moments

    def write(self, path: Path, data: bytes, *, durable: bool = True) -> None:
        """Replace the file; between the two moments there is only the temporary file."""
        self.moments.step(f"write {path.name}")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.with_name(f"~{path.name}.{self.tag}.tmp").write_bytes(data)
        self.moments.step(f"rename {path.name}")
        super().write(path, data, durable=durable)

    def append(self, path: Path, data: bytes) -> None:
        """Add to the end; between the two moments half of the line is there."""
        where = "copy" if path.parent.name == "slots" else "share"
        kinds = "+".join(type(record).__name__.lower() for record in map(decode, data.split(b"\n")) if record)
        self.moments.step(f"append {kinds} to {where}")
        super().append(path, data[: len(data) // 2])
        self.moments.step(f"tear {kinds} in {where}")
        super().append(path, data[len(data) // 2 :])

    def remove(self, path: Path) -> None:
        """Delete the file."""
        self.moments.step(f"remove {path.name}")
        super().remove(path)

    def move(self, path: Path, target: Path) -> None:
        """Rename the file."""
        self.moments.step(f"move {path.name}")
        super().move(path, target)


class Running:
    """One process."""

    def __init__(
        self, target: Callable[..., None], argument: Any, environment: Mapping[str, str], log: Path, cwd: Path
    ) -> None:
        self.log = log
        self.process = _context.Process(target=_begin, args=(target, argument, dict(environment), str(log), str(cwd)))
        self.process.start()

    @property
    def pid(self) -> int:
        """Its process id."""
        assert self.process.pid is not None
        return self.process.pid

    @property
    def output(self) -> str:
        """What it has printed so far."""
        return self.log.read_text(encoding="utf-8", errors="replace") if self.log.exists() else ""

    def send(self, number: signal.Signals) -> None:
        """Send it a signal, unless it has ended just now."""
        with suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def wait(self, seconds: float = PATIENCE_S) -> int:
        """Wait for its end; returns its exit code, or minus the signal that ended it."""
        self.process.join(seconds)
        assert self.process.exitcode is not None, f"still running after {seconds} s:\n{self.output}"
        return self.process.exitcode

    @property
    def alive(self) -> bool:
        """Whether it has not ended."""
        return self.process.is_alive()

    @property
    def stopped(self) -> bool:
        """Whether a signal has stopped it, and none has woken it."""
        return self._state() == psutil.STATUS_STOPPED

    def wait_stopped(self) -> None:
        """Wait until it has stopped itself."""
        until(lambda: self.stopped, lambda: f"{self._state()}:\n{self.output}")

    def end(self) -> None:
        """Make sure that it is gone."""
        if self.process.is_alive():
            self.process.kill()
        self.process.join()

    def _state(self) -> str:
        try:
            return str(psutil.Process(self.pid).status())
        except psutil.NoSuchProcess:  # it has ended this very moment
            return str(psutil.STATUS_DEAD)


@dataclass
class Machine:
    """A machine: its name, its own folder, and the processes that were started on it."""

    name: str
    folder: Path
    workspace: Path
    started: list[Running] = field(default_factory=list)

    @property
    def environment(self) -> dict[str, str]:
        """What tells its processes which machine they are on."""
        return {"FEDSPEC_STATE": str(self.folder / "state"), "FEDSPEC_NAME": self.name, "OMP_NUM_THREADS": "1"}

    @property
    def local(self) -> LocalState:
        """Its notes."""
        return LocalState.find(self.environment)

    def work(self, scale: float = FAST, trap: Trap | None = None, meet: str = "") -> Running:
        """Start a worker process that works until every item is done."""
        log = self._log()
        order = Order(str(self.workspace), scale, trap, str(log.with_suffix(".trace")), meet)
        return self._start(_work, order, log)

    def run(self, target: Callable[..., None], argument: Any) -> Running:
        """Start a process of another kind."""
        return self._start(target, argument, self._log())

    def fedspec(self, *arguments: str, scale: float = FAST) -> Running:
        """Start a command, in this workspace."""
        where = [] if "-w" in arguments else ["-w", str(self.workspace)]
        self_scaled = ["--time-scale", str(scale)] if arguments[0] in ("run", "work", "progress") else []
        return self._start(_command, [*arguments, *where, *self_scaled], self._log())

    def moments(self, running: Running) -> list[str]:
        """The moments of a worker's life so far; none if it was killed before the first."""
        trace = running.log.with_suffix(".trace")
        return trace.read_text(encoding="utf-8").splitlines() if trace.exists() else []

    def _log(self) -> Path:
        self.folder.mkdir(parents=True, exist_ok=True)
        return self.folder / f"{len(self.started)}.log"

    def _start(self, target: Callable[..., None], argument: Any, log: Path) -> Running:
        running = Running(target, argument, self.environment, log, self.folder)
        self.started.append(running)
        return running


def until(condition: Callable[[], object], explain: Callable[[], str] = str, seconds: float = PATIENCE_S) -> None:
    """Wait for a condition, generously."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"not within {seconds} s: {explain()}"
        time.sleep(POLL_S)


def enqueue(workspace: Path, items: Sequence[Item]) -> None:
    """Put items into a folder's queue."""
    workspace.mkdir(parents=True, exist_ok=True)
    WorkDistributor(workspace).enqueue(items)


def plan_file(folder: Path, *, seeds: Sequence[int] = (42,), method: str = "fedspec", **experiment: Any) -> str:
    """A plan of one method for the command line; returns its path."""
    settings = {"clients": 2, "rounds": 3, "batch_size": 64, **experiment}
    lines = ['title = "Test"', "[experiment]", *(f"{key} = {value!r}" for key, value in settings.items())]
    lines += ["[grid]", f'method = ["{method}"]', "alpha = [0.5]", f"seed = {list(seeds)}"]
    path = folder / "mine.toml"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return str(path)


def queued(workspace: Path) -> list[Item]:
    """The items in the folder's queue."""
    queue = WorkDistributor(workspace)
    queue.refresh()
    return sorted(queue.store.items.values(), key=lambda item: item.exp)


def journal(workspace: Path, worker: str = "") -> list[Record]:
    """Every intact record in the folder, or those of one worker, in Lamport order."""
    records = [r for r in map(decode, share_lines(workspace)) if r is not None and r.worker.startswith(worker)]
    return sorted(records, key=lambda record: (record.lam, record.worker, record.seq))


def share_lines(workspace: Path) -> set[bytes]:
    """Every complete journal line in the folder, in whatever file."""
    return _lines(workspace / "distributed_work" / "journal")


def local_lines(local: LocalState) -> set[bytes]:
    """Every complete line in a machine's own copies of journals: of its processes that live, or have not been closed yet."""
    return _lines(local.slots)


def _lines(folder: Path) -> set[bytes]:
    found: set[bytes] = set()
    for path in folder.glob("*.jsonl"):
        with suppress(FileNotFoundError):  # closed, or replaced by a sync client, since
            found.update(path.read_bytes().split(b"\n")[:-1])
    return found


def on_the_brink(workspace: Path) -> bool:
    """Whether two attempts at some item ended, or would if killed now, without a checkpoint since: a third is its failure."""
    fold = Fold(journal(workspace))
    for state in fold.items.values():
        saved = max((key[0] for key, attempted in state.attempts.items() if attempted.saved), default=0)
        begun = [a for key, a in state.attempts.items() if key[0] > saved and a.start is not None and a.ended is None]
        if len(begun) >= 2 and not state.done:
            return True
    return False


def of_kind(records: Sequence[Record], kind: type[Record], item: Item | None = None) -> list[Any]:
    """The records of one kind, about one item."""
    chosen = [record for record in records if isinstance(record, kind)]
    return chosen if item is None else [record for record in chosen if isinstance(record, Attempt) and record.item == item.id]


def workers(workspace: Path) -> list[str]:
    """All processes that ever joined."""
    return sorted({record.worker for record in journal(workspace)})


def saved_round(workspace: Path, item: Item) -> int:
    """The highest round of which the folder's journals tell."""
    return max((ckpt.round for ckpt in of_kind(journal(workspace), Ckpt, item)), default=0)


def repeated_rounds(workspace: Path, item: Item) -> list[str]:
    """Attempts that began below a round that their worker knew to be saved."""
    records = journal(workspace)
    wrong = []
    for start in of_kind(records, Start, item):
        # With one folder for all, what has a smaller Lamport time had been read.
        known = [ckpt.round for ckpt in of_kind(records, Ckpt, item) if ckpt.lam < start.lam]
        if start.round < max(known, default=0):
            wrong.append(f"attempt {start.attempt} began after round {start.round}, but round {max(known)} was saved")
    return wrong


def results(workspace: Path) -> dict[str, list[tuple[str, ...]]]:
    """The published results by experiment: every cell that may not depend on the machine."""
    found = {}
    for path in (workspace / "paper_results").glob("*.csv"):
        table = list(csv.DictReader(io.StringIO(path.read_text(encoding="utf-8"))))
        found[path.stem] = [tuple(v for k, v in row.items() if k not in MACHINE_COLUMNS) for row in table]
    return found


def moment_of(life: Sequence[str], label: str, occurrence: int = 1) -> int:
    """The number of the moment with this beginning, at most the ``occurrence``-th of them."""
    numbers = [number for number, moment in enumerate(life, start=1) if moment.startswith(label)]
    return numbers[min(occurrence, len(numbers)) - 1]


def _begin(target: Callable[[Any], None], argument: Any, environment: dict[str, str], log: str, cwd: str) -> None:
    out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(out, 1)
    os.dup2(out, 2)
    for name in [name for name in os.environ if name.startswith("FEDSPEC_") and name != "FEDSPEC_DATA"]:
        del os.environ[name]
    os.environ.update(environment)
    os.chdir(cwd)
    target(argument)


def _command(arguments: list[str]) -> None:
    from fedspec.cli import main

    # As in a terminal; whoever runs the tests in the background of a shell ignores Ctrl-C.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.exit(main(arguments))


def _work(order: Order) -> None:
    from fedspec.supervisor import Settings, open_worker
    from fedspec.worker import StopSignal, drive

    moments = Moments(order.trace, order.trap)
    settings = Settings(workspace=order.workspace, name=os.environ["FEDSPEC_NAME"], time_scale=order.scale)
    worker = open_worker(settings, _Printer(), StopSignal(), TrappedFiles(moments))
    open_job = worker.open_job
    worker.open_job = lambda item, base: _TracedJob(open_job(item, base), moments, order.meet)
    sys.exit(1 if drive(worker).failed else 0)


class _Printer:
    """A reporter that prints events."""

    def event(self, text: str) -> None:
        sys.stdout.write(text + "\n")
        sys.stdout.flush()

    def status(self, text: str) -> None:
        pass


class _TracedJob:
    """A job whose clients are moments."""

    def __init__(self, job: Any, moments: Moments, meet: str) -> None:
        self.job, self.moments, self.meet = job, moments, meet
        self.device, self.runtime, self.base = job.device, job.runtime, job.base

    def run(self, state: Mapping[str, Any] | None) -> Iterator[Any]:
        for event in self.job.run(state):
            self.moments.step(type(event).__name__)
            if self.meet:
                until(Path(self.meet).exists)
            yield event

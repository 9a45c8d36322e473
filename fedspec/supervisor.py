"""Several workers on one machine: starts them as processes, passes on what they say and when to stop, replaces the dead.

Parent and child speak over the child's pipes: one JSON line of settings in, then ``stop`` or ``abort``; JSON lines of what
happens out. The end of the input means that the parent is gone. No signal is needed, on any system.
"""

from __future__ import annotations

import _thread
import subprocess
import sys
import threading
import traceback
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING

import msgspec

from fedspec.clock import Clock
from fedspec.errors import FedspecError, FolderError
from fedspec.files import DiskFiles, Files
from fedspec.worker import Reporter, Stopped, StopSignal, Worker, drive
from fedspec.worker.teller import Teller
from fedspec.workqueue.wording import readable

if TYPE_CHECKING:
    from fedspec.workspace import Workspace

MAX_RESTARTS = 3
# Syncthing reads it in the folder that it carries, and carries it to nobody; ``(?d)``: such a file keeps no folder from going.
SYNCTHING_IGNORES = b"// Files that fedspec has not finished writing.\n(?d)~*.tmp\n"
# Exit codes that a worker chooses itself; any other means that it was killed or crashed.
CHOSEN = frozenset({0, 1, 2, 3, 4, 130})


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker process needs to know."""

    workspace: str
    name: str
    time_scale: float = 1.0
    data_root: str | None = None
    only: list[str] | None = None


class Message(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a worker process says: something that happened, or what is going on now."""

    event: str = ""
    status: str = ""
    error: str = ""
    fix: str = ""


@dataclass(slots=True)
class _Child:
    process: subprocess.Popen[bytes]
    number: int
    reader: threading.Thread
    restarts: int = 0
    status: str = ""


@dataclass(slots=True)
class Outcome:
    """How a crew ended: the worst exit code, and the errors of workers that could not go on."""

    code: int = 0
    errors: list[Message] = field(default_factory=list)


class Crew:
    """``count`` workers with the same settings."""

    def __init__(self, settings: Settings, count: int, reporter: Reporter) -> None:
        self.settings, self.count, self.reporter = settings, count, reporter
        self.outcome = Outcome()
        self._children: list[_Child] = []
        self._talk = threading.Lock()

    def run(self, stop: StopSignal) -> Outcome:
        """Start the workers and stay until all have ended.

        A second interrupt aborts them; it raises KeyboardInterrupt once they are gone.
        """
        self._children = [self._start(number, 0) for number in range(1, self.count + 1)]
        told = False
        try:
            while self._children:
                stop.wake.wait(0.1) if not told else threading.Event().wait(0.1)
                if stop.requested and not told:
                    told = True
                    self._tell(b"stop\n")
                self._children = [alive for child in self._children if (alive := self._look_after(child, told))]
        except KeyboardInterrupt:
            self._tell(b"abort\n")
            for child in self._children:
                child.process.wait()
            raise
        return self.outcome

    def _start(self, number: int, restarts: int) -> _Child:
        process = subprocess.Popen(
            [sys.executable, "-m", "fedspec.supervisor"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            # A terminal's Ctrl-C must reach the parent alone, which decides what it means.
            start_new_session=sys.platform != "win32",
            creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),
        )
        child = _Child(process, number, threading.Thread(), restarts)
        child.reader = threading.Thread(target=self._listen, args=(child,), daemon=True)
        child.reader.start()
        self._write(child, msgspec.json.encode(self.settings) + b"\n")
        return child

    def _look_after(self, child: _Child, stopping: bool) -> _Child | None:
        code = child.process.poll()
        if code is None:
            return child
        child.reader.join()
        for pipe in (child.process.stdin, child.process.stdout):
            if pipe is not None:
                pipe.close()
        if code in CHOSEN:
            self.outcome.code = max(self.outcome.code, code)
            return None
        if stopping or child.restarts >= MAX_RESTARTS:
            self.reporter.event(f"warn: worker {child.number} ended unexpectedly ({_ending(code)}); its item is taken over.")
            self.outcome.code = max(self.outcome.code, 4)
            return None
        self.reporter.event(f"warn: worker {child.number} ended unexpectedly ({_ending(code)}); started again.")
        return self._start(child.number, child.restarts + 1)

    def _listen(self, child: _Child) -> None:
        assert child.process.stdout is not None
        for line in child.process.stdout:
            try:
                message = msgspec.json.decode(line, type=Message)
            except msgspec.MsgspecError:
                continue  # something a library printed
            with self._talk:
                if message.event:
                    self.reporter.event(message.event)
                if message.error:
                    self.outcome.errors.append(message)
                if message.status:
                    child.status = message.status
                    self.reporter.status(" | ".join(c.status for c in self._children if c.status))

    def _tell(self, word: bytes) -> None:
        for child in self._children:
            self._write(child, word)

    def _write(self, child: _Child, data: bytes) -> None:
        assert child.process.stdin is not None
        try:
            child.process.stdin.write(data)
            child.process.stdin.flush()
        except (OSError, ValueError):
            return  # it has ended; `_look_after` sees to it


class _PipeReporter:
    """The child's voice."""

    def __init__(self, teller: Teller[Message]) -> None:
        self.say, self._show = teller.event, teller.status

    def event(self, text: str) -> None:
        self.say(Message(event=readable(text)))

    def status(self, text: str) -> None:
        self._show(Message(status=readable(text)))


def _write(out: IO[bytes], message: Message) -> None:
    out.write(msgspec.json.encode(message) + b"\n")
    out.flush()


def open_worker(settings: Settings, reporter: Reporter, stop: StopSignal, files: Files | None = None) -> Worker:
    """A worker that has joined the queue of its settings' workspace. Tests pass ``files`` that fail."""
    import fedspec
    from fedspec.checkpoints import CheckpointManager
    from fedspec.devices import capabilities
    from fedspec.jobs import opener
    from fedspec.workqueue.distributor import WorkDistributor
    from fedspec.workqueue.modes import Notes
    from fedspec.workspace import Workspace

    workspace = Workspace.find(settings.workspace)
    timing = Notes(workspace).choice().timing(settings.time_scale)
    queue = WorkDistributor(workspace, files=files, timing=timing)
    queue.require_queue()
    with suppress(FolderError):
        keep_private(queue.files, workspace)
    queue.join(settings.name, capabilities(), fedspec.__version__)
    data_root = Path(settings.data_root) if settings.data_root else None
    logged = LoggingReporter(reporter, workspace.log(queue.worker), queue.clock, queue.files)
    only: Collection[str] | None = None if settings.only is None else frozenset(settings.only)
    checkpoints = CheckpointManager(workspace.checkpoints, queue.files)
    return Worker(queue, checkpoints, opener(data_root), logged, stop, only)


def keep_private(files: Files, workspace: Workspace) -> None:
    """Tell Syncthing, where the workspace is one of its folders, not to carry files that are still being written."""
    ignored = workspace.root / ".stignore"
    if (workspace.root / ".stfolder").exists() and files.size(ignored) is None:
        files.write(ignored, SYNCTHING_IGNORES, durable=False)


class LoggingReporter:
    """Passes everything on and keeps the events in the worker's log, with the time."""

    def __init__(self, inner: Reporter, path: Path, clock: Clock, files: Files | None = None) -> None:
        self.inner, self.path, self.clock = inner, path, clock
        self.files = files or DiskFiles()

    def event(self, text: str) -> None:
        """Pass on and keep."""
        self.inner.event(text)
        line = f"{self.clock.now():%Y-%m-%d %H:%M:%SZ}  {readable(text)}\n"
        # A log that cannot be written must not end the work; the writes that matter will say why.
        with suppress(OSError, FolderError):
            self.files.append(self.path, line.encode(errors="replace"))

    def status(self, text: str) -> None:
        """Pass on."""
        self.inner.status(text)


def _child() -> int:
    """A worker process: settings from standard input, messages to standard output."""
    write = partial(_write, sys.stdout.buffer)
    # A parent that was killed hears nothing any more; the end of the input says so, and the round is finished first.
    with Teller(write, write) as teller:
        return _work(_PipeReporter(teller))


def _work(reporter: _PipeReporter) -> int:
    # Unbuffered: Python ends in a crash if a thread is waiting in a buffered read then.
    orders = open(sys.stdin.fileno(), "rb", buffering=0, closefd=False)  # noqa: SIM115 - for as long as it lives
    settings = msgspec.json.decode(orders.readline(), type=Settings)
    stop = StopSignal()

    def obey() -> None:
        for line in orders:
            if line.strip() == b"abort":
                _thread.interrupt_main()
            stop.request()
        stop.request()  # the parent is gone: finish the round and go

    threading.Thread(target=obey, daemon=True).start()
    try:
        finished = drive(open_worker(settings, reporter, stop))
    except Stopped:
        return 4
    except KeyboardInterrupt:
        return 130
    except FedspecError as error:
        reporter.say(Message(error=error.what, fix=error.fix))
        return error.exit_code
    except Exception as error:
        what = f"A worker hit a bug: {type(error).__name__}: {error}."
        reporter.say(Message(error=what, fix="Report the traceback above; what was saved is kept."))
        traceback.print_exc()
        return 1
    return 1 if finished.failed else 0


def _ending(code: int) -> str:
    return f"signal {-code}" if code < 0 else f"exit code {code}"


if __name__ == "__main__":
    sys.exit(_child())

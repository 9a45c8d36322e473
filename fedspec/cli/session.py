"""Working on the queue from the command line, for ``run`` and ``work``: one worker here, or several as processes."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from contextlib import suppress

from fedspec.cli.console import complain, warn
from fedspec.cli.live import TerminalReporter, stoppable
from fedspec.cli.opening import machine_name
from fedspec.errors import FolderError, UsageError
from fedspec.supervisor import Crew, Settings, open_worker
from fedspec.worker import Stopped, StopSignal, Worker, drive
from fedspec.workqueue.distributor import WorkDistributor
from fedspec.workqueue.progress import ItemLine
from fedspec.workspace import data_root

MAX_WORKERS = 64
FAILED, STOPPED = 1, 4
RESUME = "Resume with the same command."


def checked_workers(workers: int) -> int:
    """``workers``, if a machine can start so many. Raises UsageError."""
    if not 1 <= workers <= MAX_WORKERS:
        raise UsageError(f"--workers must be between 1 and {MAX_WORKERS}, not {workers}.", "One for each CPU core is plenty.")
    return workers


def work_on(queue: WorkDistributor, only: Collection[str] | None, workers: int, name: str | None) -> int:
    """Work until the items are done; returns the exit code."""
    settings = Settings(
        workspace=str(queue.workspace.root),
        name=machine_name(name),
        time_scale=queue.timing.scale,
        data_root=str(data_root()),
        only=None if only is None else sorted(only),
    )
    session = _Session(settings, workers, queue)
    try:
        with session.reporter.live(), stoppable(session.stop, session.reporter, session.current):
            return session.crew() if workers > 1 else session.alone()
    except KeyboardInterrupt:
        released = "claim is released" if workers == 1 else "claims are released"
        session.reporter.event(f"Aborted. The {released}; every saved round is kept. {RESUME}")
        raise


def conclude(lines: Iterable[ItemLine], code: int) -> int:
    """Say what is not done and how to go on; returns the exit code, which knows of failed and cancelled items."""
    lost = [line for line in lines if line.state in ("failed", "cancelled")]
    for line in lost:
        if line.state == "failed":
            complain(f"{line.experiment} failed for good: {line.why.rstrip('.')}.", f"fedspec queue retry {line.experiment}")
        else:
            warn(f"{line.experiment} is cancelled; 'fedspec queue resume {line.experiment}' undoes it.")
    return FAILED if lost and code == 0 else code


def how_to_go_on(queue: WorkDistributor) -> str:
    """How a person who stopped this machine's workers, or had them end, has it work again."""
    with suppress(FolderError):
        order = queue.look().order_of(queue.slots.machine_id())
        if order is not None and order.order == "drain":
            return f"To take items again: {order.undo}"
    return RESUME


class _Session:
    """The workers that one command started."""

    def __init__(self, settings: Settings, workers: int, queue: WorkDistributor) -> None:
        self.settings, self.workers, self.queue = settings, workers, queue
        self.reporter, self.stop = TerminalReporter(), StopSignal()
        self._worker: Worker | None = None

    def current(self) -> str:
        """What a polite stop waits for."""
        if self.workers > 1:
            return "each worker's round"
        report = self._worker.queue.report if self._worker else None
        return f"round {report.round + 1}" if report and report.running else "this step"

    def alone(self) -> int:
        self._worker = open_worker(self.settings, self.reporter, self.stop)
        self._greet(self._worker.queue)
        try:
            return FAILED if drive(self._worker).failed else 0
        except Stopped as stopped:
            self.reporter.event(f"{stopped} {how_to_go_on(self.queue)}".lstrip())
            return STOPPED

    def crew(self) -> int:
        self.reporter.event(f"Starting {self.workers} workers as {self.settings.name}.")
        outcome = Crew(self.settings, self.workers, self.reporter).run(self.stop)
        for error in {(e.error, e.fix) for e in outcome.errors}:
            complain(*error)
        if outcome.code == STOPPED:
            self.reporter.event(f"The last rounds are saved and the claims released. {how_to_go_on(self.queue)}")
        return outcome.code

    def _greet(self, queue: WorkDistributor) -> None:
        """Who else is here."""
        busy: dict[str, list[str]] = {}
        for line in queue.progress().lines:
            if line.state == "running" and line.worker != queue.worker:
                busy.setdefault(line.machine, []).append(line.experiment)
        news = " ".join(f"{machine} is on {' and '.join(on)}." for machine, on in busy.items())
        self.reporter.event(f"Joined as {queue.machine_name(queue.worker)}. {news}".rstrip())

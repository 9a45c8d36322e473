"""Working on the queue from the command line, for ``run`` and ``work``: one worker here, or several as processes."""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path

import platformdirs

from fedspec.cli.console import TerminalReporter, complain, stoppable
from fedspec.cli.opening import machine_name
from fedspec.errors import UsageError
from fedspec.supervisor import Crew, Settings, open_worker
from fedspec.worker import Stopped, StopSignal, drive
from fedspec.workqueue.distributor import WorkDistributor

MAX_WORKERS = 64
STOPPED = 4


def data_root() -> Path:
    """Where data sets lie: ``FEDSPEC_DATA``, else the user's cache. Never in the share."""
    named = os.environ.get("FEDSPEC_DATA")
    return Path(named).expanduser() if named else platformdirs.user_cache_path("fedspec") / "data"


def work_on(queue: WorkDistributor, only: Collection[str] | None, workers: int, name: str | None) -> int:
    """Work until the items are done; returns the exit code."""
    if not 1 <= workers <= MAX_WORKERS:
        raise UsageError(f"--workers must be between 1 and {MAX_WORKERS}, not {workers}.", "One for each CPU core is plenty.")
    settings = Settings(
        workspace=str(queue.workspace.root),
        name=machine_name(name),
        time_scale=queue.timing.scale,
        data_root=str(data_root()),
        only=None if only is None else sorted(only),
    )
    reporter, stop = TerminalReporter(), StopSignal()
    with stoppable(stop, reporter), reporter.live():
        try:
            code = _alone(settings, reporter, stop) if workers == 1 else _crew(settings, workers, reporter, stop)
        except KeyboardInterrupt:
            reporter.event("Aborted. The claim is released; the last saved round is kept. Resume with the same command.")
            raise
    if code == STOPPED:
        reporter.event("The last round is saved and the claim released. Resume with the same command.")
    return code


def _alone(settings: Settings, reporter: TerminalReporter, stop: StopSignal) -> int:
    worker = open_worker(settings, reporter, stop)
    _greet(worker.queue, reporter)
    try:
        finished = drive(worker)
    except Stopped:
        return STOPPED
    return 1 if finished.failed else 0


def _crew(settings: Settings, workers: int, reporter: TerminalReporter, stop: StopSignal) -> int:
    outcome = Crew(settings, workers, reporter).run(stop)
    for error in {(e.error, e.fix) for e in outcome.errors}:
        complain(*error)
    return outcome.code


def _greet(queue: WorkDistributor, reporter: TerminalReporter) -> None:
    """Who else is here."""
    others = [line for line in queue.progress().lines if line.state == "running" and line.worker != queue.worker]
    news = " ".join(f"{line.machine} is on {line.experiment}." for line in others[:3])
    reporter.event(f"Joined as {queue.machine_name(queue.worker)}. {news}".rstrip())

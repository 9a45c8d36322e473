"""The worker: claims items, runs their jobs, saves after every round, publishes, and gives back what it must not finish.

It is a generator that yields the seconds it wants to wait, so that one thread, or a simulation of many machines, can drive it.
"""

from __future__ import annotations

import threading
import traceback
from collections.abc import Collection, Generator, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from fedspec.checkpoints import CheckpointManager, Resumed
from fedspec.errors import CapabilityError, DamagedError, ExperimentError, FolderError, SupersededError, UsageError
from fedspec.federated.events import Aggregated, ClientDone, ClientRejected, RoundDone
from fedspec.jobs import Job, OpenJob
from fedspec.plan import published_names
from fedspec.results import Row, to_table
from fedspec.workqueue import wording
from fedspec.workqueue.distributor import Held, WorkDistributor
from fedspec.workqueue.progress import in_words
from fedspec.workqueue.rules import Finished, Wait

if TYPE_CHECKING:
    from torch import Tensor


class Reporter(Protocol):
    """Where a worker says what it does. Both take one line of text."""

    def event(self, text: str) -> None:
        """Something that happened, to be kept."""
        ...

    def status(self, text: str) -> None:
        """What is going on now; replaces the last one."""
        ...


@dataclass(slots=True)
class StopSignal:
    """A person's wish to stop after the current round."""

    wake: threading.Event = field(default_factory=threading.Event)

    @property
    def requested(self) -> bool:
        """Whether to stop."""
        return self.wake.is_set()

    def request(self) -> None:
        """Ask for it."""
        self.wake.set()


class Stopped(Exception):  # noqa: N818 - a person's decision, not an error
    """The worker stopped on request; work remains."""


class Worker:
    """One process's way through the queue. ``only`` restricts it to some items."""

    def __init__(
        self,
        queue: WorkDistributor,
        checkpoints: CheckpointManager,
        open_job: OpenJob,
        reporter: Reporter,
        stop: StopSignal,
        only: Collection[str] | None = None,
    ) -> None:
        self.queue, self.checkpoints, self.open_job = queue, checkpoints, open_job
        self.reporter, self.stop, self.only = reporter, stop, only
        self.files, self.clock = queue.files, queue.clock
        self.finished: Finished | None = None

    def steps(self) -> Iterator[float]:
        """Work until every item is done, yielding seconds to wait. The process must have joined the queue.

        Raises:
            Stopped: a person asked for it.
        """
        self._publish(check_all=True)
        while True:
            if self.stop.requested:
                raise Stopped
            check_folder(self.queue)
            self._publish()
            action = self.queue.claim(self.only)
            match action:
                case Finished():
                    self.finished = action
                    self._publish()
                    return
                case Wait():
                    self.reporter.status(wording.waiting(action.blocked, self.queue.machine_name))
                    yield self.queue.timing.poll
                case Held():
                    self._publish()
                    yield from self._run(action)

    def _settle(self, held: Held) -> Iterator[float]:
        """In a folder whose locks exclude nobody, wait for rivals' claims to arrive before training."""
        until = self.clock.monotonic() + self.queue.timing.settle
        while (left := until - self.clock.monotonic()) > 0 and not self.stop.requested:
            self.reporter.status(f"Claimed {held.item.exp}. Waiting up to {in_words(left)} for the folder to agree.")
            yield min(left, self.queue.timing.poll)
        if self.stop.requested:
            raise Stopped

    def _run(self, held: Held) -> Iterator[float]:
        try:
            yield from self._settle(held)
            yield from _Run(self, held).steps()
        except SupersededError as error:
            text = self._dropped(held, error)
            self.queue.give_back(held, error.what)
            self.reporter.event(text)
        except Stopped:
            self.queue.give_back(held, "stopped on request")
            raise
        except KeyboardInterrupt:
            with suppress(RuntimeError):  # it came in the middle of a journal line, and no other can follow
                self.queue.give_back(held, "aborted")
            raise
        except FolderError:
            # The folder does not take writes; what this machine has journalled follows when it does.
            raise
        except CapabilityError as error:
            self._failed(held, "capability", error.what)
        except (ExperimentError, UsageError) as error:
            self._failed(held, "final", error.what)
        except (OSError, MemoryError) as error:
            self._failed(held, "transient", f"{type(error).__name__}: {error}")
        except Exception as error:
            self._failed(held, "code", f"{type(error).__name__}: {error}")

    def _failed(self, held: Held, fault: str, reason: str) -> None:
        self.queue.failed(held, fault, reason, traceback.format_exc())
        self.reporter.event(wording.failed(held.item.exp, fault, reason))

    def _dropped(self, held: Held, error: SupersededError) -> str:
        fold, name = self.queue.store.fold, self.queue.machine_name
        done, owner = fold.canonical(held.item.id), fold.owner(held.item.id)
        done_by = name(done.worker) if done else ""
        rival = name(owner[1]) if owner and owner != held.key else ""
        round_ = self.queue.report.round + 1 if self.queue.report.running == held.item.id else 0
        return wording.dropped(error, held.item.exp, name(held.worker), done_by=done_by, rival=rival, round_=round_)

    def _publish(self, *, check_all: bool = False) -> None:
        # Whoever was stopped for long may hold an older result than the one that counts by now.
        self.queue.refresh()
        written = self.queue.publisher.publish(check_all=check_all)
        # Where copies of the folder meet later, several that write the view at each change would only make conflict copies.
        if written or check_all or not self.queue.timing.syncs:
            self.queue.publisher.write_view()


class _Run:
    """One attempt at one item."""

    def __init__(self, worker: Worker, held: Held) -> None:
        self.worker, self.held, self.item = worker, held, held.item
        self.queue, self.checkpoints, self.reporter = worker.queue, worker.checkpoints, worker.reporter
        self.exp = published_names(self.queue.store.items.values()).get(held.item.id, held.item.exp)
        self.rounds = int(held.item.config.get("rounds", 1))
        self.clients = int(held.item.config.get("clients", 1))
        self.on = "all data" if held.item.kind == "centralized" else wording.count(self.clients, "client")
        self.rows: list[Row] = []
        self.base = ""

    def steps(self) -> Iterator[float]:
        job, resumed = self._prepare()
        self._announce(job, resumed)
        while True:
            self.rows = list(resumed.rows) if resumed else []
            resumed = yield from self._train(job, resumed)
            if resumed is None:
                break
            self.reporter.event(f"{self.exp} goes on from round {resumed.round}, saved by a rival attempt")
        accuracy = self.rows[-1].accuracy if self.rows else None
        self.queue.done(self.held, to_table(self.rows), len(self.rows), accuracy)
        self.reporter.event(
            f"{self.exp} completed: accuracy {accuracy:.4f}" if accuracy is not None else f"{self.exp} completed"
        )

    def _prepare(self) -> tuple[Job, Resumed | None]:
        """The job with the frozen base of earlier attempts, and the latest intact generation, if they are still there."""
        fold = self.queue.store.fold
        quarantine = self.queue.workspace.quarantined("")
        resumed, unusable = self.checkpoints.latest(self.exp, self.item.id, fold.generations(self.item.id), quarantine)
        for found in unusable if resumed else unusable[:1]:
            self.reporter.event(wording.unusable(found.round, found.why, resumed.round if resumed else None))
        sha = resumed.base if resumed else fold.base(self.item.id)
        base: Mapping[str, Tensor] | None = self.checkpoints.load_base(sha) if sha else None
        job = self.worker.open_job(self.item, base)
        self.base = self.checkpoints.save_base(job.base)
        if resumed and resumed.base != self.base:
            self.reporter.event(f"error: The frozen base of {self.exp} is gone.\n  fix: Nothing to do. Starting from round 1.")
            resumed = None
        return job, resumed

    def _announce(self, job: Job, resumed: Resumed | None) -> None:
        start, source = (resumed.round, resumed.file) if resumed else (0, "")
        self.queue.started(self.held, start, self.base, source, job.device)
        self.reporter.event(self._first_words(start, source))

    def _first_words(self, start: int, source: str) -> str:
        recorded = self.queue.store.fold.generations(self.item.id)
        if self.held.over is not None:
            lost, journalled = self.queue.machine_name(self.held.over[1]), recorded[0].round if recorded else 0
            return wording.taking_over(self.exp, lost, start, journalled, self.rounds)
        if start:
            saved = next(ckpt for ckpt in recorded if ckpt.file == source)
            by, at = self.queue.machine_name(saved.worker), wording.local_time(saved.wall, self.worker.clock.now())
            return f"Resuming {self.exp} at round {start + 1} of {self.rounds} (saved by {by}, {at})"
        return f"Starting {self.exp}: {wording.count(self.rounds, 'round')}, {self.on}"

    def _train(self, job: Job, resumed: Resumed | None) -> Generator[float, None, Resumed | None]:
        """Rounds until the last, or until a rival is ahead; returns the rival's generation then."""
        clock = self.worker.clock
        began = lap = clock.monotonic()
        trained = aggregated = 0.0
        first = round_ = (resumed.round if resumed else 0) + 1
        done_clients = 0
        self._status(round_, 0, None)
        for event in job.run(resumed.state if resumed else None):
            now = clock.monotonic()
            match event:
                case ClientDone() | ClientRejected():
                    trained, lap, done_clients = trained + now - lap, now, done_clients + 1
                    if isinstance(event, ClientRejected):
                        self.reporter.event(
                            f"warn: round {event.round} of {self.exp} drops client {event.client}: {event.reason}"
                        )
                    self._status(round_, done_clients, None)
                    self._check_in_memory()
                case Aggregated():
                    aggregated, lap = now - lap, now
                case RoundDone():
                    times = {"sec_train": trained, "sec_aggregate": aggregated, "sec_eval": now - lap}
                    self._save(event.row, event.state, times, job)
                    left = (clock.monotonic() - began) / (round_ + 1 - first) * (self.rounds - round_)
                    self._status(round_ + 1, 0, left)
                    if (ahead := self._ahead()) is not None:
                        return ahead
                    if self.worker.stop.requested and round_ < self.rounds:
                        raise Stopped(f"Round {round_} saved. Claim released.")
                    lap, trained, aggregated, done_clients = clock.monotonic(), 0.0, 0.0, 0
                    round_ += 1
            yield 0.0
        return None

    def _save(self, row: Row, state: Mapping[str, Any], times: dict[str, float], job: Job) -> None:
        """Gate, write the generation, gate again, then journal it: an event never names a file that is not there."""
        from msgspec.structs import replace

        stamped = replace(
            row,
            run_id=self.item.id,
            device=job.device,
            torch_version=job.runtime,
            **{name: round(seconds, 6) for name, seconds in times.items()},
        )
        self._gate()
        if self.rows and self.rows[-1].partition_hash != row.partition_hash:
            raise CapabilityError(
                f"This machine shares out the data of {self.exp} in another way than the one that began it.",
                "Install the versions of constraints.txt on both machines.",
            )
        rows = [*self.rows, stamped]
        held = self.held
        generation = self.checkpoints.save(self.exp, self.item.id, row.round, held.attempt, held.worker, state, rows, self.base)
        self.queue.saved(held, row.round, generation.file, generation.sha256, self.base, row.accuracy)
        self.rows = rows
        self._gate()  # whoever was stopped at that line must not put an old copy over a successor's
        facts = {
            "item": self.item.id,
            "round": row.round,
            "rounds": self.rounds,
            "accuracy": row.accuracy,
            "attempt": held.attempt,
            "worker": held.worker,
            "machine": self.queue.machine_name(held.worker),
        }
        self.checkpoints.derive(self.exp, generation, facts)
        self.checkpoints.prune(self.exp, self.queue.store.fold.generations(self.item.id))

    def _gate(self) -> None:
        check_folder(self.queue)
        reason = self.queue.must_stop(self.held)
        if reason is not None:
            raise self._superseded(reason)

    def _check_in_memory(self) -> None:
        if self.queue.stop_reason is not None:
            raise self._superseded(self.queue.stop_reason)

    def _superseded(self, reason: str) -> SupersededError:
        return SupersededError(f"{self.exp} was {reason}.", "Nothing is lost; this worker takes the next item.")

    def _ahead(self) -> Resumed | None:
        """The latest intact generation that is beyond our own last round: whatever attempt saved it, the work is not lost.

        What the journals tell of may be damaged or not here yet; then our own rounds go on.
        """
        beyond = [ckpt for ckpt in self.queue.store.fold.generations(self.item.id) if ckpt.round > len(self.rows)]
        latest, _ = self.checkpoints.latest(self.exp, self.item.id, beyond, self.queue.workspace.quarantined(""))
        return latest if latest is not None and latest.base == self.base else None

    def _status(self, round_: int, done_clients: int, left_s: float | None) -> None:
        report = self.queue.report
        report.running, report.round, report.steps = self.item.id, round_ - 1, report.steps + 1
        report.clients = f"{done_clients}/{self.clients}"
        report.eta_s = left_s if left_s is not None else report.eta_s
        accuracy = f"   accuracy {self.rows[-1].accuracy:.3f}" if self.rows else ""
        left = f"   left {wording.clock_face(report.eta_s)}" if report.eta_s is not None else ""
        shown = min(round_, self.rounds)
        self.reporter.status(f"{self.exp}   Round {shown}/{self.rounds}, training {self.on}{accuracy}{left}")


def check_folder(queue: WorkDistributor) -> None:
    """Raise FolderError if the items' files are gone, which no worker ever writes, whatever is in their place.

    The share may have been disconnected: going on would make another queue on the disk below it.
    """
    if queue.store.items and not queue.files.names(queue.workspace.plans):
        raise FolderError(
            f"The queue in {queue.workspace.queue} is gone.",
            "Connect the shared folder again, then run the same command again; what was saved so far is kept.",
        )


class Heart:
    """The thread that polls the folder and beats while the worker trains."""

    def __init__(self, queue: WorkDistributor, reporter: Reporter) -> None:
        self.queue, self.reporter = queue, reporter
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)

    def __enter__(self) -> Heart:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()

    def _run(self) -> None:
        complained = ""
        while not self._end.wait(min(self.queue.timing.poll, self.queue.timing.beat)):
            try:
                check_folder(self.queue)
                self.queue.tick()
                complained = ""
            except (FolderError, DamagedError, OSError) as error:
                # Peers see a silent worker and wait; the next write of the trainer decides whether to go on.
                if complained != str(error):
                    self.reporter.event(f"warn: no heartbeat: {error}")
                    complained = str(error)


def drive(worker: Worker) -> Finished:
    """Run a worker in this thread, with its heartbeat in another.

    Raises:
        Stopped: a person asked for it; the claim is given back and the process has left the queue.
        FolderError: nothing can be written; this machine's next process closes our journal and brings along what is missing.
    """
    try:
        with Heart(worker.queue, worker.reporter):
            for seconds in worker.steps():
                if seconds:
                    worker.clock.sleep(seconds, worker.stop.wake)
    except Stopped:
        worker.queue.leave("stopped on request")
        worker.queue.publisher.write_view()
        raise
    except KeyboardInterrupt:
        with suppress(RuntimeError):  # as above; peers then find this process silent, and its machine knows at once
            worker.queue.leave("aborted")
            worker.queue.publisher.write_view()
        raise
    worker.queue.leave("finished")
    assert worker.finished is not None
    return worker.finished

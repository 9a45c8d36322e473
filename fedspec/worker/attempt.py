"""One attempt at one item: go on from the latest intact generation, save each round behind the gate, hand in the result."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

from fedspec.checkpoints import Generation, Resumed, Unusable
from fedspec.config import clients_in_a_round
from fedspec.errors import CapabilityError, DamagedError, FedspecError, FolderError, SupersededError
from fedspec.federated.events import Aggregated, ClientDone, ClientRejected, Event, RoundDone, StepDone
from fedspec.jobs import Job
from fedspec.results import Row, to_table
from fedspec.worker.gang import Place
from fedspec.worker.patience import found_base, had_in_time
from fedspec.worker.signals import Stopped
from fedspec.workqueue import wording
from fedspec.workqueue.distributor import WorkDistributor
from fedspec.workqueue.records import Ckpt
from fedspec.workqueue.rules import Held

if TYPE_CHECKING:
    from fedspec.worker.loop import Worker

# Nobody reads faster, and each status wakes the thread that tells it.
STATUS_EVERY_S = 0.1
# The copies for people, and the clean-up, of rounds that follow faster than anybody looks would cost as much as saving them.
COPY_EVERY_S = 1.0
# Of saved rounds that cannot be used: a journal may tell of any number.
MAX_TOLD = 5
# Where copies of the folder meet later, this may be on its way.
ON_ITS_WAY = ("is not in this folder (yet)", "is damaged")


class Attempt:
    """One claim's way to its result. ``worker`` is whose queue, checkpoints, reporter and stop signal it uses."""

    def __init__(self, worker: Worker, held: Held) -> None:
        self.worker, self.held, self.item = worker, held, held.item
        self.queue, self.checkpoints, self.reporter = worker.queue, worker.checkpoints, worker.reporter
        self.exp = self.queue.store.names().get(held.item.id, held.item.exp)
        self.rounds = int(held.item.config.get("rounds", 1))
        self.clients = clients_in_a_round(held.item.config)
        everybody = max(self.clients, held.item.config.get("clients", 1))
        sampled = f"{self.clients} of " if self.clients < everybody else ""
        self.on = "all data" if held.item.kind == "centralized" else sampled + wording.count(everybody, "client")
        self.quarantine = None if self.queue.timing.syncs else self.queue.workspace.quarantined("")
        self.rows: list[Row] = []
        self.base = ""
        self._told_at = self._copied_at = float("-inf")
        self._uncopied: Callable[[], None] | None = None
        self._source: Resumed | None = None  # what this run goes on from
        self._unfit: set[str] = set()  # generations that are whole, and not what this run can go on from

    def steps(self) -> Iterator[float]:
        """Train to the last round and hand the result in; yields between clients, and seconds to wait (none, here).

        Raises:
            SupersededError: another worker has the item. Stopped: a person asked for it. FolderError: nothing can be written.
        """
        while True:
            job, resumed = yield from self._prepare()
            self._announce(job, resumed)
            try:
                yield from self._to_the_end(job, resumed)
                return
            except DamagedError as error:
                if self._source is None:
                    raise
                self._unfit.add(self._source.file)
                self.reporter.event(f"error: {error.what}\n  fix: Nothing to do. Going on from an earlier round.")

    def _to_the_end(self, job: Job, resumed: Resumed | None) -> Iterator[float]:
        while True:
            self._source = resumed
            self.rows = list(resumed.rows) if resumed else []
            if resumed is not None and resumed.round >= self.rounds:
                self._copy_last(resumed)
            resumed = yield from self._train(job, resumed)
            if resumed is None:
                break
            self.reporter.event(f"{self.exp} goes on from round {resumed.round}, saved by a rival attempt")
        if len(self.rows) != self.rounds:
            raise DamagedError(
                f"A checkpoint of {self.exp} says that all rounds are done, and has other rows.", "Take another one."
            )
        accuracy = self.rows[-1].accuracy if self.rows else None
        self.queue.done(self.held, to_table(self.rows), len(self.rows), accuracy)
        self.reporter.event(
            f"{self.exp} completed: accuracy {accuracy:.4f}" if accuracy is not None else f"{self.exp} completed"
        )

    def _prepare(self) -> Generator[float, None, tuple[Job, Resumed | None]]:
        """The job with the frozen base of earlier attempts, and the latest intact generation, if they are still there."""
        recorded = self._recorded()
        with self.queue.store.lock:
            names = dict.fromkeys([ckpt.base for ckpt in recorded] or [self.queue.store.fold.base(self.item.id)])
        timing = self.queue.timing
        # Without it all that was saved is of no use: it is waited for as long as a peer that may be dead. Whoever has begun on
        # another base has waited for the earlier one.
        awaited = max(recorded, key=lambda ckpt: ckpt.key).base if recorded else ""
        base = yield from had_in_time(
            self.worker, self.held, lambda: found_base(self.worker, names, awaited), timing.dead if recorded else 0.0
        )
        together = (Place(self.worker, self.held),) if self.held.role else ()
        try:
            job = self.worker.open_job(self.item, base, *together)
        except DamagedError:
            job = self.worker.open_job(self.item, None, *together)
        self.base = self.checkpoints.save_base(job.base)
        usable = [ckpt for ckpt in recorded if ckpt.base == self.base and ckpt.file not in self._unfit]
        if recorded and not usable and not self._unfit:
            lost = f"error: The frozen base of {self.exp} is gone or cannot be read."
            self.reporter.event(f"{lost}\n  fix: Nothing to do. Starting from round 1.")
        patience_s = 2 * timing.settle if timing.syncs else timing.dead
        resumed, unusable = yield from had_in_time(self.worker, self.held, lambda: self._latest(usable), patience_s)
        for bad in unusable[: MAX_TOLD if resumed else 1]:
            self.reporter.event(wording.unusable(bad.round, bad.why, resumed.round if resumed else None))
        return job, resumed

    def _latest(self, usable: list[Ckpt]) -> tuple[tuple[Resumed | None, list[Unusable]], str]:
        """As `CheckpointManager.latest`; and which round cannot be read now, or is on its way."""
        found = self.checkpoints.latest(self.item.exp, self.item.id, usable, self.quarantine)
        coming = ON_ITS_WAY if self.queue.timing.syncs else ()
        late = next((bad for bad in found[1] if bad.passing or bad.why in coming), None)
        return found, f"the checkpoint of round {late.round} {late.why}" if late else ""

    def _announce(self, job: Job, resumed: Resumed | None) -> None:
        start, source = (resumed.round, resumed.file) if resumed else (0, "")
        self.queue.started(self.held, start, self.base, source, job.device)
        self.reporter.event(self._first_words(start, source))

    def _first_words(self, start: int, source: str) -> str:
        recorded = self._recorded()
        if self.held.over is not None:
            lost, journalled = self.queue.machine_name(self.held.over[1]), recorded[0].round if recorded else 0
            return wording.taking_over(self.exp, lost, start, journalled, self.rounds)
        if start >= self.rounds:
            return f"Finishing {self.exp}: all {self.rounds} rounds are saved"
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
        done_clients = handed_in = 0
        self._status(round_, 0, None)
        for event in _sound(job.run(resumed.state), resumed) if resumed else job.run(None):
            now = clock.monotonic()
            match event:
                case StepDone():
                    trained, lap = trained + now - lap, now
                    # Those that train together are that far with their data.
                    if (share := event.steps * self.clients // (event.total + 1)) > done_clients:
                        done_clients = share
                        self._status(round_, done_clients, None)
                        self.worker.take_stock()
                        self._check_in_memory()
                case ClientDone() | ClientRejected():
                    trained, lap, handed_in = trained + now - lap, now, handed_in + 1
                    done_clients = max(done_clients, handed_in)
                    if isinstance(event, ClientRejected):
                        self.reporter.event(
                            f"warn: round {event.round} of {self.exp} drops client {event.client}: {event.reason}"
                        )
                    self._status(round_, done_clients, None)
                    self.worker.take_stock()
                    self._check_in_memory()
                case Aggregated():
                    aggregated, lap = now - lap, now
                case RoundDone():
                    if event.row.round != round_:
                        raise DamagedError(f"A checkpoint of {self.exp} is of another round than it says.", "Take another one.")
                    times = {"sec_train": trained, "sec_aggregate": aggregated, "sec_eval": now - lap}
                    self._save(event.row, event.state, times, job)
                    left = (clock.monotonic() - began) / (round_ + 1 - first) * (self.rounds - round_)
                    self._status(round_ + 1, 0, left)
                    if (ahead := self._ahead()) is not None:
                        return ahead
                    if self.queue.is_paused() and round_ < self.rounds:
                        self._copy_at_last()
                        fix = f"Round {round_} is saved; 'fedspec queue resume' lets it go on."
                        raise SupersededError(f"{self.exp} is paused.", fix)
                    if self.worker.stop.requested and round_ < self.rounds:
                        self._copy_at_last()
                        raise Stopped(f"Round {round_} saved. Claim released.")
                    lap, trained, aggregated, done_clients, handed_in = clock.monotonic(), 0.0, 0.0, 0, 0
                    round_ += 1
            yield 0.0
        return None

    def _save(self, row: Row, state: Mapping[str, Any], times: dict[str, float], job: Job) -> None:
        """Gate, write the generation, gate again (in `saved`), journal it: an event never names a file that is not there."""
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
        generation = self.checkpoints.save(
            self.item.exp, self.item.id, row.round, held.attempt, held.worker, state, rows, self.base
        )
        self.queue.saved(held, row.round, generation.file, generation.sha256, self.base, row.accuracy)
        self.rows = rows
        self._uncopied = partial(self._copy, generation, row.round, row.accuracy, held.key)
        if row.round >= self.rounds or self.worker.clock.monotonic() - self._copied_at >= COPY_EVERY_S:
            self._gate()  # whoever was stopped at that line must not put an old copy over a successor's
            # Copies and clean-up: a file that another program holds just now is no reason to stop training.
            with suppress(FolderError):
                self._copy_now()
                self._clean_up(row.round)

    def _copy_at_last(self) -> None:
        """Before the item is let go: time has passed since the last gate. A folder that is away keeps nobody here."""
        with suppress(FolderError):
            self._gate()
            self._copy_now()
            self._clean_up(self.rows[-1].round)

    def _clean_up(self, round_: int) -> None:
        """Delete generations that nobody will go on from."""
        recorded = [ckpt for ckpt in self._recorded() if ckpt.base == self.base]
        # Of a round beyond this one, which this run did not go on from, nobody knows whether it can be read.
        self.checkpoints.prune(self.item.exp, recorded, min(round_, self.queue.everywhere(self.item)))

    def _copy_now(self) -> None:
        copy, self._uncopied = self._uncopied, None
        if copy is not None:
            self._copied_at = self.worker.clock.monotonic()
            with suppress(FolderError):
                copy()

    def _copy(self, generation: Generation, round_: int, accuracy: float | None, key: tuple[int, str]) -> None:
        """Refresh the copies for people; those of the last round for good, since nobody writes them again."""
        attempt, worker = key
        facts = {
            "item": self.item.id,
            "round": round_,
            "rounds": self.rounds,
            "accuracy": accuracy,
            "attempt": attempt,
            "worker": worker,
            "machine": self.queue.machine_name(worker),
        }
        self.checkpoints.derive(self.exp, generation, facts, durable=round_ >= self.rounds)

    def _copy_last(self, resumed: Resumed) -> None:
        """Whoever saved the last round may have died before its copies were written, and no later round will do it."""
        ckpt = next(ckpt for ckpt in self._recorded() if ckpt.file == resumed.file)
        generation = self.checkpoints.saved(self.item.exp, ckpt)
        if generation is not None:
            with suppress(FolderError):
                self._copy(generation, ckpt.round, ckpt.accuracy, ckpt.key)

    def _recorded(self) -> list[Ckpt]:
        """The saved rounds that the item can have, the latest first."""
        with self.queue.store.lock:
            recorded = self.queue.store.fold.generations(self.item.id)
        return [ckpt for ckpt in recorded if 0 < ckpt.round <= self.rounds]

    def _gate(self) -> None:
        check_folder(self.queue, self.item.id)
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
        beyond = [ckpt for ckpt in self._recorded() if ckpt.round > len(self.rows) and ckpt.base == self.base]
        beyond = [ckpt for ckpt in beyond if ckpt.file not in self._unfit]
        return self.checkpoints.latest(self.item.exp, self.item.id, beyond, self.quarantine)[0]

    def _status(self, round_: int, done_clients: int, left_s: float | None) -> None:
        report = self.queue.report
        report.running, report.round, report.steps = self.item.id, round_ - 1, report.steps + 1
        report.clients = f"{done_clients}/{self.clients}"
        report.eta_s = left_s if left_s is not None else report.eta_s
        if done_clients and self.worker.clock.monotonic() - self._told_at < STATUS_EVERY_S:
            return
        self._told_at = self.worker.clock.monotonic()
        accuracy = f"   accuracy {self.rows[-1].accuracy:.3f}" if self.rows else ""
        left = f"   left {wording.clock_face(report.eta_s)}" if report.eta_s is not None else ""
        shown = min(round_, self.rounds)
        self.reporter.status(f"{self.exp}   Round {shown}/{self.rounds}, training {self.on}{accuracy}{left}")


def _sound(events: Iterator[Event], resumed: Resumed) -> Iterator[Event]:
    """The events of a run that goes on from a saved round. What fails before the first of them is that round's fault: its bytes
    are what some writer wrote, and nobody knows which. A later error is the run's own.

    Raises:
        DamagedError: the state is not one of this run.
    """
    try:
        first = next(events, None)
    except (FedspecError, MemoryError, OSError):
        raise
    except Exception as error:
        if type(error).__name__ == "OutOfMemoryError":
            raise
        what = f"The checkpoint of round {resumed.round} is of no use: {type(error).__name__}: {wording.one_line(str(error))}."
        raise DamagedError(what, "Nothing to do.") from error
    if first is not None:
        yield first
        yield from events


def check_folder(queue: WorkDistributor, item_id: str = "") -> None:
    """Raise FolderError if the items' files are gone, which no worker ever writes, whatever is in their place.

    The share may have been disconnected: going on would make another queue on the disk below it.

    Args:
        item_id: the one to look for first: a folder may hold thousands.
    """
    place, files = queue.workspace, queue.files
    if not queue.store.items or (item_id and files.size(place.plan(item_id)) is not None) or files.has_files(place.plans):
        return
    raise FolderError(
        f"The queue in {place.queue} is gone.",
        "Connect the shared folder again, then run the same command again; what was saved so far is kept.",
    )

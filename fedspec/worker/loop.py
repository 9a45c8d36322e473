"""The worker: goes from item to item until none is left, and journals how each attempt ended.

It is a generator that yields the seconds it wants to wait, so that one thread, or a simulation of many machines, can drive it.
"""

from __future__ import annotations

import traceback
from collections.abc import Collection, Iterator
from contextlib import suppress

from fedspec.checkpoints import CheckpointManager
from fedspec.errors import CapabilityError, ExperimentError, FolderError, SetupError, SupersededError, TakenError, UsageError
from fedspec.jobs import OpenJob
from fedspec.worker.attempt import Attempt, check_folder
from fedspec.worker.gang import Incomplete, assist, gather
from fedspec.worker.patience import Patience
from fedspec.worker.signals import Reporter, Stopped, StopSignal
from fedspec.workqueue import wording
from fedspec.workqueue.distributor import WorkDistributor
from fedspec.workqueue.fold import ROOT
from fedspec.workqueue.rules import Drained, Finished, Held, Wait
from fedspec.workqueue.wording import in_words

# How long a folder that does not answer is tried again, in times of a dead peer: a share may restart meanwhile.
AWAY = 5
# Where all see one folder, what this worker waits for may end at any moment: it looks first after so many seconds, and whenever
# it has waited for as long again, up to the time between two polls.
FIRST_LOOK_S = 0.05


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
        self.clock = queue.clock
        self.finished: Finished | None = None
        self._cleared: set[str] = set()
        self._waited_s = 0.0

    def steps(self) -> Iterator[float]:
        """Work until every item is done, yielding seconds to wait. The process must have joined the queue.

        Raises:
            Stopped: a person asked for it.
        """
        patience = Patience(AWAY * self.queue.timing.dead, self.queue.timing.poll)
        began = False
        while True:
            if self.stop.requested:
                raise Stopped
            try:
                if not began:
                    self._publish(thorough=True)
                    began = True
                yield from self._next()
                patience.reset()
            except FolderError as error:
                if not error.passing or patience.is_over(self.clock.awake_or_asleep()):
                    raise
                if patience.is_new:
                    self.reporter.event(f"warn: {error.what} Trying again for {in_words(patience.length_s)}. {error.fix}")
                yield self.queue.timing.poll
            if self.finished is not None:
                return

    def _next(self) -> Iterator[float]:
        """Claim an item and work on it; wait if there is none; `finished` is set if there will be none."""
        check_folder(self.queue)
        self._publish()
        action = self.queue.claim(self.only)
        waited_s, self._waited_s = self._waited_s, 0.0
        match action:
            case Finished():
                yield from self._linger()
                check_folder(self.queue)  # it may have gone meanwhile
                self._publish(thorough=self.queue.timing.syncs, leaving=True)
                if (refused := self.queue.publisher.refused) is not None:
                    raise refused
                self.finished = action
            case Drained():
                raise Stopped("Nothing more is taken, as 'fedspec queue drain' asked for.")
            case Wait():
                self.reporter.status(wording.waiting(action.blocked, self.queue.machine_name))
                timing = self.queue.timing
                pause = timing.poll if timing.syncs else min(timing.poll, max(waited_s, FIRST_LOOK_S))
                self._waited_s = waited_s + pause
                yield pause
            case Held():
                yield from self._run(action)

    def _linger(self) -> Iterator[float]:
        """Where copies of the folder meet later, stay until the others have confirmed the results, but not for ever."""
        if not self.queue.timing.syncs:
            return
        until = self.clock.awake_or_asleep() + 2 * self.queue.timing.settle
        while (left := until - self.clock.awake_or_asleep()) > 0 and not self.stop.requested and self.queue.unconfirmed():
            self.reporter.status(f"All done. Waiting up to {in_words(left)} for the other machines to confirm.")
            yield min(left, self.queue.timing.poll)

    def _settle(self, held: Held) -> Iterator[float]:
        """Ask the others: a rival's claim is seen once all have read ours, or has had the time that the folder takes."""
        until = self.clock.awake_or_asleep() + self.queue.timing.settle
        while (left := until - self.clock.awake_or_asleep()) > 0 and not self.stop.requested:
            reason = self.queue.must_stop(held)
            if reason is not None:
                raise SupersededError(f"{held.item.exp} was {reason}.", "Nothing is lost; this worker takes the next item.")
            if self.queue.agreed(held):
                break
            self.reporter.status(f"Claimed {held.item.exp}. Waiting up to {in_words(left)} for the folder to agree.")
            yield min(left, self.queue.timing.poll)
        if self.stop.requested:
            raise Stopped

    def _run(self, held: Held) -> Iterator[float]:
        try:
            self._publish()
            yield from self._settle(held)
            if held.role:
                yield from gather(self, held)
            if held.role in ("", ROOT):
                yield from Attempt(self, held).steps()
            else:
                yield from assist(self, held)
        except SupersededError as error:
            text = self._dropped(held, error)
            self.queue.give_back(held, error.what)
            self.reporter.event(text)
        except Incomplete as short:
            self.queue.give_back(held, str(short))
            self.reporter.status(f"{short}. It is tried again when more are free.")
        except Stopped:
            self.queue.give_back(held, "stopped on request")
            raise
        except KeyboardInterrupt:
            with suppress(RuntimeError, FolderError):  # in the middle of a journal line, say, and no other can follow
                self.queue.give_back(held, "aborted")
            raise
        except TakenError as error:
            # A place of this item alone, or the journal would not take this either: the other items go on.
            self._failed(held, "transient", f"{error.what} {error.fix}")
        except FolderError as error:
            # The folder does not take writes just now. What was journalled follows when it does, and so does this item.
            with suppress(FolderError):  # nor does this machine's own disk: the next attempt to write ends the process
                self.queue.give_back(held, error.what)
            raise
        except CapabilityError as error:
            self._failed(held, "capability", error.what, error.fix)
        except (ExperimentError, UsageError) as error:
            self._failed(held, "final", error.what)
        except SetupError:
            raise
        except (OSError, MemoryError) as error:
            self._failed(held, "transient", f"{type(error).__name__}: {error}")
        except Exception as error:
            # torch's own: the device is too small for the item, another machine's may not be.
            fault = "capability" if type(error).__name__ == "OutOfMemoryError" else "code"
            self._failed(held, fault, f"{type(error).__name__}: {error}")

    def _failed(self, held: Held, fault: str, reason: str, fix: str = "") -> None:
        self.queue.failed(held, fault, f"{reason} {fix}".rstrip(), traceback.format_exc())
        self.reporter.event(wording.failed(held.item.exp, fault, reason, fix))

    def _dropped(self, held: Held, error: SupersededError) -> str:
        name = self.queue.machine_name
        with self.queue.store.lock:
            fold = self.queue.store.fold
            done, owner = fold.canonical(held.item.id), fold.owner(held.item.id)
        done_by = name(done.worker) if done else ""
        rival = name(owner[1]) if owner and owner != held.key else ""
        round_ = self.queue.report.round + 1 if self.queue.report.running == held.item.id else 0
        return wording.dropped(error, held.item.exp, name(held.worker), done_by=done_by, rival=rival, round_=round_)

    def _publish(self, *, thorough: bool = False, leaving: bool = False) -> None:
        # Whoever was stopped for long may hold an older result than the one that counts by now.
        self.queue.refresh()
        self.queue.seal()
        self._clear()
        self.take_stock()
        self.queue.caretaker.look_after(thorough=thorough, leaving=leaving)
        for note in self.queue.caretaker.news():
            self.reporter.event(f"note: {note}")

    def take_stock(self) -> None:
        """Tell the others up to which round this machine has the generations of what is not done: they clean up by it."""
        if not self.queue.timing.syncs:
            return
        with self.queue.store.lock:
            fold, items = self.queue.store.fold, self.queue.store.items
            # Asked after each client: of thousands of items few have saved rounds and no result.
            begun = [item_id for item_id, state in fold.items.items() if state.generations and item_id not in fold.finished]
            going = [items[i] for i in begun if i in items and fold.status(i) in ("running", "pending")]
            recorded = [(item, fold.generations(item.id)) for item in going]
        self.queue.report.have = {
            item.id: next((ckpt.round for ckpt in saved if self.checkpoints.whole(item.exp, ckpt)), 0)
            for item, saved in recorded
        }

    def _clear(self) -> None:
        """Delete the saved rounds of results that never change again; the copy for people stays."""
        with self.queue.store.lock:
            fold = self.queue.store.fold
            items, left = self.queue.store.items, sorted(fold.finished - self._cleared)
            over = [items[i] for i in left if i in items and fold.status(i) == "sealed"]
        for item in over:
            with suppress(FolderError):
                self.checkpoints.clear(item.exp, fold.generations(item.id))
                self._cleared.add(item.id)

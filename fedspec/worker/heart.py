"""The thread that polls the folder and beats beside a worker, and driving a worker with it."""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from fedspec.errors import FolderError
from fedspec.worker.attempt import check_folder
from fedspec.worker.loop import Worker
from fedspec.worker.signals import Reporter, Stopped
from fedspec.workqueue.distributor import WorkDistributor
from fedspec.workqueue.rules import Finished


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
                self.queue.caretaker.glance()
                for note in self.queue.caretaker.news():
                    self.reporter.event(f"note: {note}")
                complained = ""
            except Exception as error:
                # Peers see a silent worker and wait; the next write of the trainer decides whether to go on.
                if complained != str(error):
                    self.reporter.event(f"warn: no heartbeat: {error}")
                    complained = str(error)


@contextmanager
def _imports_kept() -> Iterator[None]:
    """Keep what has been imported so far from the garbage collector: walking through all of torch takes 3 % of small runs."""
    if gc.get_freeze_count():
        yield
        return
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def drive(worker: Worker) -> Finished:
    """Run a worker in this thread, with its heartbeat in another.

    Raises:
        Stopped: a person asked for it; the claim is given back and the process has left the queue.
        FolderError: nothing can be written; this machine's next process closes our journal and brings along what is missing.
    """
    try:
        with _imports_kept(), Heart(worker.queue, worker.reporter):
            for seconds in worker.steps():
                if seconds:
                    worker.clock.sleep(seconds, worker.stop.wake)
    except Stopped:
        worker.queue.caretaker.show(leaving=True)
        worker.queue.leave("stopped on request")
        raise
    except KeyboardInterrupt:
        # As in `Worker`; peers then find this process silent, and its machine knows at once.
        with suppress(RuntimeError, FolderError):
            worker.queue.leave("aborted")
            worker.queue.caretaker.show()
        raise
    worker.queue.leave("finished")
    assert worker.finished is not None
    return worker.finished

"""How long a worker tries what may work again without anybody doing anything, and waits for what is on its way."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from fedspec.errors import SupersededError
from fedspec.worker.signals import Stopped
from fedspec.workqueue.rules import Held
from fedspec.workqueue.wording import in_words

if TYPE_CHECKING:
    from torch import Tensor

    from fedspec.worker.loop import Worker

T = TypeVar("T")


@dataclass(slots=True)
class Patience:
    """Seconds of trying, about one try a ``poll_s``, until it is over.

    A try counts for two polls at most: the machine may have slept since the last one, and what was out of reach then has had
    no time since.
    """

    length_s: float
    poll_s: float
    spent_s: float = 0.0
    is_new: bool = True
    _last: float | None = None

    @property
    def left_s(self) -> float:
        """Seconds."""
        return max(0.0, self.length_s - self.spent_s)

    def is_over(self, now: float) -> bool:
        """Whether to give up; called at each failure."""
        self.is_new = self._last is None
        if self._last is not None:
            self.spent_s += min(now - self._last, 2 * self.poll_s)
        self._last = now
        return self.spent_s >= self.length_s

    def reset(self) -> None:
        """It works."""
        self.spent_s, self._last = 0.0, None


def had_in_time(worker: Worker, held: Held, look: Callable[[], tuple[T, str]], length_s: float) -> Generator[float, None, T]:
    """What ``look`` finds: at once if it lacks nothing, else what there is when ``length_s`` is over.

    Args:
        look: returns what there is, and what is lacking, as a sentence without a full stop, "" if nothing.

    Raises:
        SupersededError: another worker has the item meanwhile. Stopped: a person asked for it.
    """
    patience = Patience(length_s, worker.queue.timing.poll)
    while True:
        found, lacking = look()
        if not lacking or patience.is_over(worker.clock.awake_or_asleep()):
            return found
        tell = worker.reporter.event if patience.is_new else worker.reporter.status
        tell(f"{held.item.exp}: {lacking}. Waiting up to {in_words(patience.left_s)} for it.")
        yield from pause(worker, held)


def found_base(worker: Worker, names: Iterable[str], awaited: str) -> tuple[Mapping[str, Tensor] | None, str]:
    """The first of these frozen bases that can be had; and what keeps the ``awaited`` one away just now, "" if nothing does."""
    lacking = ""
    for name in filter(None, names):
        try:
            if (found := worker.checkpoints.load_base(name)) is not None:
                return found, lacking
            if worker.queue.timing.syncs and name == awaited:  # journals are small, and arrive before what they tell of
                lacking = lacking or "its frozen base has not arrived, or not all of it"
        except OSError as error:
            lacking = lacking or f"its frozen base cannot be read ({error.strerror or type(error).__name__})"
    return None, lacking


def pause(worker: Worker, held: Held) -> Iterator[float]:
    """Wait one poll, and leave if the place is lost or a person asks."""
    yield worker.queue.timing.poll
    reason = worker.queue.must_stop(held)
    if reason is not None:
        raise SupersededError(f"{held.item.exp} was {reason}.", "Nothing is lost; this worker takes the next item.")
    if worker.stop.requested:
        raise Stopped

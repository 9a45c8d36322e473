"""Who takes part, what they are known to have read, and whose turn an item is where no lock decides.

Pure: the fold, the acknowledgements and the judgement of who is silent come in as values.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from fedspec.plan import Item
from fedspec.workqueue.fold import Fold, weight
from fedspec.workqueue.records import Done, is_worker, machine_of

# worker -> how many records of each other worker it has said to have read.
Acks = Mapping[str, Mapping[str, int]]


@dataclass(frozen=True, slots=True)
class Members:
    """The workers that take part, as one of them sees it.

    Attributes:
        me: the worker that looks.
        live: workers that may claim, ``me`` among them, each with what it offers.
        known: whether all of them know of me, or have had the time to.
    """

    me: str
    live: Mapping[str, Collection[str]] = field(default_factory=dict)
    known: bool = True

    @property
    def others(self) -> list[str]:
        """Live workers of other machines. This machine's own exclude each other by a lock."""
        mine = machine_of(self.me)
        return [worker for worker in self.live if machine_of(worker) != mine]

    def first(self, task: str) -> str:
        """The one of them that does a task for all."""
        return max(self.live, key=lambda worker: weight(task, worker), default=self.me)

    def share_of(self, item: Item, among: Collection[str] | None = None) -> str:
        """Whose turn the item is, by the weights of all who can run it, or of those ``among`` them."""
        able = [
            worker
            for worker, offers in self.live.items()
            if (among is None or worker in among) and all(need in offers for need in item.needs)
        ]
        return max(able or [self.me], key=lambda worker: weight(item.id, worker))


def members(fold: Fold, me: str, silent: Collection[str], known: bool) -> Members:
    """Everybody who has said hello, is not gone, and is not ``silent``, as ``me`` sees it."""
    live = {
        worker: state.hello.capabilities
        for worker, state in fold.workers.items()
        if state.hello is not None and (worker == me or (worker not in silent and not fold.gone(worker)))
    }
    return Members(me, live, known)


def have_read(acks: Acks, workers: Collection[str], author: str, seq: int) -> bool:
    """Whether each of ``workers`` has acknowledged the record ``seq`` of ``author``."""
    return all(acks.get(worker, {}).get(author, 0) > seq for worker in workers)


class Absent:
    """Machines without a worker that is known to be there, none of which has heard of ``me``.

    One may have begun again, apart from this one. If an earlier worker of it has read of ``me``, its next one knows that and
    waits; if not, it may take this machine for gone, as this one does it, and both would seal.
    """

    def __init__(self, fold: Fold, acks: Acks, me: str) -> None:
        line = _line(fold, me)
        met = {machine_of(worker) for worker, seen in acks.items() if any(seen.get(greeter, 0) > 0 for greeter in line)}
        here = {machine_of(worker) for worker in fold.workers if not fold.gone(worker)} | {machine_of(me)}
        greeted = ((state.hello.lam, worker) for worker, state in fold.workers.items() if state.hello is not None)
        last = {machine_of(worker): worker for _, worker in sorted(greeted)}
        # Nobody comes back under an id that its machine has changed.
        self._last = {
            machine: worker
            for machine, worker in last.items()
            if machine not in here and machine not in met and not fold.retired(worker) and worker not in fold.inherited
        }
        self._seen: dict[str, list[Mapping[str, int]]] = {machine: [] for machine in self._last}
        for worker, seen in acks.items():
            if machine_of(worker) in self._seen:
                self._seen[machine_of(worker)].append(seen)

    def __len__(self) -> int:
        return len(self._last)

    def unaware(self, done: Done) -> Iterator[str]:
        """The last worker of each that has not heard of the result either, and is not its author."""
        for machine, worker in self._last.items():
            if machine != machine_of(done.worker) and not any(s.get(done.worker, 0) > done.seq for s in self._seen[machine]):
                yield worker


def _line(fold: Fold, me: str) -> list[str]:
    """``me``, and those that it has followed without a good-bye: who has heard of one of them thinks none of them gone.

    Not if another one that has followed it too has left: who has heard that from both knows of nobody else.
    """
    line = [me]
    for worker in line:
        state = fold.workers.get(worker)
        closes = state.hello.closes if state is not None and state.hello is not None else {}
        followed = (old for old in closes if all(by == worker or not fold.gone(by) for by in fold.closers[old]))
        line += [old for old in followed if old in fold.workers and not fold.workers[old].bye and old not in line]
    return line


class Settlement:
    """From whom another result, or a seal, might still come, as ``me`` sees it: a result is sealed once there is nobody.

    Each worker ever heard of must have acknowledged it, or be gone with all its records here. Obligations pass from a dead
    process to its machine's next one, which closes it; those of a machine that never returns end when a person retires it.
    Holds while neither the fold nor the acknowledgements change: what is the same for all results is found once.

    Args:
        views: of each worker, the `Fold.view_of_the_gone` that it last told: who knows of others that are gone may know a seal.
        absent: finds the machines that may be at work again without a word of it here, where copies of the folder meet later.
        read: of each worker how many records this machine's earlier processes had read: what they have acknowledged stands
            where the folder was put back to an earlier state.
    """

    def __init__(
        self,
        fold: Fold,
        acks: Acks,
        views: Mapping[str, str],
        me: str,
        absent: Callable[[], Absent | None] = lambda: None,
        read: Mapping[str, int] | None = None,
    ) -> None:
        self.fold, self.acks = fold, acks
        mine = fold.view_of_the_gone()
        # Of a worker that its machine has closed nothing may have arrived here yet; -1: it never wrote a word.
        unheard = [worker for worker, last in fold.closed.items() if last >= 0 and worker not in fold.workers]
        # Whoever has a word in it, and whether that is missing for every result.
        self._asked = {
            worker: fold.gone(worker) or views.get(worker) != mine
            for worker in sorted([*fold.workers, *unheard])
            if worker != me and not fold.retired(worker) and not fold.read_to_the_end(worker)
        }
        # Peers know somebody whose first word has not arrived here, or this machine knew more of somebody than is here now.
        strangers = {other for seen in acks.values() for other in seen if other not in fold.workers}
        strangers |= {worker for worker, length in (read or {}).items() if fold.length(worker) < length}
        self.strangers = sorted(
            worker for worker in strangers if is_worker(worker) and not fold.retired(worker) and worker not in fold.forks
        )
        self._open = bool(self.strangers) or any(self._asked.values())
        self._read_by_all: dict[str, float] = {}
        self._find_absent = absent

    def missing(self, done: Done) -> Iterator[str]:
        """Workers from which another result, or a seal, might still come."""
        author_is_gone = self._is_in_the_view(done.worker)
        for worker, anyway in self._asked.items():
            if anyway or not (author_is_gone or have_read(self.acks, [worker], done.worker, done.seq)):
                yield worker
        yield from self.strangers
        yield from self._absent.unaware(done) if self._absent else ()

    def may_change(self, done: Done) -> bool:
        """Whether any is `missing`, in a time that does not depend on how many take part."""
        if self._open or (self._read_count(done.worker) <= done.seq and not self._is_in_the_view(done.worker)):
            return True
        return bool(self._absent and any(self._absent.unaware(done)))

    @cached_property
    def _absent(self) -> Absent | None:
        return self._find_absent()

    def _is_in_the_view(self, author: str) -> bool:
        """Beats leave out those that are gone, but the retired; a peer with the same view has read all that they wrote."""
        return self.fold.read_to_the_end(author) and not self.fold.retired(author)

    def _read_count(self, author: str) -> float:
        """How many of the author's records everybody has read."""
        if author not in self._read_by_all:
            counts = (self.acks.get(worker, {}).get(author, 0) for worker in self._asked)
            self._read_by_all[author] = min(counts, default=float("inf"))
        return self._read_by_all[author]

"""A member's sign of life and its eye on the others': heartbeats, how long each has been silent, and how slow the folder is."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

from fedspec.clock import Clock, timestamp
from fedspec.workqueue.liveness import Lag, Timing, Watch
from fedspec.workqueue.members import Members, have_read, members
from fedspec.workqueue.records import machine_of
from fedspec.workqueue.store import Beat, Store


@dataclass(slots=True)
class Report:
    """What the trainer tells the heartbeat; written by one thread, read by another."""

    running: str = ""
    round: int = 0
    clients: str = ""
    steps: int = 0
    eta_s: float | None = None
    # By item the latest round whose generation is in this machine's folder.
    have: dict[str, int] = field(default_factory=dict)


@dataclass(slots=True)
class _Idle:
    """For how long the trainer has made no step. Like a peer's silence: sleep adds at most two poll intervals."""

    looked_at: float
    step: tuple[str, int] = ("", 0)
    seconds: float = 0.0

    def look(self, report: Report, now: float, longest: float) -> None:
        step = (report.running, report.steps)
        self.seconds = self.seconds + min(now - self.looked_at, longest) if step == self.step else 0.0
        self.looked_at, self.step = now, step


class Pulse:
    """The heart of one worker. All calls come under the store's lock."""

    def __init__(self, store: Store, clock: Clock, timing: Timing, lag: Lag) -> None:
        self.store, self.clock, self.lag = store, clock, lag
        self.report = Report()
        self._given = timing
        self._watch = Watch(timing.with_lag(lag))
        self._joined_at = clock.awake_or_asleep()
        self._beats = 0
        self._next_beat = 0.0
        self._answered = 0
        self._idle = _Idle(clock.awake_or_asleep())

    @property
    def timing(self) -> Timing:
        """The folder's waiting times, as its lag has been measured to be."""
        return self._watch.timing

    def wrote(self, seq: int) -> None:
        """This worker's record ``seq`` was written just now."""
        self.lag.wrote(seq, self.clock.awake_or_asleep())

    def look(self, me: str) -> None:
        """Read the others' beats and count how long each has been silent."""
        self.store.read_beats()
        now = self.clock.awake_or_asleep()
        self._idle.look(self.report, now, 2 * self.timing.poll)
        before, samples = self._watch.presumed_dead(), self.lag.samples
        self._watch.poll(now, self._signs(me))
        for peer in before:
            self.lag.forget(peer)
        mine = machine_of(me)
        for peer, seen in self.store.acks.items():
            if machine_of(peer) != mine:
                self.lag.acknowledged(peer, seen.get(me, 0), now)
        if self.lag.samples is not samples:
            self._watch.timing = self._given.with_lag(self.lag)

    def due(self) -> bool:
        """Whether to beat now: it is time, or somebody has asked something that a beat answers."""
        return self.clock.awake_or_asleep() >= self._next_beat or self._answered != self.store.asked

    def beat(self, me: str, seq: int) -> None:
        """Write the heartbeat; ``seq`` is the number of this worker's records."""
        now = self.clock.awake_or_asleep()
        self._beats += 1
        self._next_beat, self._answered = now + self.timing.beat, self.store.asked
        fold, report = self.store.fold, self.report
        # Of those that are gone it is told whose results still wait for this machine to confirm them.
        provisional = {author for item_id in fold.unsealed for _, author in fold.item(item_id).done}
        self.store.write_beat(
            Beat(
                worker=me,
                n=self._beats,
                seq=seq,
                running=report.running,
                round=report.round,
                clients=report.clients,
                steps=report.steps,
                idle=round(self._idle.seconds, 1),
                eta=None if report.eta_s is None else round(report.eta_s, 1),
                wall=timestamp(self.clock.now()),
                seen={
                    worker: state.length
                    for worker, state in fold.workers.items()
                    if worker in provisional or fold.retired(worker) or not fold.read_to_the_end(worker)
                },
                have=dict(report.have),
                gone=fold.view_of_the_gone(),
            )
        )

    def silent(self) -> frozenset[str]:
        """Peers that are presumed dead, and of which nothing has been read since the last look at them."""
        store = self.store
        return frozenset(p for p in self._watch.presumed_dead() if self._watch.sign(p) == _sign(store, p))

    def settled(self) -> bool:
        """Whether the folder has had its settle time since this machine last slept."""
        return self._watch.settled(self.clock.awake_or_asleep())

    def has_been_here(self, times: int = 1) -> bool:
        """Whether this worker joined at least a settle time ago, or so many."""
        return self.clock.awake_or_asleep() - self._joined_at >= times * self.timing.settle

    def members(self, me: str, dead: Collection[str]) -> Members:
        """Who takes part, as far as is known here."""
        crowd = members(self.store.fold, me, dead, known=True)
        if self.has_been_here() or (crowd.others and have_read(self.store.acks, crowd.others, me, 0)):
            return crowd
        return Members(me, crowd.live, known=False)

    def everywhere(self, me: str, item_id: str) -> float:
        """The latest round of which every other worker that has not left is known to have the generation.

        Silent ones count: what they miss may be on its way, and what is deleted here may reach them first.
        """
        told = self.store.told
        others = members(self.store.fold, me, (), known=True).others
        return min((told[other].have.get(item_id, 0) if other in told else 0 for other in others), default=float("inf"))

    def _signs(self, me: str) -> dict[str, tuple[int, int]]:
        fold = self.store.fold
        return {worker: _sign(self.store, worker) for worker in fold.workers if worker != me and not fold.gone(worker)}


def _sign(store: Store, worker: str) -> tuple[int, int]:
    """What changes as long as a worker lives: the length of its journal, and the number of its last beat."""
    beat = store.beats.get(worker)
    return store.length(worker), beat.n if beat is not None else 0

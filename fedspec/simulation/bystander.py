"""Who stands beside a simulated process and sees each promise broken at the moment when it is broken.

What can only be told when all is over is for `invariants`.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from fedspec.simulation.commands import Commands
from fedspec.simulation.hands import SimulatedFiles
from fedspec.workqueue.distributor import WorkDistributor
from fedspec.workqueue.fold import Key
from fedspec.workqueue.records import Ckpt, Claim, Ctl, Done, Fail, Seal, Start, Yield, decode, machine_of
from fedspec.workqueue.rules import gate
from fedspec.workqueue.store import Beat
from fedspec.workspace import CheckpointPaths

if TYPE_CHECKING:
    from fedspec.simulation.machine import Machine
    from fedspec.simulation.schedule import Course
    from fedspec.simulation.world import Process


@dataclass(frozen=True, slots=True)
class Sealing:
    """Machines, by number, that had a part in a seal: who wrote it, whose result it is, and those that it did not wait for.

    A seal waits for no machine that its writer has never heard of; for none that has left, and knows of the writer's machine
    or has said the result itself; and for none that counts as gone there though it may live: a person has retired it, or
    another machine that has a copy of its notes took its workers for its own dead.
    """

    result: Key
    sides: frozenset[int]
    left_out: frozenset[int]


@dataclass(slots=True)
class Books:
    """What is kept of a schedule beside the folders, and no machine knows.

    Attributes:
        journalled: of each worker how many records its machine's own copy has taken, and which machine that is.
        results: of each item the attempts that journalled one, where, and as which record. seals: who sealed an item first,
            and the workers that it knew of then. sealings: of each item all its seals.
        seen_sealed: of each machine and item the result that it first saw sealed: attempt, worker and rows.
        yielded: items given up, with the attempt that did and the one that it left the item to.
        commands: what people asked for.
    """

    journalled: dict[str, tuple[int, int]] = field(default_factory=dict)
    results: dict[str, dict[Key, tuple[Machine, int]]] = field(default_factory=dict)
    seals: dict[str, tuple[str, frozenset[str]]] = field(default_factory=dict)
    sealings: dict[str, list[Sealing]] = field(default_factory=dict)
    seen_sealed: dict[tuple[int, str], tuple[int, str, str]] = field(default_factory=dict)
    yielded: set[tuple[str, Key, Key]] = field(default_factory=set)
    commands: Commands = field(default_factory=Commands)

    def torn(self, item_id: str) -> bool:
        """Whether two sides have sealed an item differently of which neither waited for the other."""
        pairs = itertools.combinations(self.sealings.get(item_id, ()), 2)
        return any(a.result != b.result and a.sides & b.left_out and b.sides & a.left_out for a, b in pairs)


def may_give_way(course: Course, item_id: str, author: str) -> bool:
    """Whether the result of an author that was seen sealed need not be the result now.

    Neither of two sides waited for the other; or its author is gone for good, and a folder that was put back as a whole lost
    its journal, as whoever had read that may have ended: then another attempt gives the same (I4).
    """
    perished = course.counts["rewind"] and course.machines[course.books.journalled[author][1]].dead
    return course.books.torn(item_id) or bool(perished)


class Bystander:
    """The witness (`hands.Witness`) of one process, whose queue it may look into."""

    def __init__(self, course: Course, machine: Machine, process: Process, queue: WorkDistributor) -> None:
        self.course, self.machine, self.process, self.queue, self.world = course, machine, process, queue, course.world
        self.paths = CheckpointPaths(course.workspace.checkpoints)
        # Of each peer its last sign of life, and when by this machine's waking hours that came.
        self._signs: dict[str, tuple[tuple[int, int], float]] = {}

    def writes(self, path: Path, data: bytes) -> None:
        """I14: a heartbeat says to have read what its author has read, and nothing more. I16: nobody's edit is lost."""
        self._replaces(path)
        if path.parent != self.course.workspace.beats:
            return
        for worker, count in msgspec.json.decode(data, type=Beat).seen.items():
            if count > (read := self.queue.store.length(worker)):
                self._broken(f"I14: {path.stem} says to have read {count} records of {worker}, and has read {read}")

    def appends(self, path: Path, data: bytes) -> None:
        """I6, I9 and I13: nobody writes for an attempt that is over, but that it yields, nor of a round that is not on disk,
        nor claims the item of a peer that it has not watched being silent for long enough.

        What counts as over is what the worker itself has read. Its machine's own copy comes first: then the fold is still
        what it knew when it decided.
        """
        if not self._is_own_copy(path):
            return
        for record in map(decode, data.split(b"\n")[:-1]):
            if isinstance(record, Claim):
                self._takes(record)
            if isinstance(record, Yield):
                self._yields(record)
            if not isinstance(record, Start | Ckpt | Done | Fail):
                continue
            if (wish := self.course.books.commands.forbid(self.queue.store, record)) and not self._was_disturbed():
                self._broken(f"I16: {record.worker} wrote {type(record).__name__} though {wish}")
            reason = gate(self.queue.store.fold, record.item, record.key)
            if reason is not None:
                self._broken(f"I6: {record.worker} wrote {type(record).__name__} though it was {reason}")
            if isinstance(record, Ckpt) and not self._was_saved(record):
                self._broken(f"I9: {record.worker} journalled {record.file} before it was on disk")

    def appended(self, path: Path, data: bytes) -> None:
        """Keep the books, for I8 and I11: a record exists once the machine's own copy has it."""
        if not self._is_own_copy(path):
            return
        books, worker = self.course.books, self.queue.worker
        before, _ = books.journalled.get(worker, (0, 0))
        books.journalled[worker] = before + data.count(b"\n"), self.machine.number
        for record in map(decode, data.split(b"\n")[:-1]):
            if isinstance(record, Done):
                self._finishes(record)
            elif isinstance(record, Seal):
                self._seals(record)
            elif isinstance(record, Ctl):
                books.commands.given.append(record)

    def _finishes(self, done: Done) -> None:
        """I8: who has let another seal a result, being known to that one, journals no other."""
        books = self.course.books
        books.results.setdefault(done.item, {})[done.key] = self.machine, done.seq
        sealer, known = books.seals.get(done.item, ("", frozenset()))
        if done.worker in known and not self._was_disturbed():
            self._broken(f"I8: {done.worker} journalled a result of {done.item}, which {sealer} had sealed with another")

    def _seals(self, seal: Seal) -> None:
        """I8: who seals a result has read every other of those whom it knows, and those that a peer says to have read.

        What a machine that is gone for good, or that is retired, had not sent does not count.
        """
        books, fold = self.course.books, self.queue.store.fold
        known = frozenset(worker for worker in fold.workers if not fold.retired(worker))
        books.seals.setdefault(seal.item, (seal.worker, known))
        sides = frozenset({self.machine.number, books.journalled[seal.author][1]})
        sealing = Sealing((seal.attempt, seal.author), sides, self._left_out(seal.author))
        books.sealings.setdefault(seal.item, []).append(sealing)
        told = [seen for worker, seen in self.queue.store.acks.items() if not fold.gone(worker)]
        for key, (author, seq) in books.results.get(seal.item, {}).items():
            if key in fold.item(seal.item).done:
                continue
            elsewhere = key[1] not in fold.workers and any(seen.get(key[1], 0) > seq for seen in told)
            if (elsewhere or (key[1] in known and not author.dead)) and not self._was_disturbed():
                self._broken(f"I8: {seal.worker} sealed {seal.item} and had not read the result of {key[1]}")

    def _left_out(self, author: str) -> frozenset[int]:
        """Machines that a seal of the author's result does not wait for now: see `Sealing`."""
        fold, number = self.queue.store.fold, self.machine.number
        runs = {worker: number for worker, (_, number) in self.course.books.journalled.items()}
        heard_of = {number for worker, number in runs.items() if worker in fold.workers}
        waited_for = {number for worker, number in runs.items() if worker in fold.workers and not fold.gone(worker)}
        copied = {
            worker
            for worker, closers in fold.closers.items()
            if any(runs.get(worker) not in (None, runs.get(by)) for by in closers)
        }
        # A machine that has a copy of its notes takes what it said before for its own.
        copied |= {w for w, by in runs.items() if machine_of(w) == machine_of(self.queue.worker) and by != number}
        gone = {by for worker, by in runs.items() if fold.retired(worker) or worker in copied}
        staying = [worker for worker, state in fold.workers.items() if runs.get(worker) == number and not state.bye]
        met = {runs[w] for w, seen in self.queue.store.acks.items() if w in runs and any(seen.get(own, 0) for own in staying)}
        never_heard_of = set(range(len(self.course.machines))) - heard_of
        return frozenset((never_heard_of | gone | met | {runs[author]}) - waited_for)

    def _was_disturbed(self) -> bool:
        """Whether a folder was put back, or a machine's notes were copied."""
        return bool(self.course.counts["restore"] or self.course.counts["clone"])

    def removes(self, path: Path) -> None:
        """I9: the best intact generation that a machine at work has of an item is not deleted before the item is sealed."""
        self._replaces(path)
        item = next((item for item in self.course.items if path.parent == self.paths.generations(item.exp)), None)
        fold = self.queue.store.fold
        # Where a folder was put back as a whole, somebody may have lost the later ones since it told of them.
        if item is None or fold.status(item.id) == "sealed" or self.course.counts["rewind"]:
            return
        # By its workers: a machine that has a copy of another's notes goes by that one's id before it has said a word.
        runs = self.course.books.journalled
        states = fold.workers.items()
        at_work = {runs[w][1] for w, state in states if state.hello is not None and not fold.gone(w) and w in runs}
        for machine in self.course.living:
            copied = machine is not self.machine and machine.machine_id() == machine_of(self.queue.worker)
            # Of a machine that has a copy of its notes the worker must think that it is its own.
            if copied or machine.number not in at_work:
                continue
            # It may have heard of rounds that the one who deletes has not.
            folds = [fold, *(queue.store.fold for queue in machine.minds.values())]
            known = sorted((ckpt for one in folds for ckpt in one.generations(item.id)), key=lambda ckpt: -ckpt.round)
            best = next(self._intact(machine, item.exp, known), None)
            if best is not None and best.file == path.name:
                self._broken(f"I9: {path.name} was deleted, the best that {machine.name} has of {item.exp}")

    def _replaces(self, path: Path) -> None:
        """I16. Who was stopped in the middle may have looked before the person wrote."""
        held = self.machine.ground.disk.contents.get(path)
        files = self.queue.files
        stopped = isinstance(files, SimulatedFiles) and files.resumed_at == self.world.now
        if not stopped and self.course.books.commands.write_over(self.queue, path, held):
            self._broken(f"I16: {self.process.name} put something else in the place of what a person wrote into {path.name}")

    def looks(self) -> None:
        """I8: what this machine has once seen sealed is still the result, but where it `may_give_way`."""
        self._watch()
        fold = self.queue.store.fold
        for item in self.course.items:
            if (done := fold.canonical(item.id)) is not None and fold.status(item.id) == "sealed":
                told = (done.attempt, done.worker, done.rows)
                first = self.course.books.seen_sealed.setdefault((self.machine.number, item.id), told)
                if first != told and not may_give_way(self.course, item.id, first[1]):
                    self._broken(f"I8: {item.exp} was sealed, and has another result now")

    def _takes(self, claim: Claim) -> None:
        """I13. This machine's own dead are known at once, and who has copied another machine's notes may be wrong about those.

        A sleep of our own may add two polls to a peer's age, and the witness may see a sign two polls after the process.
        """
        self._watch()
        store, timing = self.queue.store, self.course.profile.timing
        owner = store.fold.owner(claim.item)
        if owner is None or machine_of(owner[1]) == machine_of(claim.worker) or self.course.counts["clone"]:
            return
        if claim.role:
            return  # who takes a place in a gang takes it from nobody
        silent_s = self.process.monotonic() - self._signs[owner[1]][1]
        if silent_s < timing.dead - 6 * timing.poll:
            self._broken(f"I13: {claim.worker} took over from {owner[1]}, silent for {silent_s:.0f} s")

    def _yields(self, given: Yield) -> None:
        """I2: of two rivals one goes on, whichever of them looks."""
        fold = self.queue.store.fold
        owner = fold.owner(given.item)
        # Who was retired yields to that, not to a rival.
        if owner is not None and owner != given.key and not fold.gone(given.worker):
            self.course.books.yielded.add((given.item, given.key, owner))
            if (given.item, owner, given.key) in self.course.books.yielded:
                self._broken(f"I2: {given.worker} and {owner[1]} have yielded {given.item} to each other")

    def _watch(self) -> None:
        store, now = self.queue.store, self.process.monotonic()
        for worker in store.fold.workers:
            beat = store.beats.get(worker)
            sign = (store.length(worker), beat.n if beat is not None else 0)
            if self._signs.get(worker, (None, 0.0))[0] != sign:
                self._signs[worker] = sign, now

    def _is_own_copy(self, path: Path) -> bool:
        return self.queue.joined and path == self.queue.slots.local.journal_copy(self.queue.worker)

    def _intact(self, machine: Machine, exp: str, generations: list[Ckpt]) -> Iterator[Ckpt]:
        """Those that are in the machine's folder as their writer wrote them, the best first."""
        for ckpt in generations:
            data = machine.ground.disk.contents.get(self.paths.generation(exp, ckpt.file))
            if data is not None and hashlib.sha256(data).hexdigest() == ckpt.sha256:
                yield ckpt

    def _was_saved(self, record: Ckpt) -> bool:
        """It may be gone by now: a worker that was stopped just before this record may have been overtaken by two rounds."""
        path = self.paths.generation(self.queue.store.items[record.item].exp, record.file)
        data = self.machine.ground.disk.contents.get(path)
        return path in self.world.writers if data is None else hashlib.sha256(data).hexdigest() == record.sha256

    def _broken(self, promise: str) -> None:
        if promise not in self.world.breaches:
            self.world.breaches.append(promise)

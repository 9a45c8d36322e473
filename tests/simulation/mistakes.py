"""Known mistakes, each put into the production code by a subclass that does one thing wrong and all the rest right."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec

from fedspec.checkpoints import CheckpointManager, Generation, Recorded
from fedspec.clock import moment
from fedspec.results import Row, from_table
from fedspec.workqueue.caretaker import Caretaker
from fedspec.workqueue.distributor import Held, WorkDistributor
from fedspec.workqueue.fold import Fold, Key, weight
from fedspec.workqueue.journal import OwnJournal
from fedspec.workqueue.members import Settlement, have_read
from fedspec.workqueue.records import Attempt, Ctl, Done, Opaque, Record, line_hash, pack_rows, unpack_rows
from fedspec.workqueue.rules import Situation
from fedspec.workqueue.slots import Former, Slots
from fedspec.workqueue.store import Beat, Store
from fedspec.workqueue.view import Publisher

# Results


class RowsBeside(WorkDistributor):
    """Keeps a result's rows in a file of their own, beside the event."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.publisher = _FromFile(self.files, self.store)

    def done(self, held: Held, table: Mapping[str, Any], rounds: int, accuracy: float | None) -> None:
        file = self.workspace.results / f"{held.item.exp}.{held.attempt}.{held.worker}.rows"
        self.files.write(file, pack_rows(table).encode())
        super().done(held, {"file": file.name}, rounds, accuracy)


class _FromFile(Publisher):
    def rows(self, done: Done) -> list[Row]:
        try:
            data = self.files.read(self.store.workspace.results / unpack_rows(done.rows)["file"])
        except OSError as error:
            raise ValueError("its file is not here (yet)") from error
        return from_table(unpack_rows(data.decode()))


class PublishesOnce(WorkDistributor):
    """A CSV that is there is never rendered again, whatever becomes of the result."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.publisher = _Once(self.files, self.store)


class _Once(Publisher):
    def _replace(self, name: str, data: bytes) -> bool:
        return self.files.size(self.store.workspace.result(name)) is None and super()._replace(name, data)


# Journals


class Reopens(WorkDistributor):
    """A process goes on in the journal of the one before it, under the same name."""

    def _open_journal(self) -> str:
        for old in self.slots.dead(lambda worker: worker in self.store.fold.workers):
            release = self.files.hold(self.slots.local.slot_lock(old))
            if release is None:
                continue
            lines, _ = self.slots.history(old)
            journal = OwnJournal(self.files, self.clock, self.workspace, self.slots.local, old, self.store.add_line)
            journal.seq, journal._prev = len(lines), line_hash(lines[-1]) if lines else journal._prev
            journal._written = b"".join(line + b"\n" for line in lines)
            self._free_slot, self._journal = release, journal
            return old
        return super()._open_journal()


class SharesOneJournal(WorkDistributor):
    """All processes append to one file."""

    def _open_journal(self) -> str:
        worker = super()._open_journal()
        self._journal = _InOneFile(self.files, self.clock, self.workspace, self.slots.local, worker, self.store.add_line)
        return worker


class _InOneFile(OwnJournal):
    def _share(self) -> None:
        self.files.append(self.workspace.journals / "all.jsonl", self._unshared)
        self._unshared = b""

    def complete(self) -> None:
        self.flush()


class ForgetsWhoLeft(WorkDistributor):
    """Keeps no copy of the journals of workers that have left."""

    def _set_up(self) -> None:
        super()._set_up()
        self.slots = _NoArchive(self.slots.files, self.slots.local, self.slots.workspace, self.slots.new_hex)


class _NoArchive(Slots):
    def lines(self, former: Former) -> list[bytes] | None:
        return []


# Who may go on, and who is dead


class NoGate(WorkDistributor):
    """Goes on whatever the others have done meanwhile."""

    def must_stop(self, held: Held) -> str | None:
        return None

    @property
    def stop_reason(self) -> str | None:
        return None


class NoTakeover(WorkDistributor):
    """Nobody is ever presumed dead."""

    def _dead(self) -> frozenset[str]:
        return frozenset()


class ByTheWallClock(WorkDistributor):
    """A peer is dead if its heartbeat is older than the limit, by the wall clocks of both."""

    def _dead(self) -> frozenset[str]:
        limit = timedelta(seconds=self.timing.dead)
        told = {worker: moment(beat.wall) for worker, beat in self.store.beats.items()}
        return frozenset(worker for worker, then in told.items() if then and self.clock.now() - then > limit)


class ByItsOwnSleep(WorkDistributor):
    """A peer's age is the time since its last sign, one's own sleep and all."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._last: dict[str, tuple[tuple[int, int], float]] = {}

    def _dead(self) -> frozenset[str]:
        now = self.clock.awake_or_asleep()
        for worker in self.store.fold.workers:
            beat = self.store.beats.get(worker)
            sign = (self.store.length(worker), beat.n if beat else 0)
            if worker not in self._last or self._last[worker][0] != sign:
                self._last[worker] = sign, now
        return frozenset(worker for worker, (_, then) in self._last.items() if now - then > self.timing.dead)

    def _situation(self, only: Any) -> Situation:
        return replace(super()._situation(only), settled=True)


class _Owners(Fold):
    """``me``: who looks."""

    me = ""


class _Looking(WorkDistributor):
    def _open_journal(self) -> str:
        worker = super()._open_journal()
        assert isinstance(self.store.fold, _Owners)
        self.store.fold.me = worker
        return worker


class _Deaf(_Owners):
    def add(self, record: Record) -> None:
        if isinstance(record, Attempt) and not isinstance(record, Done) and record.worker != self.me:
            about = {name: getattr(record, name) for name in ("worker", "seq", "lam", "prev", "wall")}
            record = Opaque(**about)
        super().add(record)


class _DeafStore(Store):
    fold_type = _Deaf


class IgnoresPeers(_Looking):
    """Looks at nobody's claims but its own."""

    store_type = _DeafStore


class _Courteous(_Owners):
    def owner(self, item_id: str) -> Key | None:
        rivals = [key for key in self.live(item_id) if key[1] != self.me]
        return max(rivals, default=super().owner(item_id))


class _CourteousStore(Store):
    fold_type = _Courteous


class BothYield(_Looking):
    """Of two rivals each takes the other for the owner."""

    store_type = _CourteousStore


class _ByProgress(Fold):
    def owner(self, item_id: str) -> Key | None:
        attempts = self.item(item_id).attempts
        return max(self.live(item_id), key=lambda key: (attempts[key].saved, key[0], weight(item_id, key[1])), default=None)


class _ByProgressStore(Store):
    fold_type = _ByProgress


class ProgressDecides(WorkDistributor):
    """Of two rivals the one owns the item that is ahead."""

    store_type = _ByProgressStore


# Acknowledgements


class DoesNotAsk(WorkDistributor):
    """Begins as soon as its claim is written."""

    def agreed(self, held: Held) -> bool:
        return True


class _Hasty(Store):
    def read_beats(self) -> None:
        super().read_beats()
        self.told = dict(self.beats)


class HearsSayBeforeReading(WorkDistributor):
    """Counts a heartbeat as an acknowledgement though what its author wrote before is not here."""

    store_type = _Hasty


class _Boastful(Store):
    def write_beat(self, beat: Beat) -> None:
        said = {worker: held.seq for worker, held in self.beats.items()}
        heard = {worker: max(count, said.get(worker, 0)) for worker, count in beat.seen.items()}
        super().write_beat(msgspec.structs.replace(beat, seen=heard))


class AcknowledgesUnread(WorkDistributor):
    """Says that it has read what others say to have written."""

    store_type = _Boastful


class SealsByProcess(WorkDistributor):
    """Waits for the word of every process that ever lived."""

    def _may_change(self, done: Done, settlement: Settlement) -> bool:
        others = [w for w in self.store.fold.workers if w != self.worker and not self.store.fold.retired(w)]
        return not have_read(self.store.acks, others, done.worker, done.seq)


class SealsWithoutTheAbsent(WorkDistributor):
    """Waits only for the machines that show life."""

    def _may_change(self, done: Done, settlement: Settlement) -> bool:
        others = self._pulse.members(self.worker, self._dead()).others
        return not have_read(self.store.acks, others, done.worker, done.seq)


class SealsUnlikeTheOthers(WorkDistributor):
    """Seals, whatever others know of workers that are gone."""

    def _may_change(self, done: Done, settlement: Settlement) -> bool:
        fold = self.store.fold
        mine = dict.fromkeys(fold.workers, fold.view_of_the_gone())
        return Settlement(fold, self.store.acks, mine, self.worker).may_change(done)


class SealsDespiteStrangers(WorkDistributor):
    """Seals, though others have told of workers from which nothing has arrived here."""

    def _may_change(self, done: Done, settlement: Settlement) -> bool:
        fold = self.store.fold
        known = {by: {of: count for of, count in seen.items() if of in fold.workers} for by, seen in self.store.acks.items()}
        views = {worker: beat.gone for worker, beat in self.store.told.items()}
        return Settlement(fold, known, views, self.worker).may_change(done)


class SealsBeforeItHasMetThem(WorkDistributor):
    """Seals without machines that have left, and may have begun again without having heard of it."""

    def _may_change(self, done: Done, settlement: Settlement) -> bool:
        views = {worker: beat.gone for worker, beat in self.store.told.items()}
        return Settlement(self.store.fold, self.store.acks, views, self.worker).may_change(done)


# What people ask for, and what is remembered


class _Stubborn(Fold):
    def add(self, record: Record) -> None:
        if isinstance(record, Ctl) and record.item:
            about = {name: getattr(record, name) for name in ("worker", "seq", "lam", "prev", "wall")}
            record = Opaque(**about)
        super().add(record)


class _StubbornStore(Store):
    fold_type = _Stubborn


class IgnoresPeople(WorkDistributor):
    """No command about an item has any effect."""

    store_type = _StubbornStore


class WritesOverEdits(WorkDistributor):
    """Renders the queue for people, whoever has written into it."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.caretaker = _Careless(self)


class _Careless(Caretaker):
    def _take_in(self, path: Path) -> bool:
        return True


class _Forgetful(Fold):
    def _forget_items_of(self, worker: str) -> None:
        pass


class _ForgetfulStore(Store):
    fold_type = _Forgetful


class RemembersTheDead(WorkDistributor):
    """What was once found of an item stays, though a worker that had it is gone."""

    store_type = _ForgetfulStore


class GathersNobody(WorkDistributor):
    """Sees no members that could run an item together."""

    def _situation(self, only: Any) -> Situation:
        return replace(super()._situation(only), members=None)


# Machines that were retired and come back


class StaysDisowned(WorkDistributor):
    """Goes on under a name that counts as gone."""

    def _stay_member(self) -> str:
        self.store.catch_up()
        return ""


# Checkpoints


class OneFixedName(CheckpointManager):
    """Every round goes into the same file, and nobody looks whether it holds what was saved."""

    NAME = "r0000.a00.0-0.000000000000.pt"

    def save(self, exp: str, item_id: str, round_: int, attempt: int, worker: str, *rest: Any) -> Generation:
        made = super().save(exp, item_id, round_, attempt, worker, *rest)
        self.files.move(self.paths.generation(exp, made.file), self.paths.generation(exp, self.NAME))
        return replace(made, file=self.NAME)

    def _intact(self, exp: str, ckpt: Recorded) -> bytes | None:
        return self.files.read(self.paths.generation(exp, ckpt.file))


class EventFirst(CheckpointManager):
    """The journal names a generation, and then it is written."""

    def __init__(self, folder: str | Path, files: Any) -> None:
        super().__init__(folder, files)
        self._later = _Later(files)

    def save(self, *about: Any) -> Generation:
        kept, self.files = self.files, self._later
        try:
            return super().save(*about)
        finally:
            self.files = kept

    def derive(self, exp: str, generation: Generation, facts: Mapping[str, Any], *, durable: bool = False) -> None:
        self.files.write(self.paths.generation(exp, generation.file), generation.data)
        super().derive(exp, generation, facts, durable=durable)


class _Later:
    def __init__(self, files: Any) -> None:
        self.files = files

    def __getattr__(self, name: str) -> Any:
        return getattr(self.files, name)

    def write(self, path: Path, data: bytes, *, durable: bool = True) -> None:
        pass


class PrunesAtOnce(CheckpointManager):
    """Deletes the rounds before as soon as the next is saved, whether or not others have that."""

    def save(self, exp: str, *about: Any) -> Generation:
        before = self.files.names(self.paths.generations(exp))
        made = super().save(exp, *about)
        for name in before:
            if name != made.file:
                self.files.remove(self.paths.generation(exp, name))
        return made

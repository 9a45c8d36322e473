"""The queue's tests can tell right from wrong: each known mistake, put in on purpose, breaks an invariant on a short schedule.

A schedule plays a few processes by hand and returns what it found broken. It must find nothing in the production code.
"""

from __future__ import annotations

from typing import Any

from queuekit import WORKSPACE, Share, claimed, item, pass_time, table

from fedspec.checkpoints import CheckpointManager, Generation, Recorded
from fedspec.errors import SupersededError
from fedspec.files import Crash, MemoryFiles
from fedspec.results import from_table
from fedspec.workqueue.distributor import WorkDistributor
from fedspec.workqueue.journal import OwnJournal
from fedspec.workqueue.liveness import LOCAL_DISK
from fedspec.workqueue.records import Attempt, Ckpt, Claim, Yield, line_hash, pack_rows
from fedspec.workqueue.rules import Held

ONE = item()
Broken = list[str]
DEAD_S = LOCAL_DISK.dead + 2 * LOCAL_DISK.poll


# What a worker does, as far as the mutants need it


def save(queue: WorkDistributor, folder: CheckpointManager, held: Held, round_: int, *, event_first: bool = False) -> None:
    rows = from_table(table(round_))
    about: tuple[Any, ...] = (held.item.exp, held.item.id, round_, held.attempt, held.worker, {"round": round_}, rows, "")

    def write() -> Generation:
        return folder.save(*about)

    if event_first:
        # The bytes are known before they are on disk.
        generation = CheckpointManager(WORKSPACE.checkpoints, MemoryFiles(Share().disk)).save(*about)
        queue.saved(held, round_, generation.file, generation.sha256, "", 0.5)
        write()
    else:
        generation = write()
        queue.saved(held, round_, generation.file, generation.sha256, "", 0.5)


def folder_of(queue: WorkDistributor, kind: type[CheckpointManager] = CheckpointManager) -> CheckpointManager:
    return kind(WORKSPACE.checkpoints, queue.files)


def finish_if_mine(queue: WorkDistributor, held: Held, accuracy: float) -> None:
    try:
        queue.done(held, table(accuracy=accuracy), 1, accuracy)
    except SupersededError as error:
        queue.give_back(held, error.what)


# Invariants


def writes_after_it_was_overtaken(share: Share, held: Held) -> Broken:
    """A worker writes nothing but its yield for an attempt that another has superseded before it knew."""
    late = [r for r in share.records() if isinstance(r, Attempt) and r.key == held.key and not isinstance(r, Claim | Yield)]
    return [f"{type(record).__name__} by a worker that was overtaken" for record in late]


def generations_without_a_file(share: Share) -> Broken:
    named = [r for r in share.records() if isinstance(r, Ckpt)]
    present = {path.name for path in share.disk.contents}
    return [f"{ckpt.file} is journalled and not there" for ckpt in named if ckpt.file not in present]


def results_that_cannot_be_published(share: Share) -> Broken:
    done = share.fold().canonical(ONE.id)
    if done is None:
        return []
    reader = share.process("reader")
    reader.refresh()
    reader.publisher.publish()
    path = WORKSPACE.result(ONE.exp)
    return [] if path in share.disk.contents else ["a result is done and nobody has its rows"]


# The schedules


def overtaken(kind: type[WorkDistributor]) -> Broken:
    """A worker sleeps, another takes its item over, and the first one wakes up in the middle of its round."""
    share = Share()
    share.enqueue(ONE)
    sleeper, heir = share.member("mac", kind=kind), share.member("pc")
    held = claimed(sleeper)
    pass_time(heir, DEAD_S)
    claimed(heir)
    finish_if_mine(sleeper, held, 0.25)
    return writes_after_it_was_overtaken(share, held)


class NoGate(WorkDistributor):
    """Goes on whatever the others have done meanwhile."""

    def must_stop(self, held: Held) -> str | None:
        return None


def test_a_takeover_without_the_gate_is_caught():
    assert not overtaken(WorkDistributor)
    assert overtaken(NoGate)


def saves_and_dies(*, event_first: bool) -> Broken:
    """The process dies at some step of saving a round; whatever step it is, a generation that is journalled is there."""
    broken: Broken = []
    for fatal in range(20):
        share = Share()
        share.enqueue(ONE)
        queue = share.member("mac")
        held, steps = claimed(queue), iter(range(20))

        def die(step: str, steps: Any = steps, fatal: int = fatal) -> None:
            if next(steps) == fatal:
                raise Crash

        files = queue.files
        assert isinstance(files, MemoryFiles)
        files.before_write = die
        try:
            save(queue, folder_of(queue), held, 1, event_first=event_first)
        except Crash:
            broken += generations_without_a_file(share)
        else:
            return broken
    raise AssertionError("more steps than thought")


def test_journalling_a_checkpoint_before_it_is_on_disk_is_caught():
    assert not saves_and_dies(event_first=False)
    assert saves_and_dies(event_first=True)


class Trusting(CheckpointManager):
    """Loads whatever the file holds."""

    def _intact(self, exp: str, ckpt: Recorded) -> bytes | None:
        return self.files.read(self.paths.generation(exp, ckpt.file))


def resumes_from_a_wrong_file(kind: type[CheckpointManager]) -> Broken:
    """A sync service puts another file under the newest round's name: whole, of that item and round, but not what was saved."""
    share = Share()
    share.enqueue(ONE)
    queue = share.member("mac")
    folder, held = folder_of(queue, kind), claimed(queue)
    for round_ in (1, 2):
        save(queue, folder, held, round_)
    newest, older = queue.store.fold.generations(ONE.id)
    paths = folder.paths
    stray = folder.save(ONE.exp, ONE.id, 2, 9, queue.worker, {"round": 1}, from_table(table(2)), "")
    share.disk.contents[paths.generation(ONE.exp, newest.file)] = stray.data
    resumed, _ = folder.latest(ONE.exp, ONE.id, [newest, older], WORKSPACE.quarantined(""))
    assert resumed is not None
    return [] if resumed.state["round"] == resumed.round else ["a run goes on from a state that is not its round's"]


def test_loading_a_generation_without_checking_its_hash_is_caught():
    assert not resumes_from_a_wrong_file(CheckpointManager)
    assert resumes_from_a_wrong_file(Trusting)


class RowsBeside(WorkDistributor):
    """Writes the rows into a file of their own and journals only that there are some."""

    def done(self, held: Held, table: Any, rounds: int, accuracy: float | None) -> None:
        self.files.write(WORKSPACE.result(f"{held.item.exp}.rows"), pack_rows(table).encode())
        super().done(held, {"see": "the file"}, rounds, accuracy)


def event_syncs_and_the_file_does_not(kind: type[WorkDistributor]) -> Broken:
    """The journal reaches the others, nothing else does, and the author is never seen again."""
    share, others = Share(), Share()
    share.enqueue(ONE)
    author = share.member("mac", kind=kind)
    author.done(claimed(author), table(), 1, 0.5)
    arrived = (WORKSPACE.journals, WORKSPACE.plans)
    others.disk.contents.update({path: data for path, data in share.disk.contents.items() if path.parent in arrived})
    return results_that_cannot_be_published(others)


def test_a_result_s_rows_outside_its_done_are_caught():
    assert not event_syncs_and_the_file_does_not(WorkDistributor)
    assert event_syncs_and_the_file_does_not(RowsBeside)


def restarted_after_a_tail_was_lost(*, same_name: bool) -> Broken:
    """A crash leaves records in the share that the restarted process does not know, and it writes on."""
    share = Share()
    share.enqueue(ONE)
    first = share.member("mac")
    first.done(claimed(first), table(), 1, 0.5)
    before = share.records()
    share.kill(first)
    if same_name:
        # Reopened with what the machine's copy held before the last record was flushed.
        local, worker = first.slots.local, first.worker
        copy = local.journal_copy(worker)
        lines = share.disk.contents[copy].split(b"\n")[:-2]
        reopened = OwnJournal(first.files, first.clock, WORKSPACE, local, worker)
        reopened.seq, reopened._prev = len(lines), line_hash(lines[-1])
        reopened.append(Yield, lam=9, item=ONE.id, attempt=1, reason="I have just begun")
    else:
        share.member("mac")
    after = share.records()
    lost = [record for record in before if record not in after]
    return [f"{type(record).__name__} was journalled and is not accepted any more" for record in lost]


def test_a_journal_that_is_reopened_under_its_old_name_is_caught():
    assert not restarted_after_a_tail_was_lost(same_name=False)
    assert restarted_after_a_tail_was_lost(same_name=True)


class Polite(WorkDistributor):
    """Yields to any other live claim of the item."""

    def must_stop(self, held: Held) -> str | None:
        self.refresh()
        rivals = [key for key in self.store.fold.live(held.item.id) if key != held.key]
        return f"also claimed by {rivals[0][1]}" if rivals else None


def two_claim_at_once(kind: type[WorkDistributor]) -> Broken:
    """In a sync folder two machines claim one item before either has seen the other; then the claims meet."""
    here, there = Share(), Share()
    here.enqueue(ONE)
    there.disk.contents.update(here.disk.contents)
    members = [here.member("mac", kind=kind), there.member("pc", kind=kind)]
    held = [claimed(member) for member in members]
    for path, data in [*here.disk.contents.items(), *there.disk.contents.items()]:
        for share in (here, there):
            share.disk.contents.setdefault(path, data)
    going_on = [member.must_stop(mine) is None for member, mine in zip(members, held, strict=True)]
    return [] if sum(going_on) == 1 else [f"{sum(going_on)} rivals go on"]


def test_rivals_that_both_yield_are_caught():
    assert not two_claim_at_once(WorkDistributor)
    assert two_claim_at_once(Polite) == ["0 rivals go on"]


def test_rivals_that_both_go_on_are_caught():
    assert two_claim_at_once(NoGate) == ["2 rivals go on"]

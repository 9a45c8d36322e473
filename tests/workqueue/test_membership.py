"""Who is a member of the queue: joining and leaving, who was retired or cloned or put back, and a folder that was emptied."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest
from queuekit import WORKSPACE, Share, by, claimed, fork, item, local_state, pass_time, table, together

from fedspec.clock import FakeClock
from fedspec.errors import FolderError, SupersededError
from fedspec.files import MemoryFiles
from fedspec.workqueue.distributor import WorkDistributor
from fedspec.workqueue.explain import explain
from fedspec.workqueue.liveness import LOCAL_DISK, SYNC_FOLDER
from fedspec.workqueue.records import Hello, machine_of
from fedspec.workqueue.rules import Held

ITEMS = [item(seed) for seed in (1, 2, 3)]
ONE = ITEMS[0]


def test_a_process_whose_journal_has_forked_goes_on_under_another_name(share: Share):
    share.enqueue(ONE)
    mac, pc = share.member("mac"), share.member("pc")
    old = mac.worker
    fork(share, old, 0)
    held = claimed(mac)
    assert machine_of(held.worker) not in (machine_of(old), machine_of(pc.worker))
    mac.done(held, table(), 1, 0.5)
    assert [old in note and mac.worker in note for note in mac.caretaker.news()] == [True]
    assert by(mac.worker, share.records()) == ["Claim", "Done"]
    before = set(share.disk.contents)
    for _ in range(3):
        share.member("mac").leave()
    assert not [path for path in set(share.disk.contents) - before if path.name.startswith(old)]


def test_an_item_of_a_worker_that_was_cloned_stops_and_goes_on_under_the_new_name(share: Share):
    share.enqueue(ONE)
    mac = share.member("mac")
    held = claimed(mac)
    mac.saved(held, 3, "file", "sha", "", 0.5)
    fork(share, mac.worker, 1)
    with pytest.raises(SupersededError, match="another process writes"):
        mac.saved(held, 4, "file", "sha", "", 0.5)
    mac.give_back(held, "superseded")
    assert claimed(mac).item == ONE
    assert [ckpt.round for ckpt in mac.store.fold.generations(ONE.id)] == [3]


@pytest.mark.parametrize("seq", [0, 1, 2])
def test_a_result_that_ended_with_a_forked_history_is_said_again_by_its_author(share: Share, seq: int):
    share.enqueue(*ITEMS)
    mac = share.member("mac")
    old = mac.worker
    done = claimed(mac)
    mac.done(done, table(), 1, 0.5)
    fork(share, old, seq)
    assert share.member("pc").store.fold.status(done.item.id) in ("pending", "running")
    assert claimed(mac).item != done.item
    assert by(mac.worker, share.records()) == ["Claim", "Done", "Claim"]
    assert share.fold().status(done.item.id) == "done"


@pytest.mark.parametrize("dies", [True, False])
def test_a_worker_that_was_cloned_holds_up_nobody_s_results(share: Share, dies: bool):
    share.enqueue(*ITEMS)
    mac, pc = share.member("mac"), share.member("pc")
    mac.done(claimed(mac), table(), 1, 0.5)
    for _ in range(3):
        pass_time(mac, 10)
        pass_time(pc, 10)
    fork(share, mac.worker, 1)
    if dies:
        share.kill(mac)
        mac = share.member("mac")
    else:
        mac.claim()
    pc.done(claimed(pc), table(), 1, 0.5)
    for _ in range(20):
        pass_time(mac, 10)
        pass_time(pc, 10)
    for reader in (mac, pc, share.member("nas")):
        assert (
            sorted(reader.store.fold.status(one.id) for one in ITEMS if reader.store.fold.canonical(one.id)) == ["sealed"] * 2
        )


def test_who_is_told_of_a_sealed_result_of_a_cloned_worker_can_ask_all_about_it(share: Share):
    share.enqueue(*ITEMS)
    mac, pc = share.member("mac"), share.member("pc")
    held = claimed(mac)
    mac.done(held, table(), 1, 0.5)
    for _ in range(3):
        pass_time(mac, 10)
        pass_time(pc, 10)
    fork(share, mac.worker, 0)
    pc.refresh()
    assert pc.store.fold.status(held.item.id) == "sealed"
    assert explain(pc.look(), held.item).why
    assert next(line for line in pc.progress().lines if line.id == held.item.id).state == "sealed"
    assert pc.publisher.publish() == [held.item.exp]
    pc.caretaker.look_after(thorough=True)


def test_who_has_emptied_the_folder_begins_anew_and_what_the_former_queue_said_counts_when_it_is_back(share: Share):
    share.enqueue(*ITEMS)
    left = share.member("mac")
    first = WORKSPACE.journal(left.worker, 0)
    left.done(claimed(left), table(), 1, 0.5)
    left.leave()
    crashed = share.member("mac")
    crashed.done(claimed(crashed), table(), 1, 0.5)
    share.kill(crashed)
    former = share.backup()
    assert len(former) > len(ITEMS)
    share.empty()
    share.enqueue(*ITEMS)
    share.process("mac").control("pause")
    anew = share.member("mac")
    assert share.fold().finished == set()
    assert {machine_of(worker) for worker in share.fold().workers} == {machine_of(anew.worker)}
    anew.leave()
    share.restore(former)
    # That folder has lost a result meanwhile.
    del share.disk.contents[first]
    back = share.member("mac")
    assert len(share.fold().finished) == 2
    assert share.fold().gone(crashed.worker)
    assert back.store.fold.order_for(machine_of(back.worker)) == "resume"


def test_who_begins_a_queue_in_a_folder_that_it_has_worked_in_says_so(share: Share):
    share.enqueue(*ITEMS)
    mac = share.member("mac")
    assert mac.caretaker.news() == []
    mac.leave()
    mac = share.member("mac")
    assert mac.caretaker.news() == []
    mac.leave()
    share.empty()
    share.enqueue(*ITEMS)
    assert [news[:12] for news in share.member("mac").caretaker.news()] == ["This machine"]


def test_nobody_waits_for_an_id_that_its_machine_has_changed_in_another_folder(share: Share):
    share.enqueue(*ITEMS)
    laptop, pc = share.member("laptop", timing=SYNC_FOLDER), share.member("pc", timing=SYNC_FOLDER)
    together(300, laptop, pc)
    former = laptop.worker
    for queue in (laptop, pc):
        queue.leave("evening")
    laptop.slots.renew(machine_of(former))
    laptop, pc = share.member("laptop", timing=SYNC_FOLDER), share.member("pc", timing=SYNC_FOLDER)
    assert machine_of(laptop.worker) != machine_of(former)
    together(300, laptop, pc)
    pc.done(claimed(pc), table(), 1, 0.5)
    together(600, laptop, pc)
    assert [share.fold().status(one.id) for one in ITEMS].count("sealed") == 1


def test_whoever_has_met_a_machine_that_has_left_seals_for_who_came_later(share: Share):
    share.enqueue(*ITEMS)
    here, left = share.member("mac", timing=SYNC_FOLDER), share.member("pc", timing=SYNC_FOLDER)
    together(300, here, left)
    left.leave("evening")
    together(120, here)
    late = share.member("nas", timing=SYNC_FOLDER)
    together(300, here, late)
    for queue in (here, late, here):
        queue.done(claimed(queue), table(), 1, 0.5)
    together(600, here, late)
    assert {share.fold().status(one.id) for one in ITEMS} == {"sealed"}


def test_what_nobody_at_work_can_seal_is_said_to_wait_for_the_machine_that_left(share: Share):
    share.enqueue(ONE)
    left = share.member("pc", timing=SYNC_FOLDER)
    left.leave("evening")
    late = share.member("nas", timing=SYNC_FOLDER)
    late.done(claimed(late), table(), 1, 0.5)
    together(900, late)
    assert share.fold().status(ONE.id) == "done"
    assert late.look().unconfirmed_by(ONE.id) == [machine_of(share.records()[0].worker)]
    assert late.unconfirmed() == []
    back = share.member("pc", timing=SYNC_FOLDER)
    together(300, late, back)
    assert share.fold().status(ONE.id) == "sealed"


@pytest.mark.parametrize("retired", [False, True])
def test_a_machine_closes_what_it_left_under_a_former_id(share: Share, retired: bool):
    """Its id changes for all workspaces, as soon as a person has retired it in one. Nobody but the new process says so."""
    share.enqueue(*ITEMS)
    mac, pc = share.member("mac"), share.member("pc")
    held, old = claimed(mac), mac.worker
    mac.slots.renew(machine_of(old))
    share.kill(mac)
    if retired:
        pc.control("retire", value=machine_of(old))
    mac = share.member("mac")
    assert machine_of(mac.worker) != machine_of(old)
    assert share.fold().read_to_the_end(old)
    assert claimed(mac).item == held.item
    mac.done(mac._held, table(), 1, 0.5)
    for _ in range(20):
        pass_time(mac, 10)
        pass_time(pc, 10)
    assert share.fold().status(held.item.id) == "sealed"
    assert [path.stem for path in share.disk.contents if path.parent == local_state("mac").slots] == [mac.worker] * 2
    speaking = [worker for worker in share.fold().workers if machine_of(worker) == machine_of(old)]
    assert speaking == [old]


def copy_notes(share: Share, machine: str, other: str) -> None:
    """A machine's own folder is copied to another machine, id and all; what holds its locks is not."""
    root = local_state(machine).root
    for path in [path for path in share.disk.contents if path.is_relative_to(root)]:
        share.disk.contents[local_state(other).root / path.relative_to(root)] = share.disk.contents[path]


@pytest.mark.parametrize("first", ["mac", "copy"])
def test_of_two_machines_with_one_id_whoever_hears_of_the_other_takes_a_new_one(share: Share, first: str):
    """Who is told that its former worker is gone is told what it is called now: if both change, each must hear of the other."""
    share.enqueue(*ITEMS)
    share.member("mac").leave()
    copy_notes(share, "mac", "copy")
    both = {machine: share.member(machine) for machine in ("mac", "copy")}
    former = {machine: queue.worker for machine, queue in both.items()}
    assert len({machine_of(worker) for worker in former.values()}) == 1
    claimed(both[first])
    assert len({machine_of(queue.worker) for queue in both.values()}) == 2
    changed = both[first].worker
    assert [r.worker for r in share.records() if isinstance(r, Hello) and former[first] in r.closes] == [changed]
    assert share.fold().read_to_the_end(former[first])
    said = [type(record).__name__ for record in share.records() if record.worker == former[first]]
    assert said == ["Hello"]


def test_who_was_closed_by_a_copy_of_its_notes_is_heard_out(share: Share):
    """Nothing is sealed without it, until its machine says under another id that it is gone."""
    share.enqueue(*ITEMS)
    mac = share.member("mac", timing=SYNC_FOLDER)
    old = mac.worker
    claimed(mac)
    copy_notes(share, "mac", "copy")
    copy = share.member("copy", timing=SYNC_FOLDER)
    pc = share.member("pc", timing=SYNC_FOLDER)
    mac.give_back(mac._held, "given back before the copy was heard of")
    copy.done(claimed(copy), table(), 1, 0.5)
    for _ in range(20):
        pass_time(copy, 30)
        pass_time(pc, 30)
    assert not [item for item in ITEMS if share.fold().status(item.id) == "sealed"]
    claimed(mac)
    assert machine_of(mac.worker) != machine_of(old)
    for _ in range(20):
        pass_time(copy, 30)
        pass_time(pc, 30)
        pass_time(mac, 30)
    assert [share.fold().status(one) for one in share.fold().finished] == ["sealed"]


def test_a_command_on_a_copy_of_a_machine_does_not_close_a_worker_that_lives_on_the_machine(share: Share):
    share.enqueue(*ITEMS)
    mac = share.member("mac")
    held = claimed(mac)
    copy_notes(share, "mac", "copy")
    share.process("copy").control("priority", ITEMS[2], "1")
    assert mac.must_stop(held) is None
    assert not share.fold().gone(mac.worker)


def test_a_copy_of_a_machine_that_is_lost_can_be_retired_while_the_machine_goes_on(share: Share):
    """Under one id it would be waited for for ever, since the machine lives that it seemed to be."""
    share.enqueue(*ITEMS)
    pc, mac = share.member("pc"), share.member("mac")
    mac.leave()
    copy_notes(share, "mac", "copy")
    lost, mac = share.member("copy"), share.member("mac")
    mac.done(claimed(mac), table(), 1, 0.5)
    share.kill(lost)
    assert machine_of(mac.worker) != machine_of(lost.worker)
    pc.control("retire", value=machine_of(lost.worker))
    assert not mac.store.fold.retired(mac.worker)
    for _ in range(20):
        pass_time(mac, 10)
        pass_time(pc, 10)
    assert [share.fold().status(one) for one in share.fold().finished] == ["sealed"]


def test_workers_of_one_machine_do_not_take_each_other_for_another_s(share: Share):
    share.enqueue(*ITEMS)
    mac, sibling = share.member("mac"), share.member("mac")
    before = mac.worker
    mac.give_back(claimed(mac), "later")
    sibling.leave()
    killed = share.member("mac")
    share.kill(killed)
    mac.give_back(claimed(mac), "later")
    share.member("mac")
    assert isinstance(mac.claim(), Held)
    assert mac.worker == before


class Refusing(MemoryFiles):
    """A share that refuses one operation: the one after ``left`` others."""

    left = -1

    def _ask(self, path: Path) -> None:
        if path.is_relative_to(WORKSPACE.root):
            self.left -= 1
            if self.left == -1:
                raise FolderError("No space left.", "Free some.")

    def append(self, path: Path, data: bytes) -> None:
        self._ask(path)
        super().append(path, data)

    def sizes(self, folder: Path) -> dict[str, int]:
        self._ask(folder)
        return super().sizes(folder)

    def names(self, folder: Path) -> list[str]:
        self._ask(folder)
        return super().names(folder)

    def remove(self, path: Path) -> None:
        self._ask(path)
        super().remove(path)


def refusing(share: Share, machine: str) -> tuple[WorkDistributor, Refusing]:
    files = Refusing(share.disk, f"{machine} refusing")
    return process_on(files, machine), files


def process_on(files: MemoryFiles, machine: str) -> WorkDistributor:
    return WorkDistributor(WORKSPACE, files=files, clock=FakeClock(), timing=LOCAL_DISK, local=local_state(machine))


@pytest.mark.parametrize("step", range(16))
def test_who_cannot_join_again_at_once_is_a_member_before_it_claims(share: Share, step: int):
    share.enqueue(*ITEMS)
    mac, files = refusing(share, "mac")
    mac.join("Mac", {"cpu"})
    pc, sibling = share.member("pc"), share.member("mac")
    share.kill(sibling)
    del share.disk.contents[WORKSPACE.journal(sibling.worker, 0)]  # something is to be brought
    pc.control("retire", value=machine_of(mac.worker))
    files.left = step
    for _ in range(20):
        with suppress(FolderError):
            held = mac.claim()
            break
    assert isinstance(held, Held)
    assert files.left < 0, "the share has refused something"
    said = [record for record in share.records() if record.worker == held.worker]
    assert [type(record).__name__ for record in said] == ["Hello", "Claim"]
    assert mac.must_stop(held) is None
    others = [worker for worker in share.fold().workers if worker not in (held.worker, pc.worker)]
    assert all(share.fold().gone(worker) for worker in others)
    assert {path.stem for path in share.disk.contents if path.parent == local_state("mac").slots} == {held.worker}


@pytest.mark.parametrize("step", [0, 1, 2])  # at 3 a record is refused, and taken when it is said again
def test_a_join_that_fails_leaves_no_member(share: Share, step: int):
    share.enqueue(*ITEMS)
    share.kill(share.member("mac"))
    mac, files = refusing(share, "mac")
    files.left = step
    with pytest.raises(FolderError):
        mac.join("Mac", {"cpu"})
    assert not mac.joined
    with pytest.raises(RuntimeError, match="has not joined"):
        mac.claim()
    mac.join("Mac", {"cpu"})
    assert isinstance(mac.claim(), Held)
    assert {path.stem for path in share.disk.contents if path.parent == local_state("mac").slots} == {mac.worker}


@pytest.mark.parametrize("step", [4, 5])
def test_who_cannot_clear_up_old_heartbeats_or_beat_at_once_is_a_member_all_the_same(share: Share, step: int):
    share.enqueue(*ITEMS)
    share.kill(share.member("mac"))
    mac, files = refusing(share, "mac")
    files.left = step
    mac.join("Mac", {"cpu"})
    assert files.left < 0, "the share has refused something"
    assert isinstance(mac.claim(), Held)


@pytest.mark.parametrize("step", ["append", "move", "remove"])
def test_a_visitor_whose_own_disk_refuses_is_no_member_and_its_slot_is_freed(share: Share, step: str):
    share.enqueue(*ITEMS)
    refused: list[str] = []

    def refuse(what: str) -> None:
        if what.startswith(step) and ("-" in what and ("jsonl" in what or "lock" in what)) and not refused:
            refused.append(what)
            raise FolderError("No space left.", "Free some.")

    person = share.process("mac", before_write=refuse)
    with suppress(FolderError):
        person.control("cancel", ONE)
    assert refused
    assert not person.joined
    person.control("cancel", ONE)
    assert share.fold().status(ONE.id) == "cancelled"
    mac = share.member("mac")
    assert all(share.fold().gone(worker) for worker in share.fold().workers if worker != mac.worker)


class NoNotes(MemoryFiles):
    """A machine whose own disk takes no notes any more once it is ``full``; the folder takes heartbeats."""

    full = False

    def write(self, path: Path, data: bytes, *, durable: bool = True) -> None:
        if self.full and not path.is_relative_to(WORKSPACE.root):
            raise FolderError("No space left.", "Free some.")
        super().write(path, data, durable=durable)


def test_a_worker_whose_own_notes_are_refused_goes_on_beating_while_it_has_nothing_to_say(share: Share):
    share.enqueue(ONE)
    files = NoNotes(share.disk, "mac without notes")
    mac, pc = process_on(files, "mac"), share.member("pc")
    mac.join("Mac", {"cpu"})
    together(30, mac, pc)
    held = claimed(mac)
    files.full = True
    share.member("nas")  # there is more to note
    together(2 * LOCAL_DISK.dead, mac, pc)
    assert not isinstance(pc.claim(), Held)
    assert mac.must_stop(held) is None


def test_who_leaves_says_so_and_keeps_nothing_on_its_machine(share: Share):
    queue = share.member("mac")
    worker = queue.worker
    queue.leave("finished")
    assert share.fold().gone(worker)
    assert [path for path in share.disk.contents if path.parent.name == "slots"] == []


def test_who_leaves_first_brings_what_the_share_has_lost(share: Share):
    share.enqueue(ONE)
    queue = share.member("mac")
    worker = queue.worker
    for _ in range(40):  # until there is a second segment
        queue.give_back(claimed(queue), "x" * 8000)
    queue.done(claimed(queue), table(), 1, 0.5)
    segment = WORKSPACE.journal(worker, 0)
    share.disk.contents[segment] = share.disk.contents[segment][:50]
    queue.leave("finished")
    assert share.fold().status(ONE.id) in ("done", "sealed")


def test_every_process_has_a_name_and_a_journal_of_its_own(share: Share):
    workers = []
    for _ in range(3):
        queue = share.member("mac")
        workers.append(queue.worker)
        share.kill(queue)
    assert len(set(workers)) == 3
    assert len({worker.partition("-")[0] for worker in workers}) == 1
    assert sum(isinstance(record, Hello) for record in share.records()) == 3

"""What a machine has noted of its processes that are no more: the next one says, closes and waits for it, and no more."""

from __future__ import annotations

import msgspec
import pytest
from grid import ITEMS, ONE, OTHER, Refusal, finish, finish_all, results, sealed_after_a_backup, statuses
from queuekit import WORKSPACE, Share, by, claimed, local_state, together

from fedspec.errors import FolderError
from fedspec.files.evicted import stub_of
from fedspec.files.memory import Crash
from fedspec.workqueue.distributor import WorkDistributor
from fedspec.workqueue.liveness import LOCAL_DISK, NETWORK_SHARE, SYNC_FOLDER, Timing
from fedspec.workqueue.membership import SOME


def notes(share: Share, machine: str, folder: str = "") -> dict[str, dict[str, int]]:
    """What the machine has noted of its workers, in folders of its own whose names begin so: whom each has read, how far."""
    files = {path: data for path, data in share.disk.contents.items() if path.is_relative_to(local_state(machine).root)}
    return {
        path.stem: msgspec.json.decode(data)["read"]
        for path, data in files.items()
        if path.parent.name.startswith(folder) and path.suffix == ".json" and path != local_state(machine).machine
    }


def begun_before_the_journals_are_back(share: Share, backup: dict[str, bytes], timing: Timing = LOCAL_DISK) -> WorkDistributor:
    """The folder is put back, its journals last; a process of the PC has joined by then."""
    share.empty()
    journals = str(WORKSPACE.journals.relative_to(WORKSPACE.root))
    share.put({name: data for name, data in backup.items() if not name.startswith(journals)})
    pc = share.member("pc", timing=timing)
    assert set(pc.store.fold.workers) == {pc.worker}
    share.put(backup)
    return pc


def test_who_began_before_the_journals_were_back_waits_for_what_its_machine_had_confirmed(share: Share):
    backup, mac, pc = sealed_after_a_backup(share)
    for queue in (mac, pc):
        queue.leave()
    pc = begun_before_the_journals_are_back(share, backup, NETWORK_SHARE)
    together(300, pc)
    finish_all(pc, 0.5)
    together(600, pc)
    assert statuses(pc.store.fold) == {"done"}
    mac = share.member("mac", timing=NETWORK_SHARE)
    together(600, mac, pc)
    assert statuses(share.fold()) == {"sealed"}
    assert results(share.fold()) == {0.7}


@pytest.mark.parametrize("crashed", [True, False])
def test_who_began_before_the_journals_were_back_says_again_what_its_machine_had_said(share: Share, crashed: bool):
    share.enqueue(*ITEMS)
    share.member("pc").leave()
    backup = share.backup()
    before = share.member("pc")
    worker, done = before.worker, finish(before)
    if crashed:
        share.kill(before)
    else:
        before.leave()
    pc = begun_before_the_journals_are_back(share, backup)
    copy = local_state("pc").journal_copy(worker) if crashed else local_state("pc").archived(WORKSPACE, worker)
    whole = share.disk.contents.pop(copy)
    share.disk.contents[stub_of(copy)] = b""  # it cannot be read just now
    together(10, pc)
    del share.disk.contents[stub_of(copy)]
    share.disk.contents[copy] = whole
    share.member("mac")  # whoever comes, it is tried again
    together(30, pc)
    assert by(worker, share.records()) == ["Claim", "Done"]
    assert claimed(pc).item.id != done
    pc.leave()
    assert share.fold().gone(worker)


def test_a_copy_of_a_folder_that_is_in_use_waits_for_nobody_who_came_later_in_the_original(share: Share):
    share.enqueue(*ITEMS)
    share.member("mac").leave()
    share.put(share.backup(), OTHER)
    mac, pc = share.member("mac"), share.member("pc")
    together(60, mac, pc)
    assert notes(share, "mac", "slots")[mac.worker][pc.worker] > 0
    mac.leave()
    copy = share.member("mac", workspace=OTHER)
    finish_all(copy, 0.5)
    together(300, copy)
    assert statuses(copy.store.fold) == {"sealed"}


def killed_command(share: Share, machine: str, op: str, timing: Timing = LOCAL_DISK) -> None:
    """A command that has done what a person asked for, and is killed before its good-bye."""
    appended: list[str] = []

    def die(step: str) -> None:
        if step.startswith("append"):
            appended.append(step)
        if len(appended) == 3:  # after the machine's own copy and the folder comes the good-bye
            raise Crash

    command = share.process(machine, timing=timing, before_write=die)
    with pytest.raises(Crash):
        command.control(op, ONE, "3")
    share.kill(command)


@pytest.mark.parametrize("timing", [LOCAL_DISK, NETWORK_SHARE, SYNC_FOLDER])
def test_a_command_that_was_killed_is_waited_for_until_the_next_one_on_its_machine(share: Share, timing: Timing):
    share.enqueue(*ITEMS)
    mac, pc = share.member("mac", timing=timing), share.member("pc", timing=timing)
    together(300, mac, pc)
    killed_command(share, "laptop", "priority", timing)
    finish(mac)
    together(600, mac, pc)
    assert share.fold().status(ONE.id) == "done"
    share.process("laptop", timing=timing).control("priority", ONE, "4")
    assert [path for path in share.disk.contents if path.parent == local_state("laptop").slots] == []
    together(600, mac, pc)
    assert share.fold().status(ONE.id) == "sealed"


@pytest.mark.parametrize("company", [True, False])
def test_a_command_that_the_folder_refused_is_said_by_the_next_one(share: Share, company: bool):
    share.enqueue(ONE)
    if company:
        share.member("mac")
    refusal = Refusal()
    refused = share.process("laptop", before_write=refusal)
    refusal.on = True
    with pytest.raises(FolderError):
        refused.control("cancel", ONE)
    share.kill(refused)
    share.process("laptop").control("priority", ONE, "1")
    assert share.fold().status(ONE.id) == "cancelled"


@pytest.mark.parametrize("crashes", [True, False])
def test_who_begins_anew_where_only_one_of_its_workers_has_ever_been_says_so(share: Share, crashes: bool):
    share.enqueue(ONE)
    backup = share.backup()
    mac = share.member("mac")
    if crashes:
        share.kill(mac)
    else:
        mac.leave()
    share.restore(backup)
    mac = share.member("mac")
    assert [news[:12] for news in mac.caretaker.news()] == ["This machine"]
    assert set(mac.store.fold.workers) == {mac.worker}


def test_a_command_that_was_killed_in_a_former_queue_is_not_said_in_the_one_after_it(share: Share):
    share.enqueue(ONE)
    killed_command(share, "mac", "cancel")
    assert share.fold().status(ONE.id) == "cancelled"
    share.empty()
    share.enqueue(ONE)
    share.member("mac")
    assert share.fold().status(ONE.id) == "pending"


def test_a_command_succeeds_though_the_notes_of_a_dead_one_cannot_be_moved(share: Share):
    share.enqueue(ONE)
    killed_command(share, "laptop", "priority")

    def scan(step: str) -> None:
        if step.startswith("move") and dead in step:
            raise FolderError("In use.", "Close it.")

    dead = next(iter(share.fold().workers))
    share.process("laptop", before_write=scan).control("cancel", ONE)
    assert share.fold().status(ONE.id) == "cancelled"
    assert share.fold().read_to_the_end(dead)
    share.process("laptop").control("priority", ONE, "1")
    assert notes(share, "laptop", "slots") == {}


def test_joins_that_are_refused_leave_no_notes_but_of_who_has_said_a_word(share: Share):
    share.enqueue(ONE)
    refusal = Refusal()
    refusal.on = True
    for _ in range(4):
        refused = share.process("mac", before_write=refusal)
        with pytest.raises(FolderError):
            refused.join("Mac", {"cpu"})
        share.kill(refused)
    assert len(notes(share, "mac")) == 1
    mac = share.member("mac")
    assert len(share.fold().workers) == 2
    assert list(notes(share, "mac", "slots")) == [mac.worker]


def test_who_gave_a_command_and_left_is_not_waited_for_where_the_folder_was_put_back(share: Share):
    share.enqueue(*ITEMS)
    share.member("mac").leave()
    backup = share.backup()
    share.process("container").control("priority", ONE, "1")
    share.member("mac").leave()
    share.restore(backup)
    mac = share.member("mac")
    finish_all(mac, 0.5)
    together(300, mac)
    assert statuses(mac.store.fold) == {"sealed"}
    assert mac.progress().hindrances == ()


def test_notes_stay_small_however_many_processes_there_were_and_together_tell_of_all_whom_they_met(share: Share):
    share.enqueue(ONE)
    met, days = set(), 40
    for day in range(1, days + 1):
        share.process("mac").control("priority", ONE, str(day))
        nas = share.member("nas")
        met.add(nas.worker)
        share.member("mac").leave()
        nas.leave()
    told = notes(share, "mac", "archive-")
    known = [sum(count > 0 for count in read.values()) for read in told.values()]
    assert sum(known) < 2 * days
    assert max(len(read) - count for read, count in zip(told.values(), known, strict=True)) <= 2 * SOME + 1
    read = share.process("mac").slots.have_read(lambda worker: True)
    assert {worker for worker, count in read.items() if count} == met

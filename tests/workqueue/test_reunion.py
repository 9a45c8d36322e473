"""Copies of the folder meet again, or one was put back, moved or copied: what was said and confirmed before stands."""

from __future__ import annotations

import pytest
from grid import ITEMS, ONE, OTHER, Refusal, finish, finish_all, results, sealed_after_a_backup, sealed_by, statuses
from queuekit import WORKSPACE, Share, claimed, fork, pass_time, table, together
from replicas import Replicas

from fedspec.errors import FolderError
from fedspec.workqueue.distributor import WorkDistributor
from fedspec.workqueue.explain import explain
from fedspec.workqueue.liveness import NETWORK_SHARE, SYNC_FOLDER
from fedspec.workqueue.records import machine_of
from fedspec.workspace import Workspace


@pytest.fixture
def replicas() -> Replicas:
    """A Mac's and a PC's copy of a folder with three items."""
    copies = Replicas("mac", "pc")
    copies.copies["mac"].enqueue(*ITEMS)
    copies.meet()
    return copies


def test_a_machine_whose_copy_was_put_back_does_not_seal_against_what_it_had_confirmed(replicas: Replicas):
    mac, pc = replicas.member("mac"), replicas.member("pc")
    replicas.together(300, mac, pc)
    mac.leave("evening")
    replicas.together(120, pc)
    backup = replicas.copies["pc"].backup()
    mac = replicas.member("mac")
    replicas.together(300, mac, pc)
    sealed_by(mac, pc, replicas.meet)
    replicas.copies["pc"].kill(pc)
    replicas.copies["pc"].restore(backup)
    pc = replicas.member("pc")
    together(1200, pc)
    finish_all(pc, 0.5)
    together(1200, mac, pc)
    assert statuses(pc.store.fold) == {"done"}
    replicas.together(1200, mac, pc)
    for machine in ("mac", "pc"):
        assert statuses(replicas.fold(machine)) == {"sealed"}
        assert results(replicas.fold(machine)) == {0.7}


def test_a_sealed_result_stays_in_a_share_that_was_put_back_while_its_sealer_was_away(share: Share):
    backup, mac, pc = sealed_after_a_backup(share)
    share.kill(pc)
    sealer = machine_of(mac.worker)
    mac.leave()
    share.restore(backup)
    pc = share.member("pc", timing=NETWORK_SHARE)
    together(300, pc)
    finish_all(pc, 0.5)
    together(600, pc)
    assert statuses(pc.store.fold) == {"done"}
    assert pc.look().unconfirmed_by(ONE.id) == [sealer]
    mac = share.member("mac", timing=NETWORK_SHARE)
    together(600, mac, pc)
    assert statuses(share.fold()) == {"sealed"}
    assert results(share.fold()) == {0.7}


def test_a_machine_of_which_the_folder_has_lost_every_word_can_be_retired_by_its_id(share: Share):
    share.enqueue(*ITEMS)
    first = share.member("pc")
    backup = share.backup()
    mac = share.member("mac")
    finish(mac)
    together(30, first, mac)
    for queue in (first, mac):
        share.kill(queue)
    share.restore(backup)
    pc = share.member("pc")
    lost = machine_of(mac.worker)
    finish_all(pc, 0.5)
    together(300, pc)
    assert statuses(pc.store.fold) == {"done"}
    assert pc.progress().hindrances[-1].text == f"3 results wait for machine {lost} (its journal has not arrived here yet)"
    found = explain(pc.look(), ONE)
    assert f"machine {lost} (its journal has not arrived here yet) has not confirmed it" in found.next
    assert [fix.command for fix in found.fixes] == [f"fedspec queue retire {lost}"]
    pc.control("retire", value=pc.find_machine(lost)[0])
    together(300, pc)
    assert statuses(pc.store.fold) == {"sealed"}
    assert pc.progress().hindrances == ()


def two_heirs(replicas: Replicas, machine: str) -> tuple[WorkDistributor, WorkDistributor]:
    """Two processes of a machine that begin at the same time, and both close its dead one."""
    second: list[WorkDistributor] = []

    def begin(step: str) -> None:
        if step.startswith("append") and not second:  # the first one is about to say so
            second.append(replicas.member(machine))

    return replicas.member(machine, before_write=begin), second[0]


def test_who_has_heard_of_one_of_two_that_closed_a_worker_does_not_pass_for_having_met_the_other(replicas: Replicas):
    before = {machine: replicas.member(machine) for machine in ("mac", "pc")}
    replicas.together(300, *before.values())
    heirs = {}
    for machine, dead in before.items():
        replicas.copies[machine].kill(dead)
        heirs[machine] = two_heirs(replicas, machine)
        assert heirs[machine][0].store.fold.closers[dead.worker] == {heir.worker for heir in heirs[machine]}
    for machine, other in (("mac", "pc"), ("pc", "mac")):
        leaves = heirs[machine][0]
        journal = WORKSPACE.journals / leaves.worker
        leaves.leave("started twice")
        replicas.send(machine, other, journal)  # its last heartbeat, which tells of the one that stays, is late
    mac, pc = heirs["mac"][1], heirs["pc"][1]
    together(300, mac, pc)
    finish_all(mac, 0.7)
    finish_all(pc, 0.5)
    together(900, mac, pc)
    assert statuses(mac.store.fold) == statuses(pc.store.fold) == {"done"}
    replicas.together(900, mac, pc)
    assert statuses(replicas.fold("mac")) == statuses(replicas.fold("pc")) == {"sealed"}


def crashed_by_night(replicas: Replicas) -> str:
    """The PC has left in the evening, having met the Mac's worker; that one crashed later. Returns its name."""
    mac, pc = replicas.member("mac"), replicas.member("pc")
    replicas.together(300, mac, pc)
    pc.leave("evening")
    replicas.together(300, mac)
    replicas.copies["mac"].kill(mac)
    return mac.worker


def test_who_had_left_knows_whoever_follows_a_worker_that_it_had_met_whatever_command_came_in_between(replicas: Replicas):
    crashed_by_night(replicas)
    replicas.copies["mac"].process("mac", timing=SYNC_FOLDER).control("priority", ONE, "1")
    mac = replicas.member("mac")
    finish_all(mac, 0.5)
    together(900, mac)
    assert statuses(mac.store.fold) == {"sealed"}


def test_who_had_left_knows_both_of_two_that_follow_a_worker_that_it_had_met_while_both_are_there(replicas: Replicas):
    crashed = crashed_by_night(replicas)
    heirs = two_heirs(replicas, "mac")
    assert heirs[0].store.fold.closers[crashed] == {heir.worker for heir in heirs}
    finish_all(heirs[0], 0.5)
    together(900, *heirs)
    assert statuses(heirs[0].store.fold) == {"sealed"}


def test_of_a_worker_that_is_closed_already_whoever_comes_later_says_nothing(replicas: Replicas):
    crashed = crashed_by_night(replicas)

    def scan(step: str) -> None:
        if step.startswith(f"move {crashed}"):
            raise FolderError("In use.", "Close it.")

    mac = replicas.member("mac", before_write=scan)
    replicas.member("mac").leave("started twice")
    finish_all(mac, 0.5)
    together(900, mac)
    assert mac.store.fold.closers[crashed] == {mac.worker}
    assert statuses(mac.store.fold) == {"sealed"}


def test_machines_that_work_in_shifts_confirm_the_results_of_those_that_have_left(share: Share):
    share.enqueue(*ITEMS)
    for day in range(4):
        for machine in ("mac", "pc", "nas"):
            queue = share.member(machine, timing=SYNC_FOLDER)
            pass_time(queue, 300)
            if day == 1:
                finish(queue)
            pass_time(queue, 3600)
            queue.leave("end of shift")
    assert statuses(share.fold()) == {"sealed"}


def test_a_machine_that_works_by_night_confirms_the_results_of_the_day(share: Share):
    share.enqueue(*ITEMS)
    share.member("nas", timing=SYNC_FOLDER).leave()
    for _ in ITEMS:
        mac, pc = share.member("mac", timing=SYNC_FOLDER), share.member("pc", timing=SYNC_FOLDER)
        together(600, mac, pc)
        finish(mac)
        together(600, mac, pc)
        mac.leave()
        pass_time(pc, 3600)
        pc.leave()
    assert statuses(share.fold()) == {"done"}
    night = share.member("nas", timing=SYNC_FOLDER)
    pass_time(night, 3600)
    night.leave()
    pc = share.member("pc", timing=SYNC_FOLDER)
    pass_time(pc, 3600)
    assert statuses(share.fold()) == {"sealed"}


@pytest.mark.parametrize("place", [WORKSPACE, OTHER])
def test_what_was_said_since_the_backup_is_said_again_wherever_that_is_put(share: Share, place: Workspace):
    share.enqueue(ONE)
    share.member("mac").leave()
    backup = share.backup()
    mac = share.member("mac")
    finish(mac)
    mac.leave()
    share.empty()
    share.put(backup, place)
    assert share.member("mac", workspace=place).store.fold.finished == {ONE.id}


def test_a_worker_that_was_closed_in_a_copy_of_the_folder_is_heard_and_closed_in_the_folder_too(share: Share):
    share.enqueue(*ITEMS)
    refusal, pc = Refusal(), share.member("pc")
    crashed = share.member("mac", before_write=refusal)
    pass_time(pc, 10)
    held = claimed(crashed)
    refusal.on = True
    crashed.done(held, table(), 1, 0.5)
    share.kill(crashed)
    share.put(share.backup(), OTHER)
    copy = share.member("mac", workspace=OTHER)
    assert copy.store.fold.finished == {held.item.id}
    mac = share.member("mac")
    assert share.fold().finished == {held.item.id}
    together(120, mac, pc)
    assert share.fold().status(held.item.id) == "sealed"


def test_of_two_machines_that_began_apart_each_knows_its_first_journal_in_what_the_other_had_begun(replicas: Replicas):
    pc = replicas.member("pc")
    mac = replicas.member("mac")
    backup = replicas.copies["pc"].backup()  # without a word of the Mac
    done = finish(mac)
    replicas.together(300, mac, pc)
    for queue in (mac, pc):
        queue.leave()
    replicas.restore(backup)
    replicas.member("mac")
    assert replicas.fold("mac").finished == {done}


def test_a_machine_knows_what_it_said_in_company_in_a_folder_of_before_the_others_came(replicas: Replicas):
    pc = replicas.member("pc")
    together(120, pc)
    pc.leave()
    backup = replicas.copies["pc"].backup()
    mac = replicas.member("mac")  # nothing but the plan has arrived: it takes itself for the first
    replicas.together(120, mac)
    pc = replicas.member("pc")
    replicas.together(300, mac, pc)
    done = finish(pc)
    replicas.together(300, mac, pc)
    for queue in (mac, pc):
        queue.leave()
    replicas.restore(backup)
    replicas.member("pc")
    assert replicas.fold("pc").finished == {done}


def test_a_worker_that_lives_is_not_closed_when_its_machine_has_changed_its_id_in_another_folder(share: Share):
    share.enqueue(*ITEMS)
    share.put(share.backup(), OTHER)
    mac, pc, living = share.member("mac"), share.member("pc"), share.member("mac", workspace=OTHER)
    held = claimed(living)
    pc.control("retire", value=machine_of(mac.worker))
    mac.claim()
    sibling = share.member("mac", workspace=OTHER)
    assert machine_of(sibling.worker) != machine_of(living.worker)
    assert living.must_stop(held) is None
    assert claimed(sibling).item != held.item


def test_a_worker_that_lives_is_not_closed_when_its_sibling_was_cloned(share: Share):
    share.enqueue(*ITEMS)
    cloned, living = share.member("mac"), share.member("mac")
    held = claimed(living)
    fork(share, cloned.worker, 0)
    assert claimed(cloned).item != held.item
    assert machine_of(cloned.worker) != machine_of(living.worker)
    assert living.must_stop(held) is None

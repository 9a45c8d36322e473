"""What machines are called: the same on every machine, a number to each namesake, and a name that means one machine."""

from __future__ import annotations

from queuekit import ALICE, BOB, CAROL, arrived, fold_of

from fedspec.workqueue.naming import display_names, machine_called
from fedspec.workqueue.records import Ctl


def test_machines_of_one_name_are_numbered_by_when_they_came():
    authors = [arrived(CAROL, "Mac", lam=9), arrived(ALICE, "Mac", lam=2), arrived(BOB, "PC", lam=5)]
    expected = {ALICE[:8]: "Mac", CAROL[:8]: "Mac 2", BOB[:8]: "PC"}
    assert display_names(fold_of(*authors)) == display_names(fold_of(*authors[::-1])) == expected


def test_a_machine_keeps_its_name_when_its_process_starts_again():
    authors = [arrived(ALICE, "Mac", lam=1), arrived(BOB, "Mac", lam=3), arrived("aaaaaaaa-000002", "Mac", lam=7)]
    assert display_names(fold_of(*authors)) == {
        ALICE[:8]: "Mac",
        BOB[:8]: "Mac 2",
    }


def test_a_machine_that_is_really_called_mac_2_takes_nobody_s_name():
    authors = [arrived(ALICE, "Mac 2", lam=1), arrived(BOB, "Mac", lam=2), arrived(CAROL, "Mac", lam=3)]
    assert len(set(display_names(fold_of(*authors)).values())) == 3


def test_a_retired_machine_is_called_so_and_leaves_the_others_their_names():
    authors = [arrived(CAROL, "Mac", lam=9), arrived(ALICE, "Mac", lam=2), arrived(BOB, "Mac", lam=5)]
    authors[0].write(Ctl, op="retire", value=ALICE[:8], item="")
    fold = fold_of(*authors)
    assert display_names(fold) == {ALICE[:8]: "Mac (retired)", BOB[:8]: "Mac 2", CAROL[:8]: "Mac 3"}
    asked = {name: machine_called(fold, name) for name in ("mac 2", "MAC 3", CAROL[:8], "Mac (retired)", "PC")}
    assert [*asked.values()] == [BOB[:8], CAROL[:8], CAROL[:8], ALICE[:8], None]
    assert machine_called(fold, "Mac") == ALICE[:8]  # either of the others could be meant
    authors[0].write(Ctl, op="retire", value=CAROL[:8], item="")
    assert machine_called(fold_of(*authors), "Mac") == BOB[:8]

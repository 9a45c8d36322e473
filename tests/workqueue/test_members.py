"""Whose word a result still waits for before it is sealed."""

from __future__ import annotations

import pytest
from queuekit import ALICE, BOB, CAROL, Author, Share, fold_of, pass_time

from fedspec.workqueue.members import unsettled
from fedspec.workqueue.records import Bye, Claim, Ctl, Done, Hello

HEIR = "bbbbbbbb-000002"


def finished(worker: str = ALICE) -> tuple[Author, Done]:
    author = Author(worker)
    author.write(Hello, machine="aaaaaaaa", name="Mac")
    author.write(Claim, item="one", attempt=1)
    return author, author.write(Done, item="one", attempt=1, rows="", rounds=1)


def heir(last: int) -> Author:
    """The next process of Bob's machine, which has closed his journal at ``last`` and left."""
    author = Author(HEIR)
    author.write(Hello, machine="bbbbbbbb", name="PC", closes={BOB: last})
    author.write(Bye)
    return author


@pytest.mark.parametrize(("last", "waits_for"), [(5, [BOB]), (0, [BOB]), (-1, [])])
def test_a_result_waits_for_the_journal_of_a_closed_worker_of_which_nothing_has_arrived(last: int, waits_for: list[str]):
    author, done = finished()
    assert list(unsettled(fold_of(author, heir(last)), {}, {}, ALICE, done)) == waits_for


def greeting(worker: str) -> Author:
    author = Author(worker)
    author.write(Hello, machine=worker.partition("-")[0], name="PC")
    return author


def test_a_result_waits_for_a_worker_of_which_only_a_peer_has_heard():
    author, done = finished()
    fold = fold_of(author, greeting(BOB))
    views = {BOB: fold.view_of_the_gone()}
    assert list(unsettled(fold, {BOB: {ALICE: 3}}, views, ALICE, done)) == []
    assert list(unsettled(fold, {BOB: {ALICE: 3, CAROL: 1}}, views, ALICE, done)) == [CAROL]


def test_what_a_peer_has_told_before_it_left_still_counts():
    author, done = finished()
    bob = greeting(BOB)
    bob.write(Bye)
    assert list(unsettled(fold_of(author, bob), {BOB: {ALICE: 3, CAROL: 1}}, {}, ALICE, done)) == [CAROL]


def test_a_result_waits_for_no_stranger_of_a_machine_that_was_retired():
    author, done = finished()
    bob = greeting(BOB)
    bob.write(Ctl, op="retire", value=CAROL.partition("-")[0])
    fold = fold_of(author, bob)
    views = {BOB: fold.view_of_the_gone()}
    assert list(unsettled(fold, {BOB: {ALICE: 3, CAROL: 1}}, views, ALICE, done)) == []


def test_who_has_retired_a_machine_must_have_read_its_result_too_before_that_is_sealed():
    author, done = finished()
    author.write(Bye)
    bob, heir = greeting(BOB), greeting(CAROL)
    bob.write(Ctl, op="retire", value=ALICE.partition("-")[0])
    fold = fold_of(author, bob, heir)
    views = {BOB: fold.view_of_the_gone()}
    for read, waits_for in [(2, [BOB]), (3, [])]:
        assert list(unsettled(fold, {BOB: {ALICE: read}}, views, CAROL, done)) == waits_for


def test_a_heartbeat_tells_of_the_retired_though_they_are_gone():
    share = Share()
    lost, here = share.member("mac"), share.member("pc")
    lost.leave()
    pass_time(here, 3 * here.timing.beat)
    worker = next(iter(here.store.fold.workers.keys() - {here.worker}))
    assert worker not in here.store.beats[here.worker].seen
    here.control("retire", value=worker.partition("-")[0])
    pass_time(here, 3 * here.timing.beat)
    assert here.store.beats[here.worker].seen[worker] == here.store.length(worker)


def test_a_result_waits_for_a_peer_that_knows_more_or_less_of_those_who_are_gone():
    author, done = finished()
    fold, other = fold_of(author, greeting(BOB)), fold_of(author, greeting(BOB), heir(-1))
    for view, waits_for in [(fold.view_of_the_gone(), []), (other.view_of_the_gone(), [BOB])]:
        assert list(unsettled(fold, {BOB: {ALICE: 3}}, {BOB: view}, ALICE, done)) == waits_for


def test_a_result_waits_for_the_rest_of_a_closed_worker_s_journal_and_no_longer():
    author, done = finished()
    bob = Author(BOB)
    bob.write(Hello, machine="bbbbbbbb", name="PC")
    assert list(unsettled(fold_of(author, heir(1), bob), {}, {}, ALICE, done)) == [BOB]
    bob.write(Claim, item="one", attempt=1)
    assert list(unsettled(fold_of(author, heir(1), bob), {}, {}, ALICE, done)) == []


def test_a_result_waits_for_a_closed_worker_that_says_more_until_it_has_left():
    """It lives: another machine has a copy of its notes and took it for its own dead."""
    author, done = finished()
    bob = greeting(BOB)
    for attempt in (1, 2):
        bob.write(Claim, item="one", attempt=attempt)
    assert list(unsettled(fold_of(author, heir(1), bob), {}, {}, ALICE, done)) == [BOB]
    bob.write(Bye)
    assert list(unsettled(fold_of(author, heir(1), bob), {}, {}, ALICE, done)) == []

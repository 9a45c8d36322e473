"""Whose word a result still waits for before it is sealed."""

from __future__ import annotations

import pytest
from queuekit import ALICE, BOB, CAROL, Author, Share, fold_of, pass_time

from fedspec.workqueue.fold import Fold
from fedspec.workqueue.members import Absent, Acks, Settlement
from fedspec.workqueue.records import Bye, Claim, Ctl, Done, Hello

HEIR = "bbbbbbbb-000002"


def unsettled(fold: Fold, acks: Acks, views: dict[str, str], me: str, done: Done, *, apart: bool = False) -> list[str]:
    return list(Settlement(fold, acks, views, me, lambda: Absent(fold, acks, me) if apart else None).missing(done))


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
    assert unsettled(fold_of(author, heir(last)), {}, {}, ALICE, done) == waits_for


def greeting(worker: str) -> Author:
    author = Author(worker)
    author.write(Hello, machine=worker.partition("-")[0], name="PC")
    return author


def test_a_result_waits_for_a_worker_of_which_only_a_peer_has_heard():
    author, done = finished()
    fold = fold_of(author, greeting(BOB))
    views = {BOB: fold.view_of_the_gone()}
    assert unsettled(fold, {BOB: {ALICE: 3}}, views, ALICE, done) == []
    assert unsettled(fold, {BOB: {ALICE: 3, CAROL: 1}}, views, ALICE, done) == [CAROL]


def test_what_a_peer_has_told_before_it_left_still_counts():
    author, done = finished()
    bob = greeting(BOB)
    bob.write(Bye)
    assert unsettled(fold_of(author, bob), {BOB: {ALICE: 3, CAROL: 1}}, {}, ALICE, done) == [CAROL]


def test_a_result_waits_for_no_stranger_of_a_machine_that_was_retired():
    author, done = finished()
    bob = greeting(BOB)
    bob.write(Ctl, op="retire", value=CAROL.partition("-")[0])
    fold = fold_of(author, bob)
    views = {BOB: fold.view_of_the_gone()}
    assert unsettled(fold, {BOB: {ALICE: 3, CAROL: 1}}, views, ALICE, done) == []


def left(worker: str, *, met: Author | None = None) -> tuple[Author, dict[str, dict[str, int]]]:
    """Somebody who has left in order, and what it had said to have read."""
    author = greeting(worker)
    author.write(Bye)
    return author, {worker: {met.worker: 1} if met else {}}


@pytest.mark.parametrize("apart", [True, False])
def test_a_machine_that_left_may_be_back_without_having_heard_of_who_would_seal(apart: bool):
    author, done = finished()
    bob, acks = left(BOB)
    assert unsettled(fold_of(author, bob), acks, {}, ALICE, done, apart=apart) == ([BOB] if apart else [])
    assert unsettled(fold_of(author, bob), {BOB: {ALICE: 3}}, {}, ALICE, done, apart=apart) == []
    retiring = greeting(CAROL)
    retiring.write(Ctl, op="retire", value=BOB.partition("-")[0])
    fold = fold_of(author, bob, retiring)
    acks = {CAROL: {ALICE: 3}}
    assert unsettled(fold, acks, {CAROL: fold.view_of_the_gone()}, ALICE, done, apart=apart) == []


def test_who_left_and_had_met_this_machine_before_it_crashed_waits_for_it_and_is_not_waited_for():
    crashed = greeting(ALICE)
    bob, acks = left(BOB, met=crashed)
    heir = Author("aaaaaaaa-000002")
    heir.write(Hello, machine="aaaaaaaa", name="Mac", closes={ALICE: 0})
    heir.write(Claim, item="one", attempt=1)
    done = heir.write(Done, item="one", attempt=1, rows="", rounds=1)
    assert unsettled(fold_of(crashed, heir, bob), acks, {}, heir.worker, done, apart=True) == []
    crashed.write(Bye)
    assert unsettled(fold_of(crashed, heir, bob), acks, {}, heir.worker, done, apart=True) == [BOB]


def test_nobody_comes_back_under_an_id_that_its_machine_has_changed():
    author, done = finished()
    bob = greeting(BOB)
    renamed = Author(CAROL)
    renamed.write(Hello, machine="cccccccc", name="PC", closes={BOB: 0})
    fold = fold_of(author, bob, renamed)
    views = {CAROL: fold.view_of_the_gone()}
    assert unsettled(fold, {CAROL: {ALICE: 3}}, views, ALICE, done, apart=True) == []


def test_who_has_retired_a_machine_must_have_read_its_result_too_before_that_is_sealed():
    author, done = finished()
    author.write(Bye)
    bob, heir = greeting(BOB), greeting(CAROL)
    bob.write(Ctl, op="retire", value=ALICE.partition("-")[0])
    fold = fold_of(author, bob, heir)
    views = {BOB: fold.view_of_the_gone()}
    for read, waits_for in [(2, [BOB]), (3, [])]:
        assert unsettled(fold, {BOB: {ALICE: read}}, views, CAROL, done) == waits_for


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
        assert unsettled(fold, {BOB: {ALICE: 3}}, {BOB: view}, ALICE, done) == waits_for


def test_a_result_waits_for_the_rest_of_a_closed_worker_s_journal_and_no_longer():
    author, done = finished()
    bob = Author(BOB)
    bob.write(Hello, machine="bbbbbbbb", name="PC")
    assert unsettled(fold_of(author, heir(1), bob), {}, {}, ALICE, done) == [BOB]
    bob.write(Claim, item="one", attempt=1)
    assert unsettled(fold_of(author, heir(1), bob), {}, {}, ALICE, done) == []


def test_a_result_waits_for_a_closed_worker_that_says_more_until_it_has_left():
    """It lives: another machine has a copy of its notes and took it for its own dead."""
    author, done = finished()
    bob = greeting(BOB)
    for attempt in (1, 2):
        bob.write(Claim, item="one", attempt=attempt)
    assert unsettled(fold_of(author, heir(1), bob), {}, {}, ALICE, done) == [BOB]
    bob.write(Bye)
    assert unsettled(fold_of(author, heir(1), bob), {}, {}, ALICE, done) == []

"""The fold is a function of the set of records, and its answers follow the protocol's sentences one by one."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from queuekit import ALICE, BOB, CAROL, Author, closing, fold_of, killed

from fedspec.workqueue.brief import brief
from fedspec.workqueue.fold import MAX_CODE_FAILURES, MAX_DEATHS, ROOT, Fold
from fedspec.workqueue.itemstate import LEAP
from fedspec.workqueue.records import (
    MAX_COUNT,
    Bye,
    Ckpt,
    Claim,
    Ctl,
    Done,
    Fail,
    Hello,
    Lost,
    Record,
    Seal,
    Start,
    Yield,
    machine_of,
)

# Of the same machine as Alice: it may close her.
HEIR = "aaaaaaaa-000002"
ITEMS = ("one", "two", "nobody's")
FAULTS = ("transient", "code", "final", "capability")
ITEM_OPS = ("release", "retry", "cancel", "resume", "priority", "dance")


def answers(fold: Fold) -> dict[str, Any]:
    """Everything that anybody asks a fold."""
    per_item = {
        i: (
            fold.status(i),
            fold.owner(i),
            sorted(fold.live(i)),
            fold.canonical(i),
            fold.generations(i),
            fold.base(i),
            fold.deaths(i),
            fold.failure(i),
            fold.priority(i),
            brief(fold, i),
            (i in fold.finished, i in fold.unsealed),
            fold.item(i).last_attempt(),
            fold.item(i).next_attempt(),
            [fold.item(i).failures(fault) for fault in FAULTS],
            (fold.item(i).setbacks(), fold.item(i).advanced),
        )
        for i in ITEMS
    }
    workers = {name: (state.hello, state.length, fold.gone(name)) for name, state in fold.workers.items()}
    claims = {(i, key): a.claimed_at for i in ITEMS for key, a in fold.item(i).attempts.items()}
    return {"items": per_item, "workers": workers, "claims": claims, "closed": fold.closed, "lam": fold.lam}


@st.composite
def stories(draw: st.DrawFn) -> list[Record]:
    """Records of four workers on two items that need not make sense together: a fold must bear any set."""
    about = {
        "item": st.sampled_from(ITEMS[:2]),
        "attempt": st.integers(1, 3) | st.sampled_from([LEAP + 1, LEAP + 3, MAX_COUNT]),
    }
    word = st.sampled_from(["x", "y"])
    workers = st.sampled_from([ALICE, HEIR, BOB, CAROL])
    kinds: list[tuple[type[Record], dict[str, st.SearchStrategy[Any]]]] = [
        (Claim, {**about, "role": st.sampled_from(["", "", ROOT])}),
        (Start, {**about, "round": st.integers(0, 2), "base": word}),
        (Ckpt, {**about, "round": st.integers(1, 2), "file": word, "sha256": word, "base": word}),
        (Yield, {**about, "reason": word}),
        (Fail, {**about, "fault": st.sampled_from(FAULTS), "reason": word}),
        (Done, {**about, "rows": word, "rounds": st.just(1)}),
        (Seal, {**about, "author": workers}),
        (Ctl, {**about, "op": st.sampled_from(ITEM_OPS), "value": st.sampled_from("123")}),
        (Ctl, {"op": st.just("retire"), "value": st.sampled_from([machine_of(w) for w in (ALICE, BOB)])}),
        (Lost, {**about, "member": workers}),
        (Hello, {"machine": word, "name": word, "closes": st.dictionaries(workers, st.integers(0, 3), max_size=1)}),
        (Bye, {}),
    ]
    authors = {worker: Author(worker) for worker in (ALICE, HEIR, BOB, CAROL)}
    for _ in range(draw(st.integers(0, 14))):
        kind, fields = draw(st.sampled_from(kinds))
        values = {name: draw(strategy) for name, strategy in fields.items()}
        authors[draw(workers)].write(kind, lam=draw(st.integers(0, 3)), **values)
    return [record for author in authors.values() for record in author.records]


@given(stories(), st.data())
def test_order_and_duplication_of_the_records_change_no_answer(records: list[Record], data: st.DataObject):
    again = data.draw(st.lists(st.sampled_from(records), max_size=4)) if records else []
    shuffled = data.draw(st.permutations(records + again))
    assert answers(Fold(shuffled)) == answers(Fold(records))


@given(stories(), st.integers(0, 14))
def test_adding_records_one_by_one_is_folding_them_together(records: list[Record], cut: int):
    fold = Fold(records[:cut])
    for record in records[cut:]:
        fold.add(record)
    assert answers(fold) == answers(Fold(records))


@given(stories(), st.data())
def test_answers_that_were_kept_are_those_of_a_fresh_fold_after_every_record(records: list[Record], data: st.DataObject):
    shuffled = data.draw(st.permutations(records))
    fold = Fold()
    for count, record in enumerate(shuffled, 1):
        answers(fold)
        fold.add(record)
        assert answers(fold) == answers(Fold(shuffled[:count]))


def test_what_becomes_of_a_worker_changes_the_answers_about_its_items():
    lost, heir = Author(ALICE), Author(HEIR)
    lost.write(Claim, item="one", attempt=1)
    lost.write(Start, item="one", attempt=1, round=0, base="b")
    fold = fold_of(lost)
    assert (fold.status("one"), fold.deaths("one")) == ("running", ())
    fold.add(heir.write(Hello, machine="aaaaaaaa", name="Mac", closes={ALICE: 2}))
    assert (fold.status("one"), fold.deaths("one")) == ("pending", ())
    # Its last word, though it is about something else: now it is known that none came about this item.
    fold.add(lost.write(Claim, item="two", attempt=1))
    assert fold.deaths("one") == ((1, ALICE),)


@given(stories(), st.sampled_from([ALICE, BOB, CAROL]))
def test_a_done_beats_whatever_else_is_said(records: list[Record], worker: str):
    late = Author(worker)
    late.write(Done, item="one", attempt=1, rows="", rounds=1)
    assert Fold([*records, *late.records]).status("one") in ("done", "sealed")


def test_an_item_that_nobody_touched_is_pending():
    fold = Fold()
    assert (fold.status("one"), fold.owner("one"), fold.canonical("one"), fold.base("one")) == ("pending", None, None, "")


# Owners


@given(st.permutations([(2, ALICE), (2, BOB), (2, CAROL), (1, ALICE), (3, BOB)]), st.integers(1, 5))
def test_the_owner_is_the_greatest_claim_by_a_key_that_no_progress_changes(claims: list[tuple[int, str]], count: int):
    authors = {worker: Author(worker) for worker in (ALICE, HEIR, BOB, CAROL)}
    for attempt, worker in claims[:count]:
        authors[worker].write(Claim, item="one", attempt=attempt)
    owner = fold_of(*authors.values()).owner("one")
    assert owner is not None
    assert owner[0] == max(attempt for attempt, _ in claims[:count])
    for attempt, worker in claims[:count]:
        authors[worker].write(Start, item="one", attempt=attempt, round=0, base="")
        if (attempt, worker) != owner:
            ckpt = {"round": 9, "file": "f", "sha256": "s", "base": ""}
            authors[worker].write(Ckpt, item="one", attempt=attempt, **ckpt)
    assert fold_of(*authors.values()).owner("one") == owner


def test_no_worker_wins_every_tie():
    def winner(item: str) -> str:
        one, other = Author(ALICE), Author(BOB)
        for author in (one, other):
            author.write(Claim, item=item, attempt=1)
        owner = fold_of(one, other).owner(item)
        assert owner is not None
        return owner[1]

    assert {winner(f"item {number}") for number in range(20)} == {ALICE, BOB}


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        (Yield, {"item": "one", "attempt": 1, "reason": ""}),
        (Fail, {"item": "one", "attempt": 1, "fault": "transient", "reason": ""}),
        (Bye, {}),
    ],
    ids=["yielded", "failed", "left"],
)
def test_a_claim_that_its_worker_ended_is_not_live(kind: type[Record], said: dict[str, Any]):
    author = Author()
    author.write(Claim, item="one", attempt=1)
    assert fold_of(author).status("one") == "running"
    author.write(kind, **said)
    assert fold_of(author).live("one") == ()
    assert fold_of(author).status("one") == "pending"


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        (Hello, {"machine": "aaaaaaaa", "name": "Mac", "closes": {ALICE: 0}}),
        (Ctl, {"op": "release", "item": "one", "attempt": 1}),
        (Ctl, {"op": "cancel", "item": "one"}),
    ],
    ids=["closed", "released", "cancelled"],
)
def test_a_claim_that_somebody_else_ended_is_not_live(kind: type[Record], said: dict[str, Any]):
    claimant, other = Author(ALICE), Author("aaaaaaaa-000002")
    claimant.write(Claim, item="one", attempt=1)
    other.write(kind, **said)
    assert fold_of(claimant, other).live("one") == ()


def test_a_death_counts_only_when_the_dead_workers_last_record_is_here():
    authors = killed("one", MAX_DEATHS)
    late = authors[-1]
    late.write(Yield, item="one", attempt=MAX_DEATHS, reason="stopped")
    closer = closing(authors)
    late.records.pop()
    assert len(fold_of(*authors, closer).deaths("one")) == MAX_DEATHS - 1


def test_a_machine_closes_its_workers_whatever_its_id_was_then():
    claimant, heir = Author(ALICE), Author(BOB)
    claimant.write(Claim, item="one", attempt=1)
    heir.write(Hello, machine="bbbbbbbb", name="PC", closes={ALICE: 0})
    assert fold_of(claimant, heir).owner("one") is None
    assert fold_of(claimant, heir).read_to_the_end(ALICE)


@pytest.mark.parametrize("last", [-1, 0])
def test_who_says_more_than_its_last_word_lives_until_it_leaves_or_is_closed_anew(last: int):
    """Its notes were copied to another machine, which took it for its own dead."""
    author, copy, heir = Author(ALICE), Author(BOB), Author(CAROL)
    for attempt in range(1, 3):
        author.write(Claim, item="one", attempt=attempt)
    copy.write(Hello, machine="aaaaaaaa", name="Mac", closes={ALICE: last})
    heir.write(Hello, machine="aaaaaaaa", name="Mac", closes={ALICE: 1})
    fold = fold_of(author, copy)
    assert (fold.gone(ALICE), fold.outlives(ALICE), fold.read_to_the_end(ALICE)) == (True, True, False)
    assert fold.view_of_the_gone() == fold_of(copy).view_of_the_gone()
    fold.add(author.write(Bye))
    for others in (fold, fold_of(author, copy, heir)):
        assert (others.gone(ALICE), others.outlives(ALICE)) == (True, False)
    assert fold.read_to_the_end(ALICE)
    author.records.pop()
    assert fold_of(author, heir, copy).read_to_the_end(ALICE)


def test_a_release_spares_later_attempts():
    claimant, person = Author(ALICE), Author(BOB)
    person.write(Ctl, op="release", item="one", attempt=1)
    claimant.write(Claim, item="one", attempt=2)
    assert fold_of(claimant, person).owner("one") == (2, ALICE)


@pytest.mark.parametrize(("cancel_lam", "resume_lam", "status"), [(5, 5, "cancelled"), (5, 4, "cancelled"), (4, 5, "pending")])
def test_the_last_word_counts_and_cancel_beats_resume_at_the_same_time(cancel_lam: int, resume_lam: int, status: str):
    for canceller, resumer in [(ALICE, BOB), (BOB, ALICE)]:
        one, other = Author(canceller), Author(resumer)
        one.write(Ctl, lam=cancel_lam, op="cancel", item="one")
        other.write(Ctl, lam=resume_lam, op="resume", item="one")
        assert fold_of(one, other).status("one") == status


# Attempt numbers that nobody's honest count has reached


@given(st.integers(LEAP + 50, MAX_COUNT), st.sampled_from([0, 5]))
def test_a_claim_with_an_absurd_number_neither_owns_the_item_nor_uses_the_numbers_up(absurd: int, honest: int):
    odd, author = Author(BOB), Author(ALICE)
    odd.write(Claim, item="one", attempt=absurd)
    for attempt in range(1, honest + 1):
        author.write(Claim, item="one", attempt=attempt)
    assert fold_of(odd, author).item("one").next_attempt() == honest + 1
    author.write(Claim, item="one", attempt=honest + 1)
    assert fold_of(odd, author).owner("one") == (honest + 1, ALICE)


@given(st.sampled_from(["release", "retry"]), st.integers(1, MAX_COUNT) | st.integers(LEAP - 2, LEAP + 5))
@example("release", LEAP + 1)
@example("retry", LEAP + 2)
def test_no_word_of_a_person_stops_the_attempts_that_come_after_it(op: str, attempt: int):
    person, worker = Author(BOB), Author(ALICE)
    person.write(Ctl, op=op, item="one", attempt=attempt)
    following = fold_of(person).item("one").next_attempt()
    assert following <= LEAP + 1
    worker.write(Claim, item="one", attempt=following)
    assert fold_of(person, worker).owner("one") == (following, ALICE)
    for _ in range(MAX_CODE_FAILURES):
        worker.write(Fail, item="one", attempt=fold_of(person, worker).item("one").next_attempt(), fault="code", reason="")
    assert fold_of(person, worker).status("one") == "failed"


@given(st.lists(st.integers(1, MAX_COUNT), max_size=20))
def test_whatever_was_claimed_there_is_a_next_number_that_counts(numbers: list[int]):
    author = Author()
    for number in numbers:
        author.write(Claim, item="one", attempt=number)
    state = fold_of(author).item("one")
    assert state.last_attempt() < state.next_attempt() <= state.limit + 1 <= MAX_COUNT


# Results


def finished(worker: str, attempt: int) -> Author:
    author = Author(worker)
    author.write(Claim, item="one", attempt=attempt)
    author.write(Done, item="one", attempt=attempt, rows=worker, rounds=1)
    return author


def test_of_several_results_the_one_of_the_latest_attempt_is_published():
    canonical = fold_of(finished(ALICE, 2), finished(BOB, 1)).canonical("one")
    assert canonical is not None
    assert canonical.worker == ALICE


def test_a_sealed_result_stays_whatever_comes_later():
    sealer = Author(CAROL)
    sealer.write(Seal, item="one", attempt=1, author=BOB)
    fold = fold_of(finished(BOB, 1), sealer, finished(ALICE, 7))
    canonical = fold.canonical("one")
    assert fold.status("one") == "sealed"
    assert canonical is not None
    assert canonical.worker == BOB


def test_of_two_seals_the_earlier_one_counts():
    first, second = Author(BOB), Author(CAROL)
    second.write(Seal, lam=3, item="one", attempt=1, author=ALICE)
    first.write(Seal, lam=2, item="one", attempt=2, author=ALICE)
    author = finished(ALICE, 1)
    author.write(Done, item="one", attempt=2, rows="", rounds=1)
    canonical = fold_of(second, first, author).canonical("one")
    assert canonical is not None
    assert canonical.attempt == 2


def test_a_seal_whose_result_has_not_arrived_changes_nothing():
    sealer = Author(CAROL)
    sealer.write(Seal, item="one", attempt=9, author=BOB)
    assert fold_of(sealer).status("one") == "pending"
    assert fold_of(sealer, finished(ALICE, 1)).status("one") == "done"


# Generations


def saved(author: Author, attempt: int, round_: int, base: str = "base") -> None:
    author.write(Ckpt, item="one", attempt=attempt, round=round_, file=f"r{round_}", sha256=f"{round_}", base=base)


def test_the_best_generation_is_that_of_the_highest_round_whatever_attempt_saved_it():
    one, other = Author(ALICE), Author(BOB)
    saved(one, 1, 5, base="old")
    saved(other, 2, 3, base="new")
    fold = fold_of(one, other)
    assert [(ckpt.round, ckpt.attempt) for ckpt in fold.generations("one")] == [(5, 1), (3, 2)]
    assert fold.base("one") == "old"


def test_without_a_generation_the_base_is_that_of_the_first_start():
    one, other = Author(ALICE), Author(BOB)
    one.write(Start, item="one", attempt=2, round=0, base="second")
    other.write(Start, item="one", attempt=1, round=0, base="first")
    assert fold_of(one, other).base("one") == "first"


# Failures


def failed(*faults: str, first: int = 1) -> Author:
    author = Author()
    for attempt, fault in enumerate(faults, start=first):
        author.write(Claim, item="one", attempt=attempt)
        author.write(Fail, item="one", attempt=attempt, fault=fault, reason=f"reason {attempt}")
    return author


def test_errors_in_the_code_fail_an_item_at_the_third_attempt():
    for count in range(1, MAX_CODE_FAILURES):
        assert fold_of(failed(*["code"] * count)).status("one") == "pending"
    fold = fold_of(failed(*["code"] * MAX_CODE_FAILURES))
    assert fold.status("one") == "failed"
    assert fold.failure("one") == "reason 3"


def test_an_error_that_no_machine_can_cure_fails_an_item_at_once():
    assert fold_of(failed("final")).status("one") == "failed"


@pytest.mark.parametrize("fault", ["transient", "capability"])
def test_what_may_go_well_another_time_never_fails_an_item(fault: str):
    assert fold_of(failed(*[fault] * 20)).status("one") == "pending"


def test_a_saved_round_forgives_the_setbacks_of_the_attempts_before_it():
    author = failed(*["transient"] * 3)
    assert [fail.attempt for fail in fold_of(author).item("one").setbacks()] == [1, 2, 3]
    rival = Author(BOB)
    rival.write(Ckpt, item="one", attempt=2, round=1, file="f", sha256="s", base="b", accuracy=None)
    assert [fail.attempt for fail in fold_of(author, rival).item("one").setbacks()] == [2, 3]
    assert len(fold_of(author, rival).item("one").failures("transient")) == 3


def test_a_retry_forgives_what_was_before_it_and_not_what_comes_after():
    person = Author(BOB)
    person.write(Ctl, op="retry", item="one", attempt=3)
    assert fold_of(failed("code", "code", "final"), person).status("one") == "pending"
    assert fold_of(failed("code", "code", "code", "final"), person).status("one") == "failed"


def test_an_item_that_kills_three_workers_in_a_row_is_given_up():
    for count in range(1, MAX_DEATHS):
        assert fold_of(*killed("one", count), closing(killed("one", count))).status("one") == "pending"
    fold = fold_of(*killed("one", MAX_DEATHS), closing(killed("one", MAX_DEATHS)))
    assert fold.status("one") == "failed"
    assert fold.failure("one") == "it killed its worker 3 times"


def test_a_silent_worker_is_not_killed_before_its_machine_has_said_so():
    successor = Author(CAROL)
    successor.write(Claim, item="one", attempt=MAX_DEATHS + 1)
    fold = fold_of(*killed("one", MAX_DEATHS), successor)
    assert fold.status("one") == "running"
    assert fold.deaths("one") == ()


@pytest.mark.parametrize("save_at", [1, 2, 3])
def test_a_machine_that_dies_after_saving_a_round_does_not_count_nor_do_the_deaths_before_it(save_at: int):
    authors = killed("one", MAX_DEATHS, save_at=save_at)
    fold = fold_of(*authors, closing(authors))
    assert fold.status("one") == "pending"
    assert len(fold.deaths("one")) == MAX_DEATHS - save_at


def test_a_worker_that_gave_the_item_back_was_not_killed():
    authors = killed("one", MAX_DEATHS, word=True)
    assert fold_of(*authors, closing(authors)).deaths("one") == ()


def test_a_retry_forgives_deaths_too():
    authors = killed("one", MAX_DEATHS)
    person = Author(BOB)
    person.write(Ctl, op="retry", item="one", attempt=MAX_DEATHS)
    assert fold_of(*authors, closing(authors), person).status("one") == "pending"

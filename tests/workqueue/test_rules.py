"""What a worker does next follows from the records alone, and its gate knows every reason to stop."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from queuekit import ALICE, BOB, CAROL, Author, closing, fold_of, item, killed

from fedspec.config import CentralizedConfig
from fedspec.plan import Item, make_item
from fedspec.workqueue.fold import Fold
from fedspec.workqueue.members import Members
from fedspec.workqueue.records import Bye, Ckpt, Claim, Ctl, Done, Fail, Yield
from fedspec.workqueue.rules import (
    Blocked,
    Drained,
    Finished,
    Situation,
    Take,
    Wait,
    backoff_s,
    gate,
    machine_of,
    next_action,
    scope,
)

ONE, TWO, THREE = (item(seed) for seed in (1, 2, 3))


def situation(items: Sequence[Item], *authors: Author, **about: Any) -> Situation:
    known = {i.id: i for i in items}
    return Situation(**{"fold": fold_of(*authors), "items": known, "machine": "cccccccc", "capabilities": {"cpu"}, **about})


def claim(author: Author, of: Item, attempt: int = 1, *, save: bool = False) -> Author:
    author.write(Claim, item=of.id, attempt=attempt)
    if save:
        author.write(Ckpt, item=of.id, attempt=attempt, round=1, file="f", sha256="s", base="")
    return author


def fail(author: Author, of: Item, fault: str, attempt: int = 1) -> Author:
    claim(author, of, attempt).write(Fail, item=of.id, attempt=attempt, fault=fault, reason=f"no {fault}")
    return author


def give_back(author: Author, of: Item, attempt: int = 1) -> Author:
    author.write(Yield, item=of.id, attempt=attempt, reason="")
    return author


def finish(author: Author, of: Item, attempt: int = 1) -> Author:
    author.write(Done, item=of.id, attempt=attempt, rows="", rounds=1)
    return author


def only_block(action: object) -> Blocked:
    assert isinstance(action, Wait)
    (blocked,) = action.blocked
    return blocked


# Choosing


def test_the_first_item_of_the_queue_is_taken_first():
    assert next_action(situation([TWO, ONE, THREE])) == Take(ONE, 1, None)


def test_an_item_that_somebody_has_begun_comes_before_the_queue_s_order():
    begun = give_back(claim(Author(), TWO, save=True), TWO)
    assert next_action(situation([ONE, TWO, THREE], begun)) == Take(TWO, 2, None)


def test_an_item_that_was_claimed_but_never_saved_has_no_precedence():
    touched = give_back(claim(Author(), TWO), TWO)
    assert next_action(situation([ONE, TWO], touched)) == Take(ONE, 1, None)


@given(st.permutations([item(seed, alpha=alpha) for seed in (1, 2) for alpha in (0.1, 1.0)]))
def test_the_order_in_which_items_became_known_changes_nothing(items: list[Item]):
    assert next_action(situation(items)) == Take(item(1, alpha=0.1), 1, None)


def test_the_queue_s_order_completes_one_comparison_before_the_next_and_starts_with_the_baseline():
    grid = [item(seed, alpha=alpha, method=m) for seed in (42, 43) for alpha in (0.1, 0.5) for m in ("fedavg", "fedspec")]
    baseline = make_item("centralized", CentralizedConfig(seed=43))
    iid = item(42, split="iid", alpha=None)
    expected = [baseline, *grid[:4], iid, *grid[4:]]
    assert sorted([iid, *grid[::-1], baseline], key=lambda item: item.order) == expected


def test_only_the_items_that_a_worker_was_asked_for_are_taken():
    about = situation([ONE, TWO], only={TWO.id, "never heard of"})
    assert next_action(about) == Take(TWO, 1, None)
    assert scope(about.items, about.only, about.fold) == [TWO]


def test_a_claim_gets_the_next_attempt_number_of_all_workers():
    authors = [give_back(claim(Author(ALICE), ONE, 1), ONE, 1), give_back(claim(Author(BOB), ONE, 5), ONE, 5)]
    assert next_action(situation([ONE], *authors)) == Take(ONE, 6, None)


def test_a_running_item_is_left_to_its_owner():
    assert only_block(next_action(situation([ONE], claim(Author(), ONE)))) == Blocked(ONE, "running", owner=(1, ALICE))


def test_an_item_is_taken_over_only_from_an_owner_that_is_presumed_dead():
    running = claim(Author(ALICE), ONE)
    assert only_block(next_action(situation([ONE], running, dead={BOB}))).why == "running"
    assert next_action(situation([ONE], running, dead={ALICE})) == Take(ONE, 2, (1, ALICE))


def test_a_dead_rival_of_a_living_owner_frees_nothing():
    authors = [claim(Author(ALICE), ONE, 1), claim(Author(BOB), ONE, 2)]
    assert only_block(next_action(situation([ONE], *authors, dead={ALICE}))).owner == (2, BOB)


def test_nothing_is_claimed_before_the_folder_has_settled():
    assert only_block(next_action(situation([ONE], settled=False))).why == "settle"


def test_an_item_that_backs_off_waits():
    assert only_block(next_action(situation([ONE], backing_off={ONE.id}))).why == "back-off"


@pytest.mark.parametrize(
    ("needs", "capabilities", "detail"),
    [
        (["cuda"], {"cpu"}, "cuda"),
        (["cuda", "machine:Mac"], {"cpu"}, "cuda, the machine Mac"),
        (["machine:Mac"], {"cpu", "machine:PC"}, "the machine Mac"),
        (["machine:Mac", "cpu"], {"cpu", "machine:Mac"}, ""),
    ],
)
def test_a_machine_takes_only_what_it_can_do_and_may_do(needs: list[str], capabilities: set[str], detail: str):
    pinned = msgspec.structs.replace(ONE, needs=needs)
    action = next_action(situation([pinned], capabilities=capabilities))
    if detail:
        assert only_block(action) == Blocked(pinned, "needs", detail=detail)
    else:
        assert isinstance(action, Take)


def test_an_item_of_another_science_version_is_left_to_others():
    other = msgspec.structs.replace(ONE, science_version=99)
    assert "99" in only_block(next_action(situation([other]))).detail


def test_an_item_that_one_machine_cannot_run_goes_to_another():
    unable = fail(Author(CAROL), ONE, "capability")
    assert only_block(next_action(situation([ONE], unable))) == Blocked(ONE, "refused", detail="no capability")
    assert next_action(situation([ONE], unable, machine=machine_of(BOB))) == Take(ONE, 2, None)


def test_a_machine_that_can_do_nothing_now_waits_and_one_with_nothing_to_do_is_finished():
    assert isinstance(next_action(situation([ONE, TWO], finish(claim(Author(), ONE), ONE), claim(Author(BOB), TWO))), Wait)
    done = [finish(claim(Author(), ONE), ONE), finish(claim(Author(BOB), TWO), TWO)]
    assert next_action(situation([ONE, TWO], *done)) == Finished(())


def test_who_is_finished_knows_which_items_failed_and_does_not_wait_for_cancelled_ones():
    person = Author(CAROL)
    person.write(Ctl, op="cancel", item=THREE.id)
    authors = [finish(claim(Author(), ONE), ONE), fail(Author(BOB), TWO, "final"), person]
    assert next_action(situation([ONE, TWO, THREE], *authors)) == Finished((TWO,))


# The gate


def test_the_owner_may_go_on():
    assert gate(fold_of(claim(Author(), ONE)), ONE.id, (1, ALICE)) is None


def _taken_over() -> Fold:
    return fold_of(claim(Author(ALICE), ONE), claim(Author(BOB), ONE, 2))


def _by_hand(op: str) -> Callable[[], Fold]:
    def fold() -> Fold:
        person = Author(BOB)
        person.write(Ctl, op=op, item=ONE.id, attempt=1)
        return fold_of(claim(Author(), ONE), person)

    return fold


def _closed() -> Fold:
    author = claim(Author(), ONE)
    author.write(Bye)
    return fold_of(author)


REASONS: dict[str, Callable[[], Fold]] = {
    f"already done by {BOB}": lambda: fold_of(claim(Author(), ONE), finish(claim(Author(BOB), ONE), ONE)),
    "cancelled": _by_hand("cancel"),
    "released by hand": _by_hand("release"),
    "closed by this machine": _closed,
    f"taken over by {BOB}": _taken_over,
    "taken over by nobody": lambda: fold_of(give_back(claim(Author(), ONE), ONE)),
}


@pytest.mark.parametrize("reason", REASONS)
def test_the_gate_names_the_reason_to_stop(reason: str):
    assert gate(REASONS[reason](), ONE.id, (1, ALICE)) == reason


def test_the_gate_stops_whoever_claimed_an_item_that_is_given_up():
    victims = killed(ONE.id, 3)
    fold = fold_of(*victims, closing(victims), claim(Author(), ONE, 4))
    assert fold.status(ONE.id) == "failed"
    assert gate(fold, ONE.id, (4, ALICE)) == "given up: it killed its worker 3 times"


@given(st.sets(st.sampled_from([ALICE, BOB, CAROL]), min_size=1), st.integers(1, 3))
def test_of_rivals_that_know_each_other_exactly_one_passes_the_gate(rivals: set[str], attempt: int):
    fold = fold_of(*(claim(Author(rival), ONE, attempt) for rival in rivals))
    assert sum(gate(fold, ONE.id, (attempt, rival)) is None for rival in rivals) == 1


# Back-off


def test_the_back_off_doubles_from_a_minute_to_an_hour():
    assert [backoff_s(failures) / 60 for failures in range(9)] == [0, 1, 2, 4, 8, 16, 32, 60, 60]
    assert backoff_s(5000) == 3600


def ctl(op: str, lam: int, of: Item | None = None, value: str = "", author: str = BOB) -> Author:
    author_ = Author(author)
    author_.write(Ctl, lam=lam, op=op, item=of.id if of else "", value=value)
    return author_


def test_a_paused_machine_waits_and_a_drained_one_is_done_while_others_go_on():
    paused = next_action(situation([ONE], ctl("pause", 1, value="cccccccc")))
    assert isinstance(paused, Wait)
    assert [blocked.why for blocked in paused.blocked] == ["paused"]
    assert [blocked.detail for blocked in paused.blocked] == ["cccccccc"]
    # Also where others have all there is: that is not what it waits for.
    others = next_action(situation([ONE], claim(Author(ALICE), ONE), ctl("pause", 1)))
    assert isinstance(others, Wait)
    assert [(blocked.why, blocked.detail) for blocked in others.blocked] == [("paused", "")]
    assert next_action(situation([ONE], ctl("drain", 1))) == Drained()
    assert isinstance(next_action(situation([ONE], ctl("pause", 1, value="dddddddd"))), Take)


def test_nothing_is_left_to_drain_once_all_is_done():
    assert isinstance(next_action(situation([ONE], finish(claim(Author(), ONE), ONE), ctl("drain", 9))), Finished)


@given(st.permutations(["resume", "drain", "pause"]))
def test_the_latest_order_counts_and_of_two_at_one_time_the_stricter(ops: list[str]):
    later = fold_of(*(ctl(op, lam, author=f"{lam:08x}-000001") for lam, op in enumerate(ops)))
    assert later.order_for("cccccccc") == ops[-1]
    same = fold_of(*(ctl(op, 5, author=f"{n:08x}-000001") for n, op in enumerate(ops)))
    assert same.order_for("cccccccc") == "pause"


def test_an_order_for_all_undoes_an_older_one_for_a_machine():
    fold = fold_of(ctl("pause", 1, value="cccccccc"), ctl("resume", 2, author=CAROL))
    assert fold.order_for("cccccccc") == "resume"


def test_what_a_person_prefers_comes_first():
    usual = next_action(situation([ONE, TWO]))
    assert isinstance(usual, Take)
    assert usual.item == ONE
    preferred = next_action(situation([ONE, TWO], ctl("priority", 1, TWO, "5")))
    assert isinstance(preferred, Take)
    assert preferred.item == TWO


def test_a_priority_outranks_what_is_begun_and_a_lower_one_comes_after_all():
    begun = give_back(claim(Author(), TWO, save=True), TWO)
    raised = next_action(situation([ONE, TWO, THREE], begun, ctl("priority", 5, THREE, "1000")))
    assert raised == Take(THREE, 1, None)
    lowered = next_action(situation([ONE, TWO, THREE], begun, ctl("priority", 5, TWO, "-1")))
    assert lowered == Take(ONE, 1, None)


@given(st.lists(st.integers(-2, 2), min_size=3, max_size=3), st.booleans(), st.booleans())
def test_nothing_of_a_lower_priority_is_ever_taken_first_and_within_one_all_is_as_without(
    priorities: list[int], locks: bool, known: bool
):
    items = [ONE, TWO, THREE]
    crowd = Members(ALICE, {ALICE: {"cpu"}, BOB: {"cpu"}}, known)
    begun = give_back(claim(Author(BOB), TWO, save=True), TWO)
    given_ = [
        ctl("priority", 5, one, str(n), f"dddddddd-{k:06d}") for k, (one, n) in enumerate(zip(items, priorities, strict=True))
    ]
    taken = next_action(situation(items, begun, *given_, members=crowd, locks=locks))
    top = [one for one, n in zip(items, priorities, strict=True) if n == max(priorities)]
    assert taken == next_action(situation(top, begun, members=crowd, locks=locks))


def test_where_no_lock_decides_whoever_takes_a_preferred_item_from_another_s_share_asks_first():
    crowd = Members(ALICE, {ALICE: {"cpu"}, BOB: {"cpu"}}, known=True)
    of = {crowd.share_of(one): one for one in (item(seed) for seed in range(20))}
    mine, theirs = of[ALICE], of[BOB]
    for wanted, sure in ((theirs, False), (mine, True)):
        action = next_action(situation([mine, theirs], ctl("priority", 5, wanted, "1"), members=crowd, locks=False))
        assert action == Take(wanted, 1, None, sure=sure)


@pytest.mark.parametrize("value", ["", "high", "1e9", "\u0663x", "9" * 5000])
def test_a_priority_that_is_no_number_changes_nothing_or_stays_in_bounds(value: str):
    assert -1000 <= fold_of(ctl("priority", 1, ONE, value)).priority(ONE.id) <= 1000


def test_of_a_retired_machine_nothing_counts_but_its_results():
    retirement = ctl("retire", 9, value=machine_of(ALICE), author=CAROL)
    begun, done = claim(Author(ALICE), ONE), finish(claim(Author(ALICE), ONE), ONE)
    assert gate(fold_of(begun, retirement), ONE.id, (1, ALICE)) == "given up when this machine was retired"
    assert fold_of(begun, retirement).owner(ONE.id) is None
    assert fold_of(done, retirement).status(ONE.id) == "done"

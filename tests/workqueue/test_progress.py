"""What people are told: the original's block to the letter, and a line an item that names machine, round and age."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from queuekit import ALICE, BOB, WALL, Author, Share, arrived, claimed, closing, fold_of, item, killed, table

from fedspec.plan import Item
from fedspec.workqueue.distributor import WorkDistributor
from fedspec.workqueue.liveness import LOCAL_DISK
from fedspec.workqueue.progress import Progress, progress
from fedspec.workqueue.records import Ckpt, Claim, Ctl, Done, Fail, Seal, Start, Yield
from fedspec.workqueue.store import Beat
from fedspec.workqueue.wording import elapsed_s, in_words, local_time

GRID = [item(alpha=alpha, method=method) for alpha in (0.1, 0.5, 1.0) for method in ("fedavg", "fedspec")]
NOW = datetime(2026, 1, 1, 0, 0, 0, tzinfo=UTC)
BLOCK = """\
Distributed Work Progress
========================================
Total items: 6
Completed:   2 (33.3%)
In progress: 2
  - Mac:     1
  - Windows: 1
Pending:     2
Failed:      0
========================================
"""


def seen(*authors: Author, items: tuple[Item, ...] = (GRID[0],), now: datetime = NOW, **beats: Beat) -> Progress:
    by_worker = {beat.worker: beat for beat in beats.values()}
    return progress(fold_of(*authors), {i.id: i for i in items}, by_worker, LOCAL_DISK, now)


def test_print_progress_prints_exactly_the_original_s_block(share: Share, capsys: pytest.CaptureFixture[str]):
    share.enqueue(*GRID)
    mac, windows = share.member("Mac"), share.member("Windows")
    for queue in (mac, windows):
        queue.done(claimed(queue), table(), 1, 0.5)
        claimed(queue)
    WorkDistributor.print_progress(share.process("reader"))
    assert capsys.readouterr().out == BLOCK


def test_an_empty_queue_is_shown_without_a_division_by_zero():
    assert "Completed:   0 (0.0%)" in seen(items=()).block()


@given(st.lists(st.sampled_from(["done", "running", "pending", "failed", "cancelled"]), max_size=6))
def test_every_item_is_counted_once(states: list[str]):
    author = arrived(ALICE, "Mac")
    for state, of in zip(states, GRID, strict=False):
        about = {"item": of.id, "attempt": 1}
        match state:
            case "done":
                author.write(Done, **about, rows="", rounds=1)
            case "running":
                author.write(Claim, **about)
            case "failed":
                author.write(Fail, **about, fault="final", reason="")
            case "cancelled":
                author.write(Ctl, **about, op="cancel")
    told = seen(author, items=tuple(GRID[: len(states)]))
    assert told.count("done") + told.count("running") + told.count("pending") + told.count("failed", "cancelled") == len(states)
    assert f"Failed:      {states.count('failed')}\n" in told.block()
    # The original knew of none, and its block has no line for them.
    assert (f"Cancelled:   {states.count('cancelled')}\n" in told.block()) is ("cancelled" in states)
    assert ("Cancelled" in told.block()) is ("cancelled" in states)


# Lines


def line(told: Progress, **expected: Any) -> None:
    (only,) = told.lines
    assert {name: getattr(only, name) for name in expected} == expected


def test_a_running_item_shows_its_machine_round_and_the_time_left():
    author = arrived(ALICE, "Mac")
    author.write(Claim, item=GRID[0].id, attempt=1)
    author.write(Ckpt, item=GRID[0].id, attempt=1, round=3, file="f", sha256="s", base="", accuracy=0.75)
    beat = Beat(worker=ALICE, n=1, seq=3, running=GRID[0].id, round=4, eta=90.0, wall="2026-01-01T00:00:00Z")
    told = seen(author, beat=beat, now=NOW + timedelta(seconds=7))
    line(told, state="running", machine="Mac", round=4, rounds=20, accuracy=0.75, beat_age_s=7, eta_s=90.0, attempt=1)


def test_a_silent_worker_is_stale_and_the_way_out_is_named():
    author = arrived(ALICE, "Mac")
    author.write(Claim, item=GRID[0].id, attempt=1)
    told = seen(author, now=NOW + timedelta(seconds=40))
    line(told, state="stale", eta_s=None, due_s=20)
    assert f"Mac has not been seen for ~40 s and has its item; now: fedspec queue release {GRID[0].exp}" in told.notes


def test_a_takeover_is_told_in_one_line_that_says_who_from_whom_when_and_after_which_round():
    dead, heir = arrived(ALICE, "Mac"), arrived(BOB, "Windows")
    dead.write(Claim, item=GRID[0].id, attempt=1)
    dead.write(Ckpt, item=GRID[0].id, attempt=1, round=7, file="r7", sha256="s", base="")
    heir.write(Claim, item=GRID[0].id, attempt=2)
    heir.write(Start, item=GRID[0].id, attempt=2, round=7, base="", source="r7")
    heir.write(Done, item=GRID[0].id, attempt=2, rows="", rounds=20)
    when = local_time(WALL, NOW)
    told = seen(dead, heir)
    assert told.news == (f"Windows took {GRID[0].exp} over from Mac at {when} after round 7; nothing was lost.",)
    assert told.notes[-1:] == told.news


def test_a_takeover_before_the_first_saved_round_says_that_it_began_anew():
    dead, heir = arrived(ALICE, "Mac"), arrived(BOB, "Windows")
    dead.write(Claim, item=GRID[0].id, attempt=1)
    heir.write(Claim, item=GRID[0].id, attempt=2)
    heir.write(Start, item=GRID[0].id, attempt=2, round=0, base="")
    assert seen(dead, heir).news[0].endswith("from round 1; no round had been saved.")


@pytest.mark.parametrize(
    ("start", "words"), [(5, "after round 5, the last that was intact."), (0, "no saved round could be read")]
)
def test_a_takeover_that_lost_rounds_says_so(start: int, words: str):
    dead, heir = arrived(ALICE, "Mac"), arrived(BOB, "Windows")
    for round_ in (5, 7):
        dead.write(Ckpt, item=GRID[0].id, attempt=1, round=round_, file=f"r{round_}", sha256="s", base="")
    heir.write(Claim, item=GRID[0].id, attempt=2)
    heir.write(Start, item=GRID[0].id, attempt=2, round=start, base="", source=f"r{start}" if start else "")
    assert words in seen(dead, heir).news[0]


def test_an_item_that_was_given_back_and_begun_anew_elsewhere_was_not_taken_over():
    first, second = arrived(ALICE, "Mac"), arrived(BOB, "Windows")
    first.write(Claim, item=GRID[0].id, attempt=1)
    first.write(Yield, item=GRID[0].id, attempt=1, reason="stopped on request")
    second.write(Claim, item=GRID[0].id, attempt=2)
    second.write(Start, item=GRID[0].id, attempt=2, round=0, base="")
    assert seen(first, second).news == ()


def test_of_many_takeovers_the_latest_few_are_told():
    dead, heir = arrived(ALICE, "Mac"), arrived(BOB, "Windows")
    for number, of in enumerate(GRID):
        dead.write(Ckpt, item=of.id, attempt=1, round=1, file=f"r{number}", sha256="s", base="")
        heir.write(Start, item=of.id, attempt=2, round=1, base="", source=f"r{number}")
    more, *latest = seen(dead, heir, items=tuple(GRID)).news
    assert more == "... and 3 takeovers before."
    assert [GRID[number].exp in text for number, text in zip((3, 4, 5), latest, strict=True)] == [True] * 3


def test_resuming_on_the_same_machine_is_no_takeover():
    first, second = arrived(ALICE, "Mac"), arrived("aaaaaaaa-000002", "Mac")
    first.write(Ckpt, item=GRID[0].id, attempt=1, round=7, file="r7", sha256="s", base="")
    second.write(Start, item=GRID[0].id, attempt=2, round=7, base="", source="r7")
    assert seen(first, second).news == ()


def test_a_writer_whose_clock_is_ahead_is_not_seen_in_the_future():
    assert elapsed_s("2027-01-01T00:00:00Z", NOW) == 0.0


@pytest.mark.parametrize("wall", ["", "yesterday", "2026-13-01T00:00:00Z", "9" * 100])
def test_a_time_that_is_none_has_no_age(wall: str):
    assert elapsed_s(wall, NOW) is None
    author = arrived(ALICE, "Mac")
    author.write(Claim, item=GRID[0].id, attempt=1)
    line(seen(author, beat=Beat(worker=ALICE, n=1, seq=2, wall=wall)), state="running", beat_age_s=None)


def test_a_result_counts_before_and_after_it_is_sealed():
    author = arrived(ALICE, "Mac")
    author.write(Done, item=GRID[0].id, attempt=1, rows="", rounds=20, accuracy=0.9)
    line(seen(author), state="done", machine="Mac", round=20, accuracy=0.9)
    author.write(Seal, item=GRID[0].id, attempt=1, author=ALICE)
    line(seen(author), state="sealed")


def test_an_item_that_was_given_up_says_why():
    authors = killed(GRID[0].id, 3)
    line(seen(*authors, closing(authors)), state="failed", why="it killed its worker 3 times")


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "0 s"),
        (89, "89 s"),
        (90, "2 min"),
        (89 * 60, "89 min"),
        (5400, "1 h 30 min"),
        (7200, "2 h"),
        (172800, "2 d"),
        (1e300, "9999 d"),
    ],
)
def test_spans_are_told_in_few_words(seconds: float, words: str):
    assert in_words(seconds) == words

"""Whose word a result still waits for before it is sealed."""

from __future__ import annotations

import pytest
from queuekit import ALICE, BOB, Author, fold_of

from fedspec.workqueue.members import unsettled
from fedspec.workqueue.records import Bye, Claim, Done, Hello

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


def test_a_result_waits_for_the_rest_of_a_closed_worker_s_journal_and_no_longer():
    author, done = finished()
    bob = Author(BOB)
    bob.write(Hello, machine="bbbbbbbb", name="PC")
    assert list(unsettled(fold_of(author, heir(1), bob), {}, {}, ALICE, done)) == [BOB]
    bob.write(Claim, item="one", attempt=1)
    assert list(unsettled(fold_of(author, heir(1), bob), {}, {}, ALICE, done)) == []

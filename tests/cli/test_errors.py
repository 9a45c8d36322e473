"""The errors that people meet first, word for word: what happened, and what to do."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path

import pytest

from fedspec.cli.opening import open_queue
from fedspec.errors import SupersededError
from fedspec.plan import Item
from fedspec.supervisor import Settings, open_worker
from fedspec.worker import Stopped, StopSignal, drive
from fedspec.workqueue import wording
from fedspec.workqueue.rules import Blocked
from tests.cli.conftest import Place, items

FOUR = ("--rounds", "4", "--clients", "2", "--method", "fedavg", "--seed", "42")
FOUR_NAME = "fedavg_dirichlet_alpha0.5_c2_r4"


class StopAt:
    """A person who asks to stop while a certain round is trained."""

    def __init__(self, words: str) -> None:
        self.words, self.stop, self.events = words, StopSignal(), list[str]()

    def event(self, text: str) -> None:
        self.events.append(text)

    def status(self, text: str) -> None:
        if self.words in text:
            self.stop.request()


def stop_after_two_rounds(place: Place) -> None:
    queue = open_queue(place.root)
    queue.enqueue(items("quick", rounds="4", clients="2", method=["fedavg"], seed=["42"]))
    person = StopAt("Round 3/4")
    settings = Settings(workspace=str(place.root), name="Mac", time_scale=0.05)
    with pytest.raises(Stopped, match=r"Round 2 saved. Claim released."):
        drive(open_worker(settings, person, person.stop))


def newest_generation(place: Place) -> Path:
    return max((place.root / "checkpoints_distributed" / "gen" / FOUR_NAME).glob("*.pt"))


def test_no_queue(place: Place):
    for command in ("progress", "work", "queue list", "queue retry x"):
        said = place.fedspec(*command.split())
        assert said.code == 3
        assert said.err == (
            f"error: No work queue in {place.root / 'distributed_work'}.\n"
            "  fix: Start one with 'fedspec run quick', or wait for the folder to sync.\n"
        )


def test_an_interrupted_run_says_where_it_goes_on_and_who_saved_it(place: Place):
    stop_after_two_rounds(place)
    said = place.fedspec("run", "quick", *FOUR, "--name", "Mac")
    assert said.code == 0
    assert re.search(rf"^Resuming {FOUR_NAME} at round 3 of 4 \(saved by Mac, \d\d:\d\d\)$", said.err, re.MULTILINE)


def test_a_damaged_checkpoint(place: Place):
    stop_after_two_rounds(place)
    bad = newest_generation(place)
    bad.write_bytes(bad.read_bytes()[:-100])
    said = place.fedspec("run", "quick", *FOUR)
    assert said.code == 0
    assert (
        "error: The checkpoint of round 2 is damaged; round 1 is intact.\n"
        "  fix: Nothing to do. Continuing from round 1. The bad file is kept in quarantine.\n"
        f"Resuming {FOUR_NAME} at round 2 of 4"
    ) in said.err
    assert (place.root / "distributed_work" / "quarantine" / f"{FOUR_NAME}.{bad.name}").is_file()


def test_a_checkpoint_that_has_not_synced_yet_is_not_called_damaged():
    assert wording.unusable(12, "is not in this folder (yet)", 11) == (
        "error: The checkpoint of round 12 is not in this folder (yet); round 11 is intact.\n"
        "  fix: Nothing to do. Continuing from round 11."
    )


@pytest.mark.parametrize(
    ("start", "journalled", "end"),
    [
        (7, 7, "at round 8 of 20; nothing was lost"),
        (5, 7, "at round 6 of 20; of the 7 rounds that were saved, no later one can be read here"),
        (0, 7, "at round 1 of 20; of the 7 rounds that were saved, no later one can be read here"),
        (0, 0, ", which had saved no round: starting from round 1"),
    ],
)
def test_a_takeover_says_that_nothing_was_lost_only_where_that_is_so(start: int, journalled: int, end: str):
    words = wording.taking_over("x", "Mac", start, journalled, 20)
    assert words.removeprefix("Taking over x from Mac").strip() == end.strip()


def test_without_an_intact_checkpoint_it_starts_again():
    assert wording.unusable(1, "is damaged", None) == (
        "error: The checkpoint of round 1 is damaged; no other round is saved.\n"
        "  fix: Nothing to do. Starting from round 1. The bad file is kept in quarantine."
    )


def test_an_item_that_a_peer_took_over():
    words = dropped(rival="Windows", round_=8)
    assert words == (
        "error: fedavg_dirichlet_alpha0.5 was taken over by Windows while this Mac slept or was offline.\n"
        "  fix: Nothing is lost. This Mac dropped its copy of round 8 and takes the next item."
    )


def test_other_ways_to_lose_an_item_are_not_blamed_on_sleep():
    assert dropped(rival="Mac", round_=8).startswith(
        "error: fedavg_dirichlet_alpha0.5 was taken over by another worker of this Mac"
    )
    assert dropped(rival="Windows") == ("fedavg_dirichlet_alpha0.5 was claimed by Windows first. This Mac takes the next item.")
    assert dropped(rival="Windows", done_by="Windows", round_=8) == (
        "fedavg_dirichlet_alpha0.5 is already done by Windows. Nothing is lost; this Mac takes the next item."
    )
    assert dropped(error="x was cancelled.") == "x was cancelled. Nothing is lost."
    assert dropped(error="x was released by hand.", rival="Windows", round_=8) == "x was released by hand. Nothing is lost."


def dropped(done_by: str = "", rival: str = "", round_: int = 0, error: str = "x was taken over by 1234-56.") -> str:
    reason = SupersededError(error, "Nothing is lost.")
    return wording.dropped(reason, "fedavg_dirichlet_alpha0.5", "Mac", done_by=done_by, rival=rival, round_=round_)


@pytest.mark.parametrize(
    ("why", "words"),
    [
        ("running", "Waiting: Windows is on x; 1 other item cannot start either."),
        ("needs", "Waiting: x needs cuda, which this machine does not have; 1 other item cannot start either."),
        ("back-off", "Waiting: x failed and is tried again later; 1 other item cannot start either."),
        ("settle", "Waiting: this machine slept; x waits until the folder has settled; 1 other item cannot start either."),
    ],
)
def test_waiting_says_for_what(why: str, words: str):
    item = Item(kind="federated", exp="x", config={})
    blocked = Blocked(item, why, (1, "1234-56"), "cuda")
    assert wording.waiting([blocked, blocked], lambda worker: {"1234-56": "Windows"}[worker]) == words
    assert wording.waiting([blocked], lambda worker: "Windows") == words.partition("; 1 other")[0] + "."


@pytest.mark.parametrize(
    ("machine", "command"), [("", "fedspec queue resume"), ("1234", 'fedspec queue resume --machine "Mac 2"')]
)
def test_a_paused_worker_says_the_command_that_lets_it_go_on(machine: str, command: str):
    blocked = Blocked(Item(kind="federated", exp="x", config={}), "paused", detail=machine)
    words = f"Waiting: this machine is paused, with 2 items left. To go on: {command}"
    assert wording.waiting([blocked, blocked], lambda worker: "Mac 2") == words


def test_a_wrong_value_in_a_plan_is_found_by_its_line(place: Place):
    plan = place.root / "mine.toml"
    plan.write_text('title = "Mine"\n\n[experiment]\nrounds = 3\n\n[grid]\nalpha = [-0.5]\n', encoding="utf-8")
    said = place.fedspec("run", "mine.toml")
    assert said.code == 2
    assert said.err == (
        "error: mine.toml, line 7: alpha must be greater than 0, not -0.5.\n"
        "  fix: Use a small value such as 0.1 for strong heterogeneity, 100 for nearly iid.\n"
    )


@pytest.mark.parametrize(
    ("fault", "fix"),
    [
        ("transient", "Nothing to do. It is tried again later."),
        ("code", "Nothing yet: it is tried up to 3 times. The traceback: fedspec progress x"),
        ("capability", "Nothing to do here. Another machine may run it."),
        ("final", "It is not tried again. More: fedspec progress x"),
    ],
)
def test_a_failed_attempt_says_whether_it_is_tried_again(fault: str, fix: str):
    assert wording.failed("x", fault, "OSError: no.") == f"error: x failed: OSError: no.\n  fix: {fix}"


def test_what_this_machine_cannot_run_comes_with_the_remedy_that_there_is():
    said = wording.failed("x", "capability", "The data set MNIST is not here.", "Put it into /data.")
    assert said == (
        "error: x failed: The data set MNIST is not here.\n"
        "  fix: Put it into /data. Then: fedspec queue retry x. Or leave it to another machine."
    )
    item = Item(kind="federated", exp="x", config={})
    refused = Blocked(item, "refused", detail="The data set MNIST is not here. Put it into /data.")
    words = "Waiting: x could not run on this machine: The data set MNIST is not here. Put it into /data."
    assert wording.waiting([refused], str) == words


@pytest.mark.parametrize("word", ["remedy", "x" * 400])
def test_a_long_reason_ends_at_a_word_with_an_ellipsis(word: str):
    told = wording.told(f"{word} " * 100 + ".", str)
    assert len(told) <= wording.MAX_REASON
    assert told.endswith(f"{word}\u2026" if word == "remedy" else "x\u2026")
    assert wording.told("It is short.", str) == "It is short"


def test_times_of_another_day_carry_their_date():
    now = datetime(2026, 1, 5, 12, tzinfo=UTC)
    assert re.fullmatch(r"\d\d:\d\d", wording.local_time("2026-01-05T12:00:00Z", now))
    assert re.fullmatch(r"2026-01-0[12] \d\d:\d\d", wording.local_time("2026-01-01T23:00:00Z", now))
    assert wording.local_time("yesterday", now) == "yesterday"

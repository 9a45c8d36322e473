"""``fedspec queue``: look at items and change them; every refusal says in which state the item is."""

from __future__ import annotations

import io
from collections.abc import Callable
from datetime import timedelta

import pytest

from fedspec.workqueue.rules import Drained, Held
from tests.cli.conftest import TINY, TINY_NAME, Place, beat, save


def states(place: Place) -> list[str]:
    return [item["state"] for item in place.fedspec("queue", "list", "--json").json["items"]]


def test_add_enqueues_once(place: Place):
    said = place.fedspec("queue", "add", "quick", *TINY)
    assert (said.code, said.out) == (0, "Added 1 of 1 items. Work on them with 'fedspec work' on any machine.\n")
    assert place.fedspec("queue", "add", "quick", *TINY).out.startswith("Added 0 of 1 items.")
    document = place.fedspec("queue", "add", "distributed", "--json").json
    assert document["added"] == len(document["items"]) == 7


def test_list(place: Place):
    place.fedspec("queue", "add", "quick", *TINY)
    header, row = place.fedspec("queue", "list").out.splitlines()
    assert header.split() == ["Item", "State", "Machine", "Id"]
    assert row.split()[:2] == [TINY_NAME, "pending"]


def test_why_an_item_waits_who_runs_it_and_who_went_silent(place: Place, claimed: Callable):
    place.fedspec("queue", "add", "quick", *TINY)
    assert place.fedspec("queue", "why", TINY_NAME).out == (
        f"{TINY_NAME} is waiting for a worker.\nNo machine is working.\nTo start one: fedspec work\n"
    )
    mac, held = claimed("Mac", behind=timedelta(minutes=9))
    assert (
        f"To let it be taken over at once: fedspec queue release {TINY_NAME}\n" in place.fedspec("queue", "why", TINY_NAME).out
    )
    mac.give_back(held, "stopped on request")
    windows, again = claimed("Windows")
    said = place.fedspec("queue", "why", TINY_NAME).out.splitlines()
    assert said[0].startswith(f"{TINY_NAME} is running: Windows has had it for ~")
    assert said[-3].split() == ["Attempt", "Machine", "Claimed", "From", "Saved", "How", "it", "ended"]
    assert said[-2].endswith("stopped on request")
    assert said[-1].split()[:2] == ["2", "Windows"]
    document = place.fedspec("queue", "why", held.item.id, "--json").json
    assert (document["item"], document["state"], document["condition"]) == (held.item.id, "running", "running")
    assert document["why"].startswith(f"{TINY_NAME} is running: Windows has had it for ~")
    assert [attempt["how"] for attempt in document["attempts"]] == ["yielded", ""]
    windows.failed(again, "final", "it cannot run.")
    document = place.fedspec("queue", "why", held.item.id, "--json").json
    assert document["fixes"] == [{"lead": "To try it again", "command": f"fedspec queue retry {TINY_NAME}"}]
    assert place.fedspec("queue", "why", TINY_NAME).out.endswith(
        f"\nTo try it again: fedspec queue retry {TINY_NAME}\nThe traceback and the log: fedspec progress {TINY_NAME}\n"
    )
    assert "The traceback" not in place.fedspec("progress", TINY_NAME).out


def test_why_without_an_item_says_what_holds_the_queue_up(place: Place, claimed: Callable):
    assert place.fedspec("queue", "why").code == 3  # no queue
    place.fedspec("queue", "add", "quick", *TINY)
    assert place.fedspec("queue", "why").out == (
        "ok     1 item: 1 pending\nwarn   No machine is working; 1 item waits\n       fix: fedspec work\n"
    )
    _, held = claimed("Mac")
    assert place.fedspec("queue", "why").out == "ok     1 item: 1 running\n\nNothing is in the way.\n"
    place.fedspec("queue", "cancel", TINY_NAME)
    place.fedspec("queue", "add", "quick", "--rounds", "2", *TINY[2:])
    place.fedspec("queue", "pause")
    document = place.fedspec("queue", "why", "--json").json
    assert [found["about"] for found in document["hindrances"]] == ["paused"]
    assert document["takeovers"] == []
    del held


def test_release_takes_an_item_from_a_silent_machine(place: Place, claimed: Callable):
    mac, held = claimed("Mac", behind=timedelta(minutes=9))
    save(mac, held, 3, 0.5)
    beat(mac)
    said = place.fedspec("queue", "release", held.item.exp)
    assert (said.code, said.out) == (0, f"{held.item.exp} is free to be claimed; its saved rounds are kept.\n")
    assert set(states(place)) == {"pending"}
    assert mac.must_stop(held) == "released by hand"


def test_retry_forgets_failures(place: Place, claimed: Callable):
    mac, held = claimed("Mac")
    mac.failed(held, "final", "it cannot run.")
    assert "failed" in states(place)
    assert place.fedspec("queue", "retry", held.item.exp).out == f"{held.item.exp} will be tried again.\n"
    assert set(states(place)) == {"pending"}


def test_cancel_and_resume_take_several_items(place: Place):
    place.fedspec("queue", "add", "quick", *TINY)
    place.fedspec("queue", "add", "quick", "--rounds", "2", *TINY[2:])
    names = (TINY_NAME, TINY_NAME.replace("r1", "r2"))
    said = place.fedspec("queue", "cancel", *names)
    assert said.out == "".join(f"{name} is cancelled. Undo: fedspec queue resume {name}\n" for name in names)
    assert states(place) == ["cancelled"] * 2
    # Without an item it is machines that it is about.
    stay = f"2 cancelled items stay cancelled: fedspec queue resume {' '.join(names)}\n"
    assert place.fedspec("queue", "resume").out == f"No machine was paused or draining.\n{stay}"
    assert states(place) == ["cancelled"] * 2
    assert place.fedspec("queue", "resume", *names).code == 0
    assert states(place) == ["pending"] * 2


@pytest.mark.parametrize(
    ("op", "wanted"),
    [("release", "running or stale"), ("resume", "cancelled")],
)
def test_what_makes_no_sense_is_refused_and_changes_nothing(place: Place, op: str, wanted: str):
    place.fedspec("queue", "add", "quick", *TINY)
    before = place.files()
    said = place.fedspec("queue", op, TINY_NAME)
    assert (said.code, said.out) == (2, "")
    assert said.err == (
        f"error: {TINY_NAME} is pending; {op} is for items that are {wanted}.\n  fix: fedspec queue why {TINY_NAME}\n"
    )
    assert place.files() == before


def test_of_several_items_those_are_named_about_which_nothing_was_done_though_it_could_be(place: Place, claimed: Callable):
    place.fedspec("queue", "add", "quick", *TINY)
    place.fedspec("queue", "add", "quick", "--rounds", "2", *TINY[2:])
    mac, held = claimed("Mac")
    free = next(item.exp for item in mac.store.items.values() if item.id != held.item.id)
    said = place.fedspec("queue", "release", free, held.item.exp)
    assert said.err == (
        f"error: {free} is pending; release is for items that are running or stale. "
        f"Nothing was done about {held.item.exp} either.\n  fix: fedspec queue release {held.item.exp}\n"
    )
    assert mac.must_stop(held) is None
    mac.failed(held, "final", "it cannot run.")
    place.fedspec("queue", "cancel", held.item.exp)
    said = place.fedspec("queue", "priority", "7", held.item.exp, free)
    assert said.err.endswith(f"\n  fix: fedspec queue priority 7 {free}\n")


def test_of_several_items_none_changes_if_one_is_wrong(place: Place):
    place.fedspec("queue", "add", "quick", *TINY)
    said = place.fedspec("queue", "cancel", TINY_NAME, "nope")
    assert (said.code, f"Nothing was done about {TINY_NAME} either.\n" in said.err) == (2, True)
    assert "either" not in place.fedspec("queue", "cancel", "nope").err
    assert states(place) == ["pending"]


def test_pause_drain_and_resume_hold_for_all_machines_or_for_one(place: Place, claimed: Callable):
    mac, held = claimed("Mac")
    assert "wait" in place.fedspec("queue", "pause").out
    mac.refresh()
    assert mac.is_paused()
    assert place.fedspec("queue", "resume").out == "All machines take items again: Mac was paused.\n"
    assert place.fedspec("queue", "resume").out == "No machine was paused or draining.\n"
    assert place.fedspec("queue", "resume", "--machine", "Mac").out == "Mac was neither paused nor draining.\n"
    place.machine("PC")
    place.machine("NAS")
    place.fedspec("queue", "drain")
    place.fedspec("queue", "pause", "--machine", "Mac")
    assert place.fedspec("queue", "resume").out == (
        "All machines take items again: Mac was paused, PC and NAS were draining.\n"
        "Workers that ended are started again there: fedspec work\n"
    )
    assert place.fedspec("queue", "drain", "--machine", "mac").out.startswith("Mac finishes its item")
    mac.refresh()
    assert not mac.is_paused()
    assert isinstance(mac.claim(), Drained)
    refused = place.fedspec("queue", "pause", "--machine", "Toaster")
    assert (refused.code, refused.err) == (
        2,
        "error: No machine Toaster has taken part in this queue.\n  fix: Name one of: Mac, NAS, PC.\n",
    )
    del held


def test_priority_changes_what_is_listed_first(place: Place):
    place.fedspec("queue", "add", "quick", *TINY)
    place.fedspec("queue", "add", "quick", "--rounds", "2", *TINY[2:])
    last = place.fedspec("queue", "list", "--json").json["items"][-1]["experiment"]
    assert place.fedspec("queue", "priority", "5", last).out == f"{last} has priority 5.\n"
    assert place.fedspec("queue", "list", "--json").json["items"][0]["experiment"] == last


def test_a_priority_is_shown_wherever_it_changes_what_comes_next(place: Place):
    place.fedspec("queue", "add", "quick", *TINY)
    place.fedspec("queue", "add", "quick", "--rounds", "2", *TINY[2:])
    assert "Priority" not in place.fedspec("queue", "list").out
    assert "priority" not in place.fedspec("queue", "why", TINY_NAME).out
    place.fedspec("queue", "priority", "1000", TINY_NAME)
    header, first, second = place.fedspec("queue", "list").out.splitlines()
    assert header.endswith("Priority")
    assert (first.split()[0], first.split()[-1]) == (TINY_NAME, "1000")
    assert not second.endswith("0 ")
    assert "It has priority 1000 (0 is usual)." in place.fedspec("queue", "why", TINY_NAME).out
    for command in (("queue", "list"), ("progress",)):
        assert [line["priority"] for line in place.fedspec(*command, "--json").json["items"]] == [1000, 0]


def test_a_priority_may_be_negative_and_a_mistyped_option_stays_one(place: Place):
    place.fedspec("queue", "add", "quick", *TINY)
    root = str(place.root)
    for order in (("-5", TINY_NAME, "-w", root), ("-w", root, "-5", TINY_NAME), ("--", "-5", TINY_NAME)):
        said = place.fedspec("queue", "priority", *order)
        assert (said.code, said.out) == (0, f"{TINY_NAME} has priority -5.\n"), said.err
    refused = place.fedspec("queue", "priority", "-5", TINY_NAME, "--workspce", root)
    assert (refused.code, refused.err) == (
        2,
        "error: fedspec queue priority has no option --workspce.\n"
        "  fix: Did you mean --workspace? See 'fedspec queue priority --help'.\n",
    )
    assert "-x" in place.fedspec("queue", "priority", "-x", TINY_NAME).err
    assert place.fedspec("queue", "priority", "-5000", TINY_NAME).code == 2


def test_retire_frees_what_a_lost_machine_had(place: Place, claimed: Callable):
    mac, held = claimed("Mac", behind=timedelta(minutes=9))
    said = place.fedspec("queue", "retire", "Mac")
    assert (said.err, said.out.partition(".")[0]) == ("", "Mac is retired")
    assert set(states(place)) == {"pending"}
    assert mac.must_stop(held) == "given up when this machine was retired"


def test_a_machine_that_was_seen_just_now_is_retired_only_by_those_who_mean_it(
    place: Place, claimed: Callable, monkeypatch: pytest.MonkeyPatch
):
    mac, held = claimed("Mac")
    said = place.fedspec("queue", "retire", "Mac")
    assert (said.code, said.out) == (2, "")
    assert said.err.startswith("error: Mac was last seen ~")
    assert said.err.endswith(" If it is gone for good: fedspec queue retire Mac --yes\n")
    assert mac.must_stop(held) is None
    for answer, code in (("n", 4), ("y", 0)):
        terminal = io.StringIO(f"{answer}\n")
        terminal.isatty = lambda: True  # type: ignore[method-assign]
        monkeypatch.setattr("sys.stdin", terminal)
        said = place.fedspec("queue", "retire", "Mac")
        assert (said.code, mac.must_stop(held) is None) == (code, code == 4)
        assert said.err.startswith("warn   Mac was last seen ~")
    other, _ = claimed("PC")
    said = place.fedspec("queue", "retire", "PC", "--yes")
    assert (said.code, said.err.partition(" ~")[0]) == (0, "warn   PC was last seen")
    other.leave()


def test_of_a_retired_machine_and_its_next_life_the_one_that_lives_is_meant(place: Place, claimed: Callable):
    mac, held = claimed("Mac")
    pc, _ = claimed("PC")
    place.fedspec("queue", "retire", "Mac", "--yes")
    mac.give_back(held, "retired")
    again = mac.claim()
    assert isinstance(again, Held)
    save(mac, again, 1, 0.5)
    assert place.fedspec("queue", "pause", "--machine", "mac").out.startswith("Mac 2 stops after the current round")
    mac.refresh()
    assert mac.is_paused()
    assert place.fedspec("queue", "resume", "--machine", "Mac 2").out.startswith("Mac 2 takes items again")
    said = place.fedspec("queue", "retire", "Mac", "--yes")
    assert said.code == 2
    assert said.err.endswith('If that is gone for good too: fedspec queue retire "Mac 2"\n')
    for op in (("pause", "--machine"), ("drain", "--machine"), ("resume", "--machine"), ("retire",)):
        said = place.fedspec("queue", *op, "Mac (retired)")
        assert said.code == 2
        assert said.err == (
            "error: Mac was retired, and nothing that is said to it counts.\n"
            "  fix: If it is at work after all, it goes by another name. Name one of: Mac 2, PC.\n"
        )
    document = place.fedspec("queue", "why", again.item.id, "--json").json
    assert {attempt["machine"] for attempt in document["attempts"]} <= {"Mac (retired)", "Mac 2"}
    del pc


def test_a_command_to_copy_is_not_broken_on_a_terminal(place: Place, monkeypatch: pytest.MonkeyPatch):
    place.fedspec("queue", "add", "quick", *TINY)
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "60")
    for command in (("cancel", TINY_NAME), ("resume",)):
        assert f"fedspec queue resume {TINY_NAME}" in place.fedspec("queue", *command).out


@pytest.fixture
def two(place: Place) -> list[str]:
    """The names of two items in the queue, `TINY_NAME` the first."""
    place.fedspec("queue", "add", "quick", *TINY)
    place.fedspec("queue", "add", "quick", "--rounds", "2", *TINY[2:])
    return [TINY_NAME, TINY_NAME.replace("r1", "r2")]


def test_a_name_that_is_nearly_right_brings_the_right_one(place: Place, two: list[str]):
    said = place.fedspec("queue", "why", "fedavg_dirichlet_alpha.5_c2_r2")
    assert (said.code, said.err) == (
        2,
        "error: There is no item fedavg_dirichlet_alpha.5_c2_r2 in the queue.\n"
        f"  fix: Did you mean {two[1]}? List them with 'fedspec queue list'.\n",
    )


def test_an_id_is_known_by_how_it_begins_if_no_other_begins_so(place: Place, two: list[str]):
    ids = [line["id"] for line in place.fedspec("queue", "list", "--json").json["items"]]
    assert ids[0][:3] != ids[1][:3]
    for item_id, name in zip(ids, two, strict=True):
        assert place.fedspec("queue", "cancel", item_id[:3]).out == f"{name} is cancelled. Undo: fedspec queue resume {name}\n"
    assert place.fedspec("queue", "why", ids[0][:2]).code == 2


def test_ids_that_begin_alike_are_not_guessed_between(place: Place, two: list[str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("fedspec.workqueue.board.SHORTEST_ID", 0)
    said = place.fedspec("queue", "why", "")
    assert (said.code, "The ids of 2 items begin with" in said.err) == (2, True)


def test_a_pattern_stands_for_all_that_match_and_says_how_many(place: Place, two: list[str]):
    said = place.fedspec("queue", "cancel", "fedavg_*_r[12]")
    assert said.out.splitlines() == [
        "fedavg_*_r[12] matches 2 items.",
        *(f"{name} is cancelled. Undo: fedspec queue resume {name}" for name in two),
    ]
    assert place.fedspec("queue", "resume", "*_r2").out.splitlines() == [
        "*_r2 matches 1 item.",
        f"{two[1]} can be claimed again.",
    ]
    mixed = place.fedspec("queue", "resume", "fedavg_*")
    assert mixed.out.splitlines()[0] == "fedavg_* matches 2 items; 1 of them cannot be changed so."
    assert states(place) == ["pending", "pending"]
    refused = place.fedspec("queue", "retire", "*")
    assert refused.code == 2
    nothing = place.fedspec("queue", "resume", "fedavg_*")
    assert (nothing.code, nothing.out) == (2, "")
    assert "fedavg_* matches 2 items, none of which fits; resume is for items that are cancelled." in nothing.err
    unknown = place.fedspec("queue", "cancel", "fedspec_*")
    assert (unknown.code, unknown.err.splitlines()[0]) == (2, "error: No item in the queue matches fedspec_*.")


def test_without_a_queue_an_item_is_not_missing_but_the_queue_is(place: Place):
    for command in (("why", "foo"), ("cancel", "foo"), ("cancel", "foo*"), ("why",)):
        said = place.fedspec("queue", *command)
        assert (said.code, "No work queue in" in said.err) == (3, True), command


def test_an_item_is_not_resumed_for_one_machine(place: Place, two: list[str]):
    place.fedspec("queue", "cancel", two[0])
    said = place.fedspec("queue", "resume", two[0], "--machine", "Mac")
    assert (said.code, said.err.splitlines()[0]) == (2, "error: An item is resumed for all machines.")
    assert sorted(states(place)) == ["cancelled", "pending"]


def test_what_changes_many_items_is_one_journal(place: Place, two: list[str]):
    before = len(list(place.root.glob("distributed_work/journal/*")))
    assert place.fedspec("queue", "priority", "3", "*").code == 0
    assert len(list(place.root.glob("distributed_work/journal/*"))) == before + 1

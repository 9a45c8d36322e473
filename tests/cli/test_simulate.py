"""``fedspec simulate``: many schedules, one replayed, and what the naive way loses beside them."""

from __future__ import annotations

from typing import Any

import pytest

from tests.cli.conftest import Place

FEW = ("simulate", "--profile", "smb", "--machines", "2", "--workers", "1")


def test_schedules_are_counted_with_what_struck_and_the_naive_way_beside_them(place: Place):
    said = place.fedspec(*FEW, "--schedules", "2", "--compare")
    assert said.code == 0
    assert "2 schedules in" in said.out
    assert "0 broke a promise" in said.out
    assert "stale listing" in said.out
    assert "The naive way in the same weather" in said.out


def test_json_holds_the_same(place: Place):
    document = place.fedspec(*FEW, "--schedules", "1", "--json").json
    assert (document["schedules"], document["broken"], document["rounds"]) == (1, [], 16)
    assert document["struck"]["stale listing"] > 0


def test_a_replay_tells_what_happened_event_by_event_the_same_each_time(place: Place):
    said = place.fedspec("simulate", "--replay", "3", "--profile", "smb")
    assert (said.code, said.out.splitlines()[-1]) == (0, "Every promise held.")
    assert "m0p1" in said.out
    assert place.fedspec("simulate", "--replay", "3", "--profile", "smb").out == said.out


def test_an_unknown_folder_is_refused_with_those_that_there_are(place: Place):
    said = place.fedspec("simulate", "--profile", "tape")
    assert (said.code, said.err.splitlines()[0]) == (2, "error: There is no profile tape.")
    assert "brutal, dropbox" in said.err


def test_a_campaign_that_was_cut_goes_on_where_it_was(place: Place):
    file = str(place.root / "found")
    first = place.fedspec(*FEW, "--schedules", "1", "--resume", file, "--json").json
    said = place.fedspec(*FEW, "--schedules", "2", "--resume", file)
    assert (said.code, "2 schedules in" in said.out, "1 of them before" in said.out) == (0, True, True)
    again = place.fedspec(*FEW, "--schedules", "1", "--resume", file, "--json").json
    assert {**again, "time": ""} == {**first, "time": ""}
    other = place.fedspec("simulate", "--profile", "smb", "--machines", "3", "-n", "1", "--schedules", "1", "--resume", file)
    assert "2 lines of" in other.err


def test_where_there_is_no_terminal_a_line_says_how_far_it_is(place: Place, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("fedspec.cli.simulate.TELL_EVERY_S", 0.0)
    said = place.fedspec(*FEW, "--schedules", "2")
    assert "1 of 2 schedules, nothing broken, about 0 min left" in said.err


def test_a_replay_for_programs_is_a_document(place: Place):
    replay = ("simulate", "--replay", "3", "--profile", "smb")
    document, text = place.fedspec(*replay, "--json").json, place.fedspec(*replay).out
    assert (document["seed"], document["profile"], document["broken"]) == (3, "smb", [])
    assert document["trace"] == text.splitlines()[1:-1]
    assert f"{document['machines']} machines" in text


@pytest.mark.parametrize("more", [["--compare"], ["--schedules", "5"], ["--seed", "0"], ["-n", "1"], ["--resume", "f"]])
def test_what_a_replay_does_not_obey_it_refuses(place: Place, more: list[str]):
    said = place.fedspec("simulate", "--replay", "3", *more)
    assert (said.code, said.out) == (2, "")
    assert said.err.startswith("error: --replay shows one schedule; --")
    assert place.fedspec("simulate", "--replay", "-1").code == 2


@pytest.mark.parametrize("json", [False, True])
def test_an_interrupted_campaign_tells_what_it_has_found(place: Place, monkeypatch: pytest.MonkeyPatch, json: bool):
    from fedspec.simulation import campaign

    run_one = campaign.run_one

    def interrupted(seed: int, **about: Any) -> campaign.Outcome:
        if seed == 1:
            raise KeyboardInterrupt
        return run_one(seed, **about)

    monkeypatch.setattr(campaign, "run_one", interrupted)
    said = place.fedspec(*FEW, "--schedules", "3", *(["--json"] if json else []))
    assert said.code == 130
    if json:
        assert said.json["schedules"] == 1
    else:
        assert said.out.startswith("1 schedules in")
    assert place.fedspec(*FEW, "--schedules", "3", "--seed", "1").out == ""

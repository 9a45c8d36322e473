"""``fedspec simulate``: many schedules, one replayed, and what the naive way loses beside them."""

from __future__ import annotations

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

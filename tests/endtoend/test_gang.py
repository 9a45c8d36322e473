"""An item that two machines run together over a real socket: they meet through the folder, and go on where one of them died."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import NewMachine
from machines import FAST, enqueue, journal, of_kind, small, until
from pairjob import Part, work

from fedspec.results import from_table
from fedspec.simulation.rehearsal import ROLES, expected_rows, rehearsal
from fedspec.workqueue.records import Claim, Done, Lost, Meet, Start, unpack_rows

PAIR = rehearsal(42, 3, 1, ROLES)


def test_two_machines_meet_through_the_folder_and_run_an_item_together(workspace: Path, new_machine: NewMachine):
    single = small(43)
    enqueue(workspace, [PAIR, single])
    running = [new_machine(name).run(work, Part(str(workspace), 5 * FAST)) for name in ("mac", "pc")]
    assert [one.wait() for one in running] == [0, 0]
    records = journal(workspace)
    assert {claim.role for claim in of_kind(records, Claim, PAIR)} == {"root", "peer"}
    assert len(of_kind(records, Meet, PAIR)) == 1
    assert accuracies(workspace) == [row.accuracy for row in expected_rows(PAIR)]
    assert len(of_kind(records, Done)) == 2


def test_one_machine_alone_waits_for_another_and_does_the_rest_meanwhile(workspace: Path, new_machine: NewMachine):
    single = small(43)
    enqueue(workspace, [PAIR, single])
    alone = new_machine("mac").run(work, Part(str(workspace), FAST))
    until(lambda: of_kind(journal(workspace), Done, single))
    assert not of_kind(journal(workspace), Meet, PAIR)
    helper = new_machine("pc").run(work, Part(str(workspace), FAST))
    assert (alone.wait(), helper.wait()) == (0, 0)
    assert accuracies(workspace) == [row.accuracy for row in expected_rows(PAIR)]


@pytest.mark.parametrize("role", ["root", "peer"])
def test_when_one_of_them_is_killed_the_gang_begins_anew_from_its_latest_round(
    workspace: Path, new_machine: NewMachine, role: str
):
    enqueue(workspace, [PAIR])
    mortal = [new_machine(name).run(work, Part(str(workspace), FAST, dies_in=(role, 2))) for name in ("mac", "pc")]
    until(lambda: not all(one.alive for one in mortal))
    third = new_machine("laptop").run(work, Part(str(workspace), FAST))
    assert third.wait() == 0
    records = journal(workspace)
    starts = of_kind(records, Start, PAIR)
    assert len(starts) > 1
    assert starts[-1].round >= 1, "the rounds that were saved are not run again"
    assert role == "root" or of_kind(records, Lost, PAIR)
    assert accuracies(workspace) == [row.accuracy for row in expected_rows(PAIR)]


def accuracies(workspace: Path) -> list[float | None]:
    """The accuracies of the pair's result."""
    (done,) = of_kind(journal(workspace), Done, PAIR)
    return [row.accuracy for row in from_table(unpack_rows(done.rows))]

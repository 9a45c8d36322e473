"""``fedspec progress``: the original's block, a table of seven columns, and one item in detail."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest

from fedspec.cli.opening import open_queue
from fedspec.cli.progress import middle, page
from fedspec.workqueue.hindrances import Hindrance
from fedspec.workqueue.progress import ItemLine, Progress
from tests.cli.conftest import Place, beat, items, save


def test_the_block_and_the_table(place: Place, claimed: Callable):
    mac, first = claimed("Mac")
    save(mac, first, 20, 0.9123)
    mac.done(first, {}, 20, 0.9123)
    windows, second = claimed("Windows")
    save(windows, second, 11, 0.8394)
    windows.report.eta_s = 720.0
    beat(windows)
    lines = place.fedspec("progress").out.splitlines()
    assert lines[:9] == [
        "Distributed Work Progress",
        "========================================",
        "Total items: 7",
        "Completed:   1 (14.3%)",
        "In progress: 1",
        "  - Windows: 1",
        "Pending:     5",
        "Failed:      0",
        "========================================",
    ]
    assert lines[9].split() == ["Item", "State", "Machine", "Round", "Acc.", "Beat", "ETA"]
    assert lines[10].split() == [first.item.exp, "done", "Mac", "20/20", "0.912"]
    assert lines[11].split()[:5] == [second.item.exp, "running", "Windows", "11/20", "0.839"]
    assert lines[11].endswith("12 min")
    assert lines[12].split()[1:] == ["pending"]
    assert len(lines) == 17


def test_a_silent_worker_is_stale_and_the_remedy_is_named(place: Place, claimed: Callable):
    mac, held = claimed("Mac", behind=timedelta(minutes=9))
    save(mac, held, 7, 0.8)
    beat(mac)
    said = place.fedspec("progress")
    assert "stale" in said.out
    assert f"Mac has not been seen for ~9 min and has its item; now: fedspec queue release {held.item.exp}" in said.out
    assert "No machine is working; 7 items wait; now: fedspec work" in said.out


def test_json_has_counts_items_and_notes_in_seconds(place: Place, claimed: Callable):
    mac, held = claimed("Mac", behind=timedelta(minutes=9))
    beat(mac)
    document = place.fedspec("progress", "--json").json
    assert (document["total"], document["completed"], document["stale"], document["pending"]) == (7, 0, 1, 6)
    [item] = [item for item in document["items"] if item["state"] == "stale"]
    assert item["experiment"] == held.item.exp
    assert 500 < item["beat_age_s"] < 600
    assert item["condition"] == "stale"
    assert [found["about"] for found in document["hindrances"]] == ["nobody", "silent"]
    assert document["hindrances"][1]["fix"] == f"fedspec queue release {held.item.exp}"
    assert document["notes"][1].startswith("Mac has not been seen")


def test_an_item_in_detail(place: Place, claimed: Callable):
    mac, held = claimed("Mac")
    save(mac, held, 3, 0.5)
    mac.failed(held, "code", "ValueError: bad", 'File "x.py", line 1\nValueError: bad')
    said = place.fedspec("progress", held.item.exp)
    assert said.out.startswith(
        f"{held.item.exp} is waiting for a worker.\nRound 3 of 20 is saved, accuracy 0.5000. It failed once"
    )
    assert "  rounds    3 of 20 saved, accuracy 0.5000\n" in said.out
    assert f"  id        {held.item.id}\n" in said.out
    assert "  | ValueError: bad\n" in said.out
    attempt = next(line for line in said.out.splitlines() if line.startswith("1  "))
    assert attempt.split()[1] == "Mac"
    assert attempt.split()[3:] == ["1", "3", "ValueError:", "bad"]
    document = place.fedspec("progress", held.item.id, "--json").json
    assert document["attempts"][0]["end"] == "ValueError: bad"
    assert document["config"] == held.item.config


def test_what_was_chosen_is_told_from_what_is_default(place: Place):
    open_queue(place.root).enqueue(items("quick", rounds="3", method=["fedavg"], seed=["42"]))
    said = place.fedspec("progress", "fedavg_dirichlet_alpha0.5_c5_r3")
    chosen = next(line for line in said.out.splitlines() if line.startswith("  set"))
    default = next(line for line in said.out.splitlines() if line.startswith("  default"))
    assert "rounds 3" in chosen
    assert "alpha 0.5" in chosen
    assert "batch_size 16" in default
    assert "rounds" not in default


def test_an_unknown_item_is_an_error_with_a_remedy(place: Place, claimed: Callable):
    claimed("Mac")
    said = place.fedspec("progress", "nope")
    assert (said.code, said.err) == (
        2,
        "error: There is no item nope in the queue.\n  fix: List them with 'fedspec queue list'.\n",
    )


def test_watching_without_a_terminal_prints_a_document_a_line(place: Place, claimed: Callable, monkeypatch: pytest.MonkeyPatch):
    claimed("Mac")
    pauses = iter([None, KeyboardInterrupt()])

    def sleep(_: float) -> None:
        if (stop := next(pauses)) is not None:
            raise stop

    monkeypatch.setattr("time.sleep", sleep)
    said = place.fedspec("progress", "--watch", "--json")
    assert said.code == 0
    assert [json.loads(line)["total"] for line in said.out.splitlines()] == [7, 7]


STATES = ["done", "running", "pending", "stale", "failed", "done", "pending", "done"]
NAMES = [f"experiment_{n}" + "_and_so_on" * (n % 3) for n in range(len(STATES))]
MANY = Progress(tuple(ItemLine(name, name, state, condition=state) for name, state in zip(NAMES, STATES, strict=True)))


def texts(height: int | None, width: int = 80) -> list[str]:
    return [line for text, _ in page(MANY, width, height) for line in text.splitlines()]


def test_a_high_screen_shows_everything_in_the_queues_order():
    assert texts(40) == texts(None)
    assert [line.split()[1] for line in texts(None)[9:]] == ["State", *STATES]


@pytest.mark.parametrize("height", range(5, 14))
def test_a_low_screen_hides_first_what_is_done_and_counts_it(height: int):
    lines = texts(height)
    assert len(lines) <= height
    hidden = next((line for line in lines if line.startswith("... and")), "")
    shown = [line.split()[1] for line in lines if line.startswith("experiment")]
    assert "failed" in shown
    assert ("done" in shown and "pending" in hidden) is False
    if hidden:
        assert len(shown) + int(hidden.split()[2]) == len(STATES)


@pytest.mark.parametrize("width", [60, 80, 120])
def test_a_page_fits_the_terminal(width: int):
    assert max(map(len, texts(None, width))) <= width


TROUBLED = replace(
    MANY,
    hindrances=tuple(Hindrance("failed", "this is in the way of the queue " * 4, f"fedspec queue retry {n}") for n in range(9)),
    takeovers=tuple(f"Windows took experiment_{n} over from Mac after round 3; nothing was lost." for n in range(9)),
)


@pytest.mark.parametrize("width", [60, 80, 120])
def test_what_there_is_to_say_fits_too_and_is_a_handful(width: int):
    lines = [line for text, _ in page(TROUBLED, width, None) for line in text.splitlines()]
    assert max(map(len, lines)) <= width
    assert sum("in the way" in text for text, _ in page(TROUBLED, width)) == 4
    assert sum("took" in text for text, _ in page(TROUBLED, width)) == 3


@pytest.mark.parametrize("height", [14, 20, 30, 50])
def test_on_a_low_screen_notes_leave_most_of_it_to_the_table(height: int):
    lines = [line for text, _ in page(TROUBLED, 80, height) for line in text.splitlines()]
    assert len(lines) <= height
    assert sum(line.startswith("experiment") for line in lines) >= min(len(STATES), (height - 10) // 3)


LONG = "fedspec_dirichlet_alpha0.5_c10_r100_s4"
BUSY = Progress(
    tuple(
        replace(MANY.lines[0], id=str(n), experiment=f"{LONG}{n}", state="running", condition=condition, machine="Windows",
                round=11, rounds=20, accuracy=0.8394, beat_age_s=12.0, eta_s=720.0)
        for n, condition in enumerate(("running", "stalled", "running", "retry-wait", "no-machine", "running"))
    ),
    hindrances=(
        Hindrance("stalled", "Windows has stalled on an item: nothing has moved for ~2 h", f"fedspec queue release {LONG}1"),
    ),
)  # fmt: skip


@pytest.mark.parametrize("width", [40, 50, 69])
def test_on_a_narrow_screen_every_item_has_one_line_with_both_ends_of_its_name_and_the_note_stays(width: int):
    lines = [line for text, _ in page(BUSY, width, 23) for line in text.splitlines()]
    assert len(lines) <= 23
    [header] = [line for line in lines if line.startswith("Item")]
    assert {"Acc.", "Beat"}.isdisjoint(header.split())
    rows = lines[lines.index(header) + 1 :][:6]
    assert all(len(row) <= width for row in [header, *rows])
    assert [row.split()[0][-1] for row in rows] == list("012345")
    assert all(row.startswith("fedspe") for row in rows)
    assert "stalled on an item" in " ".join(lines)
    assert f"{LONG}1" in lines[-1]  # a name in a command is never broken


def test_a_name_is_shortened_in_its_middle():
    assert middle("fedavg_alpha0.5", 15) == "fedavg_alpha0.5"
    assert middle("fedavg_dirichlet_alpha0.5", 15) == "fedavg_\u2026lpha0.5"


def test_a_low_screen_has_the_block_in_a_line_or_two_and_a_high_one_as_the_original_printed_it():
    low = [text for text, _ in page(BUSY, 80, 23)]
    words = "0 of 6 done (0.0%); 1 retry-wait, 3 running, 1 no-machine, 1 stalled; at work: Windows 6"
    assert " ".join(low[0].split()) == words
    assert low[0].count("\n") <= 1
    assert next(page(BUSY, 80, 50))[0] == next(page(BUSY, 80))[0] == BUSY.block()


@pytest.mark.parametrize("width", [40, 80])
def test_a_note_too_long_for_the_screen_is_begun_and_says_where_the_rest_is(width: int):
    wordy = replace(BUSY, hindrances=(Hindrance("needs", f"{LONG}1 waits: " + "it needs more than there is; " * 30, "x"),))
    texts = [text for text, _ in page(wordy, width, 23)]
    assert texts[-1].startswith(f"{LONG}1")
    assert texts[-1].endswith("\n  ... all of it: fedspec queue why")
    assert sum(-(-len(line) // width) for text in texts for line in text.split("\n")) <= 23
    assert sum("\u2026" in text or text.startswith("fedspec") for text in texts[2:-1]) == 6

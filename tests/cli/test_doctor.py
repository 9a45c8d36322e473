"""``fedspec doctor``: what it finds, at which level, and the fix that it names."""

from __future__ import annotations

import platform
import re
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from threading import Event, Thread

import pytest

from fedspec.cli.doctor import KEEP
from tests.cli.conftest import TINY, Place, beat, items


def test_a_fresh_folder_is_fine_but_has_no_queue_and_stays_as_it_was(place: Place):
    said = place.fedspec("doctor")
    lines = said.out.splitlines()
    assert said.code == 0
    assert lines[0].startswith(f"ok     Python {platform.python_version()}, PyTorch ")
    assert lines[1].startswith("ok     device ")
    assert lines[2] == f"ok     shared folder {place.root} (local disk; local mode: only processes of this machine see it)"
    assert lines[3] == "ok     a machine silent for 60 s loses its item to another"
    assert "ok     write, append, lock and delete work" in lines
    assert lines[-2:] == [
        "warn   no work queue here",
        "       fix: Start one with 'fedspec run quick', or wait for the folder to sync.",
    ]
    assert not list(place.root.iterdir())


def test_findings_for_programs(place: Place):
    place.fedspec("queue", "add", "quick", *TINY)
    document = place.fedspec("doctor", "--json").json
    assert {"level": "ok", "text": "queue found: 1 items, 0 done", "fix": ""} in document["findings"]
    assert {finding["level"] for finding in document["findings"]} <= {"ok", "warn"}


@pytest.mark.parametrize(
    ("folder", "label"), [("iCloudDrive", "iCloud Drive"), ("Dropbox", "Dropbox"), ("OneDrive", "OneDrive")]
)
def test_a_sync_folder_is_named_with_its_mode_and_its_danger(place: Place, folder: str, label: str):
    root = place.root / folder / "fedspec"
    root.mkdir(parents=True)
    said = place.fedspec("doctor", "-w", str(root))
    service, fix, on_mac = KEEP[label]
    assert f"({label}; sync mode: copies meet later, locks exclude nobody)" in said.out
    assert "ok     a machine silent for 15 min loses its item to another; a claim waits 60 s for rivals" in said.out
    expected = on_mac if on_mac and platform.system() == "Darwin" else fix
    assert f"warn   {service} may remove local copies from this folder\n       fix: {expected}\n" in said.out


def test_a_folder_that_is_not_synced_has_no_such_warning(place: Place):
    assert "may remove" not in place.fedspec("doctor").out


def test_a_missing_folder_is_an_error_with_exit_code_3(place: Place):
    said = place.fedspec("doctor", "-w", str(place.root / "gone"))
    assert said.code == 3
    assert f"error  There is no folder {place.root / 'gone'}.\n       fix: Connect the share" in said.out


def test_damaged_files_are_found(place: Place):
    place.fedspec("queue", "add", "quick", *TINY)
    work = place.root / "distributed_work"
    plan = next((work / "plan").iterdir())
    plan.with_name("p-000000000000.json").write_bytes(plan.read_bytes())
    (work / "quarantine").mkdir()
    (work / "quarantine" / "x.pt").write_bytes(b"")
    said = place.fedspec("doctor")
    assert said.code == 0
    assert "warn   The plan file p-000000000000.json does not hold the item it names.\n       fix: " in said.out
    assert f"warn   1 damaged files are kept in {work / 'quarantine'}" in said.out


def test_a_machine_that_has_left_is_seen_with_its_age(place: Place, claimed: Callable):
    mac, held = claimed("Mac", behind=timedelta(minutes=9))
    beat(mac)
    mac.give_back(held, "stopped on request")
    mac.leave("stopped on request")
    assert "ok     Mac seen ~9 min ago, has left\n" in place.fedspec("doctor").out


def test_a_sign_from_the_future_gives_a_wrong_clock_away(place: Place, claimed: Callable):
    mac, held = claimed("Mac", behind=timedelta(minutes=-10))
    mac.give_back(held, "stopped on request")
    mac.leave("stopped on request")
    said = place.fedspec("doctor")
    assert "warn   Mac seen just now, its clock is ~10 min ahead\n       fix: Let both machines set their clocks" in said.out


@pytest.mark.parametrize(
    ("behind", "words"),
    [
        (timedelta(0), r"ok     Mac seen just now, clocks agree\n"),
        (timedelta(seconds=30), r"ok     Mac seen just now, its clock is ~(29|30|31) s behind\n"),
    ],
)
def test_the_clock_of_a_machine_at_work_is_measured(place: Place, behind: timedelta, words: str):
    queue = place.machine("Mac", behind=behind)
    queue.enqueue(items())
    end = Event()

    def work() -> None:
        while not end.wait(0.05):
            beat(queue)

    alive = Thread(target=work)
    alive.start()
    try:
        said = place.fedspec("doctor")
    finally:
        end.set()
        alive.join()
    assert re.search(words, said.out)


def test_another_version_on_a_peer_is_told(place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    place.machine("Mac").enqueue(items())
    place.machines[0].leave()
    monkeypatch.setattr("fedspec.__version__", "9.9")
    assert "warn   Mac runs fedspec 0.1.0, this machine 9.9\n" in place.fedspec("doctor").out

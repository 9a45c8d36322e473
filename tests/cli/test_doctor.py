"""``fedspec doctor``: what it finds, at which level, and the fix that it names."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest

from fedspec.cli import power
from fedspec.cli.checks import KEEP
from fedspec.files import DiskFiles
from fedspec.workqueue.modes import Measured, Met, Notes
from fedspec.workqueue.pairing import LagSpread
from fedspec.workspace import Workspace
from tests.cli.conftest import TINY, TINY_NAME, Place, beat, items


def test_a_fresh_folder_is_fine_but_has_no_queue_and_stays_as_it_was(place: Place):
    said = place.fedspec("doctor")
    lines = said.out.splitlines()
    assert said.code == 0
    assert re.match(rf"ok     fedspec \S+, Python {platform.python_version()}, PyTorch ", lines[0])
    assert lines[1].startswith("ok     device ")
    assert lines[2:5] == [
        f"ok     shared folder {place.root} (local disk, named by FEDSPEC_WORKSPACE)",
        "ok     local mode (found from its path): only this machine sees it",
        "ok     a machine silent for 60 s loses its item",
    ]
    assert re.search(r"^ok     write, rename, append, lock and delete work \(.*s\)$", said.out, re.MULTILINE)
    assert lines[-4:] == [
        "warn   no work queue here",
        "       fix: Start one with 'fedspec run quick', or wait for the folder to sync.",
        "",
        "1 warning; nothing stands in the way of a run.",
    ]
    assert not list(place.root.iterdir())


def test_findings_for_programs(place: Place):
    place.fedspec("queue", "add", "quick", *TINY)
    document = place.fedspec("doctor", "--json").json
    found = {"level": "ok", "about": "queue", "text": "queue found: 1 item, 0 done", "fix": "", "files": []}
    assert found in document["findings"]
    assert {finding["level"] for finding in document["findings"]} <= {"ok", "warn"}
    assert document["folder"] == {
        "path": str(place.root),
        "kind": "local disk",
        "mode": "local",
        "locks": True,
        "source": "found from its path",
        "timing_s": {"beat": 5.0, "poll": 2.0, "settle": 0.0, "dead": 60.0},
        "measured": None,
    }


@pytest.mark.parametrize(
    ("folder", "label"), [("iCloudDrive", "iCloud Drive"), ("Dropbox", "Dropbox"), ("OneDrive", "OneDrive")]
)
def test_a_sync_folder_is_named_with_its_mode_and_its_danger(place: Place, folder: str, label: str):
    root = place.root / folder / "fedspec"
    root.mkdir(parents=True)
    said = place.fedspec("doctor", "-w", str(root))
    service, fix, on_mac = KEEP[label]
    assert f"ok     shared folder {root} ({label})\n" in said.out
    assert "ok     sync mode (found from its path): copies meet later, locks exclude nobody\n" in said.out
    assert "ok     a machine silent for 15 min loses its item; a claim waits 60 s for rivals\n" in said.out
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
    assert f"warn   1 damaged file kept in {work / 'quarantine'}" in said.out


def test_what_a_person_wrote_into_the_queue_s_file_and_is_kept_is_no_damage(place: Place):
    place.fedspec("queue", "add", "quick", *TINY)
    kept = place.root / "distributed_work" / "quarantine"
    kept.mkdir()
    (kept / "work_queue.0123456789ab.json").write_bytes(b"[]")
    said = place.fedspec("doctor")
    assert f"ok     what was written into work_queue.json and not obeyed is kept in {kept}: 1 copy" in said.out
    assert "damaged" not in said.out


def test_a_machine_that_has_left_is_seen_with_its_age(place: Place, claimed: Callable):
    mac, held = claimed("Mac", behind=timedelta(minutes=9))
    beat(mac)
    mac.give_back(held, "stopped on request")
    mac.leave("stopped on request")
    assert "ok     Mac seen ~9 min ago, has left\n" in place.fedspec("doctor").out


def test_a_result_that_waits_for_a_machine_is_told_with_the_way_out(place: Place, claimed: Callable):
    mac, held = claimed("Mac", behind=timedelta(minutes=9))
    beat(mac)
    pc = place.machine("Old PC", behind=timedelta(minutes=9))
    beat(pc)
    mac.done(held, {}, 1, 0.5)
    mac.leave()
    said = place.fedspec("doctor")
    assert "warn   1 result waits for Old PC (last seen ~9 min ago) to confirm\n" in said.out
    assert '       fix: If it is gone for good: fedspec queue retire "Old PC"\n' in said.out


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


# The mode


def folder(place: Place, *arguments: str) -> dict[str, Any]:
    document: dict[str, Any] = place.fedspec("doctor", "--json", *arguments).json["folder"]
    return document


def measured(place: Place, mode: str = "lock", kind: str = "local disk", p95: float = 0.2) -> None:
    """As if `--pair` had been here."""
    lag = LagSpread(median=0.1, p95=p95, p99=p95, max=p95, samples=20)
    peer = Met(machine="0" * 8, name="Mac", locks=mode == "lock", lag_s=lag, clock_s=90.0, clock_error_s=0.1)
    result = Measured(mode=mode, kind=kind, lag_s=lag, peers=[peer], wall="2026-01-05T09:41:07Z")  # type: ignore[arg-type]
    Notes(Workspace(place.root)).keep(result)


def test_a_mode_set_by_hand_stays_until_it_is_taken_back(place: Place):
    said = place.fedspec("doctor", "--mode", "sync")
    assert "ok     sync mode (set with 'fedspec doctor --mode'): copies meet later, locks exclude nobody\n" in said.out
    assert "Undo: fedspec doctor --mode auto" in said.out
    assert (folder(place)["mode"], folder(place)["timing_s"]["dead"]) == ("sync", 900.0)
    assert "ok     local mode (found from its path)" in place.fedspec("doctor", "--mode", "auto").out
    assert folder(place)["mode"] == "local"
    assert not list(place.root.iterdir())


def test_the_environment_goes_before_what_was_set(place: Place, monkeypatch: pytest.MonkeyPatch):
    place.fedspec("doctor", "--mode", "sync")
    monkeypatch.setenv("FEDSPEC_MODE", "network")
    assert (folder(place)["mode"], folder(place)["source"]) == ("network", "set by FEDSPEC_MODE")
    monkeypatch.setenv("FEDSPEC_MODE", "smb")
    said = place.fedspec("doctor")
    assert "error  FEDSPEC_MODE: there is no mode 'smb'.\n       fix: Use one of local, network, sync, auto.\n" in said.out
    assert said.code == 3


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (["--mode", "smb"], "--mode: there is no mode 'smb'"),
        (["--mode", "sync", "--pair"], "--pair finds the mode out, --mode sets it"),
        (["--pair", "--machines", "1"], "--machines must be between 2 and 64, not 1"),
        (["--pair", "--timeout", "0"], "--timeout must be greater than 0, not 0"),
        (["--pair", "--time-scale", "0"], "--time-scale must be greater than 0, not 0.0"),
    ],
)
def test_what_makes_no_sense_is_refused_and_changes_nothing(place: Place, arguments: list[str], what: str):
    said = place.fedspec("doctor", *arguments)
    assert said.code == 2
    assert f"error: {what}" in said.err
    assert not list(place.root.iterdir())


def test_a_network_share_is_used_as_if_without_locks_until_they_were_seen_to_exclude(
    place: Place, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("FEDSPEC_MODE", "network")
    assert "warn   nobody has seen yet whether locks" in place.fedspec("doctor").out
    assert not folder(place)["locks"]
    measured(place)
    assert "ok     locks exclude other machines\n" in place.fedspec("doctor").out
    assert folder(place)["locks"]
    measured(place, "sync")
    assert "ok     locks of this share exclude nobody; the queue is safe without them\n" in place.fedspec("doctor").out


def test_what_was_measured_goes_before_the_path(place: Place):
    measured(place)
    out = place.fedspec("doctor").out
    assert "ok     network mode (measured with Mac on 2026-01-05)\n" in out
    assert "ok     news takes 0.10 s, at worst 0.20 s, there and back\n" in out


def test_what_was_measured_of_another_kind_of_folder_is_not_used(place: Place):
    measured(place, kind="Dropbox")
    out = place.fedspec("doctor").out
    assert "ok     local mode (found from its path)" in out
    assert "warn   what was measured on 2026-01-05 was another kind of folder (Dropbox)\n       fix: Run 'fedspec doctor" in out


def test_a_machine_that_has_not_been_paired_is_told_where_locks_are_trusted(place: Place, claimed: Callable):
    mac, held = claimed("Mac", behind=timedelta(minutes=9))
    mac.give_back(held, "stopped on request")
    mac.leave("stopped on request")
    measured(place)
    assert "warn   Mac has not shown yet whether locks exclude it\n" in place.fedspec("doctor").out


def test_local_mode_in_a_shared_folder_is_warned_of(place: Place):
    root = place.root / "Dropbox"
    root.mkdir()
    said = place.fedspec("doctor", "-w", str(root), "--mode", "local")
    assert "warn   Dropbox carries this folder to other machines\n       fix: Undo it with" in said.out


def test_pairing_alone_ends_in_an_error_that_says_what_to_do(place: Place):
    said = place.fedspec("doctor", "--pair", "--timeout", "0.5", "--time-scale", "0.02")
    assert said.code == 3
    assert f"Shared folder {place.root} (local disk)\nNow start the same on the other machine, in this folder:\n" in said.err
    assert "error: No other machine has answered within 1 s." in said.err
    assert f"here it is {place.root}." in said.err
    assert not list(place.root.iterdir())


def test_two_processes_of_one_machine_do_not_pair(place: Place):
    files, notes = DiskFiles(), Notes(Workspace(place.root))
    release = files.hold(notes.local.pair_lock(notes.workspace))
    assert release is not None
    said = place.fedspec("doctor", "--pair")
    release()
    assert said.code == 3
    assert "error: 'fedspec doctor --pair' is already running on this machine." in said.err


# Traces of sync clients and of killed processes


def test_conflict_copies_are_told_apart_by_what_is_done_about_them(place: Place, claimed: Callable):
    claimed("Mac", behind=timedelta(minutes=30))
    work = place.root / "distributed_work"
    journal, plan = next((work / "journal").iterdir()), next((work / "plan").iterdir())
    copies = {
        journal.with_name(journal.name.replace(".jsonl", ".sync-conflict-20260105-094107-ABC234X.jsonl")): journal,
        journal.with_name("anything.txt"): journal,
        plan.with_name(plan.stem + " 2.json"): plan,
        work / "work_queue (Jane's conflicted copy 2026-01-05).json": work / "work_queue.json",
    }
    for copy, original in copies.items():
        copy.write_bytes(original.read_bytes())
    document = place.fedspec("doctor", "--json").json
    read, lists = [finding for finding in document["findings"] if finding["about"] == "conflicts"]
    assert read["text"] == (
        "3 conflict copies by Syncthing and iCloud Drive: 2 x journal, plan. They are read like the originals."
    )
    assert lists["text"] == (
        "1 conflict copy by Dropbox: queue for people. It asks for nothing new; the next worker clears it away."
    )
    assert {place.root / name for name in read["files"] + lists["files"]} == set(copies)
    assert "       " + lists["files"][0] in place.fedspec("doctor").out
    (place.root / "paper_results").mkdir()
    (place.root / "paper_results" / "a (Jane's conflicted copy 2026-01-05).csv").write_bytes(b"run_id,")
    said = "ok     1 conflict copy by Dropbox: result. Nothing is read from them: delete them when you like.\n"
    assert said in place.fedspec("doctor").out


def test_what_somebody_wrote_into_the_list_or_a_copy_of_it_is_told_before_a_worker_does_it(place: Place):
    place.fedspec("queue", "add", "quick", *TINY)
    work = place.root / "distributed_work"
    view, copy = work / "work_queue.json", work / "work_queue (Jane's conflicted copy 2026-01-05).json"
    data = view.read_bytes()
    copy.write_bytes(data.replace(b'"pending"', b'"cancelled"'))
    said = place.fedspec("doctor").out
    assert (
        "warn   1 conflict copy by Dropbox: queue for people. It asks for what the next worker will do: "
        f"cancel {TINY_NAME}.\n         distributed_work/{copy.name}\n       fix: fedspec work\n"
    ) in said
    assert "delete them" not in said
    assert "what it says, work_queue (Jane's conflicted copy 2026-01-05).json for one\n       fix: fedspec work\n" in (
        place.fedspec("queue", "why").out
    )
    copy.unlink()
    view.write_bytes(data.replace(b'"pending"', b'"cancelled"').replace(b"0.5", b"0.7"))
    said = place.fedspec("doctor").out
    assert f"warn   work_queue.json was changed by hand; it asks for nothing that the queue does not know. {TINY_NAME}" in said
    assert "keeps its alpha" in said
    view.write_bytes(data.replace(b'"pending"', b'"cancelled"'))
    told = f"work_queue.json was changed by hand; the next worker will take in: cancel {TINY_NAME}\n       fix: fedspec work\n"
    assert told in place.fedspec("doctor").out
    worked = place.fedspec("work")
    assert f"Taken over from work_queue.json: cancel {TINY_NAME}.\n" in worked.err
    assert "work_queue.json" not in place.fedspec("doctor").out


def test_the_original_s_list_is_taken_in_by_a_worker_and_nothing_else_is_said(place: Place):
    view = place.root / "distributed_work" / "work_queue.json"
    view.parent.mkdir()
    entry = '{"item_id": 0, "method": "fedspec", "alpha": 0.1, "split_type": "dirichlet", "status": "pending"}'
    view.write_text(f"[{entry}]", encoding="utf-8")
    told = "own list of 1 item; the next worker will take in: 1 new experiment\n       fix: fedspec work\n"
    assert told in place.fedspec("doctor").out
    said = place.fedspec("queue", "add", "quick", *TINY)
    assert said.out.startswith("Added 1 of 1 items.")
    assert said.err == "Taken over from work_queue.json: 1 new experiment.\n"
    assert len(place.fedspec("queue", "list", "--json").json["items"]) == 2


def test_files_that_are_only_in_the_cloud_are_counted_with_the_remedy(place: Place):
    root = place.root / "iCloudDrive"
    work = root / "distributed_work"
    (work / "plan").mkdir(parents=True)
    for number in range(5):
        (work / "plan" / f".p-{number:012x}.json.icloud").write_bytes(b"bplist00")
    said = place.fedspec("doctor", "-w", str(root))
    assert (
        "warn   5 files only in the cloud, not on this disk\n         distributed_work/plan/p-000000000000.json\n" in said.out
    )
    assert "         and 2 more\n       fix: right-click the folder" in said.out
    assert "may remove" not in said.out


def test_old_temporary_files_are_found_and_fresh_ones_left_alone(place: Place):
    work = place.root / "distributed_work"
    work.mkdir()
    old, fresh = work / "~work_queue.json.0123abcd.tmp", work / "~work_queue.json.4567abcd.tmp"
    for path in (old, fresh):
        path.write_bytes(bytes(3000))
    os.utime(old, (0, 0))
    out = place.fedspec("doctor").out
    assert (
        f"warn   1 temporary file of killed processes, 3 KiB\n         distributed_work/{old.name}\n       fix: Delete" in out
    )
    assert fresh.name not in out


TAKEN_IN = "was changed by hand; the next worker will take in:"


def resaved(data: bytes, codec: str, blanks: int = 0) -> bytes:
    """The list with its item cancelled, as an editor saves it."""
    return (" " * blanks + data.decode().replace("pending", "cancelled")).encode(codec)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda data: b'[{"item_id": 0, "status": "pending"}]', "is the original tools' own list of 1 item"),
        (lambda data: data.replace(b"pending", b"completed"), "was changed by hand"),
        (lambda data: resaved(data, "utf-8-sig"), f"{TAKEN_IN} cancel {TINY_NAME}"),
        (lambda data: resaved(data, "utf-16"), f"{TAKEN_IN} cancel {TINY_NAME}"),
        (
            lambda data: resaved(data, "utf-8", 5 << 20),
            f"was changed by hand; the next worker will take in: cancel {TINY_NAME}",
        ),
        (lambda data: b'[{"method": "fedavg"}]', f"{TAKEN_IN} 1 new experiment"),
        (lambda data: data[: len(data) // 2], "cannot be read"),
    ],
)
def test_a_list_for_people_that_is_not_ours_is_told(place: Place, change: Callable[[bytes], bytes], text: str):
    place.fedspec("queue", "add", "quick", *TINY)
    assert "work_queue.json" not in place.fedspec("doctor").out
    view = place.root / "distributed_work" / "work_queue.json"
    view.write_bytes(change(view.read_bytes()))
    assert f"warn   work_queue.json {text}" in place.fedspec("doctor").out


def test_checking_changes_no_file(place: Place, claimed: Callable):
    claimed("Mac", behind=timedelta(minutes=30))
    before = place.files()
    place.fedspec("doctor")
    assert place.files() == before


# When the machine sleeps


def test_when_a_mac_sleeps_is_read_from_its_settings():
    said = " standby              1\n sleep                10 (sleep prevented by sharingd)\n displaysleep         2\n"
    assert power.sleep_of_macos(said) == 600
    assert power.sleep_of_macos(said.replace("10", "0")) == 0
    assert power.sleep_of_macos(" displaysleep 2\n") is None


def test_when_windows_sleeps_is_read_in_any_language():
    said = (
        "    GUID-Alias der Energieeinstellung: STANDBYIDLE\r\n"
        "      M\ufffdgliche Mindesteinstellung: 0x00000000\r\n"
        "      M\ufffdgliche Maximaleinstellung: 0xffffffff\r\n"
        "      Inkrement f\ufffdr m\ufffdgliche Einstellungen: 0x00000001\r\n"
        "    Index der aktuellen Wechselstromeinstellung: 0x00000708\r\n"
        "    Index der aktuellen Gleichstromeinstellung: 0x00000384\r\n"
    )
    assert power.sleep_of_windows(said) == 1800
    assert power.sleep_of_windows("") is None


@pytest.mark.parametrize("option", [("--machines", "3"), ("--timeout", "0"), ("--name", "Mac")])
def test_what_only_a_pairing_obeys_is_refused_without_one(place: Place, option: tuple[str, str]):
    said = place.fedspec("doctor", *option)
    assert (said.code, said.err) == (2, f"error: {option[0]} is for --pair.\n  fix: Leave it out, or add --pair.\n")
    assert place.fedspec("doctor", "--mode", "auto", *option).code == 2

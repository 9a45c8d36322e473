"""What holds the queue up: each thing once, with the way out; the most urgent first, and no more than a handful of lines."""

from __future__ import annotations

from pathlib import Path

import pytest
from queuekit import WORKSPACE, Share, claimed, item, local_state, pass_time, table, together

from fedspec.plan import encoded
from fedspec.workqueue.condition import quiet_s
from fedspec.workqueue.distributor import WorkDistributor
from fedspec.workqueue.explain import explain
from fedspec.workqueue.hindrances import Hindrance
from fedspec.workqueue.liveness import NETWORK_SHARE, SYNC_FOLDER, Timing
from fedspec.workqueue.progress import MAX_HINDRANCES, Progress
from fedspec.workqueue.records import machine_of
from fedspec.workqueue.wording import typed

ITEMS = [item(seed) for seed in range(42, 48)]
GPU = item(50, device="cuda")


def found(reader: WorkDistributor) -> dict[str, Hindrance]:
    """By what they are about; nothing is told twice."""
    told = reader.progress().hindrances
    by = {one.about: one for one in told}
    assert len(by) == len(told)
    return by


@pytest.fixture
def reader(share: Share) -> WorkDistributor:
    share.enqueue(*ITEMS)
    return share.process("reader")


def test_a_queue_that_goes_on_has_none(share: Share, reader: WorkDistributor):
    mac = share.member("Mac")
    held = claimed(mac)
    assert found(reader) == {}
    mac.done(held, table(), 1, 0.5)
    claimed(mac)
    assert found(reader) == {}


def test_a_queue_that_is_finished_has_none_though_nobody_works(share: Share):
    share.enqueue(ITEMS[0])
    mac, reader = share.member("Mac"), share.process("reader")
    mac.done(claimed(mac), table(), 1, 0.5)
    mac.leave()
    reader.control("pause")
    assert found(reader) == {}


def test_nobody_working_is_told_with_the_command_that_starts_a_worker(share: Share, reader: WorkDistributor):
    assert found(reader)["nobody"] == Hindrance(
        "nobody", "No machine is working; 6 items wait", "fedspec work", tuple(i.exp for i in ITEMS)
    )
    share.member("Mac")
    assert "nobody" not in found(reader)


def test_a_silent_machine_is_told_with_who_takes_over_when_and_the_command_that_does_not_wait(
    share: Share, reader: WorkDistributor
):
    mac = share.member("Mac")
    first = claimed(mac).item
    together(40, mac, reader)  # both clocks go on
    windows = share.process("Windows")
    pass_time(windows, 40)
    windows.join("Windows", ["cpu"])
    together(40, windows, reader)
    assert found(reader)["silent"].line() == (
        f"Mac has not been seen for ~42 s. Windows takes its item over in ~18 s; now: fedspec queue release {first.exp}"
    )
    reader.control("drain", value=machine_of(windows.worker))
    assert "Windows" not in found(reader)["silent"].text  # it must not
    reader.control("resume", value=machine_of(windows.worker))
    second = claimed(windows)
    windows.report.running = second.item.id
    together(30, windows, reader)
    assert "Windows takes its item over when it has finished its own item" in found(reader)["silent"].text
    assert isinstance(claimed(windows).over, tuple)


def test_of_two_workers_of_a_machine_the_silent_one_is_meant(share: Share, reader: WorkDistributor):
    one, two = share.member("Mac"), share.member("Mac")
    claimed(one)
    together(40, two, reader)
    assert found(reader)["silent"].text.startswith("A worker of Mac has not been seen for ~40 s. Mac takes its item over")


def test_a_silent_machine_with_several_items_is_told_once(share: Share, reader: WorkDistributor):
    mac = [share.member("Mac") for _ in range(4)]
    names = [claimed(queue).item.exp for queue in mac]
    together(40, share.member("Windows"), reader)
    silent = found(reader)["silent"]
    assert "its 4 items" in silent.text
    assert sorted(silent.items) == sorted(names)
    assert silent.fix.endswith(" ...")


def test_a_crash_on_this_machine_is_told_at_once(share: Share, reader: WorkDistributor):
    mac = share.member("Mac")
    held = claimed(mac)
    share.kill(mac)
    here = share.process("Mac")
    assert found(here)["crashed"].line() == (
        f"Mac crashed at {held.item.exp} after round 0; its next worker takes it over at once; now: fedspec work"
    )


def test_items_that_wait_for_the_same_are_told_together(share: Share, reader: WorkDistributor):
    reader.enqueue([GPU, item(51, device="cuda")])
    share.member("Mac")
    needs = found(reader)["needs"]
    assert (
        needs.text == f"{GPU.exp} and {item(51, device='cuda').exp} wait for a machine that can: it needs cuda, "
        "which no machine that took part can offer"
    )
    assert needs.fix == "fedspec work"


def test_pause_and_drain_say_of_whom_since_when_and_by_whom(share: Share, reader: WorkDistributor):
    mac, windows = share.member("Mac"), share.member("Windows")
    windows.control("pause")
    together(120, mac, windows, reader)
    assert found(reader)["paused"] == Hindrance(
        "paused", "Every machine is paused, ordered ~2 min ago by Windows", "fedspec queue resume"
    )
    windows.control("resume")
    assert "paused" not in found(reader)
    windows.control("drain", value=machine_of(mac.worker))
    assert found(reader)["draining"].fix == "fedspec queue resume --machine Mac"
    windows.control("drain")
    assert found(reader)["draining"].fix == "fedspec queue resume"  # what holds for all is told once


def test_an_order_for_all_names_the_machines_for_which_it_holds_no_more(share: Share, reader: WorkDistributor):
    mac, windows = share.member("Mac"), share.member("Windows")
    reader.control("pause")
    reader.control("resume", value=machine_of(windows.worker))
    assert found(reader)["paused"].line() == "All but Windows are paused, ordered ~0 s ago; now: fedspec queue resume"
    together(quiet_s(windows.timing) + 2, mac, reader)
    why = explain(reader.look(), ITEMS[0]).why
    assert why.startswith(f"{ITEMS[0].exp} waits: all but Windows are paused, ordered ~")
    assert why.endswith("fedspec queue resume")
    reader.control("drain", value=machine_of(windows.worker))
    assert found(reader)["draining"].line().endswith("fedspec queue resume --machine Windows")
    assert found(reader)["paused"].text.startswith("All but Windows are paused")
    for machine in (mac, windows):
        reader.control("resume", value=machine_of(machine.worker))
    assert not found(reader).keys() & {"paused", "draining"}
    third = share.member("Third")  # what a person said of all holds for whoever comes
    assert found(reader)["paused"].text.startswith("All but Mac and Windows are paused")
    assert reader.look().order_of(machine_of(mac.worker)) is None
    order = reader.look().order_of(machine_of(third.worker))
    assert order is not None
    assert order.undo == "fedspec queue resume"


def test_failed_items_are_told_with_the_reason_and_the_retry(share: Share, reader: WorkDistributor):
    mac = share.member("Mac")
    first = claimed(mac)
    mac.failed(first, "final", "the model\nbert-huge does not exist.")
    assert found(reader)["failed"].line() == (
        f"{first.item.exp} failed for good: the model bert-huge does not exist; now: fedspec queue retry {first.item.exp}"
    )
    for _ in range(4):
        mac.failed(claimed(mac), "final", "x")
    assert found(reader)["failed"].text.startswith("5 items failed for good")
    assert found(reader)["failed"].fix.endswith(" ...")


@pytest.mark.parametrize("timing", [NETWORK_SHARE, SYNC_FOLDER])
def test_results_that_wait_for_a_machine_that_is_away_name_it_and_retiring_it_seals_them(share: Share, timing: Timing):
    share.enqueue(*ITEMS[:2])
    mac, pc = share.member("Mac", timing=timing), share.member("Old PC", timing=timing)
    reader = share.process("reader", timing=timing)
    together(timing.settle + timing.beat + timing.poll, mac, pc, reader)
    held = claimed(mac)
    mac.done(held, table(), 1, 0.5)
    together(quiet_s(timing) + 2 * timing.beat, mac, reader)
    assert "unconfirmed" not in found(reader)  # it may still come
    together(timing.dead, mac, reader)
    told = found(reader)["unconfirmed"]
    assert told.items == (held.item.exp,)
    assert told.text.startswith("1 result waits for Old PC (last seen ~")
    assert told.fix == 'If it is gone for good: fedspec queue retire "Old PC"'
    reader.control("retire", value=machine_of(pc.worker))
    together(2 * timing.beat, mac, reader)
    assert "unconfirmed" not in found(reader)
    assert reader.progress().count("sealed") == 1


def test_what_the_folder_has_lost_of_a_machine_that_is_here_is_told_with_the_way_out(share: Share):
    share.enqueue(*ITEMS)
    share.member("pc").leave()
    backup, spare = share.backup(), share.disk.contents.below(local_state("pc").root)
    mac, pc = share.member("mac"), share.member("pc")
    together(30, mac, pc)
    for queue in (mac, pc):
        queue.leave()
    share.restore(backup)
    for name in share.disk.contents.below(local_state("pc").root).keys() - spare.keys():
        del share.disk.contents[local_state("pc").root / name]  # the PC's own disk was put back too
    mac, pc = share.member("mac"), share.member("pc")
    together(30, mac, pc)
    for _ in ITEMS:
        mac.done(claimed(mac), table(), 1, 0.5)
    together(300, mac, pc)
    told = found(mac)["unconfirmed"]
    assert told.text.endswith(" for what pc had said, and the folder has lost")
    assert told.fix == "Restart fedspec there; if that does not bring it back: fedspec queue retire pc"
    mac.control("retire", value=machine_of(pc.worker))
    together(300, mac)
    assert mac.progress().count("sealed") == len(ITEMS)


def test_damaged_files_and_conflict_copies_are_told_in_a_line_each(share: Share, reader: WorkDistributor):
    share.member("Mac")
    files = reader.files
    for number in range(2):
        files.write(WORKSPACE.plans / f"p-00000000000{number}.json", b"{")
    files.write(WORKSPACE.plans / f"p-{ITEMS[0].id} (Mac's conflicted copy 2026-01-05).json", encoded(ITEMS[0]))
    files.write(WORKSPACE.queue / "work_queue.sync-conflict-20260105-094107-ABCDEFG.json", b"[]")
    by = found(reader)
    assert by["damaged"].text.startswith("The plan file p-")
    assert by["damaged"].text.endswith("(and 1 more)")
    assert by["copies"].text.startswith("1 conflict copy lies in the folder, p-")
    assert by["copies"].fix == "fedspec doctor"
    assert by["edits"].line() == (
        "1 conflict copy waits for a worker to take in what it says, "
        "work_queue.sync-conflict-20260105-094107-ABCDEFG.json for one; now: fedspec work"
    )


def test_progress_writes_nothing(share: Share, reader: WorkDistributor):
    mac = share.member("Mac")
    claimed(mac)
    share.kill(mac)
    before = dict(share.disk.contents)
    share.process("Mac").progress()
    reader.progress()
    assert {path: data for path, data in share.disk.contents.items() if path.is_relative_to(Path("/share"))} == {
        path: data for path, data in before.items() if path.is_relative_to(Path("/share"))
    }


def test_no_more_than_a_handful_is_told_below_the_table_and_the_rest_is_named():
    many = tuple(Hindrance("failed", f"thing {number}", "fedspec doctor") for number in range(MAX_HINDRANCES + 3))
    told = Progress((), many)
    assert told.warnings[-1] == "... and 3 more: fedspec queue why"
    assert len(told.warnings) == MAX_HINDRANCES + 1
    assert Progress((), many[:MAX_HINDRANCES]).warnings[-1] == "thing 3; now: fedspec doctor"


@pytest.mark.parametrize("name", ['Mac"; rm -rf ~; "', "$(reboot)", "`x`", "-w", "a&b", "x\ny", "%PATH%", ""])
def test_a_name_that_a_shell_would_obey_is_never_part_of_a_command(name: str):
    assert typed(name, "622ca8db") == "622ca8db"


@pytest.mark.parametrize(("name", "words"), [("Mac", "Mac"), ("Mac 2", '"Mac 2"'), ("Jörgs-PC.local", "Jörgs-PC.local")])
def test_a_plain_name_can_be_pasted(name: str, words: str):
    assert typed(name, "622ca8db") == words

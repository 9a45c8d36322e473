"""Derived files in order: hand edits are taken in once and never overwritten before, and conflict copies are cleared away."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from queuekit import WORKSPACE, Share, claimed, item, pass_time, table

from fedspec.checkpoints import CheckpointManager
from fedspec.clock import FakeClock
from fedspec.errors import FolderError, TakenError
from fedspec.files import ORPHANED_S, MemoryFiles
from fedspec.plan import Item
from fedspec.results import from_table, to_csv
from fedspec.workqueue import caretaker
from fedspec.workqueue.caretaker import RENDER_EVERY_S
from fedspec.workqueue.distributor import WorkDistributor
from fedspec.workqueue.liveness import LOCAL_DISK, NETWORK_SHARE, SYNC_FOLDER, Timing
from fedspec.workqueue.records import Ctl, Import
from fedspec.workqueue.view import render_view

ONE, TWO = item(), item(43)
ORIGINAL = [
    {"item_id": 0, "alpha": 0.1, "method": "fedavg", "split_type": "dirichlet", "status": "completed"},
    {"item_id": 1, "alpha": 0.1, "method": "fedspec", "split_type": "dirichlet", "status": "in_progress"},
]
CSV = to_csv(from_table(table()))


def finish(queue: WorkDistributor) -> Item:
    held = claimed(queue)
    queue.done(held, table(), 1, 0.5)
    return held.item


def edit(share: Share, of: Item, status: str, path: Path = WORKSPACE.view) -> bytes:
    """Somebody gives an item another status, and saves."""
    entries = json.loads(share.disk.contents[WORKSPACE.view])
    changed = [entry | {"status": status} if entry["id"] == of.id else entry for entry in entries]
    share.disk.contents[path] = json.dumps(changed, indent=1).encode()
    return share.disk.contents[path]


def shown(share: Share) -> dict[str, str]:
    return {entry["id"]: entry["status"] for entry in json.loads(share.disk.contents[WORKSPACE.view])}


def ours(share: Share) -> bool:
    """Whether the queue for people says how things stand."""
    reader = share.process("reader")
    reader.refresh()
    return share.disk.contents[WORKSPACE.view] == render_view(reader.store.fold, reader.store.items)


def copy_name(name: str, number: int = 1) -> str:
    path = Path(name)
    return f"{path.stem} (Konflikt-Kopie von Büro {number} 2026-01-01){path.suffix}"


def kept(share: Share) -> list[bytes]:
    return [data for path, data in share.disk.contents.items() if path.parent.name == "quarantine"]


# A lock whose holder sleeps


class StuckLock(MemoryFiles):
    """A folder whose queue lock is held by a process that was stopped; ``waits``: how long each caller was ready to wait."""

    waits: list[float]

    @contextmanager
    def lock(self, path: Path, timeout_s: float) -> Iterator[bool]:
        stuck = path == WORKSPACE.queue_lock
        if stuck:
            self.waits.append(timeout_s)
        yield not stuck


def beside_a_sleeper(share: Share) -> tuple[WorkDistributor, list[float]]:
    share.enqueue(ONE, TWO)
    mac = share.process("mac", timing=NETWORK_SHARE)
    files = StuckLock(share.disk, "mac")
    mac.files = files
    files.waits = []
    mac.join("mac", ["cpu"])
    return mac, files.waits


def test_the_heart_does_not_wait_at_every_beat_for_a_lock_that_is_not_let_go(share: Share):
    mac, waits = beside_a_sleeper(share)
    clock = mac.clock
    assert isinstance(clock, FakeClock)
    beats = 20
    for _ in range(beats):
        clock.advance(mac.timing.beat)
        mac.caretaker.glance()
    assert 1 <= len(waits) <= beats * mac.timing.beat / RENDER_EVERY_S + 1


def test_who_waited_in_vain_to_claim_waits_no_more_anywhere(share: Share):
    mac, waits = beside_a_sleeper(share)
    finish(mac)
    assert waits == [mac.timing.dead]
    mac.caretaker.look_after(thorough=True)
    claimed(mac)
    assert waits[1:] == [0.0] * (len(waits) - 1)
    assert len(waits) > 2


class NoLock(MemoryFiles):
    """A folder without locks, or in which something has the lock's place."""

    taken = False

    @contextmanager
    def lock(self, path: Path, timeout_s: float) -> Iterator[bool | None]:
        if self.taken and path == WORKSPACE.queue_lock:
            raise TakenError(f"{path} is a folder.", "Delete it.")
        yield None


@pytest.mark.parametrize("taken", [False, True])
@pytest.mark.parametrize("timing", [NETWORK_SHARE, SYNC_FOLDER], ids=["a share", "a sync folder"])
def test_where_there_is_no_lock_the_queue_is_shown_and_edits_are_taken_in(share: Share, timing: Timing, taken: bool):
    share.enqueue(ONE, TWO)
    mac = share.process("mac", timing=timing)
    mac.files = files = NoLock(share.disk, "mac")
    files.taken = taken
    mac.join("mac", ["cpu"])
    del share.disk.contents[WORKSPACE.view]
    mac.caretaker.look_after(thorough=True, leaving=True)
    assert ours(share)
    edit(share, ONE, "cancelled")
    mac.caretaker.look_after(thorough=True, leaving=True)
    assert share.fold().status(ONE.id) == "cancelled"
    assert ours(share)


# Hand edits, where locks work


def test_what_a_person_writes_is_done_and_the_queue_is_rendered_again(share: Share):
    share.enqueue(ONE, TWO)
    data = edit(share, ONE, "failed")
    mac = share.member("mac")
    mac.caretaker.look_after(thorough=True)
    assert share.fold().status(ONE.id) == "cancelled"
    assert share.fold().status(TWO.id) == "pending"
    assert share.fold().imported == {hashlib.sha256(data).hexdigest()}
    assert ours(share)
    assert mac.caretaker.news() == [f"Taken over from work_queue.json: cancel {ONE.exp}."]
    assert mac.caretaker.news() == []


def test_a_file_that_nobody_could_foresee_is_kept_and_ends_no_worker(share: Share, monkeypatch: pytest.MonkeyPatch):
    def fails(*about: Any) -> Any:
        raise ZeroDivisionError("what a file may do\n")

    share.enqueue(ONE)
    data = edit(share, ONE, "failed")
    monkeypatch.setattr(caretaker, "understand", fails)
    mac = share.member("mac")
    mac.caretaker.look_after(thorough=True)
    assert kept(share) == [data]
    assert ours(share)
    assert any("ZeroDivisionError: what a file may do" in note for note in mac.caretaker.news())


@pytest.mark.parametrize("timing", [LOCAL_DISK, SYNC_FOLDER], ids=["a disk", "a sync folder"])
def test_half_a_character_in_the_list_ends_no_worker(share: Share, timing: Timing):
    share.enqueue(ONE)
    data = b'[{"method":"fedavg","alpha":0.3,"split_type":"\\ud800","status":"pending"}]'
    share.disk.contents[WORKSPACE.view] = data
    mac = share.member("mac", timing=timing)
    mac.caretaker.look_after(thorough=True, leaving=True)
    assert kept(share) == [data]
    assert ours(share)


def test_one_content_is_taken_in_once_whoever_looks_and_however_often_it_returns(share: Share):
    share.enqueue(ONE)
    data = edit(share, ONE, "cancelled")
    for machine in ("mac", "pc", "mac"):
        share.member(machine).caretaker.look_after(thorough=True)
        if share.fold().status(ONE.id) == "cancelled":
            share.process("person").control("resume", ONE)
        share.disk.contents[WORKSPACE.view] = data
    assert share.fold().status(ONE.id) == "pending"
    assert [type(r) for r in share.records() if isinstance(r, Import | Ctl)] == [Ctl, Import, Ctl]


@pytest.mark.parametrize("timing", [LOCAL_DISK, SYNC_FOLDER], ids=["a disk", "a sync folder"])
def test_the_same_edit_made_again_is_obeyed_again_and_an_old_copy_of_it_is_not(share: Share, timing: Timing):
    share.enqueue(ONE, TWO)
    mac = share.member("mac", timing=timing)
    pass_time(mac, 2 * timing.dead)
    mac.caretaker.look_after(thorough=True)
    copies, told = [], []
    for word, status in (("cancelled", "cancelled"), ("pending", "pending")) * 3:
        copies.append(edit(share, ONE, word))
        mac.caretaker.look_after(thorough=True)
        assert share.fold().status(ONE.id) == status
        assert ours(share)
        told.append(mac.caretaker.news())
    cancel, resume = (
        [f"Taken over from work_queue.json: cancel {ONE.exp}."],
        [f"Taken over from work_queue.json: resume {ONE.exp}."],
    )
    assert told == [cancel, resume] * 3
    for number, copy in enumerate(copies):
        share.disk.contents[WORKSPACE.queue / copy_name("work_queue.json", number)] = copy
        share.disk.contents[WORKSPACE.view] = copy
        mac.caretaker.look_after(thorough=True)
    assert share.fold().status(ONE.id) == "pending"
    assert mac.caretaker.news() == []


def test_an_edit_reaches_a_worker_in_the_middle_of_an_item(share: Share):
    share.enqueue(ONE)
    mac = share.member("mac")
    mac.caretaker.look_after(thorough=True)
    held = claimed(mac)
    pass_time(mac, 61)
    mac.caretaker.glance()
    assert shown(share)[ONE.id] == "in_progress"
    edit(share, ONE, "cancelled")
    mac.caretaker.glance()
    assert mac.must_stop(held) is None, "looked at once a minute"
    pass_time(mac, 61)
    mac.caretaker.glance()
    assert mac.must_stop(held) == "cancelled"


@pytest.mark.parametrize("command", ["enqueue", "control"])
def test_a_command_does_not_overwrite_an_edit_that_nobody_has_read(share: Share, command: str):
    share.enqueue(ONE)
    edit(share, ONE, "cancelled")
    visitor = share.process("visitor")
    if command == "enqueue":
        visitor.enqueue([TWO])
    else:
        visitor.enqueue([TWO])
        visitor.control("cancel", TWO)
    assert share.fold().status(ONE.id) == "cancelled"
    assert ours(share)


class Evicted(MemoryFiles):
    """A sync client that has the file's bytes elsewhere."""

    def read(self, path: Path, offset: int = 0, limit: int = -1) -> bytes:
        if path == WORKSPACE.view:
            raise OSError(11, "is being downloaded")
        return super().read(path, offset, limit)


def test_a_file_that_cannot_be_read_just_now_is_not_written_either(share: Share):
    share.enqueue(ONE)
    data = edit(share, ONE, "cancelled")
    mac = share.member("mac")
    mac.files = Evicted(share.disk)
    mac.caretaker.look_after(thorough=True)
    assert share.disk.contents[WORKSPACE.view] == data


def test_notes_that_somebody_wrote_over_it_are_kept_and_told(share: Share):
    share.enqueue(ONE)
    share.disk.contents[WORKSPACE.view] = b"do not run this before Monday!"
    mac = share.member("mac")
    mac.caretaker.look_after(thorough=True)
    assert ours(share)
    assert kept(share) == [b"do not run this before Monday!"]
    (note,) = mac.caretaker.news()
    assert "kept in quarantine" in note


def test_what_is_not_obeyed_is_kept_and_told(share: Share):
    share.enqueue(ONE)
    data = edit(share, ONE, "completed")
    mac = share.member("mac")
    mac.caretaker.look_after(thorough=True)
    assert (kept(share), ours(share)) == ([data], True)
    assert mac.caretaker.news() == [f"work_queue.json: {ONE.exp} has no result, so it is not completed."]


def test_a_mistake_is_told_once_while_it_stays_and_again_when_it_is_made_again(share: Share):
    share.enqueue(ONE)
    mac = share.member("mac")
    write = mac.files.write

    def held(path: Path, data: bytes, *, durable: bool = True) -> None:
        if path == WORKSPACE.view:
            raise FolderError(f"Cannot write {path}: it is open elsewhere.", "Close it.")
        write(path, data, durable=durable)

    mac.files.write = held  # type: ignore[method-assign]
    told = []
    for again in (False, True):
        edit(share, ONE, "completed")
        for _ in range(3):
            mac.caretaker.look_after(thorough=True)
            told.append(len(mac.caretaker.news()))
        mac.files.write = write  # type: ignore[method-assign]
        mac.caretaker.look_after(thorough=True)
        assert ours(share)
        assert mac.caretaker.news() == [], again
    assert told == [1, 0, 0, 1, 0, 0]


def test_two_threads_may_tell_and_ask_for_news(share: Share):
    caretaker, heard = share.member("mac").caretaker, []
    notes = [f"note {number}" for number in range(20_000)]
    teller = threading.Thread(target=lambda: [caretaker.tell(note) for note in notes])
    teller.start()
    while teller.is_alive():
        heard += caretaker.news()
    teller.join()
    assert heard + caretaker.news() == notes
    assert caretaker.news() == []


@pytest.mark.parametrize("cut", [0, 1, 40, -1, -30])
def test_a_file_that_was_cut_short_is_just_written_again(share: Share, cut: int):
    share.enqueue(ONE, TWO)
    share.disk.contents[WORKSPACE.view] = share.disk.contents[WORKSPACE.view][:cut]
    mac = share.member("mac")
    mac.caretaker.look_after(thorough=True)
    assert (kept(share), ours(share), mac.caretaker.news()) == ([], True, [])


def test_a_crash_at_any_step_of_taking_in_loses_nothing(share: Share):
    """Whoever comes next does it again."""
    from fedspec.files import Crash

    for step in range(1, 40):
        place = Share()
        place.enqueue(ONE, TWO)
        place.disk.contents[WORKSPACE.view] = json.dumps(
            [*json.loads(place.disk.contents[WORKSPACE.view]), ORIGINAL[1], {"id": ONE.id, "status": "cancelled"}]
        ).encode()
        mac = place.member("mac")
        left = [step]

        def strike(name: str, left: list[int] = left) -> None:
            left[0] -= 1
            if not left[0]:
                raise Crash

        assert isinstance(mac.files, MemoryFiles)
        mac.files.before_write = strike
        try:
            mac.caretaker.show()
        except Crash:
            place.kill(mac)
        place.member("mac").caretaker.show()
        assert place.fold().status(ONE.id) == "cancelled", step
        assert ours(place), step
        assert len(shown(place)) == 3, step
        if left[0] > 0:
            break
    else:
        pytest.fail("it never came through")


# The original's queue


def test_the_original_s_list_becomes_the_queue(share: Share):
    share.disk.contents[WORKSPACE.view] = json.dumps(ORIGINAL).encode()
    share.disk.contents[WORKSPACE.result("fedavg_dirichlet_alpha0.1")] = CSV
    queue = share.process("mac")
    queue.caretaker.adopt()
    queue.require_queue()
    assert [i.exp for i in queue.store.items.values()] == ["fedspec_dirichlet_alpha0.1"]
    queue.caretaker.show()
    assert list(shown(share).values()) == ["pending"]


def test_a_rendering_of_ours_without_its_plans_is_no_queue_yet(share: Share):
    share.enqueue(ONE)
    edit(share, ONE, "failed")
    del share.disk.contents[WORKSPACE.plan(ONE.id)]
    before = dict(share.disk.contents)
    queue = share.process("mac")
    queue.caretaker.adopt()
    assert not queue.store.items
    assert dict(share.disk.contents) == before


# Where copies of the folder meet later


def sync_pair(share: Share) -> tuple[WorkDistributor, WorkDistributor]:
    """The one of two members that renders the queue for people, and the other."""
    one, other = share.member("mac", timing=SYNC_FOLDER), share.member("pc", timing=SYNC_FOLDER)
    for queue in (one, other, one, other):
        pass_time(queue, 2 * SYNC_FOLDER.settle)
    chosen, rest = [q for q in (one, other) if q.elected("view")], [q for q in (one, other) if not q.elected("view")]
    assert (len(chosen), len(rest)) == (1, 1)
    return chosen[0], rest[0]


def test_in_a_sync_folder_one_member_renders_and_takes_in(share: Share):
    share.enqueue(ONE, TWO)
    elected, other = sync_pair(share)
    data = edit(share, ONE, "failed")
    other.caretaker.look_after(thorough=True)
    share.process("visitor", timing=SYNC_FOLDER).control("cancel", TWO)
    assert share.disk.contents[WORKSPACE.view] == data
    elected.caretaker.look_after()
    assert share.fold().status(ONE.id) == "cancelled"
    assert ours(share)


def test_in_a_sync_folder_a_command_writes_the_queue_for_people_only_if_there_is_none(share: Share):
    visitor = share.process("visitor", timing=SYNC_FOLDER)
    visitor.enqueue([ONE])
    first = share.disk.contents[WORKSPACE.view]
    visitor.enqueue([TWO])
    assert share.disk.contents[WORKSPACE.view] == first


def test_in_a_sync_folder_it_is_rendered_at_most_once_a_minute_but_always_at_the_end(share: Share):
    share.enqueue(ONE, TWO)
    elected, _ = sync_pair(share)
    elected.caretaker.look_after()
    finish(elected)
    before = share.disk.contents[WORKSPACE.view]
    elected.caretaker.look_after()
    assert share.disk.contents[WORKSPACE.view] == before
    pass_time(elected, 61)
    elected.caretaker.look_after()
    assert ours(share)
    finish(elected)
    assert not ours(share)
    elected.caretaker.look_after(thorough=True, leaving=True)
    assert ours(share)


def test_a_member_that_has_not_met_the_others_renders_nothing(share: Share):
    newcomers = [share.member(f"new{number}", timing=SYNC_FOLDER) for number in range(4)]
    for queue in newcomers:
        queue.refresh()
    assert not any(queue.elected("view") for queue in newcomers)
    assert sum(queue.elected("view", leaving=True) for queue in newcomers) == 1


def test_a_result_that_may_change_is_written_by_its_author_s_machine(share: Share):
    share.enqueue(ONE)
    author, other = share.member("mac", timing=SYNC_FOLDER), share.member("pc", timing=SYNC_FOLDER)
    path = WORKSPACE.result(finish(author).exp)
    other.refresh()
    assert other.caretaker.publish() == []
    assert author.caretaker.publish() == [ONE.exp]
    share.disk.contents[path] = b"an older result of another attempt"
    assert other.caretaker.publish(thorough=True) == []
    del share.disk.contents[path]
    assert other.caretaker.publish(thorough=True) == [ONE.exp], "at the start and the end of a worker, if there is none"


def test_a_result_that_never_changes_is_put_right_by_anybody(share: Share):
    share.enqueue(ONE)
    author, other = sync_pair(share)
    finish(author)
    for queue in (author, other, author, other):
        pass_time(queue, 2 * SYNC_FOLDER.settle)
    assert share.fold().status(ONE.id) == "sealed"
    for queue in (author, other):
        share.disk.contents[WORKSPACE.result(ONE.exp)] = b"an older result of another attempt"
        queue.refresh()
        assert queue.caretaker.publish(thorough=True) == [ONE.exp]


# What sync clients leave


def test_conflict_copies_of_what_is_derived_are_cleared_away(share: Share):
    share.enqueue(ONE)
    mac = share.member("mac")
    checkpoints = CheckpointManager(WORKSPACE.checkpoints, mac.files)
    held = claimed(mac)
    generation = checkpoints.save(ONE.exp, ONE.id, 1, 1, mac.worker, {}, from_table(table()), "")
    mac.saved(held, 1, generation.file, generation.sha256, "", 0.5)
    checkpoints.derive(ONE.exp, generation, {"item": ONE.id, "round": 1})
    mac.done(held, table(), 1, 0.5)
    mac.caretaker.look_after(thorough=True)
    here = dict(share.disk.contents)
    copied = (
        WORKSPACE.result(ONE.exp),
        checkpoints.paths.model(ONE.exp),
        checkpoints.paths.progress(ONE.exp),
        WORKSPACE.beat(mac.worker),
        WORKSPACE.view,
    )
    for number, path in enumerate(copied):
        share.disk.contents[path.with_name(copy_name(path.name, number))] = here[path]
    mac.caretaker.look_after(thorough=True)
    assert dict(share.disk.contents) == here
    # Sync clients show a part of a new file, and one that was deleted just then comes back as that part.
    for path in set(copied) - {checkpoints.paths.model(ONE.exp)}:  # of that one, a part tells nothing until the seal
        share.disk.contents[path.with_name(copy_name(path.name))] = here[path][: len(here[path]) * 2 // 3]
    mac.caretaker.look_after(thorough=True)
    assert dict(share.disk.contents) == here


def test_a_file_that_a_person_made_stays(share: Share):
    share.enqueue(ONE)
    mac = share.member("mac")
    exp = finish(mac).exp
    theirs: dict[Path, bytes] = {
        WORKSPACE.results / f"{exp} copy.csv": CSV,  # no sync client's name
        WORKSPACE.results / f"{exp} (before Monday).csv": CSV,
        WORKSPACE.results / copy_name(f"{exp}.csv"): CSV + b"my,notes\n",
        WORKSPACE.results / copy_name("my_own.csv"): CSV,
        WORKSPACE.results / copy_name("notes.txt"): b"",
        WORKSPACE.checkpoints / copy_name(f"{exp}.json"): b'{"experiment": 1}',
        WORKSPACE.checkpoints / copy_name(f"{exp}.json", 2): b'{"experiment": "%s", "plan": "run it again"}' % exp.encode(),
        WORKSPACE.checkpoints / copy_name(f"{exp}_model.pt"): b"weights of mine",
        WORKSPACE.beats / copy_name("mine.json"): b"{}",
    }
    share.disk.contents.update(theirs)
    mac.caretaker.look_after(thorough=True)
    assert {path: share.disk.contents.get(path) for path in theirs} == theirs


@pytest.mark.parametrize(("changes", "stays"), [({"device": "mps", "sec_train": 9.0}, False), ({"accuracy": 0.75}, True)])
def test_a_copy_of_a_lost_worker_s_result_goes_if_only_the_machine_s_columns_differ(
    share: Share, changes: dict[str, Any], stays: bool
):
    share.enqueue(ONE)
    mac = share.member("mac")
    mac.done(claimed(mac), table(), 1, 0.5)
    copy = WORKSPACE.results / f"{ONE.exp} (PC's conflicted copy 2026-01-01).csv"
    share.disk.contents[copy] = to_csv([msgspec.structs.replace(row, **changes) for row in from_table(table())])
    mac.caretaker.look_after(thorough=True)
    assert (copy in share.disk.contents) == stays


def test_copies_of_journals_and_plans_are_sources_and_stay(share: Share):
    share.enqueue(ONE)
    mac = share.member("mac")
    finish(mac)
    for path in [p for p in share.disk.contents if p.parent in (WORKSPACE.journals, WORKSPACE.plans)]:
        share.disk.contents[path.with_name(copy_name(path.name))] = share.disk.contents[path]
    before = {p for p in share.disk.contents if "Konflikt" in p.name}
    mac.caretaker.look_after(thorough=True)
    assert before <= set(share.disk.contents)


def test_temporary_files_of_killed_processes_go_when_nobody_can_be_writing_them_any_more(share: Share):
    share.enqueue(ONE)
    paths = [path.with_name(f"~{path.name}.0badcafe.tmp") for path in (WORKSPACE.result(ONE.exp), WORKSPACE.plan(ONE.id))]
    for path, age_s in zip(paths, (ORPHANED_S / 2, 2 * ORPHANED_S), strict=True):
        share.disk.contents[path], share.disk.began_s[path] = b"half", share.disk.now_s - age_s
    share.member("mac").caretaker.look_after(thorough=True)
    assert [path in share.disk.contents for path in paths] == [True, False]


def test_an_edited_copy_of_the_queue_for_people_is_taken_in_and_then_removed(share: Share):
    share.enqueue(ONE)
    copy = WORKSPACE.view.with_name(copy_name(WORKSPACE.view.name))
    edit(share, ONE, "failed", copy)
    foreign = WORKSPACE.view.with_name("work_queue 2.json")
    share.disk.contents[foreign] = b"notes"
    share.member("mac").caretaker.look_after(thorough=True)
    assert share.fold().status(ONE.id) == "cancelled"
    assert not {copy, foreign} & set(share.disk.contents)
    assert kept(share) == [b"notes"]


def test_hostile_files_under_such_names_raise_nothing(share: Share):
    share.enqueue(ONE)
    mac = share.member("mac")
    exp = finish(mac).exp
    hostile: list[Any] = [b"[" * 5000, b"\xff", b'{"worker":1}', b"null", b"[1e999]", b'{"experiment":{}}']
    for number, data in enumerate(hostile):
        for path in (WORKSPACE.view, WORKSPACE.result(exp), WORKSPACE.beat(mac.worker), WORKSPACE.checkpoints / f"{exp}.json"):
            share.disk.contents[path.with_name(copy_name(path.name, number))] = data
    mac.caretaker.look_after(thorough=True)
    assert ours(share)

"""Whatever a peer writes into journals, beats and plans: a member goes on claiming, and reading stays bounded."""

from __future__ import annotations

import hashlib
import json
import zlib
from base64 import b64encode
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from queuekit import ANY_RECORD, WORKSPACE, Author, Share, claimed, fold_of, item, pass_time, table

from fedspec.files import MemoryDisk, MemoryFiles
from fedspec.plan import Role, encoded, published_names
from fedspec.workqueue import wording
from fedspec.workqueue.gangs import Gang, role_to_take
from fedspec.workqueue.itemstate import LEAP
from fedspec.workqueue.liveness import LOCAL_DISK, SYNC_FOLDER, Timing
from fedspec.workqueue.members import Members
from fedspec.workqueue.naming import display_names
from fedspec.workqueue.records import (
    FIRST,
    MAX_COUNT,
    MAX_LAM,
    Claim,
    Fail,
    Hello,
    Record,
    decode,
    encode,
    line_hash,
    unpack_rows,
)
from fedspec.workqueue.store import Beat, Store
from fedspec.workqueue.view import render_view

ITEM = item()
EVIL = WORKSPACE.journals / "evil.jsonl"
ESCAPE = "\x1b[2J\nerror: all is lost\r\u202e\x9b31m[red]"


@pytest.fixture
def disk() -> MemoryDisk:
    return MemoryDisk()


@pytest.fixture
def store(disk: MemoryDisk) -> Store:
    return Store(MemoryFiles(disk), WORKSPACE)


def text(*lines: bytes) -> bytes:
    return b"".join(line + b"\n" for line in lines)


# Records


def chain(worker: str, *bodies: dict[str, Any]) -> bytes:
    """Lines of one worker whose fields may be anything that JSON can say."""
    prev, lines = FIRST, []
    for seq, body in enumerate(bodies):
        fields = {"v": 1, "worker": worker, "seq": seq, "lam": seq, "prev": prev, "wall": "", **body}
        data = json.dumps(fields, sort_keys=True, separators=(",", ":")).encode()
        line = b"%08x %s" % (zlib.crc32(data), data)
        lines.append(line)
        prev = line_hash(line)
    return text(*lines)


CLAIM = {"type": "claim", "item": ITEM.id}
START = {"type": "start", "item": ITEM.id, "attempt": 1, "round": 0, "base": ""}
CKPT = {"type": "ckpt", "item": ITEM.id, "attempt": 1, "round": 1, "file": "f", "sha256": "s", "base": ""}
HELLO = {"type": "hello", "machine": "evil", "name": "Evil"}

RECORDS: dict[str, list[dict[str, Any]]] = {
    "the last attempt number": [{**CLAIM, "attempt": MAX_COUNT}],
    "the last but one": [{**CLAIM, "attempt": MAX_COUNT - 1}],
    "the highest number that counts": [{**CLAIM, "attempt": LEAP + 1}],
    "an attempt beyond": [{**CLAIM, "attempt": MAX_COUNT + 1}],
    "a number of 64 bits": [{**CLAIM, "attempt": 2**64}],
    "a number of 4000 digits": [{**CLAIM, "attempt": int("9" * 4000)}],
    "a negative attempt": [{**CLAIM, "attempt": -1}],
    "attempt zero": [{**CLAIM, "attempt": 0}],
    "a release of everything to come": [{"type": "ctl", "op": "release", "item": ITEM.id, "attempt": MAX_COUNT}],
    "a release of what counts": [{"type": "ctl", "op": "release", "item": ITEM.id, "attempt": LEAP}],
    "a retry of everything to come": [{"type": "ctl", "op": "retry", "item": ITEM.id, "attempt": MAX_COUNT}],
    "a command of no kind": [{"type": "ctl", "op": ESCAPE, "item": ITEM.id, "attempt": 1, "value": ESCAPE}],
    "the last Lamport time": [{**CLAIM, "attempt": 1, "lam": MAX_LAM}],
    "a name that commands the terminal": [{**HELLO, "name": ESCAPE, "fedspec": ESCAPE}, {**CLAIM, "attempt": 1}],
    "no name": [{**HELLO, "name": ""}, {**CLAIM, "attempt": 1}],
    "a name of a megabyte": [{**HELLO, "name": "x" * 900_000}],
    "closing workers that have no file name": [{**HELLO, "closes": {"evil-../../x": 0, "": 2**70}}],
    "closing for ever": [{**HELLO, "closes": {"evil-000001": MAX_COUNT}}],
    "reasons that command the terminal": [
        {**CLAIM, "attempt": 1},
        {"type": "fail", "item": ITEM.id, "attempt": 1, "fault": "capability", "reason": ESCAPE, "traceback": ESCAPE},
    ],
    "a fault of no kind": [{"type": "fail", "item": ITEM.id, "attempt": 1, "fault": "[red]", "reason": ""}],
    "a thousand transient failures": [
        {"type": "fail", "item": "other", "attempt": n, "fault": "transient", "reason": ""} for n in range(1, 1001)
    ],
    "saved rounds without end": [{**CLAIM, "attempt": 1}, START, {**CKPT, "round": MAX_COUNT, "accuracy": 1e308}],
    "a saved round whose file is elsewhere": [{**CLAIM, "attempt": 1}, START, {**CKPT, "file": "../../../etc/passwd"}],
    "a start from a file that nobody saved": [{**CLAIM, "attempt": 1}, {**START, "source": "../x", "device": ESCAPE}],
    "a base that is elsewhere": [{**CLAIM, "attempt": 1}, {**START, "base": "../../../etc/passwd"}],
    "a seal of nothing": [{"type": "seal", "item": ITEM.id, "attempt": MAX_COUNT, "author": ESCAPE}],
    "a time at the calendar's end": [{**CLAIM, "attempt": 1, "wall": "9999-12-31T23:59:59Z"}],
    "a time at the calendar's begin": [{**CLAIM, "attempt": 1, "wall": "0001-01-01T00:00:00Z"}],
    "clean-up of everything": [{"type": "gc", "files": ["../../../etc/passwd", "*"]}],
    "a record of the future": [{"type": "teleport", "to": [[[[]]]]}],
}


@pytest.mark.parametrize("timing", [LOCAL_DISK, SYNC_FOLDER], ids=["a disk", "a sync folder"])
@pytest.mark.parametrize("name", RECORDS)
def test_no_record_of_a_peer_keeps_an_item_from_being_finished(share: Share, name: str, timing: Timing):
    share.enqueue(ITEM)
    share.disk.contents[EVIL] = chain("evil0000-000001", *RECORDS[name])
    queue = share.member("aaaa", timing=timing)
    pass_time(queue, 2 * timing.dead)
    held = claimed(queue)
    assert held.item == ITEM
    assert queue.must_stop(held) is None
    queue.started(held, 0, "", "", "cpu")
    queue.done(held, table(), 1, 0.5)
    for reader in (queue, share.member("bbbb")):
        state = reader.progress()
        (line,) = state.lines
        assert (line.state, line.machine) == ("done", "aaaa")
        assert json.loads(render_view(reader.store.fold, reader.store.items))[0]["status"] == "completed"
    queue.leave("finished")


def test_a_line_that_a_peer_forges_in_a_worker_s_name_does_not_end_it(share: Share):
    share.enqueue(ITEM)
    queue = share.member("aaaa")
    for number in range(3):
        last = decode(share.disk.contents[WORKSPACE.journal(queue.worker, 0)].split(b"\n")[-2])
        assert last is not None
        share.disk.contents[WORKSPACE.journals / f"evil {number}"] = encode(msgspec.structs.replace(last, wall=ESCAPE))
        held = claimed(queue)
        pass_time(queue, LOCAL_DISK.beat)
        if number < 2:
            queue.give_back(held, "again")
    queue.done(held, table(), 1, 0.5)
    queue.leave("finished")
    assert share.fold().status(ITEM.id) in ("done", "sealed")


@given(st.lists(ANY_RECORD, max_size=8), st.sampled_from(["i", ITEM.id]))
@settings(max_examples=60)
def test_a_member_bears_any_well_formed_records(records: list[Record], about: str):
    share = Share()
    share.enqueue(ITEM)
    prev, lines = FIRST, []
    for seq, record in enumerate(records):
        changed = {"seq": seq, "prev": prev, "worker": "evil0000-000001"} | ({"item": about} if hasattr(record, "item") else {})
        lines.append(encode(msgspec.structs.replace(record, **changed))[:-1])
        prev = line_hash(lines[-1])
    share.disk.contents[EVIL] = text(*lines)
    queue = share.member("aaaa")
    assert queue.store.length("evil0000-000001") == len(lines)
    queue.progress()
    queue.publisher.publish(check_all=True)
    queue.publisher.write_view()
    action = queue.claim()
    assert action is not None
    queue.leave("finished")


@pytest.mark.parametrize("worker", ["", "x", "../../x-1", "a b-c", "CON-1", "a-b\n", "é-é", "a" * 40 + "-1", "a-b-c"])
def test_a_worker_whose_name_can_be_no_file_name_is_none(worker: str):
    assert decode(chain(worker, {**CLAIM, "attempt": 1})[:-1]) is None


@pytest.mark.parametrize("changed", [{"attempt": MAX_COUNT + 1}, {"seq": -1}, {"lam": MAX_LAM + 1}])
def test_nobody_writes_a_record_that_nobody_would_read(changed: dict[str, int]):
    claim = Author().write(Claim, item="i", attempt=1)
    with pytest.raises(ValueError, match="no reader would take"):
        encode(msgspec.structs.replace(claim, **changed))


def test_a_done_with_more_rounds_than_a_number_holds_is_no_record():
    done = {"type": "done", "item": ITEM.id, "attempt": 1, "rows": "", "rounds": 2**64}
    assert decode(chain("evil0000-000001", done)[:-1]) is None


def test_rows_that_inflate_to_much_more_than_a_result_are_refused():
    bomb = b64encode(zlib.compress(b'{"columns":[' + b"[]," * (4 << 20) + b"[]]}", 9)).decode()
    assert len(bomb) < 100_000
    with pytest.raises(ValueError, match="too large"):
        unpack_rows(bomb)


def test_a_thousand_machines_of_one_name_are_told_apart_in_a_blink():
    authors = [Author(f"{number:08x}-000001") for number in range(5000)]
    for author in authors:
        author.write(Hello, machine="x", name="Mac")
    names = display_names(fold_of(*authors))
    assert len(set(names.values())) == 5000
    assert {"Mac", "Mac 2", "Mac 5000"} <= set(names.values())


# Plans


def plan_file(**changed: Any) -> bytes:
    return json.dumps({**json.loads(encoded(ITEM)), **changed}, sort_keys=True, separators=(",", ":")).encode()


DEEP: Any = 0
for _ in range(200):
    DEEP = {"a": DEEP}

PLANS = {
    "a name that leaves the folder": {"exp": "../../evil"},
    "a name with a folder in it": {"exp": "a/b"},
    "a name that is a device on Windows": {"exp": "con.x"},
    "a name that ends with a dot": {"exp": "x."},
    "a name of a thousand letters": {"exp": "x" * 1000},
    "a name with an escape": {"exp": ESCAPE},
    "no name": {"exp": ""},
    "a number of 64 bits": {"config": {"rounds": 2**64}},
    "a number of 4000 digits": {"config": {"x": int("9" * 4000)}},
    "a negative count": {"config": {"rounds": -1}},
    "a science of 64 bits": {"science_version": 2**64},
    "a version of 64 bits": {"v": 2**64},
    "deep JSON": {"config": {"x": DEEP}},
    "needs that are none": {"needs": [[]]},
    "a configuration that is none": {"config": []},
    "thousands of roles": {"roles": [{"name": str(n), "needs": []} for n in range(1000)]},
    "roles that are none": {"roles": "root"},
    "roles without a root": {"roles": [{"name": "a", "needs": []}, {"name": "b", "needs": []}]},
    "two roots": {"roles": [{"name": "root", "needs": []}] * 2},
    "two roles of one name": {"roles": [{"name": name, "needs": []} for name in ("root", "eye", "eye")]},
    "a role that is no plain name": {"roles": [{"name": name, "needs": []} for name in ("root", "an eye")]},
    "a role without a name": {"roles": [{"name": name, "needs": []} for name in ("root", "")]},
}


@pytest.mark.parametrize("name", PLANS)
def test_a_plan_that_nobody_could_mean_is_told_and_left_out(store: Store, disk: MemoryDisk, name: str):
    data = plan_file(**PLANS[name])
    disk.contents[WORKSPACE.plans / f"p-{hashlib.sha256(data).hexdigest()[:12]}.json"] = data
    store.write_plan(ITEM)
    store.refresh()
    assert store.items == {ITEM.id: ITEM}
    (note,) = store.notes()
    assert note.isprintable()


def test_no_two_items_ever_have_one_file_name():
    one = item(43)
    other = msgspec.structs.replace(item(44), exp=one.exp)
    told_apart = max(one, other, key=lambda i: i.id)
    thief = msgspec.structs.replace(item(45), exp=f"{one.exp}_{told_apart.id[:6]}")
    names = published_names([one, other, thief])
    assert len(set(names.values())) == 3


def test_many_roles_that_nobody_can_fill_are_found_out_in_a_blink():
    roles = [Role(name=str(n), needs=["cuda"] if n == 31 else []) for n in range(32)]
    gang = msgspec.structs.replace(ITEM, roles=roles)
    workers = {f"{n:08x}-000001": {"cpu"} for n in range(40)}
    me = next(iter(workers))
    nobody = Gang(1, {}, gang.members)
    assert role_to_take(nobody, gang, Members(me, workers), me, barred=False) is None
    able = {**workers, "ffffffff-000001": {"cpu", "cuda"}}
    assert role_to_take(nobody, gang, Members(me, able), me, barred=False) is not None


# Words


@given(st.text(max_size=50))
def test_what_is_shown_as_one_line_is_one_line_that_no_terminal_obeys(said: str):
    shown = wording.one_line(said, 20)
    assert len(shown) <= 20
    assert not any(ord(c) < 32 or 127 <= ord(c) < 160 or 0xD800 <= ord(c) < 0xE000 for c in shown)


def test_plain_words_are_shown_as_they_are():
    for said in ("Anna's Mac", "Zoë\u00a0PC", "实验室 2", "α = 0.1", "[red]"):
        assert wording.one_line(said) == said


def test_a_name_reason_and_file_name_of_a_peer_come_as_one_plain_line(share: Share):
    share.enqueue(ITEM)
    author = Author("evil0000-000001")
    author.write(Hello, machine="evil0000", name=ESCAPE)
    author.write(Claim, item=ITEM.id, attempt=1)
    author.write(Fail, item=ITEM.id, attempt=1, fault="final", reason=ESCAPE)
    share.disk.contents[EVIL.with_name(f"{ESCAPE}")] = text(*author.lines, b"garbage")
    queue = share.member("aaaa")
    state = queue.progress()
    for shown in (queue.machine_name("evil0000-000001"), state.lines[0].why, *state.notes):
        assert shown
        assert not set(shown) & {"\n", "\r", "\x1b", "\x9b", "\u202e"}


@pytest.mark.parametrize("name", ["x;reboot;\x1b[2J\nfoo-1", "aaaaaaaa-000001\n", "-1", "Mac", ""])
def test_nobody_waits_for_a_name_in_a_heartbeat_that_no_worker_can_have(name: str):
    share = Share()
    share.enqueue(item())
    mac, pc = share.member("mac"), share.member("pc")
    path = WORKSPACE.beat(pc.worker)
    beat = msgspec.json.decode(share.disk.contents[path], type=Beat)
    pc.leave()
    share.disk.contents[path] = msgspec.json.encode(msgspec.structs.replace(beat, n=beat.n + 1, seen={name: 3}))
    pass_time(mac, 10)
    assert mac.store.acks[beat.worker] == {name: 3}
    assert mac.look().strangers == []
    mac.done(claimed(mac), table(), 1, 0.5)
    pass_time(mac, 30)
    assert mac.store.fold.status(item().id) == "sealed"

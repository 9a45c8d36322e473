"""``queue why ITEM``: plain words for every state, what happened before, and a command that changes it."""

from __future__ import annotations

import pytest
from queuekit import Share, claimed, item, pass_time, table, together

from fedspec.config import FederatedConfig
from fedspec.plan import Item, Role, make_item
from fedspec.workqueue.distributor import WorkDistributor
from fedspec.workqueue.explain import Explanation, explain
from fedspec.workqueue.liveness import NETWORK_SHARE
from fedspec.workqueue.records import machine_of
from fedspec.workqueue.wording import MAX_REASON

ONE, TWO = item(42), item(43)


@pytest.fixture
def reader(share: Share) -> WorkDistributor:
    share.enqueue(ONE, TWO)
    return share.process("reader")


def why(reader: WorkDistributor, of: Item = ONE) -> Explanation:
    return explain(reader.look(), of)


def commands(found: Explanation) -> list[str]:
    return [fix.command for fix in found.fixes]


def begin(queue: WorkDistributor, source: str = "", round_: int = 0):
    held = claimed(queue)
    queue.started(held, round_, "b" * 12, source, "cpu")
    return held


def save(queue: WorkDistributor, held, round_: int) -> str:
    file = f"r{round_}.{held.worker}"
    queue.saved(held, round_, file, "s", "b" * 12, 0.5)
    queue.report.running, queue.report.round, queue.report.clients = held.item.id, round_, "3/10"
    return file


def test_pending_says_what_comes_before_it_and_who_is_busy(share: Share, reader: WorkDistributor):
    assert why(reader).why == f"{ONE.exp} is waiting for a worker. No machine is working. To start one: fedspec work"
    assert why(reader, TWO).past == ()
    mac = share.member("Mac")
    assert why(reader, TWO).next == "1 item comes before it."
    save(mac, begin(mac), 1)
    together(6, mac, reader)
    assert why(reader, TWO).next == f"It is next: Mac is on {ONE.exp}."
    assert commands(why(reader, TWO)) == []


def test_pending_names_nobody_who_has_lost_its_item_or_takes_nothing_new(share: Share, reader: WorkDistributor):
    mac, windows = share.member("Mac"), share.member("Windows")
    save(mac, begin(mac), 1)
    save(windows, begin(windows), 1)
    together(6, mac, windows, reader)
    share.kill(windows)  # its last beat is still fresh
    reader.control("release", TWO)
    assert why(reader, TWO).next == f"Round 1 of 20 is saved, accuracy 0.5000. It is next: Mac is on {ONE.exp}."
    reader.control("drain", value=machine_of(mac.worker))
    assert why(reader, TWO).next.endswith("It is next: Mac takes nothing new.")
    reader.control("pause", value=machine_of(mac.worker))
    assert why(reader, TWO).next.endswith("It is next: Mac is paused.")


def test_how_attempts_ended_is_told_in_one_tense(share: Share, reader: WorkDistributor):
    mac = share.member("Mac")
    ends = (f"{ONE.exp} was released by hand.", f"{ONE.exp} is paused.", f"{ONE.exp} was cancelled.", "stopped on request")
    for end in ends:
        mac.give_back(begin(mac), end)
    assert [past.end for past in why(reader).past] == ["released by hand", "paused", "cancelled", "stopped on request"]


def test_an_item_for_two_says_which_role_is_open_and_who_has_the_other(share: Share):
    pair = make_item("federated", FederatedConfig(seed=44), roles=[Role(name="root"), Role(name="peer")])
    share.enqueue(pair)
    mac, pc, reader = share.member("Mac"), share.member("PC"), share.process("reader")
    assert "It needs 2 workers at once: nobody has root and peer yet." in why(reader, pair).next
    first = claimed(mac)
    other = "peer" if first.role == "root" else "root"
    assert f"It needs 2 workers at once: Mac has {first.role} and nobody has {other} yet." in why(reader, pair).next
    assert claimed(pc).role == other
    has = {first.role: "Mac", other: "PC"}
    assert f"Its 2 workers are there: {has['peer']} has peer and {has['root']} has root." in why(reader, pair).next


def test_running_says_who_since_when_in_which_round_and_how_long_it_takes(share: Share, reader: WorkDistributor):
    mac = share.member("Mac")
    held = claimed(mac)
    assert why(reader).what == f"{ONE.exp} is running: Mac has had it for ~0 s (attempt 1) and gets ready."
    mac.started(held, 0, "b" * 12, "", "cpu")
    save(mac, held, 3)
    mac.report.eta_s = 720.0
    together(60, mac, reader)
    found = why(reader)
    assert found.what == f"{ONE.exp} is running: Mac has had it for ~60 s (attempt 1) and is in round 4 of 20, 3/10 clients."
    assert found.next == "Round 3 of 20 is saved, accuracy 0.5000. About 12 min are left."


def test_stale_says_who_takes_over_from_where_and_the_command_that_does_not_wait(share: Share, reader: WorkDistributor):
    mac = share.member("Mac")
    save(mac, begin(mac), 7)
    together(40, reader)
    found = why(reader)
    assert found.what == f"{ONE.exp} has a silent worker: Mac has had it for ~40 s (attempt 1), and was last seen ~40 s ago."
    assert "Nobody else who could run it is working" in found.next
    assert commands(found) == [f"fedspec queue release {ONE.exp}"]
    together(40, windows := share.member("Windows"))
    del windows
    assert "Windows takes it over in ~20 s, from round 8 of 20; nothing that was saved is lost." in why(reader).next


def test_what_happened_before_is_told_attempt_by_attempt(share: Share, reader: WorkDistributor):
    mac, windows = share.member("Mac"), share.member("Windows")
    first = begin(mac)
    file = save(mac, first, 7)
    pass_time(windows, 70)
    second = begin(windows, file, 7)
    save(windows, second, 9)
    windows.failed(second, "code", "ValueError: bad value\nof something")
    mac.give_back(first, f"{ONE.exp} was taken over by {windows.worker}.")
    told = [(past.attempt, past.machine, past.start, past.saved, past.how, past.end) for past in why(reader).past]
    assert told == [
        (1, "Mac", 1, 7, "yielded", "taken over by Windows"),
        (2, "Windows", 8, 9, "failed", "ValueError: bad value of something"),
    ]
    assert "It failed once, last: ValueError: bad value of something." in why(reader).next


def test_crashed_says_on_which_machine_and_how_near_the_end_of_patience_it_is(share: Share, reader: WorkDistributor):
    mac = share.member("Mac")
    begin(mac)
    share.kill(mac)
    here = why(share.process("Mac"))
    assert here.what.endswith("and its process ended without a word.")
    assert commands(here) == ["fedspec work", f"fedspec queue release {ONE.exp}"]
    again = share.member("Mac")
    found = why(reader)
    assert found.what == f"{ONE.exp} waits for a worker: the last one that had it, on Mac, ended without a word."
    assert "It has ended 1 worker; after 3 in a row it counts as failed." in found.next
    begin(again)
    share.kill(again)
    begin(third := share.member("Mac"))
    share.kill(third)
    share.member("Mac")
    found = why(reader)
    assert f"{ONE.exp} has failed for good" in found.what
    assert "it killed its worker 3 times" in found.what
    assert [past.end for past in found.past] == ["its process ended without a word"] * 3
    assert commands(found) == [f"fedspec queue retry {ONE.exp}"]


def test_a_back_off_says_why_and_how_long(share: Share, reader: WorkDistributor):
    mac = share.member("Mac")
    mac.failed(claimed(mac), "transient", "the disk hiccuped")
    found = why(reader)
    assert found.what.startswith(f"{ONE.exp} waits before it is tried again: it failed once, last with the disk hiccuped")
    assert found.next == "It is tried again in ~60 s, from round 1."
    assert commands(found) == [f"fedspec queue retry {ONE.exp}"]
    reader.control("retry", ONE)
    assert "waiting for a worker" in why(reader).what


def test_cancelled_and_paused_say_since_when_and_by_whom(share: Share, reader: WorkDistributor):
    mac = share.member("Mac")
    mac.control("cancel", ONE)
    together(120, mac, reader)
    assert why(reader).what == f"{ONE.exp} was cancelled ~2 min ago, by Mac."
    assert commands(why(reader)) == [f"fedspec queue resume {ONE.exp}"]
    mac.control("pause")
    found = why(reader, TWO)
    assert found.what == f"{TWO.exp} waits: every machine is paused, ordered ~0 s ago by Mac."
    assert commands(found) == ["fedspec queue resume"]
    mac.control("resume")
    mac.control("drain", value=machine_of(mac.worker))
    found = why(reader, TWO)
    assert found.what == f"{TWO.exp} waits: Mac is told to take nothing new, ordered ~0 s ago by Mac."
    assert commands(found) == ["fedspec queue resume --machine Mac"]


def test_an_item_that_nobody_can_run_says_what_it_needs(share: Share, reader: WorkDistributor):
    gpu = item(50, device="cuda")
    reader.enqueue([gpu])
    share.member("Mac")
    found = why(reader, gpu)
    assert found.what == f"{gpu.exp} waits for a machine: it needs cuda, which no machine that took part can offer."
    assert commands(found) == ["fedspec work", f"fedspec queue cancel {gpu.exp}"]


def test_a_provisional_result_names_the_machines_it_waits_for_and_a_sealed_one_is_final(share: Share):
    share.enqueue(ONE, TWO)
    mac, pc = (share.member(name, timing=NETWORK_SHARE) for name in ("Mac", "Old PC"))
    reader = share.process("reader", timing=NETWORK_SHARE)
    together(10, mac, pc, reader)
    mac.done(claimed(mac), table(), 1, 0.5)
    together(100, mac, reader)
    found = why(reader)
    assert found.what.startswith(f"{ONE.exp} is done: Mac finished it in attempt 1 ~")
    assert found.next.startswith("The result is provisional: Old PC (last seen ~")
    assert found.next.endswith(
        "has not confirmed it yet. It does as soon as fedspec runs there and the folder has brought the news."
    )
    assert commands(found) == ['fedspec queue retire "Old PC"']
    reader.control("retire", value=machine_of(pc.worker))
    together(10, mac, reader)
    assert why(reader).next == "Every machine knows the result, and it never changes again."
    assert commands(why(reader)) == []


def test_a_reason_that_a_peer_wrote_is_one_short_line_without_control_characters(share: Share, reader: WorkDistributor):
    mac = share.member("Mac")
    mac.failed(claimed(mac), "final", "\x1b[2Jbad\r\n" + "very " * 300 + "long")
    found = why(reader)
    assert found.what.isprintable()
    assert found.past[0].end.isprintable()
    assert len(found.past[0].end) <= MAX_REASON


def test_every_explanation_is_one_paragraph_that_ends_with_its_commands(share: Share, reader: WorkDistributor):
    share.member("Mac")
    reader.control("cancel", ONE)
    found = why(reader)
    assert found.why == " ".join([found.what, *map(str, found.fixes)])
    assert "\n" not in found.why

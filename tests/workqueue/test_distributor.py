"""Several members of one queue: who gets what, who takes over, and what the one who was overtaken still writes."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import msgspec
import pytest
from queuekit import Share, by, claimed, item, local_state, pass_time, table

from fedspec.errors import QueueMissingError, SupersededError, UsageError
from fedspec.plan import Item
from fedspec.workqueue.distributor import WorkDistributor
from fedspec.workqueue.liveness import LOCAL_DISK, SYNC_FOLDER
from fedspec.workqueue.records import Yield
from fedspec.workqueue.rules import Finished, Held, Wait

ITEMS = [item(seed) for seed in (1, 2, 3)]
ONE = ITEMS[0]

GATED: dict[str, Callable[[WorkDistributor, Held], None]] = {
    "started": lambda queue, held: queue.started(held, 0, "base", "", "cpu"),
    "saved": lambda queue, held: queue.saved(held, 1, "f", "s", "base", 0.5),
    "done": lambda queue, held: queue.done(held, table(), 1, 0.5),
}


def blocked_because(queue: WorkDistributor) -> set[str]:
    action = queue.claim()
    assert isinstance(action, Wait)
    return {blocked.why for blocked in action.blocked}


# Claiming


@pytest.mark.parametrize("machines", [("mac", "pc", "nas"), ("mac", "mac", "mac")])
def test_members_never_hold_one_item_together(share: Share, machines: tuple[str, ...]):
    share.enqueue(*ITEMS)
    members = [share.member(machine) for machine in machines]
    assert {claimed(member).item.id for member in members} == {i.id for i in ITEMS}
    assert blocked_because(share.member(machines[0])) == {"running"}


def test_who_claims_with_an_item_in_hand_gives_that_back_first(share: Share):
    share.enqueue(ITEMS[0])
    member = share.member("mac")
    first, again = claimed(member), claimed(member)
    assert (first.item, first.attempt, again.item, again.attempt) == (ITEMS[0], 1, ITEMS[0], 2)
    assert member.must_stop(again) is None


def test_a_member_that_does_all_is_finished_and_so_are_the_others(share: Share):
    share.enqueue(*ITEMS)
    mac, pc = share.member("mac"), share.member("pc")
    for _ in ITEMS:
        mac.done(claimed(mac), table(), 1, 0.5)
    assert mac.claim() == pc.claim() == Finished(())


def test_an_item_that_was_given_back_goes_to_whoever_asks_next(share: Share):
    share.enqueue(ONE)
    mac, pc = share.member("mac"), share.member("pc")
    mac.give_back(claimed(mac), "stopped on request")
    assert claimed(pc).attempt == 2


def test_an_item_that_needs_a_machine_waits_for_it(share: Share):
    share.enqueue(msgspec.structs.replace(ONE, needs=["machine:pc"]))
    assert blocked_because(share.member("mac")) == {"needs"}
    assert claimed(share.member("pc")).attempt == 1


# Takeover


def test_the_dead_worker_of_the_own_machine_is_replaced_at_once(share: Share):
    share.enqueue(ONE)
    dead, sibling = share.member("mac"), share.member("mac")
    held = claimed(dead)
    share.kill(dead)
    taken = claimed(sibling)
    assert (taken.attempt, taken.over) == (2, held.key)


def test_the_workers_of_a_machine_whose_notes_were_copied_are_not_dead_for_the_copy(share: Share):
    share.enqueue(ONE)
    mac, pc = share.member("mac"), share.member("pc")
    claimed(pc)
    for name, data in share.disk.contents.below(local_state("pc").root).items():
        share.disk.contents[local_state("mac").root / name] = data
    assert blocked_because(mac) == {"running"}


def test_the_next_process_of_a_machine_closes_its_dead_ones(share: Share):
    share.enqueue(ONE)
    dead = share.member("mac")
    claimed(dead)
    written = share.fold().workers[dead.worker].length
    share.kill(dead)
    again = share.member("mac")
    assert share.fold().closed == {dead.worker: written - 1}
    assert claimed(again).attempt == 2
    assert claimed_by_nobody_else(share, again)


def claimed_by_nobody_else(share: Share, queue: WorkDistributor) -> bool:
    owner = share.fold().owner(ONE.id)
    return owner is not None and owner[1] == queue.worker


def test_the_worker_of_another_machine_is_replaced_after_its_time_and_not_before(share: Share):
    share.enqueue(ONE)
    dead, heir = share.member("mac"), share.member("pc")
    held = claimed(dead)
    share.kill(dead)
    pass_time(heir, LOCAL_DISK.dead - LOCAL_DISK.poll)
    assert blocked_because(heir) == {"running"}
    pass_time(heir, 2 * LOCAL_DISK.poll)
    assert claimed(heir).over == held.key


def test_a_worker_that_beats_is_never_replaced_however_long_its_round_takes(share: Share):
    share.enqueue(ONE)
    alive, rival = share.member("mac"), share.member("pc")
    claimed(alive)
    for _ in range(200):
        pass_time(alive, LOCAL_DISK.beat)
        pass_time(rival, LOCAL_DISK.beat)
        assert blocked_because(rival) == {"running"}


def test_a_sign_of_life_that_is_read_when_taking_over_counts(share: Share):
    """A disk that was full for long has room again just now."""
    share.enqueue(ONE)
    alive, rival = share.member("mac"), share.member("pc")
    held = claimed(alive)
    pass_time(rival, LOCAL_DISK.dead + 2 * LOCAL_DISK.poll)
    alive.started(held, 0, "base", "", "cpu")
    assert blocked_because(rival) == {"running"}


@pytest.mark.parametrize("skew_h", [-12, 12])
def test_wall_clocks_decide_nothing(share: Share, skew_h: int):
    share.enqueue(ONE)
    dead, heir = share.member("mac"), share.member("pc", skew=timedelta(hours=skew_h))
    claimed(dead)
    assert blocked_because(heir) == {"running"}
    pass_time(heir, LOCAL_DISK.dead + 2 * LOCAL_DISK.poll)
    assert claimed(heir).attempt == 2


def overtaken(share: Share) -> tuple[WorkDistributor, Held, WorkDistributor, Held]:
    """A worker that slept while another machine took its item over, and the other one."""
    share.enqueue(ONE)
    sleeper, heir = share.member("mac"), share.member("pc")
    held = claimed(sleeper)
    pass_time(heir, LOCAL_DISK.dead + 2 * LOCAL_DISK.poll)
    return sleeper, held, heir, claimed(heir)


@pytest.mark.parametrize("call", GATED)
def test_an_owner_that_wakes_up_is_stopped_at_every_gate_and_writes_only_its_yield(share: Share, call: str):
    sleeper, held, heir, taken = overtaken(share)
    with pytest.raises(SupersededError, match=f"taken over by {heir.worker}"):
        GATED[call](sleeper, held)
    sleeper.give_back(held, "superseded")
    assert by(sleeper.worker, share.records()) == ["Claim", "Yield"]
    assert heir.must_stop(taken) is None


def test_an_owner_that_wakes_up_with_an_error_yields_instead_of_failing_the_item(share: Share):
    sleeper, held, _, _ = overtaken(share)
    sleeper.failed(held, "final", "no such model")
    assert by(sleeper.worker, share.records()) == ["Claim", "Yield"]
    assert share.fold().status(ONE.id) == "running"


def test_the_heart_of_an_overtaken_owner_tells_it_before_the_gate_does(share: Share):
    sleeper, held, _, _ = overtaken(share)
    assert sleeper.stop_reason is None
    sleeper.tick()
    assert "taken over" in str(sleeper.stop_reason)
    sleeper.give_back(held, "superseded")
    assert sleeper.stop_reason is None


def test_a_result_ends_every_rival_attempt(share: Share):
    sleeper, held, heir, taken = overtaken(share)
    heir.done(taken, table(), 1, 0.5)
    with pytest.raises(SupersededError, match="already done"):
        sleeper.done(held, table(), 1, 0.5)


def test_who_slept_claims_nothing_before_the_folder_has_settled(share: Share):
    share.enqueue(ONE)
    sleeper = share.member("mac", timing=SYNC_FOLDER)
    sleeper.clock.sleep(8 * 3600)
    assert blocked_because(sleeper) == {"settle"}
    sleeper.tick()
    assert blocked_because(sleeper) == {"settle"}
    pass_time(sleeper, SYNC_FOLDER.settle)
    assert claimed(sleeper).attempt == 1


# Failing


def test_a_passing_error_is_retried_after_a_back_off_that_grows(share: Share):
    share.enqueue(ONE)
    queue = share.member("mac")
    for minutes in (1, 2, 4):
        queue.failed(claimed(queue), "transient", "the disk hiccuped")
        assert blocked_because(queue) == {"back-off"}
        pass_time(queue, 60 * minutes - 10)
        assert blocked_because(queue) == {"back-off"}
        pass_time(queue, 20)
    assert claimed(queue).attempt == 4


def test_an_error_of_the_code_is_tried_three_times_in_all(share: Share):
    share.enqueue(ONE)
    members = [share.member("mac"), share.member("pc")]
    for number in range(3):
        members[number % 2].failed(claimed(members[number % 2]), "code", f"reason {number}")
    assert [member.claim() for member in members] == [Finished((ONE,))] * 2


# What people ask for


def test_a_visitor_s_word_is_journalled_and_the_visitor_leaves_no_trace_on_its_machine(share: Share):
    share.enqueue(ONE)
    mac = share.member("mac")
    held = claimed(mac)
    visitor = share.process("laptop")
    visitor.control("release", ONE)
    assert mac.must_stop(held) == "released by hand"
    assert not visitor.joined
    assert [path for path in share.disk.contents if "laptop" in path.parts and path.parent.name == "slots"] == []
    assert claimed(share.member("pc")).attempt == 2


def test_cancel_stops_the_owner_and_resume_lets_it_go_on(share: Share):
    share.enqueue(ONE)
    mac, visitor = share.member("mac"), share.process("laptop")
    held = claimed(mac)
    visitor.control("cancel", ONE)
    assert mac.must_stop(held) == "cancelled"
    assert share.member("pc").claim() == Finished(())
    visitor.control("resume", ONE)
    assert mac.must_stop(held) is None


def test_retry_brings_a_failed_item_back(share: Share):
    share.enqueue(ONE)
    mac = share.member("mac")
    mac.failed(claimed(mac), "final", "no such data set")
    assert mac.claim() == Finished((ONE,))
    share.process("laptop").control("retry", ONE)
    assert claimed(mac).attempt == 2


def test_a_member_can_say_it_too_and_stays(share: Share):
    share.enqueue(ONE)
    mac = share.member("mac")
    mac.control("cancel", ONE)
    assert mac.joined
    assert share.fold().status(ONE.id) == "cancelled"


# Adding work


def older(of: Item) -> Item:
    """The item as a version wrote it that did not know one of the keys yet."""
    return msgspec.structs.replace(of, config={k: v for k, v in of.config.items() if k != "singular_split"})


def test_enqueuing_twice_adds_nothing(share: Share):
    queue = share.process("mac")
    assert queue.enqueue(ITEMS) == (ITEMS, 3)
    before = dict(share.disk.contents)
    assert share.process("pc").enqueue(ITEMS) == (ITEMS, 0)
    assert share.disk.contents == before


def test_an_experiment_with_the_same_effective_configuration_keeps_its_item(share: Share):
    share.enqueue(older(ONE))
    chosen, added = share.process("pc").enqueue([ONE, ITEMS[1]])
    assert (chosen, added) == ([older(ONE), ITEMS[1]], 1)


@pytest.mark.parametrize("change", ["config", "needs"])
def test_an_experiment_with_another_configuration_is_refused_and_nothing_is_written(share: Share, change: str):
    share.enqueue(ONE)
    conflict = {"config": {"config": {**ONE.config, "lora_dropout": 0.5}}, "needs": {"needs": ["cuda"]}}[change]
    before = dict(share.disk.contents)
    with pytest.raises(UsageError, match="lora_dropout" if change == "config" else "needs"):
        share.process("pc").enqueue([ITEMS[1], msgspec.structs.replace(ONE, **conflict)])
    assert share.disk.contents == before


def test_both_of_two_items_that_met_under_one_name_can_be_enqueued_again(share: Share):
    twin = msgspec.structs.replace(ONE, config={**ONE.config, "lora_dropout": 0.5})
    reader = share.process("pc")
    for of in (ONE, twin):
        reader.store.write_plan(of)
    for of in (ONE, twin):
        assert reader.enqueue([of]) == ([of], 0)


def test_a_missing_queue_is_waited_for_and_never_created(share: Share):
    reader = share.process("mac")
    with pytest.raises(QueueMissingError):
        reader.require_queue()
    reader.progress()
    assert share.disk.contents == {}


def test_an_item_is_found_by_its_id_or_its_name(share: Share):
    share.enqueue(*ITEMS)
    reader = share.process("mac")
    assert reader.find_item(ONE.id) == reader.find_item(ONE.exp) == ONE
    with pytest.raises(UsageError, match="no item nonsense"):
        reader.find_item("nonsense")


def test_items_that_met_under_one_name_are_found_by_the_names_that_people_see(share: Share):
    twin = msgspec.structs.replace(ONE, config={**ONE.config, "lora_dropout": 0.5})
    reader = share.process("pc")
    for of in (ONE, twin):
        reader.store.write_plan(of)
    for line in reader.progress().lines:
        assert reader.find_item(line.experiment).id == line.id


# Coming and going


def test_a_yield_names_its_reason(share: Share):
    share.enqueue(ONE)
    mac = share.member("mac")
    mac.give_back(claimed(mac), "stopped on request")
    (end,) = [record for record in share.records() if isinstance(record, Yield)]
    assert end.reason == "stopped on request"


def test_an_acknowledgement_counts_what_was_read_of_the_living_and_leaves_the_gone_out(share: Share):
    gone = share.member("nas")
    gone_name = gone.worker
    gone.leave()
    mac, pc = share.member("mac"), share.member("pc")
    pass_time(mac, LOCAL_DISK.beat)
    pc.store.read_beats()
    seen = pc.store.beats[mac.worker].seen
    assert seen == {mac.worker: 1, pc.worker: 1}
    assert gone_name not in seen

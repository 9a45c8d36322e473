"""How an item really is: crashed, failed, slow, stalled and silent are told apart, and so is what an item waits for."""

from __future__ import annotations

from datetime import timedelta

import pytest
from queuekit import Share, claimed, item, pass_time, table, together

from fedspec.clock import FakeClock
from fedspec.config import FederatedConfig
from fedspec.plan import Item, make_item
from fedspec.workqueue.condition import ending, quiet_s
from fedspec.workqueue.distributor import Held, WorkDistributor
from fedspec.workqueue.liveness import LOCAL_DISK, SYNC_FOLDER, Timing
from fedspec.workqueue.pace import median
from fedspec.workqueue.progress import ItemLine

ONE, TWO = item(42), item(43)
GPU = item(44, device="cuda")


def line(reader: WorkDistributor, of: Item = ONE) -> ItemLine:
    return next(line for line in reader.progress().lines if line.id == of.id)


def words(reader: WorkDistributor, of: Item = ONE) -> tuple[str, str]:
    """State and condition."""
    found = line(reader, of)
    return found.state, found.condition


def train(queue: WorkDistributor, held: Held, seconds: list[float], *others: WorkDistributor) -> None:
    """Save a round after each of these times, a step every poll."""
    state = queue.store.fold.item(held.item.id)
    if state.attempts[held.key].start is None:
        queue.started(held, 0, "b" * 12, "", "cpu")
    first = len(state.generations) + 1
    for round_, length in enumerate(seconds, first):
        work(queue, held, length, *others, done=round_ - 1)
        queue.saved(held, round_, f"r{round_}.{held.worker}", "s", "b" * 12, 0.5)
        queue.report.round = round_


def work(queue: WorkDistributor, held: Held, seconds: float, *others: WorkDistributor, done: int = 0) -> None:
    """Train without finishing a round."""
    for _ in range(round(seconds / LOCAL_DISK.poll)):
        queue.report.running, queue.report.round, queue.report.steps = held.item.id, done, queue.report.steps + 1
        together(LOCAL_DISK.poll, queue, *others)


@pytest.fixture
def reader(share: Share) -> WorkDistributor:
    share.enqueue(ONE, TWO)
    return share.process("reader")


# Somebody has it


def test_a_worker_that_trains_is_running_and_one_that_beats_no_more_is_stale_with_a_takeover_due(
    share: Share, reader: WorkDistributor
):
    mac = share.member("Mac")
    held = claimed(mac)
    train(mac, held, [10, 10], reader)
    assert words(reader) == ("running", "running")
    together(40, reader)
    found = line(reader)
    assert (found.state, found.condition, found.due_s) == ("stale", "stale", 20)


@pytest.mark.parametrize("timing", [LOCAL_DISK, SYNC_FOLDER])
def test_nobody_is_called_silent_before_several_beats_are_missing(timing: Timing):
    assert 3 * timing.beat < quiet_s(timing) < timing.dead


@pytest.mark.parametrize("skew", [timedelta(0), timedelta(seconds=3)])
def test_rounds_far_longer_than_in_the_machine_s_other_runs_are_slow(share: Share, reader: WorkDistributor, skew: timedelta):
    mac = share.member("Mac", skew=skew)
    first = claimed(mac)
    train(mac, first, [20] * 4, reader)
    mac.done(first, table(4), 4, 0.5)
    second = claimed(mac)
    train(mac, second, [40, 40], reader)
    assert words(reader, second.item) == ("running", "running")  # twice as long is no more than a second worker makes it
    train(mac, second, [80, 80, 80], reader)
    assert words(reader, second.item) == ("running", "slow")
    assert "~80 s (usually ~20 s on that machine)" in line(reader, second.item).why


def test_a_round_that_does_not_end_is_slow_before_it_is_saved(share: Share, reader: WorkDistributor):
    mac = share.member("Mac")
    held = claimed(mac)
    train(mac, held, [4] * 4, reader)
    assert words(reader) == ("running", "running")
    work(mac, held, 40, reader, done=4)
    assert words(reader) == ("running", "slow")


def test_a_run_with_more_to_do_is_compared_with_its_like_only(share: Share):
    big = item(43, clients=50)
    share.enqueue(ONE, big)
    reader, mac = share.process("reader"), share.member("Mac")
    train(mac, claimed(mac), [4] * 4, reader)
    mac.done(Held(ONE, 1, mac.worker), table(4), 4, 0.5)
    held = claimed(mac)
    train(mac, held, [60] * 2, reader)
    assert words(reader, held.item) == ("running", "running")


def test_clocks_that_differ_make_nobody_slow_or_stalled(share: Share, reader: WorkDistributor):
    mac = share.member("Mac", skew=timedelta(hours=12))
    held = claimed(mac)
    train(mac, held, [10] * 5, reader)
    assert words(reader) == ("running", "running")


def test_a_worker_that_beats_and_makes_no_step_has_stalled(share: Share, reader: WorkDistributor):
    mac = share.member("Mac")
    held = claimed(mac)
    train(mac, held, [10] * 4, reader)
    together(56, mac, reader)
    assert line(reader).condition != "stalled"
    together(20, mac, reader)
    assert words(reader) == ("running", "stalled")
    assert "nothing has moved for ~7" in line(reader).why
    work(mac, held, 6, reader)
    assert line(reader).condition != "stalled"


def test_a_first_round_may_take_long_until_its_pace_is_known(share: Share, reader: WorkDistributor):
    mac = share.member("Mac")
    held = claimed(mac)
    train(mac, held, [], reader)
    mac.report.running = held.item.id
    together(1700, mac, reader)
    assert words(reader) == ("running", "running")
    together(200, mac, reader)
    assert words(reader) == ("running", "stalled")


def test_a_machine_that_slept_has_not_stalled(share: Share, reader: WorkDistributor):
    mac = share.member("Mac")
    held = claimed(mac)
    train(mac, held, [10] * 4, reader)
    for queue in (mac, reader):
        assert isinstance(queue.clock, FakeClock)
        queue.clock.advance(8 * 3600)
    together(LOCAL_DISK.beat, mac, reader)
    assert line(reader).condition != "stalled"


def test_waiting_before_a_claim_is_no_stall(share: Share, reader: WorkDistributor):
    mac = share.member("Mac")
    together(1900, mac, reader)
    held = claimed(mac)
    train(mac, held, [], reader)
    mac.report.running = held.item.id
    together(10, mac, reader)
    assert words(reader) == ("running", "running")


# Its worker is gone


def test_a_worker_that_crashed_on_the_reader_s_machine_is_known_at_once(share: Share, reader: WorkDistributor):
    mac, elsewhere = share.member("Mac"), reader
    train(mac, claimed(mac), [4], reader)
    share.kill(mac)
    assert words(share.process("Mac")) == ("stale", "crashed")
    assert words(elsewhere) == ("running", "running")  # nobody else can know yet


def test_once_its_machine_has_closed_the_worker_everybody_knows_that_it_crashed(share: Share, reader: WorkDistributor):
    mac = share.member("Mac")
    train(mac, claimed(mac), [4], reader)
    share.kill(mac)
    share.member("Mac")
    found = line(reader)
    assert (found.state, found.condition, found.round) == ("pending", "crashed", 1)


def test_one_that_was_given_back_has_not_crashed(share: Share, reader: WorkDistributor):
    mac = share.member("Mac")
    mac.give_back(claimed(mac), "stopped on request")
    mac.leave()
    assert words(reader) == ("pending", "pending")


# Nobody has it


def test_a_transient_failure_waits_and_says_for_how_long_and_then_no_longer(share: Share, reader: WorkDistributor):
    mac = share.member("Mac")
    mac.failed(claimed(mac), "transient", "the disk hiccuped")
    found = line(reader)
    assert (found.state, found.condition, found.due_s) == ("pending", "retry-wait", 60)
    together(62, mac, reader)
    assert words(reader) == ("pending", "pending")


def test_an_item_that_no_machine_can_run_says_what_is_missing(share: Share, reader: WorkDistributor):
    reader.enqueue([GPU])
    assert words(reader, GPU) == ("pending", "pending")  # nobody has come yet: nothing is known
    mac = share.member("Mac")
    assert words(reader, GPU) == ("pending", "no-machine")
    assert line(reader, GPU).why == "it needs cuda, which no machine that took part can offer"
    windows = share.member("Windows", ["cpu", "cuda"])
    assert words(reader, GPU) == ("pending", "pending")
    together(30, mac, reader)
    assert "only Windows (last seen ~30 s ago) can offer" in line(reader, GPU).why
    windows.leave()
    assert "only Windows (left ~30 s ago) can offer" in line(reader, GPU).why


def test_a_machine_that_refused_an_item_cannot_run_it(share: Share, reader: WorkDistributor):
    mac = share.member("Mac")
    mac.failed(claimed(mac), "capability", "the device is too small.")
    found = line(reader)
    assert found.condition == "no-machine"
    assert found.why == "no machine that took part can run it: the device is too small"
    share.member("Windows")
    assert line(reader).condition == "pending"


def test_what_was_put_back_by_hand_is_not_what_a_machine_that_failed_before_can_offer(share: Share, reader: WorkDistributor):
    mac = share.member("Mac")
    mac.failed(claimed(mac), "capability", "The data set MNIST is not here. Put it there.")
    mac.leave()
    mac.control("retry", ONE)
    windows = share.member("Windows")
    windows.failed(claimed(windows), "capability", "The data set MNIST is not here. Put it there.")
    why = "it could not run on Windows: The data set MNIST is not here. Put it there. Mac (left ~0 s ago) may try it"
    assert (line(reader).condition, line(reader).why) == ("no-machine", why)


def test_machines_that_refused_for_different_reasons_are_named(share: Share, reader: WorkDistributor):
    for name, why in (("Mac", "No data."), ("Windows", "No memory."), ("PC", "No data.")):
        member = share.member(name)
        member.failed(claimed(member), "capability", why)
    assert line(reader).why == "no machine that took part can run it: Mac and PC: No data; Windows: No memory"


def test_an_item_pinned_to_a_machine_names_it(share: Share, reader: WorkDistributor):
    pinned = make_item("federated", FederatedConfig(seed=45), ["machine:Windows"])
    reader.enqueue([pinned])
    share.member("Mac")
    assert line(reader, pinned).why == "it needs the machine Windows, which no machine that took part can offer"


def test_what_another_version_made_waits_for_one(share: Share, reader: WorkDistributor):
    newer = Item(kind="federated", exp="fedavg_new", config=ONE.config, science_version=99)
    reader.enqueue([newer])
    share.member("Mac")
    assert "fedspec with science version 99" in line(reader, newer).why


@pytest.mark.parametrize(("op", "word"), [("pause", "paused"), ("drain", "draining")])
def test_orders_hold_for_all_or_for_the_only_machine_that_could(share: Share, reader: WorkDistributor, op: str, word: str):
    mac, windows = share.member("Mac"), share.member("Windows")
    reader.control(op)
    assert {line.condition for line in reader.progress().lines} == {word}
    reader.control("resume")
    assert words(reader) == ("pending", "pending")
    reader.control(op, value=mac.worker.partition("-")[0])
    assert words(reader) == ("pending", "pending")  # Windows can
    windows.leave()
    assert words(reader) == ("pending", word)


# It is over, and how attempts ended


def test_words_for_what_is_over(share: Share, reader: WorkDistributor):
    mac = share.member("Mac")
    mac.done(claimed(mac), table(), 1, 0.5)
    assert words(reader) == ("done", "done")
    mac.tick()
    assert words(reader) == ("sealed", "sealed")
    mac.failed(claimed(mac), "final", "it cannot run.")
    assert words(reader, TWO) == ("failed", "failed")
    reader.control("cancel", TWO)
    assert words(reader, TWO) == ("cancelled", "cancelled")


def test_every_way_in_which_an_attempt_ends_has_its_word(share: Share, reader: WorkDistributor):
    def last() -> str:
        reader.refresh()
        return ending(reader.store.fold, ONE.id, max(reader.store.fold.item(ONE.id).attempts))

    mac = share.member("Mac")

    def again(queue: WorkDistributor) -> Held:
        held = queue.claim([ONE.id])
        assert isinstance(held, Held), held
        return held

    held = again(mac)
    assert last() == ""
    mac.give_back(held, "stopped on request")
    assert last() == "yielded"
    mac.failed(again(mac), "code", "ValueError: x")
    assert last() == "failed"
    again(mac)
    reader.control("release", ONE)
    assert last() == "released"
    again(mac)
    share.kill(mac)
    heir = share.member("Mac")
    assert last() == "crashed"
    again(heir)
    reader.control("retire", value=heir.worker.partition("-")[0])
    assert last() == "retired"
    windows = share.member("Windows")
    again(windows)
    windows.leave()
    assert last() == "left"
    pc = share.member("PC")
    silent = again(pc)
    pass_time(linux := share.member("Linux"), 70)
    held = again(linux)
    reader.refresh()
    assert ending(reader.store.fold, ONE.id, silent.key) == "superseded"
    linux.done(held, table(), 1, 0.5)
    assert last() == "done"


@pytest.mark.parametrize(("values", "middle"), [([3.0], 3.0), ([9.0, 1.0, 2.0], 2.0), ([4.0, 1.0, 2.0, 9.0], 3.0)])
def test_the_median_is_the_middle_one(values: list[float], middle: float):
    assert median(values) == middle

"""How an item really is, as one reader sees it: who has it and how well that goes, or what it waits for.

Pure, and for display only: ages and paces are by wall clocks, which decide nothing. What a round takes is taken from one
worker's clock alone, so that clocks that differ make nobody slow.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from fedspec.clock import moment
from fedspec.plan import SCIENCE_VERSION, Item
from fedspec.workqueue.fold import Fold, Key, cancelled
from fedspec.workqueue.liveness import Timing
from fedspec.workqueue.records import Fail, machine_of
from fedspec.workqueue.rules import backoff_s
from fedspec.workqueue.store import Beat
from fedspec.workqueue.wording import MAX_REASON, elapsed_s, in_words, listed, one_line

# A round that takes so many times what it usually takes is slow; below a few beats nobody would notice.
SLOW_FACTOR, SLOW_BEATS = 3.0, 3.0
# No step for so many usual rounds is a stall, and never before a silent worker would be given up. Where nothing is known of
# the usual pace, the first step may take long: it may fetch data.
STALLED_ROUNDS, STALLED_UNKNOWN_S = 2.0, 1800.0
# Enough to know a machine's usual pace by.
SAMPLES, OWN_ROUNDS, RECENT_ROUNDS = 32, 3, 3
# What a round's length depends on, besides the machine.
WORKLOAD = ("dataset", "model", "clients", "local_epochs", "batch_size", "engine", "dtype", "threads")


@dataclass(frozen=True, slots=True)
class Condition:
    """One word for an item, and what is behind it.

    Attributes:
        word: of an item that somebody has ``running slow stalled stale crashed``, of one that nobody has ``pending crashed
            retry-wait no-machine paused draining``.
        why: a clause that gives the reason, "" where the word says it all.
        due_s: seconds until that changes by itself, where it does: a takeover, the end of a back-off.
    """

    word: str
    why: str = ""
    due_s: float | None = None


@dataclass(frozen=True, slots=True)
class Machine:
    """A machine that takes or took part.

    Attributes:
        offers: what its workers said they offer.
        age_s: seconds since its last sign, None if it told no time.
        alive: whether a worker of it was seen lately; ``left``: whether none is expected to come back by itself.
        order: what a person wants of it: resume, pause or drain.
        items: those that its live workers train; ``idle`` whether one of these workers trains none.
    """

    id: str
    name: str
    offers: Collection[str]
    age_s: float | None
    alive: bool
    left: bool
    order: str
    items: tuple[str, ...] = ()
    idle: bool = False


def quiet_s(timing: Timing) -> float:
    """A worker whose last sign is older than this is silent: several beats are missing, whatever the folder takes."""
    return 3 * timing.beat + 2 * timing.poll + timing.settle


def machines(
    fold: Fold,
    beats: Mapping[str, Beat],
    names: Mapping[str, str],
    timing: Timing,
    now: datetime,
    crashed: Collection[str] = (),
) -> dict[str, Machine]:
    """Machine id -> what is known of it, of all that took part and were not retired.

    Args:
        names: machine id -> display name.
        crashed: workers whose process is known to have ended, though nobody has said so yet.
    """
    workers: dict[str, list[str]] = {}
    for worker, state in fold.workers.items():
        if state.hello is not None and not fold.retired(worker):
            workers.setdefault(machine_of(worker), []).append(worker)
    return {
        machine: _machine(machine, names.get(machine, machine), group, fold, beats, timing, now, crashed)
        for machine, group in workers.items()
    }


def _machine(
    machine: str,
    name: str,
    workers: list[str],
    fold: Fold,
    beats: Mapping[str, Beat],
    timing: Timing,
    now: datetime,
    crashed: Collection[str],
) -> Machine:
    staying = [worker for worker in workers if not fold.gone(worker) and worker not in crashed]
    ages = {worker: last_sign_s(fold, beats, worker, now) for worker in staying or workers}
    known = [age for age in ages.values() if age is not None]
    awake = [worker for worker in staying if (age := ages[worker]) is None or age <= quiet_s(timing)]
    hellos = [hello for worker in workers if (hello := fold.workers[worker].hello) is not None]
    latest = max(hellos, key=lambda hello: (hello.lam, hello.worker))
    return Machine(
        machine,
        name,
        frozenset(latest.capabilities),
        min(known) if known else None,
        bool(awake),
        not staying,
        fold.order_for(machine),
        tuple(beats[worker].running for worker in awake if worker in beats and beats[worker].running),
        any(worker not in beats or not beats[worker].running for worker in awake),
    )


def last_sign_s(fold: Fold, beats: Mapping[str, Beat], worker: str, now: datetime) -> float | None:
    """Seconds since the worker's last beat, or its first word if no beat is here."""
    state, beat = fold.workers.get(worker), beats.get(worker)
    walls = [beat.wall if beat else "", state.hello.wall if state and state.hello else ""]
    ages = [age for wall in walls if (age := elapsed_s(wall, now)) is not None]
    return min(ages, default=None)


# An item that somebody has


def held(
    item: Item, owner: Key, fold: Fold, items: Mapping[str, Item], beat: Beat | None, age_s: float | None, timing: Timing
) -> Condition:
    """How it goes with an item, from its owner's last beat, ``age_s`` seconds ago."""
    if age_s is not None and age_s > quiet_s(timing):
        return Condition("stale", f"it has not been seen for ~{in_words(age_s)}", max(0.0, timing.dead - age_s))
    if beat is None or beat.running != item.id:
        return Condition("running")
    usual = usual_round_s(fold, items, item, owner)
    patience = max(timing.dead, STALLED_UNKNOWN_S * timing.scale if usual is None else STALLED_ROUNDS * usual)
    if beat.idle > patience:
        known = "" if usual is None else f" (a whole round usually takes ~{in_words(usual)})"
        return Condition("stalled", f"nothing has moved for ~{in_words(beat.idle)}{known}")
    pace = _pace_s(fold, item.id, owner, beat)
    if usual is not None and pace > SLOW_FACTOR * usual and pace - usual > SLOW_BEATS * timing.beat:
        return Condition("slow", f"a round takes ~{in_words(pace)} (usually ~{in_words(usual)} on that machine)")
    return Condition("running")


def usual_round_s(fold: Fold, items: Mapping[str, Item], item: Item, owner: Key) -> float | None:
    """Seconds that a round of such an item takes on the owner's machine: the median of its other runs there, else of the
    rounds of this very run. None if there are too few."""
    others = list(_like_runs(fold, items, item, owner))
    if others:
        return median(others)
    own = _own_rounds_s(fold, item.id, owner)
    return median(own) if len(own) >= OWN_ROUNDS else None


def _like_runs(fold: Fold, items: Mapping[str, Item], item: Item, owner: Key) -> Iterator[float]:
    """Seconds a round of other runs that had as much to do, on the same machine and device; `SAMPLES` at most."""
    machine, wanted, device = machine_of(owner[1]), _workload(item), _device(fold, item.id, owner)
    found = 0
    for item_id, state in fold.items.items():
        for key in state.attempts:
            if machine_of(key[1]) != machine or (item_id, key) == (item.id, owner):
                continue
            other = items.get(item_id)
            if other is None or _workload(other) != wanted or _device(fold, item_id, key) != device:
                continue
            saved = _saved_walls(fold, item_id, key)
            first, last = min(saved, default=0), max(saved, default=0)
            if last - first >= OWN_ROUNDS and (seconds := _between_s(saved[first], saved[last])) is not None:
                yield seconds / (last - first)
                found += 1
                if found >= SAMPLES:
                    return


def _workload(item: Item) -> tuple[object, ...]:
    return (item.kind, *(item.config.get(key) for key in WORKLOAD))


def _device(fold: Fold, item_id: str, key: Key) -> str:
    start = fold.item(item_id).attempts[key].start
    return start.device if start is not None else ""


def _saved_walls(fold: Fold, item_id: str, key: Key) -> dict[int, str]:
    """Round -> when this attempt saved it, by its worker's clock."""
    return {ckpt.round: ckpt.wall for ckpt in fold.item(item_id).generations.values() if ckpt.key == key}


def _own_rounds_s(fold: Fold, item_id: str, key: Key) -> list[float]:
    saved = _saved_walls(fold, item_id, key)
    spans = (_between_s(saved[round_ - 1], saved[round_]) for round_ in sorted(saved) if round_ - 1 in saved)
    return [span for span in spans if span is not None]


def _pace_s(fold: Fold, item_id: str, owner: Key, beat: Beat) -> float:
    """Seconds that a round takes now: of the latest ones, or of the present one if it has lasted longer."""
    recent = _own_rounds_s(fold, item_id, owner)[-RECENT_ROUNDS:]
    saved = _saved_walls(fold, item_id, owner)
    start = fold.item(item_id).attempts[owner].start
    began = saved[max(saved)] if saved else start.wall if start is not None else ""
    return max(median(recent) if recent else 0.0, _between_s(began, beat.wall) or 0.0)


def median(values: Sequence[float]) -> float:
    """The middle one. (The standard library's brings along more modules than a status line should load.)"""
    ordered = sorted(values)
    half = len(ordered) // 2
    return ordered[half] if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) / 2


def _between_s(one: str, other: str) -> float | None:
    then, later = moment(one), moment(other)
    return None if then is None or later is None else max(0.0, (later - then).total_seconds())


# An item that nobody has


def free(item: Item, fold: Fold, crew: Mapping[str, Machine], timing: Timing, now: datetime) -> Condition:
    """What an item waits for that nobody has. The first that holds: no machine, an order, a back-off, a crash, a worker."""
    lacking = {machine.id: lacks(item, fold, machine) for machine in crew.values()}
    able = [machine for machine in crew.values() if not lacking[machine.id]]
    awake = [machine for machine in able if machine.alive]
    if crew and not awake and (not able or any(machine.alive for machine in crew.values())):
        return Condition("no-machine", _who_could(item, crew, able, lacking))
    orders = {machine.order for machine in awake or able} or {fold.order_for("")}
    if "resume" not in orders:
        return Condition("paused" if "pause" in orders else "draining")
    if (left := _backing_off_s(fold, item.id, timing, now)) > 0:
        return Condition("retry-wait", f"it is tried again in ~{in_words(left)}", left)
    last = last_key(fold, item.id)
    if last is not None and ending(fold, item.id, last) == "crashed":
        return Condition("crashed", "its process ended without a word")
    return Condition("pending")


def lacks(item: Item, fold: Fold, machine: Machine) -> str:
    """What the item needs and the machine has not, or why it could not run it; "" if nothing is known to be in the way."""
    if item.science_version != SCIENCE_VERSION:
        return f"it needs fedspec with science version {item.science_version}"
    missing = [need for need in item.needs if need not in machine.offers]
    if missing:
        return f"it needs {named_needs(missing)}"
    failures = fold.item(item.id).failures("capability") if item.id in fold.items else ()
    refused = [fail for fail in failures if machine_of(fail.worker) == machine.id]
    return one_line(refused[-1].reason, MAX_REASON).rstrip(".") if refused else ""


def _who_could(item: Item, crew: Mapping[str, Machine], able: list[Machine], lacking: Mapping[str, str]) -> str:
    """Why no machine that is here can run it."""
    nobody = [need for need in item.needs if not any(need in machine.offers for machine in crew.values())]
    if able:
        what = f"it needs {'what' if not item.needs else named_needs(item.needs) + ', which'}"
        return f"{what} only {listed([f'{machine.name} ({seen(machine)})' for machine in able])} can offer"
    if nobody:
        return f"it needs {named_needs(nobody)}, which no machine that took part can offer"
    return f"no machine that took part can run it: {'; '.join(sorted(set(lacking.values())))}"


def named_needs(needs: Sequence[str]) -> str:
    """What an item needs, in words."""
    return one_line(" and ".join(need.replace("machine:", "the machine ") for need in needs), MAX_REASON)


def seen(machine: Machine) -> str:
    """When the machine was last seen, in words."""
    if machine.alive:
        return "here now"
    ago = "at some time" if machine.age_s is None else f"~{in_words(machine.age_s)} ago"
    return f"left {ago}" if machine.left else f"last seen {ago}"


def succession(others: Iterable[Machine], what: str, due_s: float | None) -> str:
    """Who takes over ``what`` a silent worker has, and when, as a clause; "" if nobody is there who would."""
    willing = [machine for machine in others if machine.alive and machine.order == "resume"]
    idle = [machine for machine in willing if machine.idle]
    names = [machine.name for machine in idle or willing]
    if not names:
        return ""
    who = names[0] if len(names) == 1 else "another machine"
    when = f"in ~{in_words(due_s)}" if due_s else "at any moment"
    return f"{who} takes {what} over {when if idle else 'when it has finished its own item'}"


def _backing_off_s(fold: Fold, item_id: str, timing: Timing, now: datetime) -> float:
    """About how long until a transient failure is tried again; each worker counts from when it heard of it."""
    failures = fold.item(item_id).failures("transient")
    if not failures:
        return 0.0
    age = elapsed_s(failures[-1].wall, now)
    return 0.0 if age is None else backoff_s(len(failures)) * timing.scale - age


# What has become of attempts


def keys(fold: Fold, item_id: str) -> list[Key]:
    """The attempts that count, oldest first."""
    state = fold.item(item_id)
    limit = state.limit
    return sorted(key for key in state.attempts if key[0] <= limit)


def last_key(fold: Fold, item_id: str) -> Key | None:
    """The latest attempt, None if nobody ever claimed the item."""
    return max(keys(fold, item_id), default=None)


def ending(fold: Fold, item_id: str, key: Key) -> str:
    """How an attempt ended, in a word: ``done yielded failed crashed left retired released cancelled superseded``, "" if it
    still counts."""
    state, worker = fold.item(item_id), fold.workers.get(key[1])
    made = state.attempts[key]
    verdicts = {
        "done": key in state.done,
        "failed": isinstance(made.ended, Fail),
        "yielded": made.ended is not None,
        "crashed": key[1] in fold.closed,
        "left": worker is not None and worker.bye,
        "retired": fold.retired(key[1]),
        "released": key[0] <= state.released,
        "cancelled": cancelled(state),
        "superseded": key not in fold.live(item_id) if fold.role(item_id, key) else fold.owner(item_id) != key,
    }
    return next((word for word, holds in verdicts.items() if holds), "")

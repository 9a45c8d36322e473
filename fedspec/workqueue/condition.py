"""How an item really is, as one reader sees it: who has it and how well that goes, or what it waits for.

Pure, and for display only: ages are by wall clocks, which decide nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from fedspec.plan import SCIENCE_VERSION, Item
from fedspec.workqueue.fold import Fold, Key
from fedspec.workqueue.liveness import Timing
from fedspec.workqueue.pace import Paces
from fedspec.workqueue.records import Fail, machine_of
from fedspec.workqueue.rules import backoff_s
from fedspec.workqueue.store import Beat
from fedspec.workqueue.wording import MAX_REASON, clause, elapsed_s, in_words, listed, one_line

# A round that takes so many times what it usually takes is slow; below a few beats nobody would notice.
SLOW_FACTOR, SLOW_BEATS = 3.0, 3.0
# No step for so many usual rounds is a stall, and never before a silent worker would be given up. Where nothing is known of
# the usual pace, the first step may take long: it may fetch data.
STALLED_ROUNDS, STALLED_UNKNOWN_S = 2.0, 1800.0


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
        items: those that its live workers train and have; ``idle`` whether one of these workers trains none.
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
    # In the order in which they came: in whichever order their journals were read, the same is told.
    present = ((state.hello.lam, worker) for worker, state in fold.workers.items() if state.hello is not None)
    for _, worker in sorted(present):
        if not fold.retired(worker):
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
        tuple(beats[worker].running for worker in awake if worker in beats and _holds(fold, worker, beats[worker].running)),
        any(worker not in beats or not beats[worker].running for worker in awake),
    )


def _holds(fold: Fold, worker: str, item_id: str) -> bool:
    """Whether a claim of the worker on what its last beat speaks of still stands: the worker may be dead since."""
    return any(author == worker for _, author in fold.live(item_id))


def last_sign_s(fold: Fold, beats: Mapping[str, Beat], worker: str, now: datetime) -> float | None:
    """Seconds since the worker's last beat, or its first word if no beat is here."""
    state, beat = fold.workers.get(worker), beats.get(worker)
    walls = [beat.wall if beat else "", state.hello.wall if state and state.hello else ""]
    ages = [age for wall in walls if (age := elapsed_s(wall, now)) is not None]
    return min(ages, default=None)


# An item that somebody has


def held(item: Item, owner: Key, paces: Paces, beat: Beat | None, age_s: float | None, timing: Timing) -> Condition:
    """How it goes with an item, from its owner's last beat, ``age_s`` seconds ago."""
    if age_s is not None and age_s > quiet_s(timing):
        return Condition("stale", f"it has not been seen for ~{in_words(age_s)}", max(0.0, timing.dead - age_s))
    if beat is None or beat.running != item.id:
        return Condition("running")
    usual = paces.usual_s(item, owner)
    patience = max(timing.dead, STALLED_UNKNOWN_S * timing.scale if usual is None else STALLED_ROUNDS * usual)
    if beat.idle > patience:
        known = "" if usual is None else f" (a whole round usually takes ~{in_words(usual)})"
        return Condition("stalled", f"nothing has moved for ~{in_words(beat.idle)}{known}")
    pace = paces.present_s(item.id, owner, beat)
    if usual is not None and pace > SLOW_FACTOR * usual and pace - usual > SLOW_BEATS * timing.beat:
        return Condition("slow", f"a round takes ~{in_words(pace)} (usually ~{in_words(usual)} on that machine)")
    return Condition("running")


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
    failures = fold.item(item.id).failures("capability")
    refused = [fail for fail in failures if machine_of(fail.worker) == machine.id]
    return clause(refused[-1].reason) if refused else ""


def _who_could(item: Item, crew: Mapping[str, Machine], able: list[Machine], lacking: Mapping[str, str]) -> str:
    """Why no machine that is here can run it."""
    nobody = [need for need in item.needs if not any(need in machine.offers for machine in crew.values())]
    if nobody:
        return f"it needs {named_needs(nobody)}, which no machine that took part can offer"
    others = [f"{machine.name} ({seen(machine)})" for machine in able]
    tried = {id_: why for id_, why in lacking.items() if why and all(need in crew[id_].offers for need in item.needs)}
    if able and tried:
        # Whoever has not refused it since the last retry may refuse it again.
        return f"it could not run on {_by_reason(crew, tried)}. {listed(others)} may try it"
    if able:
        return f"it needs {named_needs(item.needs)}, which only {listed(others)} can offer"
    reasons = set(lacking.values())
    return f"no machine that took part can run it: {reasons.pop() if len(reasons) == 1 else _by_reason(crew, lacking)}"


def _by_reason(crew: Mapping[str, Machine], lacking: Mapping[str, str]) -> str:
    """Machines with what was in the way there: ``Mac and PC: no disk; Windows: no data``."""
    reasons = sorted(set(lacking.values()))
    return "; ".join(f"{listed([crew[id_].name for id_ in lacking if lacking[id_] == why])}: {why}" for why in reasons)


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


def last_key(fold: Fold, item_id: str) -> Key | None:
    """The latest attempt, None if nobody ever claimed the item."""
    return max(fold.item(item_id).counted(), default=None)


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
        "cancelled": state.cancelled,
        "superseded": key not in fold.live(item_id) if fold.role(item_id, key) else fold.owner(item_id) != key,
    }
    return next((word for word, holds in verdicts.items() if holds), "")

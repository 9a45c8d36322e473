"""Why an item is where it is, in plain words: what its state is, who had it before, what it waits for, what changes it.

Pure: a `Reader` is all it goes by.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from fedspec.plan import Item
from fedspec.workqueue.condition import Machine, ending, lacks, last_key, seen, succession
from fedspec.workqueue.fold import MAX_DEATHS, Key
from fedspec.workqueue.gangs import gang_of
from fedspec.workqueue.hindrances import stranger
from fedspec.workqueue.progress import ItemLine, Reader
from fedspec.workqueue.records import Yield
from fedspec.workqueue.rules import scope
from fedspec.workqueue.wording import MAX_TIME, count, in_words, listed, one_line, sentence, times, told, typed

# States in which it matters what comes first.
OPEN = ("pending", "running", "stale")
Said = tuple[str, str, tuple["Fix", ...]]  # what, next, fixes


@dataclass(frozen=True, slots=True)
class Past:
    """One attempt, for people.

    Attributes:
        machine: who made it; ``claimed_at`` by whose clock.
        start: the first round it trained, 0 if it did not begin; ``saved`` the last that it saved, 0 if none.
        how: `condition.ending`; ``end`` is that in words.
    """

    attempt: int
    machine: str
    worker: str
    claimed_at: str
    start: int
    saved: int
    how: str
    end: str


@dataclass(frozen=True, slots=True)
class Fix:
    """A command that changes something, and the words that lead to it: ``To undo that`` or ``If it is gone for good``."""

    lead: str
    command: str

    def __str__(self) -> str:
        return f"{self.lead}: {self.command}"


@dataclass(frozen=True, slots=True)
class Explanation:
    """A paragraph a matter.

    Attributes:
        what: the state, who has the item and since when.
        past: every attempt so far, oldest first.
        next: what it waits for, or what happens by itself, "" if nothing.
        fixes: what changes it, the best first.
    """

    line: ItemLine
    what: str
    past: tuple[Past, ...] = ()
    next: str = ""
    fixes: tuple[Fix, ...] = ()

    @property
    def why(self) -> str:
        """All but the past, in one paragraph."""
        return " ".join(part for part in (self.what, self.next, *map(str, self.fixes)) if part)


def explain(reader: Reader, item: Item) -> Explanation:
    """Everything there is to say of an item."""
    line = reader.line(item, reader.names[item.id])
    what, next_, fixes = _sentences(reader, item, line)
    if line.priority and line.state in OPEN:
        next_ = _join(next_, f"It has priority {line.priority} (0 is usual).")
    return Explanation(line, what, tuple(past(reader, item)), next_, fixes)


def past(reader: Reader, item: Item) -> Iterator[Past]:
    """The attempts at an item, oldest first."""
    state = reader.fold.item(item.id)
    for key in reader.fold.item(item.id).counted():
        made = state.attempts[key]
        how = ending(reader.fold, item.id, key)
        yield Past(
            attempt=key[0],
            machine=reader.name(key[1]),
            worker=key[1],
            claimed_at=one_line(made.claimed_at, MAX_TIME),
            start=made.start.round + 1 if made.start is not None else 0,
            saved=made.saved,
            how=how,
            end=_end(reader, item, key, how),
        )


def _end(reader: Reader, item: Item, key: Key, how: str) -> str:
    made = reader.fold.item(item.id).attempts[key]
    if made.ended is not None and how in ("yielded", "failed"):
        said = told(made.ended.reason, reader.name)
        # "<experiment> was taken over by ..." says the name once more.
        # As all that is past: "taken over by ...", not "was taken over by ...".
        clause = said.removeprefix(f"{reader.names[item.id]} ").removeprefix(f"{item.exp} ")
        return (clause.removeprefix("was ").removeprefix("is ") if how == "yielded" else clause) or how
    crashed = "its process ended without a word"
    words = {
        "done": "done",
        "crashed": crashed,
        "left": "its worker left",
        "retired": "its machine was retired",
        "released": "released by hand",
        "cancelled": "cancelled",
        "superseded": "went silent, and another took it over" if key[0] < reader.fold.item(item.id).last_attempt() else "rival",
        "": crashed if key[1] in reader.crashed else "none yet",
    }
    return words.get(how, how)


def _sentences(reader: Reader, item: Item, line: ItemLine) -> Said:
    """What is said of an item that somebody has or had."""
    name = line.experiment
    release = f"fedspec queue release {name}"
    another = Fix("To let another worker have it", release)
    match line.condition:
        case "sealed" | "done":
            return _finished(reader, item, line)
        case "failed":
            what = f"{name} has failed for good{_ago(reader, _failed_at(reader, item))}: {line.why}."
            return what, _saved(line), (Fix("To try it again", f"fedspec queue retry {name}"),)
        case "cancelled":
            _, _, author, wall = reader.fold.item(item.id).cancel
            by = reader.name(author)
            what = f"{name} was cancelled{_ago(reader, wall)}{f', by {by}' if by != author else ''}."
            return what, _saved(line), (Fix("To undo that", f"fedspec queue resume {name}"),)
        case "running" | "slow":
            what = f"{name} is {line.condition}: {_holder(reader, line)}{_doing(reader, line)}."
            next_ = _join(f"{sentence(line.why)}." if line.why else "", _saved(line), _left(line), _roles(reader, item))
            return what, next_, (another,) if line.condition == "slow" else ()
        case "stalled":
            what = f"{name} has stalled: {_holder(reader, line)}. {sentence(line.why)}."
            return what, _saved(line), (another,)
        case "stale":
            what = (
                f"{name} has a silent worker: {_holder(reader, line)}, and was last seen ~{in_words(line.beat_age_s or 0)} ago."
            )
            next_ = _join(_saved(line), _heirs(reader, item, line))
            return what, next_, (Fix("To let it be taken over at once", release),)
        case "crashed" if line.state == "stale":
            what = f"{name} is without its worker: {_holder(reader, line)}, and its process ended without a word."
            next_ = f"This machine's next worker takes it over at once{_from(line)}."
            return what, next_, (Fix("To start one", "fedspec work"), Fix("To let another machine have it at once", release))
    return _waiting(reader, item, line)


def _finished(reader: Reader, item: Item, line: ItemLine) -> Said:
    done = reader.fold.canonical(item.id)
    ago = _ago(reader, done.wall) if done is not None else ""
    accuracy = "" if line.accuracy is None else f", accuracy {line.accuracy:.4f}"
    what = f"{line.experiment} is {line.condition}: {line.machine} finished it in attempt {line.attempt}{ago}{accuracy}."
    if line.condition == "sealed":
        return what, "Every machine knows the result, and it never changes again.", ()
    missing = reader.unconfirmed_by(item.id)
    if not missing:
        return what, "Every machine has confirmed the result; a worker seals it as soon as one looks.", ()
    known = [reader.crew[machine] for machine in missing if machine in reader.crew]
    away = sorted((machine for machine in known if not machine.alive), key=lambda machine: -(machine.age_s or 0))
    # Those that are here confirm within moments.
    names = [f"{machine.name} ({seen(machine)})" for machine in away or known]
    strangers = [machine for machine in missing if machine not in reader.crew]
    names += map(stranger, strangers)
    has, does = ("has", "It does") if len(names) == 1 else ("have", "They do")
    next_ = f"The result is provisional: {listed(names)} {has} not confirmed it yet."
    if away:
        next_ += f" {does} as soon as fedspec runs there and the folder has brought the news."
    return (
        what,
        next_,
        tuple(
            Fix(f"If {machine.name} is gone for good", f"fedspec queue retire {typed(machine.name, machine.id)}")
            for machine in away
        )
        + tuple(Fix(f"If {machine} is gone for good", f"fedspec queue retire {machine}") for machine in strangers),
    )


def _waiting(reader: Reader, item: Item, line: ItemLine) -> Said:
    """An item that nobody has."""
    name, fold = line.experiment, reader.fold
    here = [machine for machine in reader.crew.values() if machine.alive]
    match line.condition:
        case "no-machine":
            what = f"{name} waits for a machine: {line.why}."
            run = Fix("To have it run, on a machine that can", "fedspec work")
            again = Fix("To try it again where it could not run, once that is mended", f"fedspec queue retry {name}")
            refused = (again,) if fold.item(item.id).failures("capability") else ()
            return what, _saved(line), (*refused, run, Fix("To do without it", f"fedspec queue cancel {name}"))
        case "paused" | "draining":
            wanted = "pause" if line.condition == "paused" else "drain"
            # Whoever is here and could take it comes before those that are away.
            orders = [order for machine in here if (order := reader.order_of(machine.id))] + reader.orders()
            order = next(order for order in orders if order.order == wanted)
            return f"{name} waits: {order.clause}.", _saved(line), (Fix("To let it go on", order.undo),)
        case "retry-wait":
            fails = fold.item(item.id).setbacks()
            what = f"{name} waits before it is tried again: it failed {times(len(fails))}, last with "
            what += f"{told(fails[-1].reason, reader.name)}{_ago(reader, fails[-1].wall)} on {reader.name(fails[-1].worker)}."
            next_ = f"It is tried again in ~{in_words(line.due_s or 0)}{_from(line)}."
            now = Fix("To try it now", f"fedspec queue retry {name}")
            return what, next_ if here else f"{next_} No machine is working.", (now,)
        case "crashed":
            _, last = last_key(fold, item.id) or (0, "")
            what = f"{name} waits for a worker: the last one that had it, on {reader.name(last)}, ended without a word."
        case _:
            what = f"{name} is waiting for a worker."
    deaths, faults = len(fold.deaths(item.id)), fold.item(item.id).failures("code")
    return (
        what,
        _join(
            _saved(line),
            f"It has ended {count(deaths, 'worker')}; after {MAX_DEATHS} in a row it counts as failed." if deaths else "",
            f"It failed {times(len(faults))}, last: {told(faults[-1].reason, reader.name)}." if faults else "",
            _queueing(reader, item, line, here),
            _roles(reader, item),
        ),
        () if here else (Fix("To start one", "fedspec work"),),
    )


def _queueing(reader: Reader, item: Item, line: ItemLine, here: list[Machine]) -> str:
    """What comes before it, and who might take it."""
    if not here:
        return "No machine is working."
    order = [other for other in scope(reader.items, None, reader.fold) if reader.fold.status(other.id) == "pending"]
    # As workers choose: of equal priority what has a saved round comes first.
    order.sort(key=lambda other: (-reader.fold.priority(other.id), not reader.fold.item(other.id).generations))
    before = [other.id for other in order].index(item.id) if item in order else 0
    able = [machine for machine in here if not lacks(item, reader.fold, machine)]
    does = {"pause": "is paused", "drain": "takes nothing new"}
    busy = [
        f"{machine.name} {does.get(machine.order) or f'is on {listed([reader.names.get(i, i) for i in machine.items])}'}"
        for machine in able
        if machine.items or machine.order in does
    ]
    place = f"{count(before, 'item')} {'comes' if before == 1 else 'come'} before it" if before else "It is next"
    return f"{place}{f': {listed(busy)}' if busy else ''}."


def _roles(reader: Reader, item: Item) -> str:
    """Of an item that several workers run together, who has which role."""
    if not item.members:
        return ""
    gang = gang_of(reader.fold, item)
    has = [f"{reader.name(worker)} has {role}" for role, (_, worker) in sorted(gang.holders.items())]
    if not gang.open:
        return f"Its {count(len(item.members), 'worker')} are there: {listed(has)}."
    missing = f"nobody has {listed([role.name for role in gang.open])}"
    return f"It needs {count(len(item.members), 'worker')} at once: {listed([*has, missing])} yet."


def _heirs(reader: Reader, item: Item, line: ItemLine) -> str:
    others = [machine for machine in reader.crew.values() if machine.alive and not lacks(item, reader.fold, machine)]
    if heir := succession(others, "it", line.due_s):
        return f"{sentence(heir)}{_from(line)}."
    if others:
        return f"{listed([machine.name for machine in others])} could take it over, and must not: see 'fedspec queue why'."
    return f"Nobody else who could run it is working; a worker that joins takes it over after a while{_from(line)}."


def _holder(reader: Reader, line: ItemLine) -> str:
    made = reader.fold.item(line.id).attempts[line.attempt, line.worker]
    since = reader.age_s(made.claimed_at)
    ago = f" for ~{in_words(since)}" if since is not None else ""
    return f"{line.machine} has had it{ago} (attempt {line.attempt})"


def _doing(reader: Reader, line: ItemLine) -> str:
    beat = reader.beats.get(line.worker)
    if reader.fold.item(line.id).attempts[line.attempt, line.worker].start is None:
        return " and gets ready"
    if beat is None or beat.running != line.id:
        return ""
    clients = f", {one_line(beat.clients, MAX_TIME)} clients" if beat.clients else ""
    return f" and is in round {min(line.round + 1, line.rounds)} of {line.rounds}{clients}"


def _saved(line: ItemLine) -> str:
    if not line.round:
        return ""
    accuracy = "" if line.accuracy is None else f", accuracy {line.accuracy:.4f}"
    return f"Round {line.round} of {line.rounds} is saved{accuracy}."


def _left(line: ItemLine) -> str:
    return f"About {in_words(line.eta_s)} are left." if line.eta_s is not None else ""


def _from(line: ItemLine) -> str:
    return f", from round {line.round + 1} of {line.rounds}; nothing that was saved is lost" if line.round else ", from round 1"


def _failed_at(reader: Reader, item: Item) -> str:
    state = reader.fold.item(item.id)
    walls = [(made.ended.lam, made.ended.wall) for made in state.attempts.values()
             if made.ended is not None and not isinstance(made.ended, Yield)]  # fmt: skip
    return max(walls, default=(0, ""))[1]


def _ago(reader: Reader, wall: str) -> str:
    age = reader.age_s(wall)
    return "" if age is None else f" ~{in_words(age)} ago"


def _join(*sentences: str) -> str:
    return " ".join(sentence for sentence in sentences if sentence)

"""What keeps the queue from going on, and what a person can do about each: the most urgent first.

Pure: the lines of the table and what is known of the machines come in as values.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fedspec.folders import original_of
from fedspec.workqueue.condition import Machine, quiet_s, seen, succession
from fedspec.workqueue.liveness import Timing
from fedspec.workqueue.wording import count, in_words, listed, one_line, resuming, sentence, typed

if TYPE_CHECKING:
    from fedspec.workqueue.progress import ItemLine

# Conditions of items that somebody could work on.
OPEN = ("pending", "crashed", "stale", "retry-wait", "no-machine", "paused", "draining")
SHOWN_NAMES = 3
LIST = "work_queue.json"  # what people write into it, and into its copies, counts


@dataclass(frozen=True, slots=True)
class Hindrance:
    """One thing that is in the way.

    Attributes:
        about: a word for programs: ``paused draining nobody silent crashed stalled needs failed unconfirmed damaged edits
            copies``.
        text: what it is, in a sentence or two without the last full stop.
        fix: a command, or a sentence, without the full stop.
        items: the experiments that it is about.
    """

    about: str
    text: str
    fix: str
    items: tuple[str, ...] = ()

    def line(self) -> str:
        """All in one line."""
        return f"{self.text}; now: {self.fix}" if self.fix.startswith("fedspec ") else f"{self.text}. {self.fix}."


@dataclass(frozen=True, slots=True)
class Order:
    """What a person wants of a machine (id and name, "" for all): ``pause`` or ``drain``, who said so and how long ago.

    ``but``: of an order for all, the names of the machines of which something else has been wanted since.
    """

    machine: str
    name: str
    order: str
    by: str
    age_s: float | None
    but: tuple[str, ...] = ()

    @property
    def clause(self) -> str:
        """What holds for whom, and since when."""
        who = self.name if self.machine else f"all but {listed(self.but)}" if self.but else "every machine"
        verb = "are" if self.but else "is"
        what = "paused" if self.order == "pause" else "told to take nothing new"
        since = "" if self.age_s is None else f", ordered ~{in_words(self.age_s)} ago"
        return f"{who} {verb} {what}{since}" + (f" by {self.by}" if self.by and since else "")

    @property
    def undo(self) -> str:
        """The command that takes it back."""
        return resuming(self.name, self.machine)


def hindrances(
    lines: Sequence[ItemLine],
    crew: Mapping[str, Machine],
    orders: Sequence[Order],
    unconfirmed: Mapping[str, Sequence[str]],
    timing: Timing,
    mine: str = "",
    damaged: Sequence[str] = (),
    copies: Sequence[str] = (),
) -> tuple[Hindrance, ...]:
    """Everything that is in the way.

    Args:
        unconfirmed: machine id -> experiments whose result it has not confirmed; only of machines that are away.
        mine: the reader's own machine, where it is known that a process of it crashed.
        damaged: what is wrong with files, a sentence each.
        copies: names of conflict copies.
    """
    return (
        *_orders(orders, lines),
        *_nobody(lines, crew),
        *_silent(lines, crew, timing),
        *_crashed_here(lines, crew),
        *_stalled(lines),
        *_needs(lines),
        *_failed(lines),
        *_unconfirmed(unconfirmed, crew, mine),
        *_files(damaged, copies),
    )


def _orders(orders: Sequence[Order], lines: Sequence[ItemLine]) -> Iterator[Hindrance]:
    left = [line for line in lines if line.condition in OPEN]
    for order in orders if left else ():
        yield Hindrance("paused" if order.order == "pause" else "draining", sentence(order.clause), order.undo)


def _nobody(lines: Sequence[ItemLine], crew: Mapping[str, Machine]) -> Iterator[Hindrance]:
    waiting = tuple(line.experiment for line in lines if line.condition in OPEN)
    if waiting and not any(machine.alive for machine in crew.values()):
        does = "waits" if len(waiting) == 1 else "wait"
        yield Hindrance("nobody", f"No machine is working; {count(len(waiting), 'item')} {does}", "fedspec work", waiting)


def _silent(lines: Sequence[ItemLine], crew: Mapping[str, Machine], timing: Timing) -> Iterator[Hindrance]:
    held: dict[str, list[ItemLine]] = {}
    for line in lines:
        if line.condition == "stale":
            held.setdefault(line.machine, []).append(line)
    for machine, lost in held.items():
        ages = [line.beat_age_s for line in lost if line.beat_age_s is not None]
        names = tuple(line.experiment for line in lost)
        awake = any(other.alive and other.name == machine for other in crew.values())
        who = f"A worker of {machine}" if awake else machine
        text = f"{who} has not been seen for ~{in_words(min(ages, default=quiet_s(timing)))}"
        what = "its item" if len(names) == 1 else f"its {len(names)} items"
        due = max((line.due_s for line in lost if line.due_s is not None), default=0.0)
        heir = sentence(succession(crew.values(), what, due))
        ending = f". {heir}" if heir else f" and has {what}"
        yield Hindrance("silent", text + ending, f"fedspec queue release {some(names)}", names)


def _crashed_here(lines: Sequence[ItemLine], crew: Mapping[str, Machine]) -> Iterator[Hindrance]:
    """Workers of the reader's own machine, known to be dead before anybody has said so."""
    for line in lines:
        if line.condition == "crashed" and line.state == "stale":
            alive = any(machine.alive and machine.name == line.machine for machine in crew.values())
            heir = "its other worker takes it over at once" if alive else "its next worker takes it over at once"
            text = f"{line.machine} crashed at {line.experiment} after round {line.round}; {heir}"
            yield Hindrance("crashed", text, "fedspec work", (line.experiment,))


def _stalled(lines: Sequence[ItemLine]) -> Iterator[Hindrance]:
    for line in lines:
        if line.condition == "stalled":
            text = f"{line.machine} has stalled on {line.experiment}: {line.why}"
            yield Hindrance("stalled", text, f"fedspec queue release {line.experiment}", (line.experiment,))


def _needs(lines: Sequence[ItemLine]) -> Iterator[Hindrance]:
    by_why: dict[str, list[str]] = {}
    for line in lines:
        if line.condition == "no-machine":
            by_why.setdefault(line.why, []).append(line.experiment)
    for why, names in by_why.items():
        text = f"{listed(names, SHOWN_NAMES)} {'waits' if len(names) == 1 else 'wait'} for a machine that can: {why}"
        yield Hindrance("needs", text, "fedspec work", tuple(names))


def _failed(lines: Sequence[ItemLine]) -> Iterator[Hindrance]:
    lost = [line for line in lines if line.condition == "failed"]
    names = tuple(line.experiment for line in lost)
    if len(lost) == 1:
        yield Hindrance("failed", f"{names[0]} failed for good: {lost[0].why}", f"fedspec queue retry {names[0]}", names)
    elif lost:
        text = f"{len(lost)} items failed for good, {names[0]} for one: {lost[0].why}"
        yield Hindrance("failed", text, f"fedspec queue retry {some(names)}", names)


def _unconfirmed(unconfirmed: Mapping[str, Sequence[str]], crew: Mapping[str, Machine], mine: str) -> Iterator[Hindrance]:
    """Results that are provisional; machines that the same results wait for are named together."""
    together: dict[tuple[str, ...], list[str]] = {}
    for machine_id, names in unconfirmed.items():
        together.setdefault(tuple(names), []).append(machine_id)
    for names, ids in together.items():
        results = f"{count(len(names), 'result')} {'waits' if len(names) == 1 else 'wait'}"
        known = [crew[machine_id] for machine_id in ids if machine_id in crew]
        for machine in (machine for machine in known if machine.alive):
            text = f"{results} for what {machine.name} had said, and the folder has lost"
            fix = (
                f"Restart fedspec there; if that does not bring it back: fedspec queue retire {typed(machine.name, machine.id)}"
            )
            yield Hindrance("unconfirmed", text, fix, names)
        known = [machine for machine in known if not machine.alive]
        lost = sorted((machine for machine in known if machine.id != mine), key=lambda machine: -(machine.age_s or 0))
        if strangers := sorted(machine_id for machine_id in ids if machine_id not in crew):
            text = f"{results} for {listed([stranger(machine_id) for machine_id in strangers])}"
            retire = f"fedspec queue retire {strangers[0]}"
            fix = f"Let the folder finish syncing; if {'it' if len(strangers) == 1 else 'one'} is gone for good: {retire}"
            yield Hindrance("unconfirmed", text, fix, names)
        if lost:
            text = f"{results} for {listed([f'{machine.name} ({seen(machine)})' for machine in lost])} to confirm"
            retire = f"fedspec queue retire {typed(lost[0].name, lost[0].id)}"
            yield Hindrance("unconfirmed", text, f"If {'it' if len(lost) == 1 else 'one'} is gone for good: {retire}", names)
        elif known:
            yield Hindrance("unconfirmed", f"{results} for this {known[0].name}, where a worker crashed", "fedspec work", names)


def _files(damaged: Sequence[str], copies: Sequence[str]) -> Iterator[Hindrance]:
    if damaged:
        more = f" (and {len(damaged) - 1} more)" if len(damaged) > 1 else ""
        yield Hindrance("damaged", damaged[0].rstrip(".") + more, "fedspec doctor")
    lists = [name for name in copies if original_of(name) == LIST]
    others = [name for name in copies if name not in lists]
    if lists:
        wait = "1 conflict copy waits" if len(lists) == 1 else f"{len(lists)} conflict copies wait"
        text = (
            f"{wait} for a worker to take in what {'it says' if len(lists) == 1 else 'they say'}, {one_line(lists[0])} for one"
        )
        yield Hindrance("edits", text, "fedspec work")
    if others:
        lie = "1 conflict copy lies" if len(others) == 1 else f"{len(others)} conflict copies lie"
        yield Hindrance("copies", f"{lie} in the folder, {one_line(others[0])} for one", "fedspec doctor")


def stranger(machine_id: str) -> str:
    """A machine of which nothing is here: somebody has read of it, or did so in an earlier state of the folder."""
    return f"machine {machine_id} (its journal has not arrived here yet)"


def some(names: Sequence[str]) -> str:
    """Names to put after a command, not all of very many."""
    return " ".join(names[:SHOWN_NAMES]) + (" ..." if len(names) > SHOWN_NAMES else "")

"""What machines are called for people, and which one a name means: a pure function of what they said when they came."""

from __future__ import annotations

from collections import Counter

from fedspec.workqueue.fold import Fold
from fedspec.workqueue.records import machine_of
from fedspec.workqueue.wording import one_line

MAX_MACHINE_NAME = 40
RETIRED = " (retired)"


def given_names(fold: Fold) -> dict[str, str]:
    """Machine id -> what it was called when it came, in the order in which they came; several may have one name."""
    names: dict[str, str] = {}
    hellos = sorted(((s.hello.lam, worker, s.hello) for worker, s in fold.workers.items() if s.hello), key=lambda h: h[:2])
    for _, worker, hello in hellos:
        names.setdefault(machine_of(worker), one_line(hello.name, MAX_MACHINE_NAME))
    return names


def display_names(fold: Fold) -> dict[str, str]:
    """Machine id -> the name people read; of several machines with one name the later ones get a number.

    A machine that was retired keeps its number, so that the others keep theirs, and is called retired.
    """
    names: dict[str, str] = {}
    used: set[str] = set()
    numbers: Counter[str] = Counter()
    for machine, name in given_names(fold).items():
        suffix = RETIRED if machine in fold.retirements else ""
        # Thousands may have one name: go on from the last number of it.
        numbers[name] += 1
        while used & {shown := _numbered(name, numbers[name]), shown + suffix}:
            numbers[name] += 1
        names[machine] = shown + suffix
        used |= {shown, shown + suffix}
    return names


def machine_called(fold: Fold, name: str) -> str | None:
    """The id of the machine with this id or name, None if there is none.

    Those that take part come before those that were retired: one that lived on has another id, and a number behind its name.
    """
    asked, shown, given = name.casefold(), display_names(fold), given_names(fold)
    here = [machine for machine in shown if machine not in fold.retirements]
    namesakes = [machine for machine in here if given[machine].casefold() == asked]
    found = [
        *(machine for machine in shown if machine == asked),
        *(machine for machine in here if shown[machine].casefold() == asked),
        *(namesakes if len(namesakes) == 1 else []),
        *(
            machine
            for machine in shown
            if asked in (shown[machine].casefold(), shown[machine].removesuffix(RETIRED).casefold())
        ),
    ]
    return next(iter(found), None)


def _numbered(name: str, number: int) -> str:
    return name if number == 1 else f"{name} {number}"

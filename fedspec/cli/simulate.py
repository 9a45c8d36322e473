"""``fedspec simulate``: the queue's promises, tried on simulated machines in faulty folders."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from fedspec.cli.console import emit_json, say, stderr
from fedspec.cli.options import JsonOption

if TYPE_CHECKING:
    from fedspec.simulation.campaign import Outcome

PROFILE_NAMES = ("brutal", "dropbox", "icloud", "smb", "syncthing")
MOST_SHOWN = 3
NAIVE_WORDS = {
    "published more than once": "were published more than once",
    "with conflict copies": "left conflict copies",
    "with a wrong result": "have a result that no undisturbed run has",
    "lost": "were lost: no result, or not everywhere",
}


def simulate(
    schedules: Annotated[int, typer.Option("--schedules", min=1, metavar="N", help="How many.")] = 100,
    machines: Annotated[int | None, typer.Option(min=1, max=9, metavar="N", help="Machines in each (default: 2 to 5).")] = None,
    seed: Annotated[int, typer.Option(min=0, metavar="SEED", help="The first schedule's seed; the others follow.")] = 0,
    profile: Annotated[
        str | None, typer.Option(metavar="FOLDER", help=f"One of {', '.join(PROFILE_NAMES)} (default: in turn).")
    ] = None,
    replay: Annotated[int | None, typer.Option(metavar="SEED", help="Show one schedule, event by event.")] = None,
    compare: Annotated[bool, typer.Option("--compare", help="Also run the naive way: a lock and one queue file.")] = False,
    workers: Annotated[
        int | None, typer.Option("--workers", "-n", min=1, metavar="N", help="Processes (default: one a core).")
    ] = None,
    json: JsonOption = False,
) -> None:
    """Try the queue on simulated machines and folders.

    The production code runs in folders that sync late, out of order and in conflict, on machines that crash, sleep and lie
    about the time. A seed gives the same course each time. Exit code 1 if a promise is broken.
    """
    from fedspec.errors import UsageError

    if profile is not None and profile not in PROFILE_NAMES:
        raise UsageError(f"There is no profile {profile}.", f"Use one of {', '.join(PROFILE_NAMES)}.")
    if replay is not None:
        _replay(replay, profile, machines)
        return
    from fedspec.simulation.campaign import run_many

    processes = workers or os.cpu_count() or 1
    seeds = range(seed, seed + schedules)
    outcomes = []
    began = time.monotonic()
    for outcome in _with_progress(run_many(seeds, profile, machines, processes, compare), schedules):
        outcomes.append(outcome)
        if outcome.broken and not json:
            _show_broken(outcome, sum(bool(o.broken) for o in outcomes))
    if json:
        emit_json(_document(outcomes))
    else:
        say(_summary(outcomes, time.monotonic() - began))
    if any(outcome.broken for outcome in outcomes):
        raise typer.Exit(1)


def _replay(seed: int, name: str | None, machines: int | None) -> None:
    from fedspec.simulation.campaign import profile_of
    from fedspec.simulation.invariants import violations
    from fedspec.simulation.schedule import run_schedule

    course = run_schedule(seed, profile_of(seed, name), machines=machines)
    broken = violations(course)
    say(f"Schedule {seed}, {course.profile.name}, {len(course.machines)} machines. Seconds, who, what; ** is a fault.")
    say("\n".join(course.world.trace))
    say("\n".join(broken) if broken else "Every promise held.")
    if broken:
        raise typer.Exit(1)


def _with_progress(outcomes: Iterator[Outcome], total: int) -> Iterator[Outcome]:
    """Show how far it is on a terminal, with an estimate of the time left."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("Schedules"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.description}"),
    )
    with Progress(*columns, console=stderr(), transient=True, disable=not stderr().is_terminal) as bar:
        task = bar.add_task("", total=total)
        broken = 0
        for outcome in outcomes:
            broken += bool(outcome.broken)
            bar.update(task, advance=1, description=f"{broken} broken" if broken else "nothing broken")
            yield outcome


def _show_broken(outcome: Outcome, number: int) -> None:
    if number > MOST_SHOWN:
        return
    say(f"error: schedule {outcome.seed} ({outcome.profile}) broke a promise:", stderr())
    say("\n".join(f"  {text}" for text in outcome.broken[:5]), stderr())
    say("\n".join(f"  {line}" for line in outcome.trace), stderr())
    say(f"  fix: fedspec simulate --replay {outcome.seed} --profile {outcome.profile}", stderr())


def _summary(outcomes: list[Outcome], seconds: float) -> str:
    struck: Counter[str] = sum((o.struck for o in outcomes), Counter())
    broken = sum(bool(o.broken) for o in outcomes)
    repeated, rounds = sum(o.repeated for o in outcomes), sum(o.rounds for o in outcomes)
    lines = [
        f"{len(outcomes)} schedules in {seconds:.0f} s: {broken} broke a promise.",
        f"Rounds trained more than once: {repeated} of {rounds} ({100 * repeated / rounds:.1f} %).",
        "What struck:",
        *_columns(struck),
    ]
    naive: Counter[str] = sum((o.naive for o in outcomes), Counter())
    if naive["items"]:
        again, of = naive["repeated rounds"], naive["rounds"]
        lines += [f"The naive way in the same weather: {again} rounds too many ({100 * again / of:.1f} %); of its items"]
        lines += [
            f"  {naive[name]} of {naive['items']} ({100 * naive[name] / naive['items']:.1f} %) {words}"
            for name, words in NAIVE_WORDS.items()
        ]
    return "\n".join(lines)


def _columns(struck: Counter[str]) -> list[str]:
    cells = [f"{name:<18}{count:>8}" for name, count in sorted(struck.items())]
    return ["  " + "   ".join(cells[row : row + 2]) for row in range(0, len(cells), 2)]


def _document(outcomes: list[Outcome]) -> dict[str, object]:
    return {
        "schedules": len(outcomes),
        "broken": [{"profile": o.profile, "seed": o.seed, "promises": list(o.broken)} for o in outcomes if o.broken],
        "rounds": sum(o.rounds for o in outcomes),
        "repeated_rounds": sum(o.repeated for o in outcomes),
        "struck": dict(sorted(sum((o.struck for o in outcomes), Counter()).items())),
        "naive": dict(sum((o.naive for o in outcomes), Counter())),
    }

"""``fedspec simulate``: the queue's promises, tried on simulated machines in faulty folders."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fedspec.cli.console import emit_json, say, stderr, warn
from fedspec.cli.options import JsonOption, given

if TYPE_CHECKING:
    from collections import Counter

    from fedspec.simulation.campaign import Outcome, Tally
    from fedspec.simulation.ledger import Ledger

PROFILE_NAMES = ("brutal", "dropbox", "icloud", "smb", "syncthing")
MOST_SHOWN = 3
# Where there is no terminal for a bar, a line says so often how far it is.
TELL_EVERY_S = 60.0
NAIVE_WORDS = {
    "published more than once": "were published more than once",
    "with conflict copies": "left conflict copies",
    "with a wrong result": "have a result that no undisturbed run has",
    "lost": "were lost: no result, or not everywhere",
}


def simulate(
    context: typer.Context,
    schedules: Annotated[int, typer.Option("--schedules", min=1, metavar="N", help="How many.")] = 100,
    machines: Annotated[int | None, typer.Option(min=1, max=9, metavar="N", help="Machines in each (default: 2 to 5).")] = None,
    seed: Annotated[int, typer.Option(min=0, metavar="SEED", help="The first schedule's seed; the others follow.")] = 0,
    profile: Annotated[
        str | None, typer.Option(metavar="FOLDER", help=f"One of {', '.join(PROFILE_NAMES)} (default: in turn).")
    ] = None,
    replay: Annotated[int | None, typer.Option(min=0, metavar="SEED", help="Show one schedule, event by event.")] = None,
    compare: Annotated[bool, typer.Option("--compare", help="Also run the naive way: a lock and one queue file.")] = False,
    workers: Annotated[
        int | None, typer.Option("--workers", "-n", min=1, metavar="N", help="Processes (default: one a core).")
    ] = None,
    resume: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Keep what came of each schedule there, and run only those that are not in it."),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Try the queue on simulated machines and folders.

    The production code runs in folders that sync late, out of order and in conflict, on machines that crash, sleep and lie
    about the time. A seed gives the same course each time. Exit code 1 if a promise is broken.

    A long campaign can be cut and begun again with --resume and the same FILE; files of several machines are put together by
    appending one to the other.
    """
    from fedspec.errors import UsageError

    if profile is not None and profile not in PROFILE_NAMES:
        raise UsageError(f"There is no profile {profile}.", f"Use one of {', '.join(PROFILE_NAMES)}.")
    if replay is not None:
        if idle := given(context, "schedules", "seed", "compare", "workers", "resume"):
            raise UsageError(f"--replay shows one schedule; {idle[0]} is for many.", "Use one of them at a time.")
        _replay(replay, profile, machines, json=json)
        return
    from fedspec.simulation.campaign import Tally, run_many
    from fedspec.simulation.ledger import Ledger

    processes = workers or os.cpu_count() or 1
    seeds = range(seed, seed + schedules)
    ledger = Ledger(resume, machines, compare) if resume is not None else None
    known = ledger.read(seeds, profile) if ledger is not None else []
    if ledger is not None and ledger.others:
        warn(f"{ledger.others} lines of {ledger.path} are of other code or other options, and do not count.")
    left = sorted(set(seeds) - {outcome.seed for outcome in known})
    tally, began = Tally(), time.monotonic()
    fresh = _kept(run_many(left, profile, machines, processes, compare), ledger)
    aborted = None
    try:
        for outcome in chain(known, _with_progress(fresh, schedules, len(known))):
            tally.add(outcome)
            if outcome.broken and not json:
                _show_broken(outcome, len(tally.broken))
    except KeyboardInterrupt as interrupt:  # what has been found until then is told
        aborted = interrupt
    if json:
        emit_json(_document(tally))
    elif tally.schedules:
        say(_summary(tally, len(known), time.monotonic() - began))
    if aborted is not None:
        raise aborted
    if tally.broken:
        raise typer.Exit(1)


def _kept(outcomes: Iterable[Outcome], ledger: Ledger | None) -> Iterator[Outcome]:
    for outcome in outcomes:
        if ledger is not None:
            ledger.keep(outcome)
        yield outcome


def _replay(seed: int, name: str | None, machines: int | None, *, json: bool) -> None:
    from fedspec.simulation.campaign import profile_of
    from fedspec.simulation.invariants import violations
    from fedspec.simulation.schedule import run_schedule

    course = run_schedule(seed, profile_of(seed, name), machines=machines)
    broken = violations(course)
    if json:
        about = {"seed": seed, "profile": course.profile.name, "machines": len(course.machines)}
        emit_json({**about, "broken": broken, "trace": course.world.trace})
        if broken:
            raise typer.Exit(1)
        return
    say(f"Schedule {seed}, {course.profile.name}, {len(course.machines)} machines. Seconds, who, what; ** is a fault.")
    say("\n".join(course.world.trace))
    say("\n".join(broken) if broken else "Every promise held.")
    if broken:
        raise typer.Exit(1)


def _with_progress(outcomes: Iterable[Outcome], total: int, known: int) -> Iterator[Outcome]:
    """Show how far it is, with an estimate of the time left: a bar on a terminal, elsewhere a line now and then."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("Schedules"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.description}"),
    )
    console = stderr()
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("", total=total, completed=known)
        broken = 0
        began = told = time.monotonic()
        for number, outcome in enumerate(outcomes, 1):
            broken += bool(outcome.broken)
            state = f"{broken} broken" if broken else "nothing broken"
            bar.update(task, advance=1, description=state)
            now = time.monotonic()
            if not console.is_terminal and now - told >= TELL_EVERY_S:
                told, left = now, (total - known - number) * (now - began) / number
                say(f"{known + number} of {total} schedules, {state}, about {left / 60:.0f} min left", console)
            yield outcome


def _show_broken(outcome: Outcome, number: int) -> None:
    if number > MOST_SHOWN:
        return
    say(f"error: schedule {outcome.seed} ({outcome.profile}) broke a promise:", stderr())
    say("\n".join(f"  {text}" for text in outcome.broken[:5]), stderr())
    say("\n".join(f"  {line}" for line in outcome.trace), stderr())
    say(f"  fix: fedspec simulate --replay {outcome.seed} --profile {outcome.profile}", stderr())


def _summary(tally: Tally, known: int, seconds: float) -> str:
    before = f", {known} of them before" if known else ""
    share = 100 * tally.repeated / max(1, tally.rounds)
    lines = [
        f"{tally.schedules} schedules in {seconds:.0f} s{before}: {len(tally.broken)} broke a promise.",
        f"Rounds trained more than once: {tally.repeated} of {tally.rounds} ({share:.1f} %).",
        "What struck:",
        *_columns(tally.struck),
    ]
    naive = tally.naive
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


def _document(tally: Tally) -> dict[str, object]:
    return {
        "schedules": tally.schedules,
        "broken": [{"profile": name, "seed": seed, "promises": list(said)} for name, seed, said in tally.broken],
        "rounds": tally.rounds,
        "repeated_rounds": tally.repeated,
        "struck": dict(sorted(tally.struck.items())),
        "naive": dict(tally.naive),
    }

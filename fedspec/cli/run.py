"""``fedspec run PLAN``: enqueue what is missing, work until the plan is done, end with a summary and figures."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fedspec.cli.console import emit_json, say, stderr
from fedspec.cli.options import JsonOption, NameOption, PlanArgument, TimeScaleOption, WorkersOption, WorkspaceOption
from fedspec.cli.plans import takes_plan_flags
from fedspec.errors import SetupError

if TYPE_CHECKING:
    from fedspec.plan import Plan
    from fedspec.workqueue.distributor import WorkDistributor

EPILOG = """\
\b
Examples:
  fedspec run quick                         the first experiment, seconds
  fedspec run distributed --workers 2       start it on every machine
  fedspec run mine.toml --seed 42-46 --rounds 50
  fedspec run paper --dry-run               what it would do, and how long

A flag goes before FEDSPEC_<FLAG>, that before the plan file, that before the defaults; --show-config names each value's source.
An interrupted run resumes with the same command.

\b
Exit codes: 0 all done, 1 an item failed, 2 wrong usage, 3 set-up problem,
4 stopped on request, 130 aborted.
"""


@takes_plan_flags
def run(
    plan: PlanArgument,
    workers: WorkersOption = 1,
    name: NameOption = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would run and how long; write nothing.")] = False,
    show_config: Annotated[bool, typer.Option("--show-config", help="Show every value and where it comes from.")] = False,
    json: JsonOption = False,
    workspace: WorkspaceOption = None,
    time_scale: TimeScaleOption = 1.0,
    **flags: Any,
) -> None:
    """Work on a set of experiments until it is done, then sum it up.

    Other machines that run the same command in the same folder share the work. The flags below change the plan.
    """
    from fedspec.cli.opening import open_queue
    from fedspec.cli.outline import show_config as show
    from fedspec.cli.outline import show_plan, with_engines
    from fedspec.cli.plans import read_plan
    from fedspec.cli.session import checked_workers
    from fedspec.workqueue.wording import count

    chosen = read_plan(plan, flags)
    if show_config:
        show(chosen, json=json)
        return
    checked_workers(workers)
    queue = open_queue(workspace, time_scale)
    if chosen.search is not None:
        search = with_engines(chosen.search, queue)
        show_plan(search, queue, workers, dry_run=dry_run, json=json)
        if dry_run:
            if not json:
                each = "each " if len(chosen.items) > 1 else ""
                say(f"Then {count(len(chosen.items), 'reported experiment')}, {each}with the rate that is best for its method.")
            return
        chosen = chosen.with_rates(_found(search, queue, workers, name))
    chosen = with_engines(chosen, queue)
    show_plan(chosen, queue, workers, dry_run=dry_run, json=json)
    if not dry_run:
        raise typer.Exit(_carry_out(chosen, queue, workers, name, json=json))


def _found(search: Plan, queue: WorkDistributor, workers: int, name: str | None) -> dict[str, float]:
    """The learning rates by method that a search finds; it is carried out first."""
    from fedspec.cli.opening import tell_news
    from fedspec.cli.session import FAILED, work_on
    from fedspec.jobs.search import choices
    from fedspec.results import read_rows

    items, _ = queue.enqueue(search.items)
    tell_news(queue)
    code = work_on(queue, frozenset(item.id for item in items), workers, name)
    names = {line.id: line.experiment for line in queue.progress().lines if line.state in ("done", "sealed")}
    if code not in (0, FAILED):
        raise typer.Exit(code)
    queue.caretaker.publish(thorough=True)
    rows = {item.id: read_rows(queue.workspace.result(names[item.id])) for item in items if item.id in names}
    found = choices(items, rows)
    for choice in found:
        if not any(choice.scores.values()):
            raise SetupError(
                f"No run of the search for {choice.method}'s learning rate has come to its end.",
                "See 'fedspec queue why'; then run the same command again.",
            )
        say(choice.sentence(), stderr())
    return {choice.method: choice.lr for choice in found}


def _carry_out(plan: Plan, queue: WorkDistributor, workers: int, name: str | None, *, json: bool) -> int:
    from fedspec.cli.opening import tell_news
    from fedspec.cli.plot import closing
    from fedspec.cli.session import STOPPED, conclude, work_on

    items, _ = queue.enqueue(plan.items)
    tell_news(queue)
    only = frozenset(item.id for item in items)
    code = work_on(queue, only, workers, name)
    lines = [line for line in queue.progress().lines if line.id in only]
    code = conclude(lines, code)
    if json:
        emit_json({"plan": plan.name, "exit_code": code, "items": [asdict(line) for line in lines]})
    elif code != STOPPED:
        closing(queue, [line.experiment for line in lines if line.state in ("done", "sealed")])
        if plan.name == "quick" and code == 0:
            say("Next:    fedspec run distributed     on this and any other machine that shares this folder")
    return code

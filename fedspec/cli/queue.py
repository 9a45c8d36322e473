"""``fedspec queue``: look into the queue and change it, from any machine, while workers run."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fedspec.cli.console import emit_json, say, stdout, table, terminal_width, warn
from fedspec.cli.opening import looking, open_queue, tell_news
from fedspec.cli.options import (
    AnyItemArguments,
    ItemArguments,
    JsonOption,
    MachineOption,
    NegativeNumbers,
    PlanArgument,
    WorkspaceOption,
)
from fedspec.cli.plans import takes_plan_flags
from fedspec.errors import UsageError
from fedspec.workqueue.itemstate import MAX_PRIORITY

if TYPE_CHECKING:
    from fedspec.plan import Item
    from fedspec.workqueue.distributor import WorkDistributor
    from fedspec.workqueue.progress import ItemLine, Reader

STOPPED = 4

app = typer.Typer(help="Add, explain and control items, and the machines that run them.")


@app.callback(invoke_without_command=True)
def _begin(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        say(context.get_help())


@app.command("list")
def list_(json: JsonOption = False, workspace: WorkspaceOption = None) -> None:
    """List all items with their state and id."""
    with looking(workspace) as queue:
        queue.require_queue()
        lines = queue.progress().lines
    if json:
        emit_json({"items": [asdict(line) for line in lines]})
    else:
        header: tuple[str, ...] = ("Item", "State", "Machine", "Id")
        rows: list[tuple[str, ...]] = [(line.experiment, line.condition, line.machine, line.id) for line in lines]
        if any(line.priority for line in lines):
            header = (*header, "Priority")
            rows = [(*row, str(line.priority or "")) for row, line in zip(rows, lines, strict=True)]
        say("\n".join(table(header, rows, "4", width=terminal_width(stdout()))))


@app.command()
def why(
    item: Annotated[
        str | None,
        typer.Argument(
            metavar="ITEM", help="An experiment's name or an item's id (default: the whole queue).", show_default=False
        ),
    ] = None,
    json: JsonOption = False,
    workspace: WorkspaceOption = None,
) -> None:
    """Explain an item or, without one, what holds the queue up.

    Who has it and since when, or why nobody has; what happened before; what it waits for; and the command that changes it.
    """
    with looking(workspace) as queue:
        if item is None:
            queue.require_queue()
            _why_queue(queue, json=json)
        else:
            _why_item(queue, item, json=json)


def _why_item(queue: WorkDistributor, item: str, *, json: bool) -> None:
    from fedspec.cli.detail import as_json, show_why
    from fedspec.workqueue.explain import explain

    found = explain(queue.look(), queue.find_item(item))
    if json:
        emit_json(as_json(found))
    else:
        show_why(found, queue.clock.now())


def _why_queue(queue: WorkDistributor, *, json: bool) -> None:
    from fedspec.cli.findings import Finding, show
    from fedspec.cli.progress import counted
    from fedspec.workqueue.wording import count

    state = queue.progress()
    if json:
        emit_json({"hindrances": [asdict(found) for found in state.hindrances], "takeovers": list(state.takeovers)})
        return
    show(Finding("ok", "queue", f"{count(len(state.lines), 'item')}: {counted(state.lines)}"))
    for found in state.hindrances:
        show(Finding("warn", found.about, found.text, found.fix))
    if not state.hindrances:
        say()
        say("Nothing is in the way.")


@app.command()
@takes_plan_flags
def add(plan: PlanArgument, json: JsonOption = False, workspace: WorkspaceOption = None, **flags: Any) -> None:
    """Enqueue a plan without working on it.

    What the queue has already is left alone. The flags below change the plan.
    """
    from fedspec.cli.outline import with_engines
    from fedspec.cli.plans import read_plan

    queue = open_queue(workspace)
    asked = read_plan(plan, flags)
    chosen, added = queue.enqueue(with_engines(asked.search or asked, queue).items)
    tell_news(queue)
    if json:
        emit_json({"added": added, "items": [{"id": item.id, "experiment": item.exp} for item in chosen]})
    else:
        what = " of the search for learning rates" if asked.search else ""
        say(f"Added {added} of {len(chosen)} items{what}. Work on them with 'fedspec work' on any machine.")
        if asked.search:
            say(f"What is reported follows with 'fedspec run {plan}', which knows the rates once these are done.")


@app.command()
def retry(items: ItemArguments, workspace: WorkspaceOption = None) -> None:
    """Try failed items again, as if they had never failed."""
    _control("retry", items, workspace, ("failed", "pending"), "will be tried again")


@app.command()
def release(items: ItemArguments, workspace: WorkspaceOption = None) -> None:
    """Take items from whoever has them; saved rounds stay.

    Any worker can claim them at once. Whoever had them, and comes back, drops them.
    """
    _control("release", items, workspace, ("running", "stale"), "is free to be claimed; its saved rounds are kept")


@app.command()
def cancel(items: ItemArguments, workspace: WorkspaceOption = None) -> None:
    """Do not run items; a worker on one stops after the client."""
    _control("cancel", items, workspace, ("pending", "running", "stale", "failed"), "is cancelled", undo="resume")


@app.command()
def resume(
    items: AnyItemArguments = None,
    machine: MachineOption = None,
    workspace: WorkspaceOption = None,
) -> None:
    """Undo cancel; without an item, undo pause and drain."""
    if items and machine is not None:
        raise UsageError("An item is resumed for all machines.", "Leave --machine out, or the items.")
    if items:
        _control("resume", items, workspace, ("cancelled",), "can be claimed again")
    else:
        _resume(machine, workspace)


@app.command()
def pause(machine: MachineOption = None, workspace: WorkspaceOption = None) -> None:
    """Stop after the current round; workers wait until resume."""
    all_ = "All machines stop after the current round and wait; 'fedspec queue resume' lets them go on."
    _order("pause", machine, workspace, "stops after the current round and waits for 'fedspec queue resume'", all_)


@app.command()
def drain(machine: MachineOption = None, workspace: WorkspaceOption = None) -> None:
    """Finish what is running, take nothing new, and end the workers."""
    all_ = "What is running is finished, nothing new is taken, and the workers end. Undo: fedspec queue resume"
    _order("drain", machine, workspace, "finishes its item, takes nothing new, and ends its workers", all_)


@app.command(cls=NegativeNumbers)
def priority(
    value: Annotated[int, typer.Argument(min=-MAX_PRIORITY, max=MAX_PRIORITY, help="higher comes first; 0 is usual")],
    items: ItemArguments,
    workspace: WorkspaceOption = None,
) -> None:
    """Change the order in which items are taken.

    The highest priority comes first, even before items that are begun; nobody is stopped in the middle of another one.
    """
    _control("priority", items, workspace, ("pending", "running", "stale", "failed"), f"has priority {value}", str(value))


@app.command()
def retire(
    machine: Annotated[str, typer.Argument(metavar="MACHINE", help="its name or id, as 'fedspec progress' shows it")],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask, though it was seen just now.")] = False,
    workspace: WorkspaceOption = None,
) -> None:
    """Say that a machine is gone for good: nobody waits for it.

    Its saved rounds and results stay. If it comes back, it carries on under a new id, and what is sealed stays as it is.
    """
    from fedspec.workqueue.wording import typed

    queue = open_queue(workspace)
    queue.require_queue()
    machine_id, name = queue.find_machine(machine)
    if machine_id == queue.slots.machine_id():
        raise UsageError(f"{name} is this machine.", "Retire it from another machine, or just stop its workers.")
    if machine.casefold() not in (machine_id, name.casefold()):
        what = f"{machine} was retired already; {name} is what lives on, or another machine of that name."
        raise UsageError(what, f"If that is gone for good too: fedspec queue retire {typed(name, machine_id)}")
    _make_sure(queue.look(), machine_id, name, yes=yes)
    _command(queue, "retire", value=machine_id)
    say(f"{name} is retired. Its items can be taken over at once; results wait for it no longer.")


def _make_sure(reader: Reader, machine_id: str, name: str, *, yes: bool) -> None:
    """Ask before a machine is retired that others would not take for dead yet. Raises UsageError if nobody can be asked."""
    from fedspec.workqueue.wording import in_words, typed

    machine = reader.crew[machine_id]
    if machine.left or (machine.age_s is not None and machine.age_s > reader.timing.dead):
        return
    when = "is here" if machine.age_s is None else f"was last seen ~{in_words(machine.age_s)} ago"
    what = f"{name} {when} and has not left: it would drop what it is doing and go on under another name."
    if yes:
        warn(what)
    elif not sys.stdin.isatty():
        raise UsageError(what, f"If it is gone for good: fedspec queue retire {typed(name, machine_id)} --yes")
    else:
        warn(what)
        if not typer.confirm("Retire it all the same?", err=True):
            say("Nothing was changed.")
            raise typer.Exit(STOPPED)


def _command(queue: WorkDistributor, op: str, items: Sequence[Item] | None = None, value: str = "") -> None:
    """Journal it, and say what was taken in of what people had written into the queue's file."""
    queue.control(op, items, value)
    tell_news(queue)


def _resume(machine: str | None, workspace: Path | None) -> None:
    """Take pause and drain back, and say for whom that changed anything, and what it left as it was."""
    from fedspec.cli.detail import show_command
    from fedspec.workqueue.hindrances import some
    from fedspec.workqueue.wording import listed

    queue = open_queue(workspace)
    queue.require_queue()
    machine_id, name = queue.find_machine(machine) if machine is not None else ("", "")
    before = queue.look()
    orders = {known.id: order for known in before.crew.values() if (order := before.order_of(known.id))}
    given = bool(before.orders())
    _command(queue, "resume", value=machine_id)
    if machine_id:
        told = f"{name} takes items again" if machine_id in orders else f"{name} was neither paused nor draining"
    else:
        told = "All machines take items again" if given else "No machine was paused or draining"
    if not machine_id and orders:
        were = {
            word: [before.machines[known] for known, order in orders.items() if order.order == op]
            for op, word in (("pause", "paused"), ("drain", "draining"))
        }
        groups = [f"{listed(names)} {'was' if len(names) == 1 else 'were'} {word}" for word, names in were.items() if names]
        told += f": {', '.join(groups)}"
    say(f"{told}.")
    left = [line.experiment for line in queue.progress().lines if line.state == "cancelled"]
    if any(order.order == "drain" for known, order in orders.items() if machine_id in ("", known)):
        say("Workers that ended are started again there: fedspec work")
    if left and not machine_id:
        stay = "cancelled item stays" if len(left) == 1 else "cancelled items stay"
        show_command(f"{len(left)} {stay} cancelled", f"fedspec queue resume {some(left)}")


def _order(op: str, machine: str | None, workspace: Path | None, outcome: str, all_: str) -> None:
    queue = open_queue(workspace)
    queue.require_queue()
    if machine is None:
        _command(queue, op)
        say(all_)
    else:
        machine_id, name = queue.find_machine(machine)
        _command(queue, op, value=machine_id)
        say(f"{name} {outcome}.")


def _control(
    op: str,
    names: Sequence[str],
    workspace: Path | None,
    states: Sequence[str],
    outcome: str,
    value: str = "",
    *,
    undo: str = "",
) -> None:
    """Check all items before changing any. ``undo``: the command that takes it back."""
    from fedspec.cli.detail import show_command
    from fedspec.workqueue.board import is_pattern
    from fedspec.workqueue.wording import count

    queue = open_queue(workspace)
    queue.require_queue()
    lines = {line.id: line for line in queue.progress().lines}
    items: dict[str, Item] = {}
    matched: list[str] = []
    apt_names: list[str] = []
    wrong: list[UsageError] = []
    for name in names:
        try:
            found = queue.find_items(name)
        except UsageError as error:
            wrong.append(error)
            continue
        apt = [item for item in found if lines[item.id].state in states]
        many = is_pattern(name)
        if not apt or (len(apt) < len(found) and not many):
            wrong.append(_unfit(op, name, [lines[item.id] for item in found], states))
            continue
        apt_names += [f"'{name}'" if many else lines[item.id].experiment for item in apt[:1]]
        items |= {item.id: item for item in apt}
        left = f"; {len(found) - len(apt)} of them cannot be changed so" if len(apt) < len(found) else ""
        matched += [f"{name} matches {count(len(found), 'item')}{left}."] if many else []
    if wrong:
        raise _refusal(wrong, op, value, apt_names)
    for text in matched:
        say(text)
    _command(queue, op, list(items.values()), value)
    for item_id in items:
        experiment = lines[item_id].experiment
        if undo:
            show_command(f"{experiment} {outcome}. Undo", f"fedspec queue {undo} {experiment}")
        else:
            say(f"{experiment} {outcome}.")


def _refusal(wrong: Sequence[UsageError], op: str, value: str, others: Sequence[str]) -> UsageError:
    """The first complaint, that nothing was done about the ``others`` either, and the command for these."""
    from fedspec.workqueue.wording import count, listed

    more = f" So it is with {count(len(wrong) - 1, 'other')}." if len(wrong) > 1 else ""
    if not others:
        return UsageError(wrong[0].what + more, wrong[0].fix)
    command = " ".join(["fedspec queue", op, *([value] if value else []), *others])
    # What a name that is nearly right should be is worth more.
    fix = command if wrong[0].fix.startswith("fedspec ") else wrong[0].fix
    return UsageError(f"{wrong[0].what}{more} Nothing was done about {listed(others)} either.", fix)


def _unfit(op: str, name: str, lines: Sequence[ItemLine], states: Sequence[str]) -> UsageError:
    wanted = f"{op} is for items that are {' or '.join(states)}."
    if len(lines) == 1:
        line = lines[0]
        return UsageError(f"{line.experiment} is {line.state}; {wanted}", f"fedspec queue why {line.experiment}")
    return UsageError(f"{name} matches {len(lines)} items, none of which fits; {wanted}", "fedspec queue list")

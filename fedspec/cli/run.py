"""``fedspec run PLAN``: enqueue what is missing, work until the plan is done, end with a summary and figures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fedspec.cli.console import JsonOption, NameOption, TimeScaleOption, WorkspaceOption, emit_json, stdout
from fedspec.cli.work import WorkersOption

if TYPE_CHECKING:
    from fedspec.jobs.estimate import Estimate
    from fedspec.plan import Plan
    from fedspec.workqueue.distributor import WorkDistributor

MIB = 1 << 20


def _flag(text: str) -> Any:
    return typer.Option(help=text, show_default=False)


def run(
    plan: Annotated[str, typer.Argument(help="quick, distributed, paper, or a TOML file of yours.")],
    rounds: Annotated[int | None, _flag("Communication rounds.")] = None,
    clients: Annotated[int | None, _flag("Clients of the partition.")] = None,
    alpha: Annotated[list[str] | None, _flag("Dirichlet alphas, such as 0.1,0.5.")] = None,
    seeds: Annotated[list[str] | None, _flag("Seeds, such as 42,43 or 42-56.")] = None,
    method: Annotated[list[str] | None, _flag("Methods, such as fedavg,fedspec.")] = None,
    batch_size: Annotated[int | None, _flag("Samples a step.")] = None,
    local_epochs: Annotated[int | None, _flag("Passes over a client's data a round.")] = None,
    lr: Annotated[float | None, _flag("Learning rate for all methods.")] = None,
    dataset: Annotated[str | None, _flag("Data set.")] = None,
    model: Annotated[str | None, _flag("Model.")] = None,
    device: Annotated[str | None, _flag("Run only on machines with cpu, cuda or mps.")] = None,
    workers: WorkersOption = 1,
    name: NameOption = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be run, how long, and write nothing.")] = False,
    show_config: Annotated[bool, typer.Option("--show-config", help="Show every value and where it comes from.")] = False,
    json: JsonOption = False,
    workspace: WorkspaceOption = None,
    time_scale: TimeScaleOption = 1.0,
) -> None:
    """Work on a set of experiments until it is done. Flags change the plan before it is enqueued."""
    from fedspec.cli.opening import open_queue
    from fedspec.cli.plans import read_plan

    flags = {
        "rounds": rounds, "clients": clients, "alpha": alpha, "seed": seeds, "method": method, "batch_size": batch_size,
        "local_epochs": local_epochs, "lr": lr, "dataset": dataset, "model": model, "device": device,
    }  # fmt: skip
    chosen = read_plan(plan, flags)
    if show_config:
        _show_config(chosen, json)
        return
    queue = open_queue(workspace, time_scale)
    _show_plan(chosen, queue, dry_run=dry_run, json=json)
    if dry_run:
        return
    raise typer.Exit(_carry_out(chosen, queue, workers, name, json))


def _carry_out(plan: Plan, queue: WorkDistributor, workers: int, name: str | None, json: bool) -> int:
    from fedspec.cli.session import work_on

    items, _ = queue.enqueue(plan.items)
    only = frozenset(item.id for item in items)
    code = work_on(queue, only, workers, name)
    state = queue.progress()
    lines = [line for line in state.lines if line.id in only]
    if code in (0, 1):
        from fedspec.cli.plot import closing

        failed = [line for line in lines if line.state == "failed"]
        for line in failed:
            stdout().print(f"failed: {line.experiment}: {line.why}", soft_wrap=True, markup=False)
        if json:
            emit_json(plan=plan.name, exit_code=code, items=[asdict(line) for line in lines])
        else:
            closing(queue, [line.experiment for line in lines if line.state in ("done", "sealed")], plan.name)
    return code


def _show_config(plan: Plan, json: bool) -> None:
    if json:
        emit_json(plan=plan.name, settings={k: {"value": s.value, "source": s.source} for k, s in plan.settings.items()})
        return
    width = max(map(len, plan.settings))
    for key, setting in plan.settings.items():
        stdout().print(f"{key:<{width}}  {setting.value!s:<40}  {setting.source}", markup=False, soft_wrap=True)


def _show_plan(plan: Plan, queue: WorkDistributor, *, dry_run: bool, json: bool) -> None:
    """The configuration, and the time it will take on this machine as measured on a few rounds."""
    from fedspec.cli.session import data_root
    from fedspec.clock import SystemClock
    from fedspec.jobs import opener
    from fedspec.jobs.estimate import estimate

    queue.refresh()
    left = [item for item in plan.items if queue.store.fold.status(item.id) in ("pending", "running")]
    measured = estimate(left, opener(data_root()), SystemClock())
    if json:
        if dry_run:
            emit_json(plan=plan.name, items=[asdict_item(item) for item in plan.items], estimate=asdict(measured))
        return
    out = stdout()
    out.print(f"FedSpec: {plan.title}", markup=False)
    out.print("Configuration:")
    for name, value in _headline(plan):
        out.print(f"  {name}: {value}", markup=False, soft_wrap=True)
    out.print(f"  Estimated time: {_how_long(measured, len(left))}")
    if dry_run:
        out.print(f"  Memory: about {measured.memory_bytes / MIB:.0f} MiB a worker; disk: {measured.disk_bytes / MIB:.1f} MiB")
        for item in plan.items:
            out.print(f"  {item.id}  {queue.store.fold.status(item.id):<8} {item.exp}", soft_wrap=True)
        out.print("Nothing was written. Leave out --dry-run to start.")


def asdict_item(item: Any) -> dict[str, Any]:
    """An item with its id, for JSON."""
    import msgspec

    return {"id": item.id, **msgspec.to_builtins(item)}


def _headline(plan: Plan) -> Sequence[tuple[str, str]]:
    from fedspec.federated.aggregators import AGGREGATORS

    s = {key: setting.value for key, setting in plan.settings.items()}
    methods = [AGGREGATORS[m].label for m in s["method"]]
    if any(item.kind == "centralized" for item in plan.items):
        methods.append("centralized baseline")
    seeds = len(s["seed"])
    return (
        ("Clients", str(s["clients"])),
        ("Rounds", str(s["rounds"])),
        ("Alpha", "none (iid)" if s["split"] == "iid" else ", ".join(str(a) for a in s["alpha"])),
        ("Methods", f"{', '.join(methods)}; {seeds} seed{'s' * (seeds != 1)}: {len(plan.items)} items"),
    )


def _how_long(measured: Estimate, left: int) -> str:
    from fedspec.workqueue.progress import in_words

    if not left:
        return "none, every item is done"
    return f"{in_words(max(1.0, measured.seconds))} for {left} items on one worker (measured on this machine)"

"""What a plan is, before it runs: its headline, the time it will take here, and where each value comes from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from fedspec.cli.console import busy, emit_json, say, stdout, table, terminal_width

if TYPE_CHECKING:
    from fedspec.jobs.estimate import Estimate
    from fedspec.plan import Item, Plan
    from fedspec.workqueue.distributor import WorkDistributor

MIB = 1 << 20


def show_config(plan: Plan, *, json: bool) -> None:
    """Every value of the configuration and its source."""
    if json:
        settings = {key: {"value": s.value, "source": s.source} for key, s in plan.settings.items()}
        emit_json({"plan": plan.name, "settings": settings})
        return
    rows = [(key, in_text(setting.value), setting.source) for key, setting in plan.settings.items()]
    say("\n".join(table(("Key", "Value", "Source"), rows)))


def show_plan(plan: Plan, queue: WorkDistributor, workers: int, *, dry_run: bool, json: bool) -> None:
    """The headline with the time that what is left will take, as measured; with ``dry_run`` every item too."""
    queue.refresh()
    fold = queue.store.fold
    left = [item for item in plan.items if fold.status(item.id) in ("pending", "running")]
    if json and not dry_run:
        return
    elsewhere = [item for item in left if _lacking(item)]
    measured = _measured([item for item in left if item not in elsewhere], queue)
    if json:
        items = [{**_as_json(item), "state": fold.status(item.id)} for item in plan.items]
        emit_json({"plan": plan.name, "items": items, "left": len(left), "estimate": asdict(measured)})
        return
    say(f"FedSpec: {plan.title}\nConfiguration:")
    for name, value in (
        *_headline(plan),
        ("Estimated time", _how_long(measured, len(left) - len(elsewhere), len(elsewhere), workers)),
    ):
        say(f"  {name}: {value}")
    if elsewhere:
        lacking = ", ".join(sorted({need for item in elsewhere for need in _lacking(item)}))
        say(f"  For other machines: {len(elsewhere)} of {len(left)} items need {lacking}")
    if dry_run:
        if left:
            # What a round leaves on the disk is known once one has ended.
            disk = f"{measured.disk_bytes / MIB:.1f} MiB" if measured.disk_bytes else "not known, a round takes too long to try"
            say(f"  Memory: about {measured.memory_bytes / MIB:.0f} MiB a worker; disk: {disk}")
        rows = [(item.exp, fold.status(item.id), item.id) for item in plan.items]
        say("\n".join(table(("Item", "State", "Id"), rows, width=terminal_width(stdout()))))
        say("Nothing was written. Leave out --dry-run to start.")


def with_engines(plan: Plan, queue: WorkDistributor) -> Plan:
    """The plan with an engine for each item: the queue's, where it is there already, else the one that is faster here."""
    from fedspec.clock import SystemClock
    from fedspec.jobs import opener
    from fedspec.jobs.engines import decide
    from fedspec.workspace import data_root

    queue.refresh()
    with busy("Measuring which engine trains the clients faster"):
        return decide(plan, queue.store.items.values(), opener(data_root()), SystemClock())


def in_text(value: Any) -> str:
    """A value of the configuration for people: ``42, 43``, and a table of equal values as that value."""
    if isinstance(value, Mapping):
        each = set(value.values())
        return in_text(each.pop()) if len(each) == 1 else ", ".join(f"{key} {in_text(one)}" for key, one in value.items())
    return ", ".join(map(in_text, value)) if isinstance(value, list | tuple) else str(value)


def _measured(items: list[Item], queue: WorkDistributor) -> Estimate:
    from fedspec.clock import SystemClock
    from fedspec.jobs import opener
    from fedspec.jobs.estimate import estimate
    from fedspec.workspace import data_root

    saved = {item.id: generations[0].round for item in items if (generations := queue.store.fold.generations(item.id))}
    with busy("Measuring how long a round takes on this machine"):
        return estimate(items, opener(data_root()), SystemClock(), saved)


def _lacking(item: Item) -> set[str]:
    """The kinds of device that the item needs and this machine does not have."""
    from fedspec.devices import KINDS, capabilities

    return (set(item.needs) & set(KINDS)) - capabilities()


def _as_json(item: Item) -> dict[str, Any]:
    import msgspec

    return {"id": item.id, **msgspec.to_builtins(item)}


def _headline(plan: Plan) -> Iterator[tuple[str, str]]:
    from fedspec.federated.aggregators import AGGREGATORS
    from fedspec.workqueue.wording import count

    values = {key: setting.value for key, setting in plan.settings.items()}
    methods = [AGGREGATORS[method].label for method in values["method"]]
    if any(item.kind == "centralized" for item in plan.items):
        methods.append("centralized baseline")
    yield "Clients", str(values["clients"])
    yield "Rounds", str(values["rounds"])
    yield "Alpha", "none (iid)" if values["split"] == "iid" else in_text(values["alpha"])
    # A search has seeds of its own.
    seeds = {item.config["seed"] for item in plan.items}
    yield "Methods", f"{', '.join(methods)}; {count(len(seeds), 'seed')}: {count(len(plan.items), 'item')}"


def _how_long(measured: Estimate, left: int, elsewhere: int, workers: int) -> str:
    import psutil

    from fedspec.workqueue.wording import count, in_words

    if not left:
        return "not known, this machine can run none of the items left" if elsewhere else "none, every item is done"
    # More workers than cores or items make nothing faster.
    abreast = max(1, min(workers, left, psutil.cpu_count() or 1))
    crew = f" on {count(workers, 'worker')}" if workers > 1 else ""
    return f"{in_words(max(1.0, measured.seconds / abreast))} for {count(left, 'item')}{crew} (measured on this machine)"

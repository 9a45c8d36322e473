"""Which engine an experiment gets: the queue's own, else the faster one, and the sequential one in doubt."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from fedspec.cli.plans import read_plan
from fedspec.cli.session import data_root
from fedspec.clock import FakeClock, SystemClock
from fedspec.errors import CapabilityError
from fedspec.federated.events import ClientDone, Event, RoundDone, StepDone
from fedspec.jobs import opener
from fedspec.jobs.engines import decide, faster
from fedspec.plan import Item, Plan, with_engine


@dataclass
class Machine:
    """Takes a second a sample in turn, and ``gain`` times less together; on a clock of its own."""

    gain: float = 2.0
    stacks: bool = True
    opened: list[tuple[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.clock = FakeClock()
        self.runtime, self.device, self.base = "", "cpu", {"made": "once"}

    def __call__(self, item: Item, base: Mapping[str, Any] | None) -> Any:
        self.item, engine = item, item.config["engine"]
        self.opened.append((engine, base))
        if engine == "stacked" and not self.stacks:
            raise CapabilityError("It cannot be stacked.", "Use the other one.")
        return _Job(self, engine)


@dataclass
class _Job:
    machine: Machine
    engine: str

    @property
    def base(self) -> Any:
        return self.machine.base

    def run(self, state: Mapping[str, Any] | None) -> Iterator[Event]:
        clock, clients = self.machine.clock, self.machine.item.config["clients"]
        clock.advance(100.0)  # whatever comes first is warming up
        for round_ in (1, 2, 3):
            for step in range(3 if self.engine == "stacked" else 0):
                clock.advance(10 * clients / self.machine.gain)
                yield StepDone(round_, step + 1, 3, 10 * clients)
            for client in range(clients):
                clock.advance(0.0 if self.engine == "stacked" else 30.0)
                yield ClientDone(round_, client, 30, 0.0)
            clock.advance(1000.0)  # aggregation and evaluation are the same in both
            yield RoundDone(round_, None, {"round": round_})  # type: ignore[arg-type]


def plan(**flags: Any) -> Plan:
    return read_plan("quick", {"seed": ["42"], "rounds": "20", **flags})


def engines(plan: Plan) -> list[str]:
    return [item.config["engine"] for item in plan.items]


@pytest.mark.parametrize(("gain", "engine"), [(0.5, "sequential"), (1.05, "sequential"), (1.5, "stacked"), (9.0, "stacked")])
def test_a_gain_that_counts_decides_for_the_stacked_engine(gain: float, engine: str):
    machine = Machine(gain)
    assert faster(plan().items[0], machine, machine.clock) == engine


def test_all_items_of_one_cost_get_the_engine_that_one_of_them_was_measured_with():
    machine = Machine()
    decided = decide(plan(alpha=["0.1", "1.0"]), (), machine, machine.clock)
    assert engines(decided) == ["stacked"] * 6
    assert not decided.undecided
    assert machine.opened == [("sequential", None), ("stacked", machine.base)]


def test_what_the_queue_has_keeps_its_engine_and_is_not_measured():
    asked = plan()
    there = [with_engine(asked.items[0], "stacked"), asked.items[1]]
    machine = Machine(gain=0.1)
    decided = decide(asked, there, machine, machine.clock)
    assert engines(decided) == ["stacked", "sequential", "sequential"]
    assert decided.items[:2] == tuple(there)
    assert len(machine.opened) == 2


def test_an_item_of_the_same_name_that_is_another_experiment_does_not_decide():
    asked = plan()
    other = asked.items[0].__class__(kind="federated", exp=asked.items[0].exp, config={**asked.items[0].config, "rounds": 7})
    machine = Machine(gain=9.0)
    assert engines(decide(asked, [with_engine(other, "sequential")], machine, machine.clock))[0] == "stacked"


def test_an_engine_that_a_person_names_is_not_measured(tmp_path: Any):
    path = tmp_path / "mine.toml"
    for engine in ("stacked", "sequential"):
        path.write_text(f'[experiment]\nengine = "{engine}"\n[centralized]\n')
        machine = Machine()
        decided = decide(read_plan(str(path), {}), (), machine, machine.clock)
        # The baseline has nothing to stack.
        assert engines(decided) == [engine, engine, "sequential"]
        assert not machine.opened


def test_what_cannot_be_stacked_or_not_be_run_here_is_sequential():
    machine = Machine(gain=9.0, stacks=False)
    assert faster(plan().items[0], machine, machine.clock) == "sequential"


@pytest.mark.parametrize("config", [{"tune": "full"}, {"clients": 1}])
def test_where_there_is_nothing_to_stack_nothing_is_measured(config: dict[str, Any]):
    machine = Machine()
    [item, *_] = plan().items
    changed = item.__class__(kind=item.kind, exp=item.exp, config={**item.config, **config})
    assert faster(changed, machine, machine.clock) == "sequential"
    assert not machine.opened


def test_a_real_item_can_be_measured():
    decided = decide(plan(method=["fedavg"]), (), opener(data_root()), SystemClock())
    assert engines(decided)[0] in ("sequential", "stacked")

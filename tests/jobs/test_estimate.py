"""The estimate: what it measures, what it leaves out, and that it is over soon."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pytest

from fedspec.cli.plans import read_plan
from fedspec.cli.session import data_root
from fedspec.clock import FakeClock, SystemClock
from fedspec.federated.events import ClientDone, Event, RoundDone
from fedspec.jobs import opener
from fedspec.jobs.estimate import BUDGET_S, SAVE_S, Estimate, estimate
from fedspec.plan import Item


@dataclass
class Machine:
    """A machine with known costs, on a clock of its own."""

    imports_s: float = 3.0
    start_s: float = 0.5
    client_s: float = 0.01
    sizes: tuple[int, ...] = (1,)
    warming_s: float = 0.0
    opened: int = 0
    trained: int = 0

    def __post_init__(self) -> None:
        self.clock = FakeClock()
        self.runtime, self.device, self.base = "", "cpu", {}

    def __call__(self, item: Item, base: Mapping[str, Any] | None) -> Any:
        self.clock.advance(self.start_s + (0 if self.opened else self.imports_s))
        self.opened += 1
        self.item = item
        return self

    @property
    def samples(self) -> float:
        clients = self.item.config["clients"]
        return self.item.config["local_epochs"] * sum(self.sizes[client % len(self.sizes)] for client in range(clients))

    def run(self, state: Mapping[str, Any] | None) -> Iterator[Event]:
        for round_ in range(1, self.item.config["rounds"] + 1):
            for client in range(self.item.config["clients"]):
                self.clock.advance(
                    self.client_s * self.sizes[client % len(self.sizes)] + (self.warming_s if round_ == 1 else 0)
                )
                self.trained += 1
                yield ClientDone(round_, client, self.sizes[client % len(self.sizes)], 0.0)
            yield RoundDone(round_, None, {"round": round_})  # type: ignore[arg-type]


def plan(**flags: Any) -> tuple[Item, ...]:
    return read_plan("quick", {"method": ["fedavg"], "seed": ["42"], **flags}).items


def test_the_time_is_a_start_and_every_round():
    machine = Machine()
    [item] = plan(rounds="20", clients="5")
    found = estimate([item], machine, machine.clock)
    assert found.seconds == pytest.approx(0.5 + 20 * (5 * 0.01 + SAVE_S))
    assert found.disk_bytes > 0


def test_imports_and_the_first_rounds_warming_do_not_count():
    slow = Machine(imports_s=4.0, warming_s=0.1)
    [item] = plan(rounds="20", clients="5")
    assert estimate([item], slow, slow.clock).seconds == pytest.approx(0.5 + 20 * (0.05 + SAVE_S))


def test_rounds_that_are_saved_are_not_counted_again():
    machine = Machine()
    [item] = plan(rounds="20", clients="5")
    assert estimate([item], machine, machine.clock, {item.id: 15}).seconds == pytest.approx(0.5 + 5 * (0.05 + SAVE_S))


def test_items_that_cost_the_same_are_measured_once():
    machine = Machine()
    items = plan(rounds="20", clients="5", seed=["1-9"])
    assert estimate(items, machine, machine.clock).seconds == pytest.approx(9 * (0.5 + 20 * (0.05 + SAVE_S)))
    assert machine.opened == 2


def test_a_long_round_is_judged_by_its_first_clients():
    machine = Machine(client_s=60.0)
    [item] = plan(rounds="20", clients="10")
    assert estimate([item], machine, machine.clock).seconds == pytest.approx(0.5 + 20 * (600 + SAVE_S))
    assert machine.trained == 1


def test_a_first_client_of_few_samples_does_not_make_a_round_short():
    machine = Machine(client_s=60.0, sizes=(1, 9))
    [item] = plan(rounds="20", clients="10", local_epochs="3")
    assert estimate([item], machine, machine.clock).seconds == pytest.approx(0.5 + 20 * (5 * 600 + SAVE_S))
    assert machine.trained == 1


def test_several_costs_share_the_budget():
    machine = Machine(client_s=0.1, imports_s=0, start_s=0)
    items = [item for clients in "234" for item in plan(rounds="50", clients=clients)]
    estimate(items, machine, machine.clock)
    assert machine.clock.monotonic() < BUDGET_S + 3 * 0.2


def test_a_start_that_takes_long_is_not_made_twice():
    machine = Machine(start_s=30.0)
    estimate(plan(rounds="1", clients="1"), machine, machine.clock)
    assert machine.opened == 1


def test_nothing_left_costs_nothing():
    machine = Machine()
    assert estimate([], machine, machine.clock) == Estimate(0.0, 0, 0)
    assert machine.opened == 0


def test_a_real_job_can_be_estimated():
    # How near the estimate comes is a matter of the machine's other work; the laws above need no luck.
    [item] = plan(rounds="40")
    found = estimate([item], opener(data_root()), SystemClock())
    assert found.seconds > 40 * SAVE_S
    assert found.memory_bytes > 10 << 20

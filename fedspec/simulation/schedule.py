"""One schedule: machines work through a queue while everything fails that can, until the weather clears and all is done."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from fedspec.checkpoints import CheckpointManager
from fedspec.files import MemoryDisk
from fedspec.folders import original_of
from fedspec.plan import Item
from fedspec.simulation.agreement import Readers, astray, stalled_gangs
from fedspec.simulation.bystander import Books
from fedspec.simulation.hands import Ground
from fedspec.simulation.machine import HOUR_S, Life, Machine
from fedspec.simulation.mishaps import arrange
from fedspec.simulation.profiles import PROFILES, Profile
from fedspec.simulation.rehearsal import ROLES, Link, rehearsal
from fedspec.simulation.syncing import SyncService
from fedspec.simulation.world import Process, World
from fedspec.workqueue.distributor import WorkDistributor
from fedspec.workqueue.fold import Fold
from fedspec.workqueue.records import machine_of
from fedspec.workspace import Workspace

WORKSPACE = Workspace(Path("/share"))
FAIR_AFTER_H = 3.0
# Whoever is not done by then will never be.
MOST_MORNINGS = 12
PATIENCE_H = 8.0


@dataclass(slots=True)
class Course:
    """What came of a schedule: the world and the machines as they were left.

    Attributes:
        finished: whether everybody was done in the end.
        plan, work: what the processes do that bring the items, and the workers.
        clocks: decides how wrong wall clocks are, apart from all else, so that other clocks change nothing else.
        gave_up: processes that ended with an error for a person, who then starts them again.
        mornings: how often people had to start workers again once the weather was fair.
    """

    world: World
    profile: Profile
    items: list[Item]
    distributor: type[WorkDistributor]
    checkpoints: type[CheckpointManager]
    clocks: random.Random
    plan: Life
    work: Life
    workspace: Workspace = WORKSPACE
    link: Link = field(default_factory=lambda: Link(lambda: 0.0))
    service: SyncService | None = None
    machines: list[Machine] = field(default_factory=list)
    gave_up: set[str] = field(default_factory=set)
    finished: bool = False
    mornings: int = 0
    books: Books = field(default_factory=Books)
    # Who has read the folders as they were left, None if they were not.
    readers: Readers | None = None

    @property
    def counts(self) -> Counter[str]:
        """How often each fault struck."""
        return self.world.counts

    @property
    def living(self) -> list[Machine]:
        """Machines that are still there."""
        return [machine for machine in self.machines if not machine.dead]


def run_schedule(
    seed: int,
    profile: Profile = PROFILES["brutal"],
    *,
    machines: int | None = None,
    distributor: type[WorkDistributor] = WorkDistributor,
    checkpoints: type[CheckpointManager] = CheckpointManager,
    clocks: int = 0,
    patience_h: float = PATIENCE_H,
    plan: Life = Machine.plan,
    work: Life = Machine.work,
) -> Course:
    """Run one schedule to its end. ``distributor`` and ``checkpoints`` let tests put a known mistake in.

    ``patience_h``: who still waits for something after so many hours of fair weather waits for ever.
    """
    world = World(seed)
    count = machines or world.random.randint(*profile.machines)
    pairs = profile.pairs if count > 1 else 0
    items = [
        rehearsal(42 + number, profile.rounds, profile.clients, ROLES if number < pairs else ())
        for number in range(profile.items)
    ]
    course = Course(world, profile, items, distributor, checkpoints, random.Random(f"{seed}/{clocks}"), plan, work)
    course.link.clock = lambda: world.now
    _build(course, count)
    _begin(course)
    arrange(course, FAIR_AFTER_H * HOUR_S / 2)
    world.run(FAIR_AFTER_H * HOUR_S)
    _clear_up(course, patience_h)
    return course


def _build(course: Course, count: int) -> None:
    world, profile = course.world, course.profile
    if profile.weather is not None:
        news = (WORKSPACE.journals, WORKSPACE.beats)
        course.service = SyncService(world, profile.weather, WORKSPACE.root, count, news)
    shared = MemoryDisk()
    for number in range(count):
        replica = course.service.replicas[number] if course.service else None
        ground = Ground(world, profile, WORKSPACE.root, replica.disk if replica else shared, course.service, replica)
        machine = Machine(course, number, ground)
        ground.away_until = machine.reachable_at
        if replica is not None:
            replica.reachable_at = machine.reachable_at
        course.machines.append(machine)


def _begin(course: Course) -> None:
    """Start every machine; one or two of them are told what to run, at about the same time."""
    random = course.world.random
    planners = {0, random.randrange(len(course.machines))}
    for machine in course.machines:
        if machine.number in planners:
            machine.start(random.uniform(0.0, 30.0), course.plan)
        machine.start(random.uniform(30.0, 200.0), course.work)
    if course.world.chance(course.profile.sibling):
        machine = random.choice(course.machines)
        course.world.struck("sibling", machine.name)
        machine.start(random.uniform(30.0, 200.0), course.work)


def _clear_up(course: Course, patience_h: float) -> None:
    """Fair weather: everything arrives, people retire the machines that are gone and start workers until all is done."""
    world = course.world
    world.calm = True
    world.note("world", "-- fair weather --")
    # What waits for a machine that was away for days arrives when it would have come back.
    back = max(machine.reachable_at() for machine in course.living)
    if course.service is not None:
        course.service.apart.clear()
    for machine in course.machines:
        machine.asleep_until = min(machine.asleep_until, world.now)
        machine.offline_until = min(machine.offline_until, world.now)
        machine.ground.full_until = 0.0
    while course.mornings < MOST_MORNINGS and not world.stuck:
        world.run(max(world.now, back) + patience_h * HOUR_S)
        resting = [machine for machine in course.living if not machine.living]
        readers = Readers(course)
        _ask_the_old(course, readers)
        if not resting:
            break  # all are at work, and none comes to an end
        if not world.busy() and _all_well(course, readers):
            course.readers = readers
            course.finished = True
            break
        course.mornings += 1
        world.note("world", f"-- morning {course.mornings} --")
        if not world.busy():
            _set_right(course)
        for machine in resting:
            machine.start(0.0, course.work)
    world.end()


def _ask_the_old(course: Course, readers: Readers) -> None:
    """Before anybody starts anew: who is still at work, or has just ended, has seen what there is to be seen."""
    for machine in course.living:
        course.world.breaches += astray(machine, readers)
        still = [process.name for process in machine.living if process.name in machine.minds]
        machine.minds = {name: machine.minds[name] for name in still}
    course.world.breaches += stalled_gangs(course, readers)


def _all_well(course: Course, readers: Readers) -> bool:
    if course.mornings == 0:
        return False  # whoever works on the next day sees what arrived late
    folds = (readers.queue(machine).store.fold for machine in course.living)
    done = all(_ended(fold, item) for fold in folds for item in course.items)
    return done and not any(left_over(machine) for machine in course.living)


def _ended(fold: Fold, item: Item) -> bool:
    """A machine that never hears of another, since that one died before it could say a word, has nobody to seal with."""
    alone = len({machine_of(worker) for worker in fold.workers}) == 1
    return fold.status(item.id) in ("sealed", "failed", *(["done"] if alone else []))


def left_over(machine: Machine) -> list[Path]:
    """Conflict copies of derived files in a machine's folder, which whoever starts next clears away."""
    folders = (WORKSPACE.queue, WORKSPACE.checkpoints, WORKSPACE.beats, WORKSPACE.results)
    held = machine.ground.disk.contents
    return [folder / name for folder in folders for name in held.inside(folder) if original_of(name) is not None]


def _set_right(course: Course) -> None:
    """A person tells one of the machines that are there which ones will not come back, and takes back what was cancelled."""
    there = {machine.machine_id() for machine in course.living}

    def command(machine: Machine, process: Process) -> None:
        queue = machine.queue(process)
        queue.refresh()
        fold = queue.store.fold
        # As `progress` names them: also one that is closed, and of whose words not all are known to be here.
        silent = {machine_of(worker) for worker in fold.workers if not fold.read_to_the_end(worker)} - fold.retirements
        for machine_id in sorted(silent - there):
            course.world.struck("retire", process.name, machine_id)
            queue.control("retire", value=machine_id)
        for item in course.items:
            if queue.store.fold.status(item.id) == "cancelled":
                course.world.struck("queue resume", process.name, item.exp)
                queue.control("resume", item)

    course.living[0].start(0.0, command)

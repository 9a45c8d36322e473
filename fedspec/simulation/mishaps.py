"""What strikes a whole machine, a folder or two of them once in a schedule, and what people do meanwhile."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import msgspec

from fedspec.errors import FedspecError
from fedspec.plan import Item
from fedspec.simulation.machine import Machine
from fedspec.simulation.world import Process
from fedspec.workqueue.records import machine_of

if TYPE_CHECKING:
    from fedspec.simulation.schedule import Course


def arrange(course: Course, horizon: float) -> None:
    """Let everything of the course's profile strike in its time, what strikes once within ``horizon`` seconds."""
    world, profile = course.world, course.profile
    for machine in course.machines:
        machine.weather()
    if world.chance(profile.clone) and len(course.machines) > 1:
        world.at(world.random.uniform(0.0, horizon), lambda: _clone(course))
    if course.service is not None and world.chance(profile.apart) and len(course.machines) > 1:
        # Half of such pairs have never met.
        world.at(world.random.uniform(-horizon / 3, horizon / 3), lambda: _part(course))
    if world.chance(profile.restore):
        taken = world.random.uniform(0.0, horizon)
        world.at(taken, lambda: _back_up(course, world.random.uniform(0.0, horizon)))
    if world.chance(profile.retire) and len(course.machines) > 1:
        world.at(world.random.uniform(0.0, horizon), lambda: _retire(course))
    if world.chance(profile.evening):
        world.at(world.random.uniform(60.0, horizon / 5), lambda: _evening(course))
    if world.chance(profile.person):
        world.at(world.random.uniform(60.0, horizon), lambda: _person(course))


def _clone(course: Course) -> None:
    """A machine's own folder is copied to another machine, id and all."""
    one, other = course.world.random.sample(course.machines, 2)
    if one.dead or other.dead:
        return
    course.world.struck("clone", other.name, f"of {one.name}")
    for path, data in one.ground.disk.contents.below(one.local.root).items():
        other.ground.disk.contents[other.local.root / path] = data


def _part(course: Course) -> None:
    """Two machines have no connection to each other; what both sides tell a third says that they are there."""
    world, service = course.world, course.service
    one, other = world.random.sample(course.machines, 2)
    length = course.profile.timing.dead * world.random.uniform(0.2, 4.0)
    world.struck("apart", one.name, f"from {other.name} for {length:.0f} s")
    world.took("apart", length)
    assert service is not None
    service.apart[frozenset((one.number, other.number))] = world.now + length


def _back_up(course: Course, after_s: float) -> None:
    machine = course.world.random.choice(course.machines)
    held = machine.ground.disk.contents.below(course.workspace.root)
    course.world.at(course.world.now + after_s, lambda: _restore(course, machine, held))


def _restore(course: Course, machine: Machine, held: dict[str, bytes]) -> None:
    """The folder of one machine is as it was some time ago, and the service takes that for news."""
    if machine.dead or course.world.calm:
        return
    course.world.struck("restore", machine.name)
    ground, root = machine.ground, course.workspace.root
    there = ground.disk.contents.below(root)
    # Some programs put files back, others the folder: what came since is gone. Not plans, which nobody has but who is at work;
    # and a folder without a word of anybody is one to begin anew in.
    begun = any((root / name).parent == course.workspace.journals for name in held)
    since = there.keys() - held.keys() if begun and course.world.random.random() < 0.8 else set[str]()
    since = {name for name in since if (root / name).parent != course.workspace.plans}
    if since:
        course.world.struck("rewind", machine.name)
    for name in (*held, *sorted(since)):
        path, data = root / name, held.get(name)
        if path.suffix == ".tmp" or there.get(name) == data:
            continue
        if data is None:
            del ground.disk.contents[path]
        else:
            ground.disk.contents[path] = data
        if course.service is not None and ground.replica is not None:
            course.service.changed(ground.replica, path)


def _retire(course: Course) -> None:
    """A machine is away for so long that somebody takes it for lost and says so; then it comes back."""
    world, random = course.world, course.world.random
    lost, other = random.sample(course.machines, 2)
    if lost.dead or other.dead or world.calm:
        return
    length = course.profile.timing.dead * random.uniform(0.2, 3.0)
    world.struck("taken for lost", lost.name, f"for {length:.0f} s")
    world.took("taken for lost", length)
    lost.leave_for(length, asleep=random.random() < 0.5)

    def command(machine: Machine, process: Process) -> None:
        queue = machine.queue(process)
        try:
            queue.refresh()
            if (gone := lost.machine_id()) in map(machine_of, queue.store.fold.workers):
                world.struck("retired in life", process.name, gone)
                queue.control("retire", value=gone)
        except FedspecError as error:
            world.note(process.name, f"error: {error.what}")

    other.start(length * random.random(), command)


def _evening(course: Course) -> None:
    """All workers are stopped in order. They are started again, some of them before they hear of the others."""
    world, random = course.world, course.world.random
    world.struck("evening", "world")
    for machine in course.living:
        night = course.profile.timing.dead * random.uniform(0.5, 2.0)
        if random.random() < 0.5:
            away = course.profile.timing.dead * random.uniform(0.5, 4.0)
            world.took("evening", away)
            # It still hears that the others have left.
            world.at(world.now + 0.9 * night, lambda m=machine, s=away: m.leave_for(s, asleep=False))  # type: ignore[misc]
        for stop in machine.stops.values():
            stop.request()
            machine.start(night, course.work)


def _person(course: Course) -> None:
    """Somebody gives a command on some machine, or writes into the queue for people."""
    random = course.world.random
    machine = random.choice(course.living)
    item = random.choice(course.items)
    if random.random() < 0.4:
        _edit_by_hand(course, machine, item)
        return
    op = random.choice(["release", "retry", "cancel", "priority"])
    value = str(random.randint(1, 9)) if op == "priority" else ""

    def command(machine: Machine, process: Process) -> None:
        queue = machine.queue(process)
        try:
            queue.refresh()
            if item.id in queue.store.items:
                course.world.struck(f"queue {op}", machine.name, item.exp)
                queue.control(op, item, value)
                if op == "cancel":
                    process.sleep(random.uniform(0.0, 1200.0))
                    course.world.struck("queue resume", machine.name, item.exp)
                    queue.control("resume", item)
        except FedspecError as error:
            course.world.note(process.name, f"error: {error.what}")

    machine.start(0.0, command)


def _edit_by_hand(course: Course, machine: Machine, item: Item) -> None:
    """Somebody opens the queue for people in an editor, gives one entry another status, and saves."""
    random, ground, view = course.world.random, machine.ground, course.workspace.view
    status = random.choice(["pending", "failed", "completed"])
    try:
        entries = msgspec.json.decode(ground.disk.contents.get(view, b""))
    except msgspec.DecodeError:
        return  # not there yet, or not whole
    edited = [entry | {"status": status} if entry.get("id") == item.id else entry for entry in entries]
    if edited == entries:
        return
    course.world.struck(f"edit {status}", machine.name, item.exp)
    data = ground.disk.contents[view] = msgspec.json.encode(edited)
    course.books.commands.edits.add(hashlib.sha256(data).hexdigest())
    if ground.service is not None and ground.replica is not None:
        ground.service.changed(ground.replica, view)

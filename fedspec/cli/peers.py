"""What ``fedspec doctor`` finds out about the other machines: when last seen, how wrong the clocks are, what they run.

Wall clocks decide nothing in the queue; a clock that is off only makes what people read wrong.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from fedspec.cli.doctor import Finding

if TYPE_CHECKING:
    from fedspec.workqueue.distributor import WorkDistributor
    from fedspec.workqueue.store import Beat

LOOK_EVERY_S = 0.25
# Beats tell whole seconds, and a share hands them on within about one.
CLOCK_RESOLUTION_S = 2.0
WORST_CLOCK_S = 60.0
# A peer whose last beat is older than this is not listened for.
RECENT_S = 600.0


def peers(queue: WorkDistributor) -> Iterator[Finding]:
    """A line for each machine other than this one, the last seen first."""
    import fedspec
    from fedspec.workqueue.records import machine_of
    from fedspec.workqueue.wording import one_line

    me = queue.slots.machine_id() if queue.files.size(queue.slots.local.machine) is not None else ""
    theirs = {worker: beat for worker, beat in queue.store.beats.items() if machine_of(worker) != me}
    offsets = _offsets(queue, theirs)
    latest: dict[str, str] = {}
    for worker in sorted(theirs, key=lambda worker: queue.store.beats[worker].wall, reverse=True):
        latest.setdefault(machine_of(worker), worker)
    for machine, worker in latest.items():
        measured = [offset for other, offset in offsets.items() if machine_of(other) == machine]
        yield _seen(queue, worker, min(measured, key=abs) if measured else None)
        hello = queue.store.fold.workers[worker].hello if worker in queue.store.fold.workers else None
        if hello is not None and hello.fedspec not in ("", fedspec.__version__):
            text = (
                f"{queue.machine_name(worker)} runs fedspec {one_line(hello.fedspec, 40)}, this machine {fedspec.__version__}"
            )
            yield Finding("warn", text, "Update the older one: git pull, then set up again.")


def _offsets(queue: WorkDistributor, known: Mapping[str, Beat]) -> dict[str, float]:
    """Worker -> seconds that this machine's clock is ahead, for each whose next beat arrives while we listen.

    Where copies meet later a beat's way takes longer than clocks differ, so there it is not tried.
    """
    now = queue.clock.now()
    waiting = {
        worker: beat.n
        for worker, beat in known.items()
        if not queue.store.fold.gone(worker) and abs(_behind(beat, now) or RECENT_S) < RECENT_S
    }
    offsets: dict[str, float] = {}
    until = queue.clock.monotonic() + (0.0 if queue.timing.syncs else queue.timing.beat + queue.timing.poll)
    while waiting and queue.clock.monotonic() < until:
        queue.clock.sleep(LOOK_EVERY_S * min(1.0, queue.timing.scale))
        queue.store.read_beats()
        for worker in [w for w, n in waiting.items() if queue.store.beats[w].n != n]:
            del waiting[worker]
            behind = _behind(queue.store.beats[worker], queue.clock.now())
            if behind is not None:
                offsets[worker] = behind - 0.5  # on average; the beat's time is cut to whole seconds
    return offsets


def _seen(queue: WorkDistributor, worker: str, offset: float | None) -> Finding:
    from fedspec.workqueue.progress import in_words

    name = queue.machine_name(worker)
    behind = _behind(queue.store.beats[worker], queue.clock.now()) or 0.0
    if offset is None and behind < -CLOCK_RESOLUTION_S:
        offset = behind  # a sign from the future: its clock is ahead by at least this
    if offset is None:
        gone = ", has left" if queue.store.fold.gone(worker) else ""
        return Finding("ok", f"{name} seen ~{in_words(max(0.0, behind))} ago{gone}")
    if abs(offset) <= CLOCK_RESOLUTION_S:
        return Finding("ok", f"{name} seen just now, clocks agree")
    text = f"{name} seen just now, its clock is ~{in_words(abs(offset))} {'behind' if offset > 0 else 'ahead'}"
    if abs(offset) < WORST_CLOCK_S:
        return Finding("ok", text)
    return Finding("warn", text, "Let both machines set their clocks by themselves; only the times you read are wrong.")


def _behind(beat: Beat, now: datetime) -> float | None:
    """Seconds from a beat's wall time to ours, negative if it is in our future; None if it holds no time."""
    try:
        then = datetime.strptime(beat.wall, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    except ValueError:
        return None
    return (now - then).total_seconds()

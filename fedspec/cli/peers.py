"""What ``fedspec doctor`` finds out about the other machines: when last seen, how wrong the clocks are, what they run.

Wall clocks decide nothing in the queue; a clock that is off only makes what people read wrong.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import TYPE_CHECKING

from fedspec.cli.findings import Finding
from fedspec.clock import moment
from fedspec.workqueue.wording import in_words

if TYPE_CHECKING:
    from fedspec.workqueue.distributor import WorkDistributor
    from fedspec.workqueue.modes import Choice
    from fedspec.workqueue.store import Beat

LOOK_EVERY_S = 0.25
# Beats tell whole seconds, and a share hands them on within about one.
CLOCK_RESOLUTION_S = 2.0
WORST_CLOCK_S = 60.0
# A peer whose last beat is older than this is not listened for.
RECENT_S = 600.0


def peers(queue: WorkDistributor, choice: Choice) -> Iterator[Finding]:
    """A line for each machine other than this one, the last seen first."""
    import fedspec
    from fedspec.workqueue.records import machine_of
    from fedspec.workqueue.wording import one_line

    me = queue.slots.machine_id() if queue.files.size(queue.slots.local.machine) is not None else ""
    theirs = {worker: beat for worker, beat in queue.store.beats.items() if machine_of(worker) != me}
    offsets = _offsets(queue, theirs)
    met = {peer.machine: peer for peer in choice.measured.peers} if choice.measured is not None else {}
    latest: dict[str, str] = {}
    for worker in sorted(theirs, key=lambda worker: queue.store.beats[worker].wall, reverse=True):
        latest.setdefault(machine_of(worker), worker)
    for machine, worker in latest.items():
        measured = [offset for other, offset in offsets.items() if machine_of(other) == machine]
        then = met[machine].clock_s if machine in met else None
        yield _seen(queue, worker, min(measured, key=abs) if measured else None, None if then is None else -then)
        name = queue.machine_name(worker)
        hello = queue.store.fold.workers[worker].hello if worker in queue.store.fold.workers else None
        if hello is not None and hello.fedspec not in ("", fedspec.__version__):
            text = f"{name} runs fedspec {one_line(hello.fedspec, 40)}, this machine {fedspec.__version__}"
            yield Finding("warn", "version", text, "Update the older one: git pull, then set up again.")
        if choice.mode == "network" and choice.locks and machine not in met:
            fix = "Run 'fedspec doctor --pair' on it and on this one at about the same time."
            yield Finding("warn", "locks", f"{name} has not shown yet whether locks exclude it", fix)


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


def _seen(queue: WorkDistributor, worker: str, offset: float | None, measured: float | None) -> Finding:
    """``offset`` was found now, ``measured`` when the machines met: seconds that this machine's clock is ahead."""
    name = queue.machine_name(worker)
    behind = _behind(queue.store.beats[worker], queue.clock.now()) or 0.0
    seen = "just now"
    if offset is None and behind < -CLOCK_RESOLUTION_S:
        offset = behind  # a sign from the future: its clock is ahead by at least this
    if offset is None:
        seen, offset = f"~{in_words(max(0.0, behind))} ago", measured
        if queue.store.fold.gone(worker):
            seen += ", has left"
    if offset is None:
        return Finding("ok", "peer", f"{name} seen {seen}")
    if abs(offset) <= CLOCK_RESOLUTION_S:
        return Finding("ok", "peer", f"{name} seen {seen}, clocks agree")
    text = f"{name} seen {seen}, its clock is ~{in_words(abs(offset))} {'behind' if offset > 0 else 'ahead'}"
    if abs(offset) < WORST_CLOCK_S:
        return Finding("ok", "peer", text)
    fix = "Let both machines set their clocks by themselves; only the times you read are wrong."
    return Finding("warn", "peer", text, fix)


def _behind(beat: Beat, now: datetime) -> float | None:
    """Seconds from a beat's wall time to ours, negative if it is in our future; None if it holds no time."""
    then = moment(beat.wall)
    return None if then is None else (now - then).total_seconds()

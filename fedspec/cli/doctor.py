"""``fedspec doctor``: check this machine and the shared folder."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import typer

from fedspec.cli.console import JsonOption, WorkspaceOption, emit_json, stdout
from fedspec.errors import FedspecError

if TYPE_CHECKING:
    from fedspec.workqueue.distributor import WorkDistributor

LOW_BYTES = 1 << 30
LOCK_PROBE_S = 5.0


@dataclass(frozen=True, slots=True)
class Finding:
    """One line: ``ok``, ``warn`` or ``error``, what was found, and what to do about it."""

    level: str
    text: str
    fix: str = ""


def doctor(json: JsonOption = False, workspace: WorkspaceOption = None) -> None:
    """Check this machine and the shared folder."""
    from fedspec.cli.opening import open_queue

    findings = list(_machine())
    try:
        queue = open_queue(workspace)
        findings += [*_folder(queue), *_queue(queue)]
    except FedspecError as error:
        findings.append(Finding("error", error.what, error.fix))
    if json:
        emit_json(findings=[asdict(finding) for finding in findings])
    else:
        styles = {"ok": "green", "warn": "yellow", "error": "red"}
        for finding in findings:
            stdout().print(f"[{styles[finding.level]}]{finding.level:<6}[/] {_escaped(finding.text)}", soft_wrap=True)
            if finding.fix:
                stdout().print(f"       fix: {_escaped(finding.fix)}", soft_wrap=True)
    if any(finding.level == "error" for finding in findings):
        raise typer.Exit(3)


def _machine() -> Iterator[Finding]:
    import torch

    from fedspec.devices import describe, resolve

    yield Finding("ok", f"Python {platform.python_version()}, PyTorch {torch.__version__}")
    yield Finding("ok", f"device {describe(resolve())}")


def _folder(queue: WorkDistributor) -> Iterator[Finding]:
    from fedspec.workspace import folder_kind

    root = queue.workspace.root
    kind = folder_kind(root)
    yield Finding("ok", f"shared folder {root} ({kind.label}: {kind.mode} mode)")
    yield _probe(queue)
    free = queue.files.free_bytes(root)
    enough = free >= LOW_BYTES
    text = f"{free / 2**30:.1f} GiB free"
    yield Finding("ok", text) if enough else Finding("warn", text, "Free some space before a long run.")


def _probe(queue: WorkDistributor) -> Finding:
    """Write, lock, rename and delete a file, as the queue does."""
    probe = queue.workspace.quarantined("probe")
    try:
        with queue.files.lock(queue.workspace.queue_lock, LOCK_PROBE_S) as locked:
            queue.files.write(probe, b"probe")
            queue.files.append(probe, b"!")
            intact = queue.files.read(probe) == b"probe!"
            queue.files.remove(probe)
    except FedspecError as error:
        return Finding("error", error.what, error.fix)
    if not intact:
        return Finding("error", "what was written to the folder comes back different", "Check the share's client and its disk.")
    if not locked:
        return Finding(
            "warn", f"{queue.workspace.queue_lock} is held by another process", "Look for a stopped fedspec process."
        )
    return Finding("ok", "write, lock and rename work")


def _queue(queue: WorkDistributor) -> Iterator[Finding]:
    from fedspec.workqueue.progress import elapsed_s, in_words
    from fedspec.workqueue.rules import machine_of

    state = queue.progress()
    if not state.lines:
        yield Finding("warn", "no work queue here", "Start one with 'fedspec run quick', or wait for the folder to sync.")
        return
    yield Finding("ok", f"queue found: {len(state.lines)} items, {state.completed} done")
    newest: dict[str, float] = {}
    for worker, beat in queue.store.beats.items():
        age = elapsed_s(beat.wall, queue.clock.now())
        if age is not None:
            newest[machine_of(worker)] = min(age, newest.get(machine_of(worker), age))
    for machine, age in newest.items():
        yield Finding("ok", f"{queue.machine_name(machine)} seen ~{in_words(age)} ago")
    for note in state.notes:
        yield Finding("warn", note, "Nothing is lost: damaged files are left out, and written again from the journals.")


def _escaped(text: str) -> str:
    from rich.markup import escape

    return escape(text)

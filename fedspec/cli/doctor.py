"""``fedspec doctor``: check this machine and the shared folder."""

from __future__ import annotations

import platform
import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from fedspec.cli.console import emit_json, say
from fedspec.cli.options import JsonOption, TimeScaleOption, WorkspaceOption
from fedspec.errors import FedspecError

if TYPE_CHECKING:
    from fedspec.folders import FolderKind
    from fedspec.workqueue.distributor import WorkDistributor

LOW_BYTES = 1 << 30
LOCK_PROBE_S = 5.0
PIN = "right-click the folder > Always keep on this device"
# How to keep a sync service from replacing files by placeholders, by service; on a Mac some words differ.
KEEP = {
    "iCloud Drive": ("iCloud", PIN, "right-click the folder in Finder > Keep Downloaded"),
    "OneDrive": ("OneDrive", PIN, PIN.capitalize()),
    "Dropbox": ("Dropbox", "right-click the folder > Dropbox > Make available offline", ""),
    "a cloud drive": ("the cloud drive", "right-click the folder > Available offline", ""),
}
MODES = {
    "local": "local mode: only processes of this machine see it",
    "network": "network mode: locks of all machines",
    "sync": "sync mode: copies meet later, locks exclude nobody",
}


@dataclass(frozen=True, slots=True)
class Finding:
    """One line: ``ok``, ``warn`` or ``error``, what was found, and what to do about it."""

    level: str
    text: str
    fix: str = ""


def doctor(json: JsonOption = False, workspace: WorkspaceOption = None, time_scale: TimeScaleOption = 1.0) -> None:
    """Check this machine and the shared folder; every complaint names its fix.

    Where peers are at work it listens for a few seconds to compare clocks. Exit code 3 if something must be fixed.
    """
    from fedspec.cli.opening import open_queue

    findings: list[Finding] = []
    for finding in _all(lambda: open_queue(workspace, time_scale)):
        findings.append(finding)
        if not json:
            say(f"{finding.level:<6} {finding.text}" + (f"\n       fix: {finding.fix}" if finding.fix else ""))
    if json:
        emit_json({"findings": [asdict(finding) for finding in findings]})
    if any(finding.level == "error" for finding in findings):
        raise typer.Exit(3)


def _all(open_: Callable[[], WorkDistributor]) -> Iterator[Finding]:
    from fedspec.cli.peers import peers

    yield from _machine()
    try:
        queue = open_()
        yield from _folder(queue)
        yield from _queue(queue)
        yield from peers(queue)
    except FedspecError as error:
        yield Finding("error", error.what, error.fix)


def _machine() -> Iterator[Finding]:
    try:
        import torch

        from fedspec.devices import describe, resolve
    except (ImportError, OSError) as error:
        yield Finding("error", f"PyTorch cannot be imported: {error}", "Run ./setup.sh again (Windows: setup_windows.bat).")
        return
    yield Finding("ok", f"Python {platform.python_version()}, PyTorch {torch.__version__}")
    device = resolve()
    yield Finding("ok", f"device {device.type}: {describe(device)}")
    if device.type != "cuda" and shutil.which("nvidia-smi"):
        fix = "Run ./setup.sh again (Windows: setup_windows.bat); it picks PyTorch with CUDA."
        yield Finding("warn", "there is an NVIDIA driver, but this PyTorch cannot use it", fix)


def _folder(queue: WorkDistributor) -> Iterator[Finding]:
    from fedspec.folders import folder_kind
    from fedspec.workqueue.progress import in_words

    root, timing = queue.workspace.root, queue.timing
    kind = folder_kind(root)
    yield Finding("ok", f"shared folder {root} ({kind.label}; {MODES[kind.mode]})")
    settle = f"; a claim waits {in_words(timing.settle)} for rivals" if timing.settle else ""
    yield Finding("ok", f"a machine silent for {in_words(timing.dead)} loses its item to another{settle}")
    yield from _placeholders(kind)
    yield _probe(queue)
    free = queue.files.free_bytes(root)
    text = f"{free / 2**30:.1f} GiB free"
    yield Finding("ok", text) if free >= LOW_BYTES else Finding("warn", text, "Free some space before a long run.")


def _placeholders(kind: FolderKind) -> Iterator[Finding]:
    if kind.label in KEEP:
        service, fix, on_mac = KEEP[kind.label]
        fix = on_mac if on_mac and platform.system() == "Darwin" else fix
        yield Finding("warn", f"{service} may remove local copies from this folder", fix)


def _probe(queue: WorkDistributor) -> Finding:
    """Write, append, lock and delete a file as the queue does; a folder without a queue is left as it was."""
    place, files = queue.workspace, queue.files
    probe = place.queue / "doctor.probe"
    fresh = not place.queue.is_dir()
    try:
        with files.lock(place.queue_lock, LOCK_PROBE_S) as locked:
            files.write(probe, b"probe")
            files.append(probe, b"!")
            intact = files.read(probe) == b"probe!"
            files.remove(probe)
        if fresh:
            files.remove(place.queue_lock)
            _forget(place.queue)
    except FedspecError as error:
        return Finding("error", error.what, error.fix)
    if not intact:
        return Finding("error", "what was written to the folder comes back different", "Check the share's client and its disk.")
    if not locked:
        return Finding("warn", f"{place.queue_lock} is held by another process", "Look for a stopped fedspec process.")
    return Finding("ok", "write, append, lock and delete work")


def _forget(folder: Path) -> None:
    try:
        folder.rmdir()
    except OSError:
        return  # somebody has put something there in the meantime


def _queue(queue: WorkDistributor) -> Iterator[Finding]:
    state = queue.progress()
    if not state.lines:
        yield Finding("warn", "no work queue here", "Start one with 'fedspec run quick', or wait for the folder to sync.")
        return
    failed = state.count("failed")
    done = f"{len(state.lines)} items, {state.completed} done" + (f", {failed} failed" if failed else "")
    yield Finding("ok", f"queue found: {done}")
    for note in queue.store.notes():
        yield Finding("warn", note, "Nothing is lost: what is damaged is left out, and written again by its owner.")
    kept = queue.files.names(queue.workspace.quarantined(""))
    if kept:
        where = queue.workspace.quarantined("")
        yield Finding(
            "warn", f"{len(kept)} damaged files are kept in {where}", "Check the disk and the share; then delete them."
        )

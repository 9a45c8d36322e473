"""The single checks of ``fedspec doctor``: of this machine, the shared folder, what lies in it, and the queue."""

from __future__ import annotations

import math
import os
import platform
import secrets
import shutil
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from fedspec.cli.findings import Finding
from fedspec.errors import FedspecError
from fedspec.workqueue.modes import names
from fedspec.workqueue.wording import count, in_words

if TYPE_CHECKING:
    from fedspec.workqueue.distributor import WorkDistributor
    from fedspec.workqueue.leftovers import Copy, Leftovers
    from fedspec.workqueue.modes import Choice

LOW_BYTES = 1 << 30
LOCK_PROBE_S = 5.0
SLOW_PROBE_S = 3.0
PIN = "right-click the folder > Always keep on this device"
# How to keep a sync service from replacing files by placeholders, by service; on a Mac some words differ.
KEEP = {
    "iCloud Drive": ("iCloud", PIN, "right-click the folder in Finder > Keep Downloaded"),
    "OneDrive": ("OneDrive", PIN, PIN.capitalize()),
    "Dropbox": ("Dropbox", "right-click the folder > Dropbox > Make available offline", ""),
    "Google Drive": ("Google Drive", "right-click the folder > Offline access > Available offline", ""),
    "Nextcloud": ("Nextcloud", "right-click the folder > Make always available locally", ""),
    "ownCloud": ("ownCloud", "right-click the folder > Make always available locally", ""),
    "a cloud drive": ("the cloud drive", "right-click the folder > Available offline", ""),
}
WORDS = {
    "local": ": only this machine sees it",
    "network": "",
    "sync": ": copies meet later, locks exclude nobody",
}
UNREAD = "Nothing is read from them: delete them when you like."
TAKE_IN = "fedspec work"
PAIR = "Run 'fedspec doctor --pair' on two machines at about the same time."


def machine() -> Iterator[Finding]:
    """Versions and the device."""
    import fedspec

    versions = f"fedspec {fedspec.__version__}, Python {platform.python_version()}"
    try:
        import torch

        from fedspec.devices import describe, resolve
    except (ImportError, OSError) as error:
        yield Finding("ok", "version", versions)
        fix = "Run ./setup.sh again (Windows: setup_windows.bat)."
        yield Finding("error", "version", f"PyTorch cannot be imported: {error}", fix)
        return
    yield Finding("ok", "version", f"{versions}, PyTorch {torch.__version__}")
    device = resolve()
    yield Finding("ok", "device", f"device {device.type}: {describe(device)}")
    if device.type != "cuda" and shutil.which("nvidia-smi"):
        fix = "Run ./setup.sh again (Windows: setup_windows.bat); it picks PyTorch with CUDA."
        yield Finding("warn", "device", "there is an NVIDIA driver, but this PyTorch cannot use it", fix)


def folder(queue: WorkDistributor, choice: Choice, *, named_explicitly: bool) -> Iterator[Finding]:
    """What the folder is, how it is used, and whether it can be."""
    by = "" if named_explicitly or not os.environ.get("FEDSPEC_WORKSPACE") else ", named by FEDSPEC_WORKSPACE"
    root = queue.workspace.root
    yield Finding("ok", "folder", f"shared folder {root} ({choice.kind.label}{by})")
    yield from modes(root, choice, queue.timing.scale)
    yield _probe(queue)
    free = queue.files.free_bytes(root)
    text = f"{free / 2**30:.1f} GiB free"
    low = Finding("warn", "space", text, "Free some space before a long run.")
    yield Finding("ok", "space", text) if free >= LOW_BYTES else low


def modes(root: Path, choice: Choice, scale: float = 1.0) -> Iterator[Finding]:
    """How the folder is used, where that comes from, and what it means."""
    timing = choice.timing(scale)
    yield Finding("ok", "mode", f"{choice.mode} mode ({choice.source}){WORDS[choice.mode]}")
    settle = f"; a claim waits {in_words(timing.settle)} for rivals" if timing.settle else ""
    scaled = "" if scale == 1 else f" (all waiting times x {scale:g})"
    yield Finding("ok", "mode", f"a machine silent for {in_words(timing.dead)} loses its item{settle}{scaled}")
    if choice.measured is not None and choice.measured.lag_s is not None:
        lag = choice.measured.lag_s
        told = choice.source.startswith("measured")
        measured = "" if told else f" (measured with {names(choice.measured.peers)} on {choice.measured.wall[:10]})"
        text = f"news takes {seconds(lag.median)}, at worst {seconds(lag.max)}, there and back{measured}"
        yield Finding("ok", "lag", text)
    if choice.mode != choice.kind.mode and choice.mode == "local":
        fix = "Undo it with 'fedspec doctor --mode auto', unless no other machine works here."
        yield Finding("warn", "mode", f"{choice.kind.label} carries this folder to other machines", fix)
    if choice.outdated is not None:
        text = f"what was measured on {choice.outdated.wall[:10]} was another kind of folder ({choice.outdated.kind})"
        yield Finding("warn", "mode", text, PAIR)
    if choice.mode == "network":
        yield _locks(choice)


def _locks(choice: Choice) -> Finding:
    if choice.locks:
        return Finding("ok", "locks", "locks exclude other machines")
    if choice.measured is not None:
        text = "locks of this share exclude nobody; the queue is safe without them"
        return Finding("ok", "locks", text)
    text = "nobody has seen yet whether locks of this share exclude other machines; it is used as if they did not"
    return Finding("warn", "locks", text, PAIR)


def keep(choice: Choice) -> str:
    """How a person keeps the folder's files on this disk."""
    _, fix, on_mac = KEEP.get(choice.kind.label, ("", PIN.capitalize(), ""))
    return on_mac if on_mac and platform.system() == "Darwin" else fix


def _probe(queue: WorkDistributor) -> Finding:
    """Write, rename, append, lock and delete as the queue does; a folder without a queue is left as it was."""
    place, files = queue.workspace, queue.files
    tag = secrets.token_hex(3)
    probe, renamed = place.probe(tag), place.probe(f"{tag}.renamed")
    fresh = not place.queue.is_dir()
    began = time.perf_counter()
    try:
        with files.lock(place.queue_lock, LOCK_PROBE_S) as locked:
            files.write(probe, b"probe")
            files.append(probe, b"!")
            files.move(probe, renamed)
            intact = files.read(renamed) == b"probe!"
            files.remove(renamed)
        took_s = time.perf_counter() - began
        if fresh:
            files.remove(place.queue_lock)
            forget(place.queue)
    except FedspecError as error:
        return Finding("error", "probe", error.what, error.fix)
    except FileNotFoundError:
        fix = "Check the share's client and its disk; a sync client that removes new files must be told to leave them."
        return Finding("error", "probe", f"what was written to {place.queue} is gone at once", fix)
    if not intact:
        what = "what was written to the folder comes back different"
        return Finding("error", "probe", what, "Check the share's client and its disk.")
    if locked is False:
        fix = "Look for a stopped fedspec process; claims do not wait for it longer than for a dead machine."
        return Finding("warn", "probe", f"{place.queue_lock} is held by another process", fix)
    text = f"write, rename, append{', lock' if locked else ''} and delete work ({seconds(took_s)})"
    slow = Finding("warn", "probe", text, "The folder answers slowly; a faster connection to it makes every round shorter.")
    return slow if took_s > SLOW_PROBE_S else Finding("ok", "probe", text)


def forget(folder: Path) -> None:
    """Remove an empty folder."""
    try:
        folder.rmdir()
    except OSError:
        return  # somebody has put something there in the meantime, or it is gone


def traces(queue: WorkDistributor, choice: Choice) -> Iterator[Finding]:
    """What sync clients and killed processes have left in the folder, and what is done about it."""
    from fedspec.workqueue.leftovers import leftovers

    found = leftovers(queue.files, queue.workspace, queue.clock.now().timestamp())
    if found.evicted:
        text = f"{count(len(found.evicted), 'file')} only in the cloud, not on this disk"
        fix = f"{keep(choice)}; until then what needs them waits"
        yield Finding("warn", "evicted", text, fix, tuple(found.evicted))
    elif choice.kind.label in KEEP:
        yield Finding("warn", "evicted", f"{KEEP[choice.kind.label][0]} may remove local copies from this folder", keep(choice))
    lists = [copy for copy in found.copies if copy.is_taken_in(queue.workspace)]
    for is_read in (True, False):
        copies = [copy for copy in found.copies if copy.is_read is is_read and copy not in lists]
        if copies:
            yield _conflicts(copies, "They are read like the originals." if is_read else UNREAD)
    if lists:
        yield _lists(queue, lists)
    if found.temporary:
        text = f"{count(len(found.temporary), 'temporary file')} of killed processes, {size(found.temporary_bytes)}"
        fix = "Delete them when you like: nothing reads them. Workers do, once they are two days old."
        yield Finding("warn", "temporary", text, fix, tuple(found.temporary))
    yield from _view(queue, found)


def _conflicts(copies: list[Copy], what_becomes: str, fix: str = "") -> Finding:
    kinds = Counter(copy.whose for copy in copies)
    what = ", ".join(kind if number == 1 else f"{number} x {kind}" for kind, number in sorted(kinds.items()))
    clients = sorted({copy.client for copy in copies if copy.client})
    by = f" by {' and '.join(clients)}" if clients else ""
    number = "1 conflict copy" if len(copies) == 1 else f"{len(copies)} conflict copies"
    text = f"{number}{by}: {what}. {what_becomes}"
    return Finding("warn" if fix else "ok", "conflicts", text, fix, tuple(copy.path for copy in copies))


def _lists(queue: WorkDistributor, copies: list[Copy]) -> Finding:
    """Copies of the list of the queue: an edit in one of them counts."""
    edits = [queue.caretaker.asked(queue.workspace.root / copy.path) for copy in copies]
    asked = list(dict.fromkeys(edit.summary for edit in edits if edit is not None and edit.asks))
    they = "It asks" if len(copies) == 1 else "They ask"
    if not asked:
        return _conflicts(
            copies, f"{they} for nothing new; the next worker clears {'it' if len(copies) == 1 else 'them'} away."
        )
    return _conflicts(copies, f"{they} for what the next worker will do: {'; '.join(asked)}.", TAKE_IN)


def _view(queue: WorkDistributor, found: Leftovers) -> Iterator[Finding]:
    """The list of the queue, where it is not as a worker wrote it."""
    about = {
        "original": f"is the original tools' own list of {count(found.entries, 'item')}",
        "edited": "was changed by hand",
        "damaged": "cannot be read",
    }
    if found.queue not in about:
        return
    edit = queue.caretaker.asked(queue.workspace.view)
    text, fix = f"work_queue.json {about[found.queue]}", "Nothing to do: it is written again by the next worker."
    if edit is not None and edit.kind == "foreign":
        text += "; the next worker keeps a copy of it in quarantine"
    elif edit is not None and edit.asks:
        text, fix = f"{text}; the next worker will take in: {edit.summary}", TAKE_IN
    elif edit is not None and edit.kind == "edited":
        text += "; it asks for nothing that the queue does not know"
    notes = f". {' '.join(edit.notes)}".rstrip(".") if edit is not None and edit.notes else ""
    yield Finding("warn", "view", text + notes, fix)


def queue(queue: WorkDistributor) -> Iterator[Finding]:
    """Whether there is work, and whether its files are sound."""
    state = queue.progress()
    if not state.lines:
        fix = "Start one with 'fedspec run quick', or wait for the folder to sync."
        yield Finding("warn", "queue", "no work queue here", fix)
        return
    failed = state.count("failed")
    done = f"{count(len(state.lines), 'item')}, {state.completed} done" + (f", {failed} failed" if failed else "")
    yield Finding("ok", "queue", f"queue found: {done}")
    for found in state.hindrances:
        if found.about == "unconfirmed":
            yield Finding("warn", "unconfirmed", found.text, found.fix)
    for note in queue.store.notes():
        fix = "Nothing is lost: what is damaged is left out, and written again by its owner."
        yield Finding("warn", "damaged", note, fix)
    where = queue.workspace.quarantined("")
    kept = queue.files.names(where)
    view = queue.workspace.view
    written = [name for name in kept if name.startswith(f"{view.stem}.") and name.endswith(view.suffix)]
    if written:
        text = f"what was written into {view.name} and not obeyed is kept in {where}: {count(len(written), 'copy', 'copies')}"
        yield Finding("ok", "edits", text, files=tuple(str(where / name) for name in written))
    if len(kept) > len(written):
        text = f"{count(len(kept) - len(written), 'damaged file')} kept in {where}"
        yield Finding("warn", "damaged", text, "Check the disk and the share; then delete what is kept there.")


def seconds(value: float) -> str:
    """A short time: ``12 ms``, ``0.34 s``, ``1.2 s``, ``12 s``, ``9 min``."""
    if value < 0.1:
        return f"{1000 * value:.0f} ms"
    return f"{value:.2f} s" if value < 1 else f"{value:.1f} s" if value < 10 else in_words(value)


def size(length: int) -> str:
    """``12 KiB``, ``3.4 MiB``, ``1.2 GiB``."""
    for power, unit in ((30, "GiB"), (20, "MiB")):
        if length >= 1 << power:
            return f"{length / (1 << power):.1f} {unit}"
    return f"{math.ceil(length / 1024)} KiB"

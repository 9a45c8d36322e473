"""How a machine uses a shared folder: which waiting times, and whether the folder's locks count. Decides, and keeps the notes.

A person's word goes first, then what machines found out together (`encounter`), then what the path says (`folders`). Locks of
other machines are trusted only where they were seen to exclude; that loses time and nothing else, since they are never the
safety argument.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Literal, TypeVar

import msgspec

from fedspec.clock import timestamp
from fedspec.errors import UsageError
from fedspec.files import FencedFiles, Files
from fedspec.folders import FolderKind, folder_kind
from fedspec.workqueue import liveness, pairing
from fedspec.workqueue.liveness import Timing
from fedspec.workqueue.pairing import LagSpread, Pair
from fedspec.workspace import LocalState, Workspace

VARIABLE = "FEDSPEC_MODE"
AUTO = "auto"
TIMES: Mapping[str, Timing] = {
    "local": liveness.LOCAL_DISK,
    "network": liveness.NETWORK_SHARE,
    "sync": liveness.SYNC_FOLDER,
}
MODES = (*TIMES, AUTO)

T = TypeVar("T")


class Met(msgspec.Struct, frozen=True, kw_only=True):
    """What was found out with one machine. ``clock_s``: how far its clock is ahead, give or take ``clock_error_s``."""

    machine: str
    name: str
    locks: bool
    lag_s: LagSpread | None = None
    clock_s: float | None = None
    clock_error_s: float | None = None


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """What machines found out about a folder together, as each of them keeps it for itself.

    Attributes:
        mode: ``lock`` where locks exclude every one of ``peers``, else ``sync``.
        kind: the folder's label then. Of another kind of folder the result says nothing.
        lag_s: the slowest peer's.
    """

    v: Literal[1] = 1
    mode: Literal["lock", "sync"]
    kind: str
    lag_s: LagSpread | None
    peers: list[Met]
    wall: str


class _Chosen(msgspec.Struct):
    mode: Literal["local", "network", "sync"]


@dataclass(frozen=True, slots=True)
class Choice:
    """How this machine uses a folder, and why.

    Attributes:
        mode: ``local``, ``network`` or ``sync``.
        locks: whether a lock in the folder is believed to exclude other machines.
        source: where the mode comes from, in words.
        measured: what was found out and still holds; ``outdated`` what was found out about another kind of folder.
    """

    kind: FolderKind
    mode: str
    locks: bool
    source: str
    measured: Measured | None = None
    outdated: Measured | None = None

    def timing(self, scale: float = 1.0) -> Timing:
        """The waiting times, by ``scale``; never shorter than the measured lag asks for."""
        timing = replace(TIMES[self.mode].scaled(scale), locks=self.locks)
        lag = self.measured.lag_s if self.measured is not None else None
        if self.mode == "local" or lag is None:
            return timing
        return timing.at_least(liveness.SETTLE_LAGS * lag.p95, liveness.DEAD_LAGS * lag.p99)


def choose(kind: FolderKind, measured: Measured | None, chosen: str = "", variable: str = "") -> Choice:
    """The mode of a folder.

    Args:
        kind: what the folder's path and file system say.
        measured: what machines found out about it, if they did.
        chosen: what a person told this machine; ``variable`` the environment, which goes before; "" or ``auto`` is nothing.
    """
    holds = measured if measured is not None and measured.kind == kind.label else None
    outdated = measured if holds is None else None
    seen = holds is not None and holds.mode == "lock"
    named, source = (variable, f"set by {VARIABLE}") if variable else (chosen, "set with 'fedspec doctor --mode'")
    if named not in ("", AUTO):
        return Choice(kind, named, named == "local" or (named == "network" and seen), source, holds, outdated)
    if holds is None:
        return Choice(kind, kind.mode, kind.mode == "local", "found from its path", None, outdated)
    # Locks that exclude other machines need a file system that all of them are on, whatever the path looks like.
    mode = "network" if seen or kind.mode == "network" else "sync"
    return Choice(kind, mode, seen, f"measured with {names(holds.peers)} on {holds.wall[:10]}", holds)


def names(peers: Iterable[Met]) -> str:
    """``Windows``, ``Windows and Laptop``."""
    *most, last = [peer.name for peer in peers] or ["nobody"]
    return f"{', '.join(most)} and {last}" if most else last


def result(pairs: Iterable[Pair], kind: FolderKind, wall: datetime) -> Measured:
    """What there is to keep of an encounter."""
    peers = [
        Met(
            machine=pair.machine,
            name=pair.name,
            locks=bool(pair.excludes),
            lag_s=pairing.lag_of(pair.lags),
            clock_s=pair.apart.seconds if pair.apart else None,
            clock_error_s=pair.apart.error_s if pair.apart else None,
        )
        for pair in sorted(pairs, key=lambda pair: pair.machine)
    ]
    lag = None
    for peer in peers:
        lag = pairing.slower(lag, peer.lag_s)
    locks = bool(peers) and all(peer.locks for peer in peers)
    return Measured(mode="lock" if locks else "sync", kind=kind.label, lag_s=lag, peers=peers, wall=timestamp(wall))


class Notes:
    """What this machine knows about one workspace, in its own state, outside the share."""

    def __init__(self, workspace: Workspace, local: LocalState | None = None, files: Files | None = None) -> None:
        self.workspace, self.local, self.files = workspace, local or LocalState.find(), files or FencedFiles(workspace.root)

    @property
    def measured(self) -> Measured | None:
        """What machines found out about the folder together; None if they never did, or if the note is damaged."""
        return self._read(self.local.measured(self.workspace), Measured)

    @property
    def chosen(self) -> str:
        """The mode that a person chose, "" if nobody did."""
        note = self._read(self.local.chosen_mode(self.workspace), _Chosen)
        return "" if note is None else note.mode

    def keep(self, measured: Measured) -> None:
        """Keep what was found out, instead of what was known before."""
        self.files.write(self.local.measured(self.workspace), msgspec.json.encode(measured))

    def choose(self, mode: str) -> None:
        """Keep what a person chose; ``auto`` forgets it. Raises UsageError for what is no mode."""
        path = self.local.chosen_mode(self.workspace)
        if mode == AUTO:
            self.files.remove(path)
        else:
            self.files.write(path, msgspec.json.encode(_Chosen(checked_mode(mode, "--mode"))))  # type: ignore[arg-type]

    def choice(self, environ: Mapping[str, str] = os.environ) -> Choice:
        """How this machine uses the workspace now. Raises UsageError if the environment names no mode."""
        variable = environ.get(VARIABLE, "")
        kind = folder_kind(self.workspace.root)
        return choose(kind, self.measured, self.chosen, variable and checked_mode(variable, VARIABLE))

    def _read(self, path: Path, what: type[T]) -> T | None:
        try:
            return msgspec.json.decode(self.files.read(path), type=what)
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return None


def checked_mode(mode: str, source: str) -> str:
    """``mode``, if there is such a mode. Raises UsageError."""
    if mode not in MODES:
        raise UsageError(f"{source}: there is no mode {mode!r}.", f"Use one of {', '.join(MODES)}.")
    return mode

"""Generations: a run's saved rounds, whole and verified, and what is derived from them for people.

A generation is one immutable file, named by round, attempt, worker and content, so that no two writers ever meet in one. What
the journal says of it, and who may write it, is the queue's business.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Protocol

import msgspec

from fedspec.archives import dump, parse
from fedspec.errors import DamagedError, FolderError, UsageError
from fedspec.files import ORPHANED_S, FencedFiles, Files
from fedspec.results import Row, from_table, to_table
from fedspec.workspace import CheckpointPaths

if TYPE_CHECKING:
    from torch import Tensor

FORMAT = 1
KEEP = 2
# Of a share that is away for a moment the system says other things.
ABSENT = (FileNotFoundError, NotADirectoryError, PermissionError)
# More than any state or base here; a file of zeros as large as a disk must not be read into memory.
MAX_BYTES = 2 << 30
MAX_ABOUT_BYTES = 64 << 10
# The numbers, bounded: no more digits than a reader can count with.
_NAME = re.compile(r"r([0-9]{4,10})\.a([0-9]{2,10})\.([0-9a-f]{1,32}-[0-9a-f]{1,32})\.([0-9a-f]{12})\.pt")


class Recorded(Protocol):
    """What the journal says of a generation."""

    @property
    def round(self) -> int: ...  # noqa: D102
    @property
    def file(self) -> str: ...  # noqa: D102
    @property
    def sha256(self) -> str: ...  # noqa: D102
    @property
    def base(self) -> str: ...  # noqa: D102


_Count = Annotated[int, msgspec.Meta(ge=0, le=(1 << 53) - 1)]


class _About(msgspec.Struct):
    """The copy for people."""

    experiment: Annotated[str, msgspec.Meta(max_length=200)]
    generation: str | None = None
    sha256: str | None = None
    item: str | None = None
    round: _Count | None = None
    rounds: _Count | None = None
    accuracy: float | None = None
    attempt: _Count | None = None
    worker: str | None = None
    machine: str | None = None


@dataclass(frozen=True, slots=True)
class Generation:
    """A saved round on disk. ``sha256`` is the hash of the file's bytes, ``data`` those bytes."""

    file: str
    sha256: str
    data: bytes


@dataclass(frozen=True, slots=True)
class Unusable:
    """A journalled generation that a run cannot go on from, and why, as the rest of a sentence: ``is damaged`` ...

    ``passing``: its bytes could not be had just now; a later look may find them.
    """

    round: int
    why: str
    passing: bool = False


@dataclass(frozen=True, slots=True)
class Resumed:
    """A generation as a run needs it to go on.

    Attributes:
        state: the engine's state after ``round``, on the CPU.
        rows: the rows of rounds 1 to ``round``.
        base: hash of the frozen base that the state belongs to.
    """

    round: int
    state: dict[str, Any]
    rows: list[Row]
    base: str
    file: str


class CheckpointManager:
    """The checkpoints' folder."""

    def __init__(self, folder: str | Path = "checkpoints_distributed", files: Files | None = None) -> None:
        self.paths = CheckpointPaths(Path(folder))
        self.files = files or FencedFiles(self.paths.root)
        self._whole: set[tuple[str, str, str]] = set()
        self._looks: dict[tuple[str, str, str], tuple[int, int]] = {}  # its size, and how often it was asked for

    def save(
        self,
        exp: str,
        item_id: str,
        round_: int,
        attempt: int,
        worker: str,
        state: Mapping[str, Any],
        rows: Sequence[Row],
        base: str,
    ) -> Generation:
        """Write one generation and wait until it would survive a power cut; the journal may name it afterwards."""
        # As text: a pickle is asked of every single value whether it is a tensor.
        table = msgspec.json.encode(to_table(rows)).decode()
        data = dump({"format": FORMAT, "item": item_id, "round": round_, "base": base, "rows": table, "state": dict(state)})
        sha256 = hashlib.sha256(data).hexdigest()
        file = f"r{round_:04d}.a{attempt:02d}.{worker}.{sha256[:12]}.pt"
        self.files.write(self.paths.generation(exp, file), data)
        return Generation(file, sha256, data)

    def latest(
        self, exp: str, item_id: str, recorded: Iterable[Recorded], quarantine: Path | None
    ) -> tuple[Resumed | None, list[Unusable]]:
        """The first of ``recorded`` (the latest first) whose bytes are what its writer wrote.

        Returns:
            The generation, or None if there is no intact one; and those before it that cannot be used.
        """
        recorded = list(recorded)
        # One look at the folder: a journal may tell of any number of files that are not there.
        present = set(self.files.names(self.paths.generations(exp))) if recorded else set()
        unusable: list[Unusable] = []
        for ckpt in recorded:
            if not _is_named(ckpt) or ckpt.file not in present:
                unusable.append(Unusable(ckpt.round, "is not in this folder (yet)"))
                continue
            try:
                data = self._intact(exp, ckpt)
            except ABSENT:
                unusable.append(Unusable(ckpt.round, "is not in this folder (yet)"))
                continue
            except BlockingIOError:
                unusable.append(Unusable(ckpt.round, "is still being downloaded", passing=True))
                continue
            except (OSError, FolderError) as error:
                if isinstance(error, FolderError) and error.passing:
                    raise  # the folder is away: no reason to begin at an earlier round
                why = f"cannot be read ({getattr(error, 'strerror', None) or type(error).__name__})"
                unusable.append(Unusable(ckpt.round, why, passing=True))
                continue
            if data is None:
                unusable.append(Unusable(ckpt.round, "is damaged"))
                if quarantine is not None:
                    self._set_aside(exp, ckpt.file, quarantine)
            elif (resumed := _resumed(data, item_id, ckpt)) is not None:
                return resumed, unusable
            else:
                # Its bytes are what its writer wrote: another version of fedspec may read them.
                unusable.append(Unusable(ckpt.round, "cannot be read by this version"))
        return None, unusable

    def last(self, exp: str, item_id: str, recorded: Iterable[Recorded], copied: str) -> Resumed | None:
        """The latest of ``recorded`` that is whole here: a generation, or the copy for people.

        Args:
            recorded: the latest first.
            copied: the name that the copy carries; it stays when the generations of a finished experiment go.
        """
        recorded = list(recorded)
        found, _ = self.latest(exp, item_id, recorded, None)
        with suppress(OSError):
            data = self.files.read(self.paths.model(copied), 0, MAX_BYTES)
            sha256 = hashlib.sha256(data).hexdigest()
            meant = next((ckpt for ckpt in recorded if ckpt.sha256 == sha256), None)
            if meant is not None and (found is None or meant.round > found.round):
                found = _resumed(data, item_id, meant) or found
        return found

    def derive(self, exp: str, generation: Generation, facts: Mapping[str, Any], *, durable: bool = False) -> None:
        """Refresh the copies for people: the model first, then the JSON that names its hash. ``durable``: no others follow."""
        self.files.write(self.paths.model(exp), generation.data, durable=durable)
        about = {"experiment": exp, "generation": generation.file, "sha256": generation.sha256, **facts}
        text = msgspec.json.format(msgspec.json.encode(about), indent=2) + b"\n"
        self.files.write(self.paths.progress(exp), text, durable=durable)

    def saved(self, exp: str, ckpt: Recorded) -> Generation | None:
        """A journalled generation as it is on disk, if it is here and intact."""
        with suppress(OSError):
            data = self._intact(exp, ckpt)
            return None if data is None else Generation(ckpt.file, ckpt.sha256, data)
        return None

    def prune(self, exp: str, recorded: Iterable[Recorded], everywhere: float = float("inf")) -> None:
        """Delete those of ``recorded`` that are of rounds below the two latest that are here. Others' files stay.

        Rounds above ``everywhere`` do not count as here: not all who may go on from them have them.
        """
        present = set(self.files.names(self.paths.generations(exp)))
        # By their names too: a record of round 1 that names the file of round 20 must not cost that one.
        here = [ckpt for ckpt in recorded if ckpt.file in present and _is_named(ckpt)]
        rounds = sorted({ckpt.round for ckpt in here if ckpt.round <= everywhere}, reverse=True)
        for ckpt in here:
            if len(rounds) >= KEEP and ckpt.round < rounds[KEEP - 1]:
                self.files.remove(self.paths.generation(exp, ckpt.file))

    def whole(self, exp: str, ckpt: Recorded) -> bool:
        """Whether the generation is here, with the bytes that its writer journalled, as far as can be told just now.

        Each is read once, a damaged one again when it has another size, and ever more seldom: some sync clients give a file its
        size first and its bytes later.
        """
        key = (exp, ckpt.file, ckpt.sha256)
        with suppress(OSError, FolderError, UsageError):
            size = self.files.size(self.paths.generation(exp, ckpt.file)) if _is_named(ckpt) else None
            if size is None:
                return False
            if key not in self._whole:
                before, looks = self._looks.get(key, (size, 0))
                looks = looks + 1 if before == size else 1
                if not looks & (looks - 1) and self._intact(exp, ckpt) is not None:  # at the 1st, 2nd, 4th, 8th ...
                    self._whole.add(key)
                self._looks[key] = size, looks
        return key in self._whole

    def clear(self, exp: str, recorded: Iterable[Recorded]) -> None:
        """Delete all of ``recorded``: the result is final."""
        present = set(self.files.names(self.paths.generations(exp)))
        for ckpt in recorded:
            if ckpt.file in present and _is_named(ckpt):
                self.files.remove(self.paths.generation(exp, ckpt.file))
        self.files.remove_orphans(self.paths.generations(exp), ORPHANED_S)

    def save_base(self, tensors: Mapping[str, Tensor]) -> str:
        """Write a frozen base once, named by its content; returns its name."""
        data = dump(dict(tensors))
        sha = hashlib.sha256(data).hexdigest()[:12]
        known = None
        with suppress(OSError):  # what cannot be read is written again: these are its bytes
            known = self._base(sha)
        if known is None:
            self.files.write(self.paths.base(sha), data)
        return sha

    def load_base(self, sha: str) -> dict[str, Tensor] | None:
        """The frozen base of this name, or None if it is not here, not what its name says, or no tensors by name.

        Raises:
            OSError: its bytes cannot be had just now; a later look may find them.
        """
        data = self._base(sha)
        if data is None:
            return None
        try:
            tensors = parse(data, f"base {sha}")
        except DamagedError:
            return None
        return tensors if all(hasattr(value, "numel") for value in tensors.values()) else None

    def _base(self, sha: str) -> bytes | None:
        try:
            path = self.paths.base(sha)
            if (self.files.size(path) or 0) > MAX_BYTES:
                return None
            data = self.files.read(path)
        except (FileNotFoundError, NotADirectoryError, UsageError):
            return None
        return data if hashlib.sha256(data).hexdigest()[:12] == sha else None

    def list_checkpoints(self) -> list[dict[str, Any]]:
        """What can be resumed: per experiment its round, the rounds in all, the accuracy, who saved it and when.

        An experiment whose derived copy is missing or damaged is listed by its newest generation's name.
        """
        listed: dict[str, dict[str, Any]] = {}
        for name in self.files.names(self.paths.root):
            if name.endswith(".json"):
                about = self._about(self.paths.root / name)
                if about is not None:
                    listed[about["experiment"]] = about
        for exp in set(self.files.folders(self.paths.root / "gen")) - {"base"} - listed.keys():
            with suppress(UsageError):  # no name of ours
                matches = [m for m in map(_NAME.fullmatch, self.files.names(self.paths.generations(exp))) if m]
                if matches:
                    newest = max(matches, key=lambda m: (int(m[1]), int(m[2])))
                    listed[exp] = {"experiment": exp, "generation": newest[0], "round": int(newest[1]), "worker": newest[3]}
        return [listed[exp] for exp in sorted(listed)]

    def _intact(self, exp: str, ckpt: Recorded) -> bytes | None:
        """The generation's bytes if they are those that its writer journalled, else None. Raises FileNotFoundError."""
        path = self.paths.generation(exp, ckpt.file)
        if (self.files.size(path) or 0) > MAX_BYTES:
            return None
        data = self.files.read(path)
        return data if hashlib.sha256(data).hexdigest() == ckpt.sha256 else None

    def _set_aside(self, exp: str, file: str, quarantine: Path) -> None:
        with suppress(FileNotFoundError, UsageError, FolderError):  # a peer was faster, the name is none of ours, it is held
            self.files.move(self.paths.generation(exp, file), quarantine / f"{exp}.{file}")

    def _about(self, path: Path) -> dict[str, Any] | None:
        """What the copy for people says, as far as it is of the form that `derive` writes."""
        try:
            about = msgspec.json.decode(self.files.read(path, 0, MAX_ABOUT_BYTES), type=_About)
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return None
        return {key: value for key, value in msgspec.to_builtins(about).items() if value is not None}


def _is_named(ckpt: Recorded) -> bool:
    """Whether the record's file has the name that its writer gives it: of this round and this content."""
    match = _NAME.fullmatch(ckpt.file)
    return match is not None and int(match[1]) == ckpt.round and ckpt.sha256.startswith(match[4])


def _resumed(data: bytes, item_id: str, ckpt: Recorded) -> Resumed | None:
    try:
        payload = parse(data, ckpt.file)
        said, meant = [payload[key] for key in ("format", "item", "round")], [FORMAT, item_id, ckpt.round]
        if [type(value) for value in said] != [int, str, int] or said != meant:  # two tensors are no more equal than not
            return None
        state, table = payload["state"], msgspec.json.decode(payload["rows"])
        if not isinstance(state, dict) or not isinstance(table, dict) or len(table["rows"]) != ckpt.round:
            return None
        rows = from_table(table)
        if any(row.round != number for number, row in enumerate(rows, start=1)):
            return None
        return Resumed(ckpt.round, state, rows, ckpt.base, ckpt.file)
    except (DamagedError, KeyError, TypeError, ValueError, RecursionError):  # texts that are no UTF-8 among them
        return None

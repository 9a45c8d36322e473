"""What came of schedules, kept in a file as they end, so that a campaign of hours that was cut goes on where it was.

One line of JSON a schedule. Files of several machines are put together by appending one to the other.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Collection
from pathlib import Path

import msgspec

import fedspec
from fedspec.errors import UsageError
from fedspec.simulation.campaign import Outcome, profile_of


class _Line(msgspec.Struct):
    """An `Outcome`, the hash of the code that it was found with, and how many machines were asked for, None for any."""

    code: str
    asked: int | None
    profile: str
    seed: int
    machines: int
    broken: tuple[str, ...]
    trace: tuple[str, ...]
    struck: dict[str, int]
    repeated: int
    rounds: int
    naive: dict[str, int]

    def outcome(self) -> Outcome:
        """The outcome."""
        struck, naive = Counter(self.struck), Counter(self.naive)
        about = (self.profile, self.seed, self.machines, self.broken, self.trace)
        return Outcome(*about, struck, self.repeated, self.rounds, naive)


class Ledger:
    """The file of a campaign.

    Args:
        machines, compare: as in `run_one`; what was asked for otherwise, or found with other code, does not count.
    """

    def __init__(self, path: Path, machines: int | None, compare: bool) -> None:
        self.path, self.machines, self.compare = path, machines, compare
        self.code = code_hash()
        # Lines that hold something else: of other code, of other options, or not whole.
        self.others = 0
        self._gap = b""

    def read(self, seeds: Collection[int], name: str | None) -> list[Outcome]:
        """What is known of these seeds, in their order. Raises UsageError if the file cannot be read."""
        known: dict[int, Outcome] = {}
        *lines, rest = self._data().split(b"\n")
        # Whoever was cut may have left half a line: nothing may follow it there.
        self._gap = b"\n" if rest else b""
        for data in (*lines, rest):
            try:
                line = msgspec.json.decode(data, type=_Line)
            except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
                self.others += bool(data)
                continue
            if (line.code, line.asked) != (self.code, self.machines) or (self.compare and not line.naive):
                self.others += 1
            elif line.seed in seeds and line.profile == profile_of(line.seed, name).name:
                known[line.seed] = line.outcome()
        return [known[seed] for seed in sorted(known)]

    def keep(self, outcome: Outcome) -> None:
        """Write one down. Raises UsageError if the file cannot be written."""
        line = msgspec.json.encode({"code": self.code, "asked": self.machines, **msgspec.to_builtins(outcome)})
        try:
            with self.path.open("ab") as file:
                file.write(self._gap + line + b"\n")
            self._gap = b""
        except OSError as error:
            raise self._refused("written", error) from error

    def _data(self) -> bytes:
        try:
            return self.path.read_bytes()
        except FileNotFoundError:
            return b""
        except OSError as error:
            raise self._refused("read", error) from error

    def _refused(self, done: str, error: OSError) -> UsageError:
        return UsageError(f"{self.path} cannot be {done}: {error.strerror}.", "Name a file in a folder that you may write to.")


def code_hash() -> str:
    """12 hex digits over the package's sources: what a schedule has shown holds for the code that it ran."""
    root, digest = Path(fedspec.__file__).parent, hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        digest.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:12]

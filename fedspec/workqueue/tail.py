"""How far files that others write were read: whole lines of a journal piece by piece, and when to try a puzzling file again.

Pure: sizes and bytes in, lines out. Whatever the bytes are, what is kept of them is bounded.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from fedspec.workqueue.records import MAX_LINE_BYTES

PIECE_BYTES = 4 * MAX_LINE_BYTES
# What tells whether the file is still the one that was read: its last line's end, with the hash of the line before.
MARK_BYTES = 256
# No journal of ours has so many: a writer whose file was spoilt goes on in another one.
MAX_DAMAGED_LINES = 1000
# Most files are right again after a poll or two; those of many bytes wait so many times longer as they have of these.
MAX_WAIT_POLLS, WEIGHED_BYTES = 16, 1 << 20


@dataclass(slots=True)
class Tail:
    """One journal file's progress.

    Attributes:
        seen: bytes that were looked at; behind the last line feed they may be the begin of a line.
        offset: where the next line begins; inside a line that is too long, where its rest begins.
        mark: the bytes before ``offset``. If others stand there, another file has taken this one's place.
        skipping: whether ``offset`` is inside a line that is too long.
        damaged: lines that were none of ours.
        refused: lines that too many others are missing before.
    """

    seen: int = 0
    offset: int = 0
    mark: bytes = b""
    skipping: bool = False
    damaged: int = 0
    refused: int = 0

    @property
    def is_no_journal(self) -> bool:
        """Whether to leave the rest of the file alone."""
        return self.damaged > MAX_DAMAGED_LINES

    @property
    def is_odd(self) -> bool:
        """Whether to look again: damaged lines or a torn end may have been other bytes on their way."""
        return self.damaged > 0 or self.refused > 0 or self.seen > self.offset

    def taken_back(self) -> Tail:
        """From where to read an odd file again: behind whole lines only its end is in doubt."""
        return Tail() if self.damaged or self.refused else Tail(self.offset, self.offset, self.mark)

    @property
    def begin(self) -> int:
        """Where to read the next `PIECE_BYTES` from."""
        return self.offset - len(self.mark)

    def feed(self, data: bytes) -> list[bytes] | None:
        """The whole lines in what was read from `begin` on, without line feeds; None if it is another file's."""
        if not data.startswith(self.mark):
            return None
        at = len(self.mark)
        if self.skipping:
            end = data.find(b"\n", at)
            self.skipping = end < 0
            at = len(data) if self.skipping else end + 1
        whole = max(at, data.rfind(b"\n", at) + 1)
        lines = data[at:whole].split(b"\n")[:-1]
        self.seen = self.begin + len(data)
        if len(data) - whole >= MAX_LINE_BYTES:
            self.skipping, self.damaged, whole = True, self.damaged + 1, len(data)
        self.offset, self.mark = self.begin + whole, data[max(0, whole - MARK_BYTES) : whole]
        return lines


class Puzzles:
    """Files that made no sense so far: tried again when their size changes, and otherwise ever more rarely.

    Their bytes may still be on their way; thousands that are none of ours must not be read at each poll.
    """

    def __init__(self) -> None:
        self._poll = 0
        self._files: dict[str, tuple[int, int, int]] = {}  # size, polls to wait, the poll of the next try

    def poll(self, present: Collection[str]) -> None:
        """Another look at the folder; files that are not ``present`` are no puzzles any more."""
        self._poll += 1
        if self._files:
            for name in self._files.keys() - set(present):
                del self._files[name]

    def is_due(self, name: str, size: int = 0) -> bool:
        """Whether to read the file."""
        state = self._files.get(name)
        return state is None or state[0] != size or state[2] <= self._poll

    def due(self) -> list[str]:
        """Those whose wait is over, the longest overdue first."""
        late = [name for name, state in self._files.items() if state[2] <= self._poll]
        return sorted(late, key=lambda name: self._files[name][2]) if late else late

    def __contains__(self, name: str) -> bool:
        return name in self._files

    def failed(self, name: str, size: int = 0, *, first: int = 1, held: int = 0) -> None:
        """It made no sense again. ``first``: polls to wait the first time. ``held``: its bytes, where a try reads them all."""
        state = self._files.get(name)
        wait = min(2 * state[1], MAX_WAIT_POLLS) if state is not None and state[0] == size else first
        self._files[name] = (size, wait, self._poll + wait * (1 + held // WEIGHED_BYTES))

    def solved(self, name: str) -> None:
        """It made sense."""
        self._files.pop(name, None)

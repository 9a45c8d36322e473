"""The journal's records: their fields, and their line on disk.

A line is ``crc32 (8 hex) SP canonical JSON LF``. Pure: bytes in, values out.
"""

from __future__ import annotations

import json
import re
import zlib
from base64 import b64decode, b64encode
from collections.abc import Mapping
from hashlib import sha256
from typing import Annotated, Any, Literal

import msgspec

VERSION: Literal[1] = 1
MAX_LINE_BYTES = 1 << 20
# Whoever writes a larger one must not drag everybody beyond what JSON readers hold exactly.
MAX_LAM = (1 << 53) - 1
MAX_COUNT = 1_000_000_000
FIRST = "0" * 16
# All rows of a result: as many as a plan may ask for take less than 2 MiB.
MAX_TABLE_BYTES = 8 << 20

# Becomes a part of file names. What follows the machine's id is new for each process.
_WORKER = r"^[0-9a-z]{1,32}-[0-9a-z]{1,32}\Z"
WorkerName = Annotated[str, msgspec.Meta(pattern=_WORKER)]
# Numbers that a reader can count on from, show, and write again.
Count = Annotated[int, msgspec.Meta(ge=0, le=MAX_COUNT)]
Lamport = Annotated[int, msgspec.Meta(ge=0, le=MAX_LAM)]
LastSeq = Annotated[int, msgspec.Meta(ge=-1, le=MAX_COUNT)]


# Records hold no cycles: the garbage collector need not look at hundreds of thousands of them again and again.
class Record(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What every record has.

    Attributes:
        seq: position in its worker's journal, from 0.
        lam: Lamport time: larger than that of every record its writer had read.
        prev: hash of the worker's previous line, `FIRST` for the first.
        wall: the writer's wall clock, for people only.
    """

    v: Literal[1] = VERSION
    worker: WorkerName
    seq: Count
    lam: Lamport
    prev: str
    wall: str


# A process closes dead workers of its machine: nothing more comes from them than up to the last seq of each.
Closes = dict[WorkerName, LastSeq]


class Hello(Record, frozen=True, kw_only=True, gc=False, tag="hello", tag_field="type"):
    """A process joins."""

    machine: str
    name: str
    capabilities: list[str] = []
    fedspec: str = ""
    mode: str = "lock"
    closes: Closes = {}


class Attempt(Record, frozen=True, kw_only=True, gc=False):
    """A record about one attempt of an item."""

    item: str
    attempt: Count

    @property
    def key(self) -> tuple[int, str]:
        """(attempt, worker): one claim of the item."""
        return self.attempt, self.worker


class Claim(Attempt, frozen=True, kw_only=True, gc=False, tag="claim", tag_field="type"):
    """The worker wants to run the item, or to have the ``role`` in it if several run it together."""

    role: str = ""


class Start(Attempt, frozen=True, kw_only=True, gc=False, tag="start", tag_field="type"):
    """The worker begins, from the generation ``source`` of ``round`` (0: from the beginning) and with the frozen ``base``."""

    round: Count
    base: str
    source: str = ""
    device: str = ""


class Ckpt(Attempt, frozen=True, kw_only=True, gc=False, tag="ckpt", tag_field="type"):
    """A round is saved in the generation ``file``, whose bytes have the hash ``sha256``."""

    round: Count
    file: str
    sha256: str
    base: str
    accuracy: float | None = None


class Yield(Attempt, frozen=True, kw_only=True, gc=False, tag="yield", tag_field="type"):
    """The worker gives the item back and writes nothing more for this attempt."""

    reason: str


class Fail(Attempt, frozen=True, kw_only=True, gc=False, tag="fail", tag_field="type"):
    """The attempt ended in an error.

    ``fault``: ``transient`` (try again later), ``code`` (a few attempts, then the item has failed), ``final`` (no machine will
    ever succeed) or ``capability`` (another machine may).
    """

    fault: str
    reason: str
    traceback: str = ""


class Done(Attempt, frozen=True, kw_only=True, gc=False, tag="done", tag_field="type"):
    """The result itself. ``rows``: `pack_rows` of the table; the result travels inside the event, never beside it."""

    rows: str
    rounds: Count
    accuracy: float | None = None


class Seal(Record, frozen=True, kw_only=True, gc=False, tag="seal", tag_field="type"):
    """Every machine has acknowledged this `Done`: the result never changes again.

    ``line``: `line_hash` of its line, should the author turn out to be two processes; "" in journals of old versions.
    """

    item: str
    attempt: Count
    author: str
    line: str = ""


class Meet(Attempt, frozen=True, kw_only=True, gc=False, tag="meet", tag_field="type"):
    """The root of a gang tells its members where to find it; the ``token`` admits to this attempt alone."""

    addresses: list[str]
    token: str


class Lost(Attempt, frozen=True, kw_only=True, gc=False, tag="lost", tag_field="type"):
    """The root of a gang has lost the ``member`` (a worker) on its link: its role is open again."""

    member: str


class Ctl(Record, frozen=True, kw_only=True, gc=False, tag="ctl", tag_field="type"):
    """What a person asked for.

    ``release`` and ``retry`` hold for attempts up to ``attempt``; ``cancel`` and ``resume`` until a later one says otherwise.
    """

    op: str
    item: str = ""
    attempt: Count = 0
    value: str = ""


class Import(Record, frozen=True, kw_only=True, gc=False, tag="import", tag_field="type"):
    """A hand edit, a conflict copy or the original's queue was taken in; ``content`` is the hash of its bytes."""

    content: str


class Bye(Record, frozen=True, kw_only=True, gc=False, tag="bye", tag_field="type"):
    """The process leaves in order; nothing more comes from it. One that came for a command closes here: it said no hello."""

    reason: str = ""
    closes: Closes = {}


class Fork(Record, frozen=True, kw_only=True, gc=False):
    """No line of any journal: what readers find out. Two processes wrote as this worker; of its records ``seq`` is the last
    that counts, -1 if none does.

    ``disputed``: results, seals and saved rounds in its name from there on, each with its `line_hash`.
    """

    disputed: tuple[tuple[str, Done | Seal | Ckpt], ...] = ()


class Opaque(Record, frozen=True, kw_only=True, gc=False):
    """A record of a type that this version does not know: kept in its chain, ignored otherwise."""


KINDS = Hello | Claim | Start | Ckpt | Yield | Fail | Done | Seal | Meet | Lost | Ctl | Import | Bye
_TYPES = frozenset(str(kind.__struct_config__.tag) for kind in KINDS.__args__)
_is_worker = re.compile(_WORKER).match
_known = msgspec.json.Decoder(KINDS)
_unknown = msgspec.json.Decoder(Opaque)


class _Type(msgspec.Struct):
    type: str


_type = msgspec.json.Decoder(_Type)


def is_worker(name: str) -> bool:
    """Whether a worker may be called so."""
    return _is_worker(name) is not None


def machine_of(worker: str) -> str:
    """The machine id in a worker's name."""
    return worker.partition("-")[0]


def encode(record: Record) -> bytes:
    """One line with its line feed. Raises ValueError if it exceeds `MAX_LINE_BYTES` or no reader would take it."""
    body = msgspec.json.encode(record, order="sorted")
    line = b"%08x %s\n" % (zlib.crc32(body), body)
    if len(line) > MAX_LINE_BYTES:
        raise ValueError(f"a journal line of {len(line)} bytes exceeds {MAX_LINE_BYTES}")
    try:
        _known.decode(body)
    except msgspec.ValidationError as error:
        raise ValueError(f"no reader would take a {type(record).__name__} with {error}") from error
    return line


def decode(line: bytes) -> Record | None:
    """The record of a line without its line feed, or None if the line is damaged or of another format version."""
    body = line[9:]
    if len(line) >= MAX_LINE_BYTES or line[:9] != b"%08x " % zlib.crc32(body):
        return None
    try:
        record: Record = _known.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return _of_another_version(body)
    return record


def _of_another_version(body: bytes) -> Record | None:
    try:
        return None if _type.decode(body).type in _TYPES else _unknown.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None


def line_hash(line: bytes) -> str:
    """16 hex digits that name a line (without its line feed) for its successor's ``prev``."""
    return named(sha256(line).digest())


def named(digest: bytes) -> str:
    """The same of its digest."""
    return digest[:8].hex()


def pack_rows(table: Mapping[str, Any]) -> str:
    """A table of rows as text for a `Done`: JSON, deflated, base64."""
    return b64encode(zlib.compress(json.dumps(table, separators=(",", ":")).encode(), 9)).decode()


def unpack_rows(text: str) -> dict[str, Any]:
    """The inverse of `pack_rows`. Raises ValueError for anything else, and for what inflates beyond `MAX_TABLE_BYTES`."""
    inflater = zlib.decompressobj()
    try:
        data = inflater.decompress(b64decode(text, validate=True), MAX_TABLE_BYTES)
    except zlib.error as error:
        raise ValueError(f"not a packed table: {error}") from error
    if inflater.unconsumed_tail or inflater.unused_data or not inflater.eof:
        raise ValueError("not a packed table: cut short or too large")
    try:
        table = json.loads(data)
    except RecursionError as error:
        raise ValueError("not a packed table: nested too deep") from error
    if not isinstance(table, dict):
        raise ValueError("not a packed table: no object")
    return table

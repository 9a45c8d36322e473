"""What a process has read of a queue, kept on this machine, so that the next one that only looks reads on from there.

Whoever goes on from a snapshot knows what the process that kept it knew, as if that had looked again now; so it is right
wherever a process that never ended would be. It lies in this machine's own folder, never in the shared one, and counts only
if the same code wrote it, it is whole, and every file that it was read from is still there and begins as it did. Otherwise
everything is read.
"""

from __future__ import annotations

import hashlib
from contextlib import suppress
from functools import cache
from pathlib import Path

import msgspec

from fedspec import config, plan
from fedspec.errors import FedspecError, SetupError
from fedspec.files import Files
from fedspec.plan import Item
from fedspec.workqueue.brief import Brief, brief
from fedspec.workqueue.fold import Fold, WorkerState
from fedspec.workqueue.histories import DIGEST_BYTES, Chain, Histories
from fedspec.workqueue.itemstate import ItemState
from fedspec.workqueue.store import Store
from fedspec.workqueue.tail import Tail
from fedspec.workspace import LocalState, Workspace

MAGIC = b"fedspec snapshot 2\n"
# Of a smaller queue everything is read as quickly; a larger one has millions of records.
LEAST_RECORDS, MAX_BYTES = 2000, 1 << 30
# A snapshot is kept again when this share of what is known has come since.
RENEWED_AT = 0.02

_encoder = msgspec.msgpack.Encoder()
_states = msgspec.msgpack.Decoder(ItemState)


class Facts(msgspec.Struct, frozen=True, array_like=True):
    """What a `Fold` knows besides its items; the names are its attributes'."""

    workers: dict[str, WorkerState]
    closed: dict[str, int]
    closers: dict[str, set[str]]
    inherited: set[str]
    forks: set[str]
    retirements: set[str]
    imported: set[str]
    orders: dict[str, tuple[int, int, str, str]]
    finished: set[str]
    unsealed: set[str]
    hesitant: set[str]
    preferred: set[str]
    items_of: dict[str, set[str]]
    lam: int


class Kept(msgspec.Struct, frozen=True, array_like=True):
    """A snapshot.

    Attributes:
        root: of the workspace.
        plans: file name -> size of each plan; ``items``: id -> item.
        journals: file name -> what has been read of it; ``chains``: worker -> its history, without the records.
        briefs: item id -> what the records say of it in brief; ``states``: in full, each packed for itself.
    """

    root: str
    plans: dict[str, int]
    items: dict[str, Item]
    journals: dict[str, Tail]
    chains: dict[str, Chain]
    facts: Facts
    briefs: dict[str, Brief]
    states: dict[str, msgspec.Raw]


_decoder = msgspec.msgpack.Decoder(Kept)


class ResumedFold(Fold):
    """A fold that goes on from a snapshot; the state of an item is unpacked when somebody asks for it."""

    def __init__(self, kept: Kept) -> None:
        super().__init__()
        for name in Facts.__struct_fields__:
            setattr(self, name, getattr(kept.facts, name))
        self.packed = kept.states
        self.found = {item_id: {brief.__name__: said} for item_id, said in kept.briefs.items()}

    def known(self, item_id: str) -> ItemState | None:
        """The item's state, None if nobody has touched it."""
        state = self.items.get(item_id)
        if state is None and (data := self.packed.pop(item_id, None)) is not None:
            try:
                state = self.items[item_id] = _states.decode(data)
            except msgspec.MsgspecError as error:
                fix = "Delete the files snapshot-* in this machine's own folder (FEDSPEC_STATE)."
                raise SetupError(f"What this machine has noted of item {item_id} is damaged.", fix) from error
        return state


class Snapshot:
    """The snapshot of one workspace on this machine."""

    def __init__(self, files: Files, local: LocalState, workspace: Workspace, least: int = LEAST_RECORDS) -> None:
        """``least``: of a queue with fewer records and items none is kept."""
        self.least = least
        self.files, self.workspace, self.path = files, workspace, local.snapshot(workspace)
        self._known = 0

    def resume(self, store: Store) -> bool:
        """Let a store that has read nothing yet go on from the snapshot; False if there is none for it."""
        kept = self._read()
        if kept is None or not self._holds(kept):
            return False
        for item_id, item in kept.items.items():
            item.__dict__["id"] = item_id
        store.go_on(kept.items, kept.plans, ResumedFold(kept), kept.journals, Histories(kept.chains))
        self._known = _count(store)
        return True

    def keep(self, store: Store) -> bool:
        """Keep what the store knows if that spares the next one much; whether that was done."""
        known = _count(store)
        if known < self.least or known - self._known <= RENEWED_AT * self._known:
            return False
        fold = store.fold
        states: dict[str, msgspec.Raw] = dict(fold.packed) if isinstance(fold, ResumedFold) else {}
        states.update((item_id, msgspec.Raw(_encoder.encode(state))) for item_id, state in fold.items.items())
        kept = Kept(
            str(self.workspace.root),
            store.plans,
            store.items,
            store.tails,
            store.histories.chains(),
            Facts(**{name: getattr(fold, name) for name in Facts.__struct_fields__}),
            {item_id: brief(fold, item_id) for item_id in states},
            states,
        )
        data = _encoder.encode(kept)
        if len(data) > MAX_BYTES:
            return False
        with suppress(FedspecError):  # it only spares time
            self.files.write(self.path, b"".join([MAGIC, _code(), hashlib.sha256(data).digest(), data]), durable=False)
            self._known = known
        return True

    def _read(self) -> Kept | None:
        begin = MAGIC + _code()
        try:
            data = memoryview(self.files.read(self.path, 0, MAX_BYTES))
            at = len(begin) + DIGEST_BYTES
            is_ours = data[: len(begin)] == begin and data[len(begin) : at] == hashlib.sha256(data[at:]).digest()
            return _decoder.decode(data[at:]) if is_ours else None
        except (OSError, FedspecError, msgspec.MsgspecError, ValueError, RecursionError):
            return None

    def _holds(self, kept: Kept) -> bool:
        """Whether every file that was read is there, and begins with what was read of it."""
        if kept.root != str(self.workspace.root) or kept.briefs.keys() != kept.states.keys():
            return False
        if any(len(chain.digests) % DIGEST_BYTES for chain in kept.chains.values()):
            return False
        plans, journals = self.files.sizes(self.workspace.plans), self.files.sizes(self.workspace.journals)
        if not kept.plans.items() <= plans.items():
            return False
        return all(name in journals and self._begins(name, journals[name], tail) for name, tail in kept.journals.items())

    def _begins(self, name: str, size: int, tail: Tail) -> bool:
        try:
            mark = self.files.read(self.workspace.journals / name, tail.begin, len(tail.mark))
        except OSError:  # a sync client has evicted it
            return False
        return size >= tail.seen and mark == tail.mark


def _count(store: Store) -> int:
    return len(store.items) + sum(worker.length for worker in store.fold.workers.values())


@cache
def _code() -> bytes:
    """Names the code that folds: another version may see something else in the same records."""
    folders = [Path(__file__).parent, *(Path(str(package.__file__)).parent for package in (plan, config))]
    sources = [source for folder in folders for source in sorted(folder.glob("*.py"))]
    digest = hashlib.sha256(msgspec.__version__.encode())
    for source in sources:
        digest.update(source.read_bytes())
    return digest.digest()

"""What a person asks for by writing into `work_queue.json`, or what a copy of it asks for: bytes in, commands and items out.

Pure. A rendering of ours asks for nothing, however old it is. Otherwise only what a command could have said is taken over, and
whatever else the file says is told and left alone. The original's plain list is a list of experiments to run.
"""

from __future__ import annotations

import difflib
import itertools
import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import msgspec

from fedspec.config import complaints, tuned_lr
from fedspec.data import DATASETS
from fedspec.federated.aggregators import AGGREGATORS
from fedspec.models import MODELS
from fedspec.plan import KINDS, Item, make_item, published_names
from fedspec.workqueue.fold import Fold
from fedspec.workqueue.view import WORDS, view_hash
from fedspec.workqueue.wording import count

MAX_BYTES = 16 << 20
MAX_NEW = 10_000
# So many entries are put back in all ways to find what a file said before somebody edited it.
MAX_UNDONE = 5

Entry = dict[str, Any]

PENDING, RUNNING, DONE, FAILED = "pending", "in_progress", "completed", "failed"
CANCELLED = "cancelled"  # people may write it; a rendering says failed
SYNONYMS = {"canceled": CANCELLED, "done": DONE, "complete": DONE, "running": RUNNING}
# (what the file says, what the item is) -> the command that says so.
COMMANDS = {
    (PENDING, "failed"): "retry",
    (PENDING, "running"): "release",
    (PENDING, "cancelled"): "resume",
    **dict.fromkeys(itertools.product((FAILED, CANCELLED), ("pending", "running")), "cancel"),
}
STATUSES = (PENDING, RUNNING, DONE, FAILED, CANCELLED)
VIEW_KEYS = frozenset(
    "item_id alpha method split_type status assigned_to started_at completed_at experiment id view".split(),  # noqa: SIM905
)
# How a rendering begins, so that a part of one is told from somebody's notes.
HEAD = '[\n  {\n    "item_id": '


@dataclass(frozen=True, slots=True)
class Edit:
    """What a file says.

    Attributes:
        kind: ``ours`` and ``torn`` (a part of one of ours, or nothing) need not be kept; ``foreign`` is no list of experiments.
        commands: what to journal: ``retry release cancel resume``, each with its item.
        items: experiments to add.
        notes: what it says that is not obeyed, in sentences for people.
    """

    kind: Literal["ours", "torn", "foreign", "edited"]
    commands: tuple[tuple[str, Item], ...] = ()
    items: tuple[Item, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def asks(self) -> bool:
        """Whether there is anything to take in."""
        return bool(self.commands or self.items)

    @property
    def summary(self) -> str:
        """What there is to take in, "" if nothing: ``cancel A, retry B, 2 new experiments``."""
        told = [f"{command} {item.exp}" for command, item in self.commands]
        return ", ".join(told + ([count(len(self.items), "new experiment")] if self.items else []))


def understand(data: bytes, fold: Fold, items: Mapping[str, Item], finished: Collection[str] = ()) -> Edit:
    """What the bytes of a `work_queue.json` ask for, as things stand.

    Args:
        finished: names of the experiments that have a CSV; where the original's list calls them completed, they are.
    """
    text = _text(data)
    if text is None:
        return Edit("foreign")
    if not text.strip("\0 \t\r\n"):
        return Edit("torn")
    try:
        entries = msgspec.json.decode(text)
    except (msgspec.MsgspecError, RecursionError):
        part = _Reading(list(_whole_entries(text)), fold, items, finished)
        torn = text[: len(HEAD)] == HEAD[: len(text)] and not part.edit.asks and not part.edit.notes
        return Edit("torn" if torn else "foreign")
    if not isinstance(entries, list):
        return Edit("foreign")
    if not entries or (_is_list_of_objects(entries) and {_view(entry) for entry in entries} == {_hash(entries)}):
        return Edit("ours")
    return _Reading(entries, fold, items, finished).edit


def _text(data: bytes) -> str | None:
    """The text that an editor saved: Windows' may write a byte order mark, or UTF-16 behind one."""
    codec = "utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        return data.decode(codec)
    except UnicodeDecodeError:
        return None


def _whole_entries(text: str) -> Iterator[Any]:
    """The complete elements of a list that is cut short."""
    decoder, position = json.JSONDecoder(), text.find("[") + 1
    try:
        while position:
            while text[position] in ", \t\r\n":
                position += 1
            entry, position = decoder.raw_decode(text, position)
            yield entry
    except (ValueError, IndexError, RecursionError):
        return


def _is_list_of_objects(entries: list[Any]) -> bool:
    return all(isinstance(entry, dict) for entry in entries)


def _view(entry: Entry) -> str:
    view = entry.get("view")
    return view if isinstance(view, str) else ""


def _hash(entries: list[Entry]) -> str | None:
    try:
        return view_hash(entries)
    except (msgspec.MsgspecError, OverflowError, ValueError, RecursionError):
        return None  # numbers or text that no rendering has


class _Reading:
    """One list of entries, compared with the queue."""

    def __init__(self, entries: list[Any], fold: Fold, items: Mapping[str, Item], finished: Collection[str]) -> None:
        self.fold, self.items, self.finished = fold, items, finished
        self.by_name = {name: items[item_id] for item_id, name in published_names(items.values()).items()}
        self.known_names = {item.exp for item in items.values()} | self.by_name.keys()
        self.commands: dict[str, tuple[str, Item]] = {}
        self.new: dict[str, Item] = {}
        self.notes: dict[str, None] = {}
        self.base = self._base([entry for entry in entries if isinstance(entry, dict) and _view(entry)])
        for entry in entries:
            if isinstance(entry, dict):
                self._read(entry)
            else:
                self._note(f"{_short(entry)} is no experiment.")
        if len(self.new) > MAX_NEW:
            self._note(f"It lists {len(self.new)} new experiments; so many are added by a plan only.")
            self.new.clear()
        self.edit = Edit("edited", tuple(self.commands.values()), tuple(self.new.values()), tuple(self.notes))

    def _note(self, text: str) -> None:
        self.notes[text] = None

    def _word(self, item: Item) -> str:
        """What a rendering says of the item now."""
        return WORDS.get(self.fold.status(item.id), PENDING)

    def _base(self, ours: list[Entry]) -> dict[str, str] | None:
        """What our rendering said before it was edited: item id -> status; None if that cannot be found out.

        Entries keep the hash of the whole as it was. So whichever of the words that differ from the present ones are put back,
        the right ones give this hash.
        """
        views = {_view(entry) for entry in ours}
        doubtful = [
            n for n, entry in enumerate(ours) if (item := self._known(entry)) and entry.get("status") != self._word(item)
        ]
        if len(views) != 1 or len(doubtful) > MAX_UNDONE:
            return None
        for words in itertools.product((PENDING, RUNNING, DONE, FAILED), repeat=len(doubtful)):
            put_back = dict(zip(doubtful, words, strict=True))
            trial = [entry | {"status": put_back.get(n, entry.get("status"))} for n, entry in enumerate(ours)]
            if _hash(trial) in views:
                return {str(entry.get("id")): str(entry["status"]) for entry in trial}
        return None

    def _known(self, entry: Entry) -> Item | None:
        """The item that an entry is about: by its id, or by its name where it has none."""
        key = entry.get("id")
        if key is not None:
            return self.items.get(key) if isinstance(key, str) else None
        name = entry.get("experiment")
        return self.by_name.get(name) if isinstance(name, str) else None

    def _read(self, entry: Entry) -> None:
        item = self._known(entry)
        if item is not None:
            self._compare(entry, item)
        elif entry.get("id") is not None:
            self._note(f"{_short(entry['id'])} is not in this queue.")
        else:
            self._add(entry)

    def _compare(self, entry: Entry, item: Item) -> None:
        config = item.config
        facts = {
            "alpha": config.get("alpha"),
            "method": config.get("method", item.kind),
            "split_type": config.get("split", "pooled"),
        }
        facts |= {key: value for key, value in config.items() if key not in facts}
        changed = [key for key, value in facts.items() if key in entry and entry[key] != value]
        for key in sorted(entry.keys() - facts.keys() - VIEW_KEYS):
            self._note(f"{_short(key)} means nothing in an entry.{_nearest(key, facts)}")
        if changed:
            self._note(
                f"{item.exp} keeps its {' and '.join(changed)}: an experiment never changes. "
                "For another one add an entry without id and experiment."
            )
            return
        asked, status = _status(entry), self.fold.status(item.id)
        if asked not in STATUSES and "status" in entry:
            self._note(f"{item.exp} stays as it is: {_unknown_status(entry)}")
            return
        if self.base is not None and self.base.get(item.id) == asked:
            return  # so said the rendering; the queue has gone on since
        if command := COMMANDS.get((asked, status)):
            self.commands.setdefault(item.id, (command, item))
        elif asked == DONE and self._word(item) != DONE:
            self._note(f"{item.exp} has no result, so it is not completed.")

    def _add(self, entry: Entry) -> None:
        item = self._item(entry)
        if item is None or item.exp in self.known_names:
            return
        if "status" in entry and _status(entry) not in STATUSES:
            self._note(f"{item.exp} is not added: {_unknown_status(entry)}")
            return
        if _status(entry) != DONE or item.exp not in self.finished:
            self.new.setdefault(item.exp, item)

    def _item(self, entry: Entry) -> Item | None:
        """The experiment that an entry describes, with the defaults for what it does not say."""
        method = entry.get("method")
        method = method.strip().lower() if isinstance(method, str) else ""
        kind = "centralized" if method == "centralized" else "federated"
        if kind == "federated" and method not in AGGREGATORS:
            self._note(f"The method {_short(entry.get('method'))} is unknown. Known: centralized, {', '.join(AGGREGATORS)}.")
            return None
        keys = {field.name for field in msgspec.structs.fields(KINDS[kind])}
        values = {"lr": tuned_lr(method)} | {key: value for key, value in entry.items() if key in keys}
        if kind == "federated":
            values |= {"method": method, "split": entry.get("split_type", entry.get("split", "dirichlet"))}
            if values["split"] == "iid":
                values["alpha"] = None  # the original wrote one, which means nothing there
        if unknown := sorted(entry.keys() - keys - VIEW_KEYS - {"split"}):
            # Without what it stands for this would be another experiment, and hours of training.
            for key in unknown:
                self._note(f"{_short(key)} means nothing in an entry, so {_named(entry)} is not added.{_nearest(key, keys)}")
            return None
        try:
            config = msgspec.convert(values, KINDS[kind])
        except (msgspec.ValidationError, OverflowError) as error:
            self._note(f"An entry for {method} is wrong: {error}.")
            return None
        for key, names in (("dataset", DATASETS), ("model", MODELS)):
            if getattr(config, key) not in names:
                self._note(f"The {key} {_short(getattr(config, key))} is unknown. Known: {', '.join(names)}.")
                return None
        for _, complaint, fix in complaints(config):
            self._note(f"An entry for {method} is wrong: {complaint}. {fix}")
            return None
        return make_item(kind, config)


def _status(entry: Entry) -> str:
    status = entry.get("status")
    word = status.strip().lower().replace("-", "_").replace(" ", "_") if isinstance(status, str) else ""
    return SYNONYMS.get(word, word)


def _unknown_status(entry: Entry) -> str:
    return f"the status {_short(entry['status'])} is unknown. Known: {', '.join(STATUSES)}.{_nearest(_status(entry), STATUSES)}"


def _named(entry: Entry) -> str:
    """The experiment that an entry means, as far as it says so."""
    name = entry.get("experiment")
    return _short(name) if isinstance(name, str) else f"{_short(entry.get('method'))} with alpha {_short(entry.get('alpha'))}"


def _nearest(word: str, known: Collection[str]) -> str:
    close = difflib.get_close_matches(word[:60], known, 1)
    return f" Did you mean {close[0]}?" if close else ""


def _short(value: object) -> str:
    return repr(value)[:60]

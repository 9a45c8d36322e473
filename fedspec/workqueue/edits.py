"""What a person asks for by writing into `work_queue.json`, or what a copy of it asks for: bytes in, commands and items out.

Pure. A rendering of ours asks for nothing, however old it is. Otherwise only what a command could have said is taken over, and
whatever else the file says is told and left alone. The original's plain list is a list of experiments to run.
"""

from __future__ import annotations

import difflib
import hashlib
import itertools
import json
import re
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
from fedspec.workqueue.view import VIEW_DIGITS, WORDS, hashed, view_hash
from fedspec.workqueue.wording import count

MAX_BYTES = 16 << 20
MAX_ENTRIES, MAX_NEW = 100_000, 5_000
# So many entries are put back in all ways to find what a file said before somebody edited it, while so many bytes are hashed:
# a heart waits for it.
MAX_UNDONE, MAX_HASHED_BYTES = 5, 128 << 20
# Sentences that people are told of one file.
MAX_TOLD = 20

Entry = dict[str, Any]

PENDING, RUNNING, DONE, FAILED = RENDERED = ("pending", "in_progress", "completed", "failed")
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
    "item_id alpha method split_type status assigned_to started_at completed_at experiment id edits view".split(),  # noqa: SIM905
)
_GAP = re.compile(r"[, \t\r\n]*")
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
        part = _Reading(list(itertools.islice(_whole_entries(text), MAX_ENTRIES)), fold, items, finished)
        # One that has its end was not cut short: somebody edited it, and made a mistake.
        cut = text[: len(HEAD)] == HEAD[: len(text)] and not text.rstrip("\0 \t\r\n").endswith("]")
        torn = cut and not part.edit.asks and not part.edit.notes
        return Edit("torn" if torn else "foreign")
    if not isinstance(entries, list) or len(entries) > MAX_ENTRIES:
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
        while position and (gap := _GAP.match(text, position)):
            _, position = decoder.raw_decode(text, gap.end())
            # Python's own reader finds the end, and takes what none of ours takes: text that cannot be encoded, say.
            yield msgspec.json.decode(text[gap.end() : position])
    except (*NO_RENDERING, IndexError):
        return


def _is_list_of_objects(entries: list[Any]) -> bool:
    return all(isinstance(entry, dict) for entry in entries)


def _view(entry: Entry) -> str:
    view = entry.get("view")
    return view if isinstance(view, str) else ""


# Numbers or text that no rendering has cannot be encoded.
NO_RENDERING = (msgspec.MsgspecError, OverflowError, ValueError, RecursionError)


def _hash(entries: list[Entry]) -> str | None:
    try:
        return view_hash(entries)
    except NO_RENDERING:
        return None


class _Undoing:
    """Finds the words that entries had before somebody edited them: most likely few differ from what the file says.

    ``doubtful``: places of the entries that may have been edited. What lies before the first that is put back is hashed once.
    """

    def __init__(self, entries: list[Entry], doubtful: list[int]) -> None:
        parts = [(b"," if n else b"[") + hashed(entry) for n, entry in enumerate(entries)]
        ends = [*doubtful, len(parts)]
        self.told = [str(entries[n].get("status")) for n in doubtful]
        self.heads = [{word: parts[n][:1] + hashed(entries[n] | {"status": word}) for word in RENDERED} for n in doubtful]
        self.rests = [b"".join(parts[n + 1 : end]) for n, end in itertools.pairwise(ends)]
        self.before = [hashlib.sha256(b"".join(parts[: ends[0]]))]  # each doubtful entry, as the file is
        for n, rest in zip(doubtful, self.rests, strict=True):
            self.before.append(self.before[-1].copy())
            self.before[-1].update(parts[n])
            self.before[-1].update(rest)

    def until(self, view: str) -> list[str] | None:
        """The words, by which the whole has the hash ``view``; None if there are none, or too much would have to be hashed."""
        bytes_left = MAX_HASHED_BYTES
        for words, first in self._guesses():
            bytes_left -= sum(map(len, self.rests[first:]))
            if bytes_left < 0:
                return None
            whole = self.before[first].copy()
            for word, heads, rest in list(zip(words, self.heads, self.rests, strict=True))[first:]:
                whole.update(heads[word])
                whole.update(rest)
            whole.update(b"]")
            if whole.hexdigest()[:VIEW_DIGITS] == view:
                return words
        return None

    def _guesses(self) -> Iterator[tuple[list[str], int]]:
        """What the entries may have said, and the first that said something else than now."""
        places = range(len(self.told))
        for number in range(len(self.told) + 1):
            for changed in itertools.combinations(places, number):
                if all(n in changed or self.told[n] in RENDERED for n in places):
                    others = [[word for word in RENDERED if word != self.told[n]] for n in changed]
                    for words in itertools.product(*others):
                        put_back = dict(zip(changed, words, strict=True))
                        yield [put_back.get(n, self.told[n]) for n in places], min(changed, default=len(places))


class _Reading:
    """One list of entries, compared with the queue."""

    def __init__(self, entries: list[Any], fold: Fold, items: Mapping[str, Item], finished: Collection[str]) -> None:
        self.fold, self.items, self.finished = fold, items, finished
        self.by_name = {name: items[item_id] for item_id, name in published_names(items.values()).items()}
        self.known_names = {item.exp for item in items.values()} | self.by_name.keys()
        self.commands: dict[str, tuple[str, Item]] = {}
        self.new: dict[str, Item] = {}
        self.notes: dict[str, None] = {}
        self.untold = self.unknown = 0
        self.base = self._base([entry for entry in entries if isinstance(entry, dict) and _view(entry)])
        for entry in entries:
            if isinstance(entry, dict):
                self._read(entry)
            else:
                self._note(f"{_short(entry)} is no experiment.")
        if self.unknown > MAX_NEW:
            self._note(f"It lists {self.unknown} new experiments; so many are added by a plan only.")
            self.new.clear()
        if self.untold:
            self.notes[f"... and {self.untold} more remarks."] = None
        self.edit = Edit("edited", tuple(self.commands.values()), tuple(self.new.values()), tuple(self.notes))

    def _note(self, text: str) -> None:
        if len(self.notes) < MAX_TOLD:
            self.notes[text] = None
        elif text not in self.notes:
            self.untold += 1

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
        try:
            words = _Undoing(ours, doubtful).until(views.pop())
        except NO_RENDERING:
            return None
        if words is None:
            return None
        put_back = dict(zip(doubtful, words, strict=True))
        return {str(entry.get("id")): str(put_back.get(n, entry.get("status"))) for n, entry in enumerate(ours)}

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
        self.unknown += 1
        if self.unknown > MAX_NEW:
            return
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

"""A plan file: TOML that spans a grid of experiments, expanded into items.

It never imports torch. Which names of methods, models and data sets exist is told by the caller (`Vocabulary`), so that this
module stays below the science.
"""

from __future__ import annotations

import itertools
import re
import tomllib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec

from fedspec.config import CentralizedConfig, FederatedConfig, complaints, mismatched, tuned_lr, unfit
from fedspec.errors import UsageError
from fedspec.plan.item import KINDS, Item, make_item, with_engine, with_rate

# Key -> the names that it may have, each with its traits (`fedspec.config.unfit` and `mismatched`).
Vocabulary = Mapping[str, Mapping[str, Collection[str]]]
GRID_KEYS = ("method", "alpha", "seed")
# The engine of an experiment for which nobody names one: it is measured when the experiment is enqueued.
AUTO = "auto"
SEARCH_KEYS = ("lr", "seed", "alpha")
EXAMPLES: dict[str, Any] = {"method": "fedavg", "alpha": 0.5, "seed": 42, "lr": 0.01}


@dataclass(frozen=True, slots=True)
class Setting:
    """A value of the effective configuration and where it came from: a flag, the environment, the plan or the defaults."""

    value: Any
    source: str


@dataclass(frozen=True, slots=True)
class Plan:
    """An expanded plan.

    Attributes:
        settings: key -> value and source, for `--show-config`; grid keys hold lists, ``lr`` a table by method.
        undecided: the ids of the items whose engine nobody has named; they have the sequential one until `with_engines`.
        search: what is run first, to find the learning rates of the items; ``None`` where the plan knows them.
    """

    name: str
    title: str
    items: tuple[Item, ...]
    settings: dict[str, Setting]
    undecided: frozenset[str] = frozenset()
    search: Plan | None = None

    def with_rates(self, found: Mapping[str, float]) -> Plan:
        """The same plan with the learning rates that its search has ``found``, by method."""
        pairs = [
            (item, with_rate(item, found[method]) if (method := method_of(item)) in found else item) for item in self.items
        ]
        undecided = frozenset(new.id for old, new in pairs if old.id in self.undecided)
        return replace(self, items=tuple(new for _, new in pairs), undecided=undecided, search=None)

    def with_engines(self, chosen: Mapping[str, str]) -> Plan:
        """The same plan with the engines ``chosen`` for items, by id; nothing is undecided."""
        items = tuple(with_engine(item, chosen[item.id]) if item.id in chosen else item for item in self.items)
        return replace(self, items=items, undecided=frozenset())

    @property
    def ids(self) -> frozenset[str]:
        """The items' ids."""
        return frozenset(item.id for item in self.items)


def method_of(item: Item) -> str:
    """The method of an item; the baseline's is ``centralized``."""
    return str(item.config.get("method", "centralized"))


def load(path: Path, vocabulary: Vocabulary, overrides: Mapping[str, Setting] | None = None) -> Plan:
    """Read, check and expand a plan file.

    Args:
        overrides: values of flags and environment variables, by key; they replace the plan's.

    Raises:
        UsageError: names the file, the line, the key and the remedy.
    """
    try:
        text = path.read_text(encoding="utf-8")
        raw = tomllib.loads(text)
    except FileNotFoundError as error:
        raise UsageError(
            f"There is no plan file {path}.", "Name one of quick, distributed, paper, or a TOML file of yours."
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        raise UsageError(f"{path} is no TOML file: {error}.", "Correct it; docs/formats.md shows a whole plan.") from error
    return _Expansion(path, text, raw, vocabulary, overrides or {}).plan()


class _Expansion:
    """One plan file on its way to items; it keeps the text to name lines in errors."""

    SECTIONS = ("title", "experiment", "grid", "method", "centralized", "search")

    def __init__(
        self, path: Path, text: str, raw: dict[str, Any], vocabulary: Vocabulary, overrides: Mapping[str, Setting]
    ) -> None:
        self.path, self.text, self.raw = path, text, raw
        self.vocabulary, self.overrides = vocabulary, overrides
        self.undecided: set[str] = set()

    def plan(self) -> Plan:
        self._check_sections()
        shared = self._shared()
        grid = {key: self._grid(key) for key in GRID_KEYS}
        items = list(self._federated(shared, grid))
        central = self.raw.get("centralized", False)
        if central is not False:
            items.extend(self._centralized(shared, grid, {} if central is True else central))
        if not items:
            raise self.error("grid", "the plan has no experiments", "Give at least one method, alpha and seed under [grid].")
        searched = list(self._search(shared, grid)) if "search" in self.raw else []
        self._check_names([*items, *searched])
        name, title, settings = self.path.stem, str(self.raw.get("title", self.path.stem)), self._settings(items, grid)
        undecided = frozenset(self.undecided)
        search = None
        if searched:
            rates = self.raw["search"]["lr"]
            settings["lr"] = Setting(f"the best of {', '.join(map(str, rates))} on validation", f"plan {self.path.name}")
            search = Plan(f"{name}_search", f"{title}: search for learning rates", tuple(searched), settings)
            search = replace(search, undecided=undecided & search.ids)
        plan = Plan(name, title, tuple(items), settings, search=search)
        return replace(plan, undecided=undecided & plan.ids)

    def _check_sections(self) -> None:
        for key, value in self.raw.items():
            if key not in self.SECTIONS:
                raise self.error(key, f"the key {key!r} is unknown", f"Top-level keys are: {', '.join(self.SECTIONS)}.")
            if key in ("experiment", "grid", "method", "search") and not isinstance(value, dict):
                raise self.error(key, f"{key} is not a table", f"Write it as [{key}].")
        for method, own in self.raw.get("method", {}).items():
            self._known("method", method)
            self._check_table(f"method.{method}", own)
        central = self.raw.get("centralized", False)
        if not isinstance(central, bool):
            self._check_table("centralized", central)

    def _check_table(self, section: str, own: Any) -> None:
        """A section that changes single keys for some of the experiments."""
        if not isinstance(own, dict):
            raise self.error(section.rpartition(".")[2], f"{section} is not a table", f"Write it as [{section}].")
        for key in own.keys() & set(GRID_KEYS):
            raise self.error(key, f"{key} is a list to span", f"Move it to [grid]: {key} = [{own[key]!r}].", section)
        for key, value in own.items():
            self._known(key, value, section)

    def _shared(self) -> dict[str, Any]:
        values = dict(self.raw.get("experiment", {}))
        values.update({k: s.value for k, s in self.overrides.items() if k not in GRID_KEYS})
        for key, value in values.items():
            if key in GRID_KEYS:
                fix = f"Move it to [grid]: {key} = [{value!r}]."
                raise self.error(key, f"{key} is a list to span", fix, "experiment")
            self._known(key, value, "experiment")
        return values

    def _grid(self, key: str) -> list[Any]:
        defaults: dict[str, list[Any]] = {"method": ["fedavg", "fedspec"], "alpha": [0.5], "seed": [42]}
        own = self._spanned("grid", GRID_KEYS)
        return self._values("grid", key, self.overrides[key].value if key in self.overrides else own.get(key, defaults[key]))

    def _spanned(self, section: str, keys: Collection[str]) -> dict[str, Any]:
        """A section of lists."""
        own: dict[str, Any] = self.raw.get(section, {})
        for unknown in own.keys() - set(keys):
            raise self.error(unknown, f"{unknown!r} cannot be spanned", f"Under [{section}] go: {', '.join(keys)}.", section)
        return own

    def _values(self, section: str, key: str, values: Any) -> list[Any]:
        if not isinstance(values, list) or not values:
            example = EXAMPLES[key] if values == [] else values
            raise self.error(key, f"{key} must be a list with at least one value", f"Write {key} = [{example!r}].", section)
        for value in values:
            self._known(key, value, section)
        return values

    def _search(self, shared: dict[str, Any], grid: dict[str, list[Any]]) -> Iterable[Item]:
        """The runs that find learning rates: of every method whose rate nobody has written, on seeds that are not reported."""
        own = self._spanned("search", SEARCH_KEYS)
        for key in ("lr", "seed"):
            if key not in own:
                example = {"lr": "0.003, 0.01", "seed": "1, 2"}[key]
                raise self.error("search", f"[search] has no {key}", f"Add a list, such as {key} = [{example}].")
        rates, seeds, alphas = (self._values("search", key, own.get(key, grid.get(key))) for key in SEARCH_KEYS)
        if "lr" in shared:
            raise self.error("lr", "lr is given, and searched", "Leave out either lr or [search].", "experiment")
        if both := sorted(set(seeds) & set(grid["seed"])):
            what = f"seed {both[0]} is searched on, and reported"
            raise self.error(
                "seed", what, "Take other seeds for the search: what is chosen on a seed may not be shown by it.", "search"
            )
        methods = [name for name in grid["method"] if "lr" not in self.raw.get("method", {}).get(name, {})]
        central = self.raw.get("centralized", False)
        for rate in rates:
            chosen = {"lr": rate, "purpose": "search"}
            yield from self._federated(shared | chosen, {"method": methods, "alpha": alphas, "seed": seeds})
            if central is not False and "lr" not in (baseline := {} if central is True else central):
                yield from self._centralized(shared | chosen, {"seed": seeds}, baseline)

    def _federated(self, shared: dict[str, Any], grid: dict[str, list[Any]]) -> Iterable[Item]:
        iid = shared.get("split") == "iid"
        alphas = [None] if iid else grid["alpha"]
        for seed, alpha, method in itertools.product(grid["seed"], alphas, grid["method"]):
            own = dict(self.raw.get("method", {}).get(method, {}))
            own.update({k: s.value for k, s in self.overrides.items() if k not in GRID_KEYS})
            values = {"lr": tuned_lr(method), **shared, **own, "method": method, "alpha": alpha, "seed": seed}
            auto = values.get("engine", AUTO) == AUTO
            if auto:
                values["engine"] = "sequential"
            sections = {**dict.fromkeys(own, f"method.{method}"), **dict.fromkeys(GRID_KEYS, "grid")}
            item = self._item("federated", values, sections)
            if auto:
                self.undecided.add(item.id)
            yield item

    def _centralized(self, shared: dict[str, Any], grid: dict[str, list[Any]], own: Mapping[str, Any]) -> Iterable[Item]:
        own = dict(own)
        pin = own.pop("machine", None)
        keys = {f.name for f in msgspec.structs.fields(CentralizedConfig)}
        # One data set has nothing to stack.
        keys.discard("engine")
        flags = {k: s.value for k, s in self.overrides.items() if k in keys and k not in GRID_KEYS}
        for seed in grid["seed"]:
            inherited = {k: v for k, v in shared.items() if k in keys}
            values = {"lr": tuned_lr("centralized"), **inherited, **own, **flags, "seed": seed}
            sections = {**dict.fromkeys(own, "centralized"), "seed": "grid"}
            yield self._item("centralized", values, sections, [f"machine:{pin}"] if pin else [])

    def _item(self, kind: str, values: dict[str, Any], sections: Mapping[str, str], needs: Sequence[str] = ()) -> Item:
        """The item of ``values``; ``sections`` tells where a key was written, if not under [experiment]."""
        try:
            config = msgspec.convert(values, KINDS[kind])
        except msgspec.ValidationError as error:
            key = _key_in(str(error)) or next(iter(values))
            fix = "docs/formats.md lists every key, its type and its default."
            raise self.error(key, _lower(str(error)), fix, sections.get(key, "experiment")) from error
        method, dataset, model = (
            self.vocabulary.get(key, {}).get(getattr(config, key, ""), ()) for key in ("method", "dataset", "model")
        )
        for key, complaint, fix in (*complaints(config), *unfit(config, method), *mismatched(config, dataset, model)):
            raise self.error(key, complaint, fix, sections.get(key, "experiment"))
        return make_item(kind, config, needs)

    def _known(self, key: str, value: Any, section: str = "") -> None:
        names = self.vocabulary.get(key)
        if names is not None and value not in tuple(names):
            raise self.error(key, f"{key} {value!r} is unknown", f"Known: {', '.join(names)}.", section)

    def _check_names(self, items: Sequence[Item]) -> None:
        by_name: dict[str, Item] = {}
        for item in items:
            other = by_name.setdefault(item.exp, item)
            if other is not item:
                what = "twice" if other == item else "in two configurations"
                raise self.error("grid", f"{item.exp} is in the plan {what}", "List every value once.")

    def _settings(self, items: Sequence[Item], grid: dict[str, list[Any]]) -> dict[str, Setting]:
        """What the expanded items hold: a value, or a table by method where methods differ; then the baseline's own values."""
        federated = {item.config["method"]: item.config for item in items if item.kind == "federated"}
        settings: dict[str, Setting] = {}
        for key in (field.name for field in msgspec.structs.fields(FederatedConfig)):
            by_method = {method: config[key] for method, config in federated.items()}
            alike = len({repr(value) for value in by_method.values()}) == 1
            value = grid[key] if key in grid else next(iter(by_method.values())) if alike else by_method
            if key == "engine" and self.undecided:
                value = f"{AUTO} (the faster one, measured when enqueued)"
            settings[key] = Setting(value, self._source(key, "grid", "experiment", *(f"method.{m}" for m in federated)))
        for config in (item.config for item in items if item.kind == "centralized"):
            for key in config.keys() - set(grid):
                if config[key] != settings[key].value:
                    settings[f"centralized.{key}"] = Setting(config[key], self._source(key, "experiment", "centralized"))
        return settings

    def _source(self, key: str, *sections: str) -> str:
        """Where a key's value comes from: a flag, a variable, one of the plan's ``sections``, or the defaults."""
        if key in self.overrides:
            return self.overrides[key].source
        tables = (self._table(section) for section in sections)
        if any(key in table for table in tables):
            return f"plan {self.path.name}"
        return "default (tuned)" if key == "lr" else "default"

    def _table(self, section: str) -> Mapping[str, Any]:
        table: Any = self.raw
        for name in section.split("."):
            table = table.get(name, {}) if isinstance(table, dict) else {}
        return table if isinstance(table, dict) else {}

    def error(self, key: str, complaint: str, fix: str, section: str = "") -> UsageError:
        """What is wrong with ``key``, which stands in ``section``, or is one itself."""
        if key in self.overrides:
            return UsageError(f"{self.overrides[key].source}: {complaint}.", fix)
        header = re.search(rf"^\s*\[{re.escape(section)}\]", self.text, re.MULTILINE) if section else None
        pattern = re.compile(rf"^\s*\[?\[?(?:\w+\.)*\"?{re.escape(key)}\"?\s*[=\].]", re.MULTILINE)
        match = pattern.search(self.text, header.end() if header else 0)
        line = f", line {self.text.count(chr(10), 0, match.end()) + 1}" if match else ""
        return UsageError(f"{self.path}{line}: {complaint}.", fix)


def _key_in(message: str) -> str | None:
    found = re.search(r"\$\.(\w+)|field `(\w+)`", message)
    return (found.group(1) or found.group(2)) if found else None


def _lower(message: str) -> str:
    return message[:1].lower() + message[1:]

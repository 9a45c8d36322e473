"""Which runs may be averaged and compared: families of runs that differ in method, alpha and seed only.

The learning rate goes with the method: each has the one tuned for it, so several methods' do not part a family. Of several of
one method's a family shows one; the others are kept for the figure that is about them.
"""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import get_args, get_type_hints

from fedspec.config import FEDERATED_SUFFIXES, TRAINING_SUFFIXES, FederatedConfig
from fedspec.figures.runs import Run

CENTRALIZED, LINEAR_PROBE = "centralized", "linear_probe"
# What one method alone reads goes with the method, like the learning rate that was tuned for it.
OWN_KEYS = ("kept_energy", "fair_weight", "sparse_scale")
# What is trained without clients: lines to hold federated methods against, the same at every alpha.
REFERENCES = (CENTRALIZED, LINEAR_PROBE)
# What the name of a run that searches for a learning rate has.
SEARCH = TRAINING_SUFFIXES["purpose"].format("search")


@dataclass(frozen=True, slots=True, order=True)
class FamilyKey:
    """What the runs of a family share.

    Attributes:
        clients: 0 for the references.
        rounds: how many were planned.
        rest: what the experiments' names say beyond the other fields and what goes with a method, such as ``_b32``.
    """

    dataset: str
    model: str
    clients: int
    rounds: int
    local_epochs: int
    rest: str

    @property
    def slug(self) -> str:
        """The family's part of a file name."""
        epochs = f"_e{self.local_epochs}" if self.local_epochs != 1 else ""
        text = f"{self.dataset}_{self.model}_c{self.clients}_r{self.rounds}{epochs}{self.rest}"
        return re.sub(r"[^a-z0-9._-]+", "-", text.lower()).strip("-.")

    @property
    def title(self) -> str:
        """The family in words."""
        epochs = f", {self.local_epochs} local epochs" if self.local_epochs != 1 else ""
        rest = f", {self.rest.strip('_').replace('_', ' ')}" if self.rest else ""
        return f"{self.dataset}, {self.model}, {_count(self.clients, 'client')}, {_count(self.rounds, 'round')}{epochs}{rest}"


# Without slots, which have no room for what is computed once.
@dataclass(frozen=True, eq=False)
class Family:
    """Runs that may be compared, sorted by method, alpha and seed, and the references that go with them.

    Attributes:
        runs: all of one method have one learning rate.
        references: centralized runs and the like.
        swept: runs that differ from those in their learning rate only, or were made to search for it.
    """

    key: FamilyKey
    runs: tuple[Run, ...]
    references: tuple[Run, ...] = ()
    swept: tuple[Run, ...] = ()

    @property
    def alphas(self) -> tuple[float | None, ...]:
        """Dirichlet concentrations, sorted by `by_alpha`."""
        return tuple(sorted({run.alpha for run in self.runs}, key=by_alpha))

    def cell(self, method: str, alpha: float | None) -> tuple[Run, ...]:
        """The runs of one method at one alpha, by seed; a reference's are the same at each."""
        if method in REFERENCES:
            return tuple(run for run in self.references if run.method == method)
        return tuple(run for run in self.runs if (run.method, run.alpha) == (method, alpha))

    @cached_property
    def last_round(self) -> int:
        """The round that the furthest run has reached; what has not is unfinished."""
        return max(run.last_round for run in self.runs)

    def is_finished(self, run: Run) -> bool:
        """Whether a run has got as far as the furthest."""
        return run.last_round >= self.last_round


@dataclass(frozen=True, slots=True)
class Grouping:
    """Families, the one with the most runs first, and a sentence for each run that is in none."""

    families: tuple[Family, ...]
    notes: tuple[str, ...]


def group(runs: Iterable[Run], *, by_name: bool = True) -> Grouping:
    """Put runs into families.

    Left out is what would pass for another seed and is none: a second copy of a run that a sync service made (the one with
    fewer rounds), and a run whose first rank is not that of most runs of its method. Of several learning rates a method shows
    the one with most runs; of equally many the best on validation data.

    Args:
        runs: in any order; the result does not depend on it.
        by_name: tell experiments apart by their names too, since not every setting is a column. Without it, for files that
            a person chose: by their rows only, and ``rounds`` is the furthest round of all.
    """
    single, notes = _without_copies(runs)
    rounds = None if by_name else max((run.last_round for run in single), default=0)
    members: dict[FamilyKey, list[Run]] = defaultdict(list)
    searched: dict[FamilyKey, list[Run]] = defaultdict(list)
    for run in single:
        key = family_key(run) if rounds is None else _row_key(run, rounds)
        (searched if is_search(run) else members)[key].append(run)
    # A search belongs to what is reported; without that it can be looked at by itself.
    orphans = {replace(key, rest=key.rest + SEARCH): own for key, own in searched.items() if key not in members}
    agreed = {key: _agreeing(together) for key, together in (members | orphans).items()}
    notes += [note for found in agreed.values() for note in found.notes]
    families = []
    for key, found in agreed.items():
        if key.clients:
            beside = agreed.get(_reference_key(key), _Agreement())
            rates = (*searched.get(key, ()), *searched.get(_reference_key(key), ())) if key in members else ()
            families.append(Family(key, found.runs, beside.runs, (*found.swept, *beside.swept, *rates)))
    placed = {run.name for family in families for run in (*family.references, *family.swept)}
    for key, found in agreed.items():
        notes += [
            f"Left out: no federated experiment here matches {run.name}."
            for run in (*found.runs, *found.swept)
            if not key.clients and run.name not in placed
        ]
    return Grouping(tuple(sorted(families, key=lambda family: (-len(family.runs), family.key))), tuple(notes))


def is_search(run: Run) -> bool:
    """Whether it was made to find a learning rate: then it is no part of any mean."""
    return f"{run.name}_".find(f"{SEARCH}_") > 0


def family_key(run: Run) -> FamilyKey:
    """The key of a run by its rows and by its name; a name that no configuration has is a family of its own."""
    rest = run.name.removeprefix(run.method)
    if rest == run.name or rest[:1] not in ("", "_"):
        return replace(_row_key(run, run.last_round), rest=f"_{run.name}")
    rest = re.sub(r"^_(dirichlet|iid)(?=_|$)", "", rest)
    rest = rest.removeprefix(f"_alpha{run.alpha!r}")
    found = re.search(r"_r(\d+)(?=_|$)", rest)
    key = _row_key(run, int(found[1]) if found else FederatedConfig().rounds)
    # What has a field of its own, or may differ within a family, goes; the rest stays in its order.
    known = [
        f"_{key.dataset}",
        f"_{key.model}",
        f"_c{key.clients}",
        f"_r{key.rounds}",
        f"_s{run.seed}",
        f"_e{key.local_epochs}",
        f"_lr{run.first('lr')}",
    ]
    for token in (*known, SEARCH):
        rest = re.sub(rf"{re.escape(token)}(?=_|$)", "", rest, count=1)
    for name in OWN_KEYS:
        rest = re.sub(rf"{FEDERATED_SUFFIXES[name].format('[^_]+')}(?=_|$)", "", rest, count=1)
    return replace(key, rest=rest)


def _row_key(run: Run, rounds: int) -> FamilyKey:
    clients = 0 if run.method in REFERENCES else int(run.first("n_clients"))
    return FamilyKey(
        str(run.first("dataset")), str(run.first("model")), clients, rounds, int(run.first("local_epochs")), rest=""
    )


def _reference_key(key: FamilyKey) -> FamilyKey:
    """The key of the references that go with a family: the same, without what only federated runs have."""
    return replace(key, clients=0, rest=re.sub(rf"_(?:{_FEDERATED_ONLY})(?=_|$)", "", key.rest))


def _federated_only() -> str:
    hints: Mapping[str, object] = get_type_hints(FederatedConfig)
    forms: list[str] = []
    for name, form in FEDERATED_SUFFIXES.items():
        if name not in TRAINING_SUFFIXES:
            prefix = form.removeprefix("_").removesuffix("{}")
            forms += [f"{prefix}[^_]+"] if prefix else map(re.escape, get_args(hints[name]))
    return "|".join(forms)


_FEDERATED_ONLY = _federated_only()


def by_alpha(alpha: float | None) -> float:
    """What alphas are sorted by: the most heterogeneous first, None (iid) last."""
    return math.inf if alpha is None else alpha


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _without_copies(runs: Iterable[Run]) -> tuple[list[Run], list[str]]:
    kept: dict[object, Run] = {}
    notes = []
    # The original's name is shorter than "... 2" or "... (conflicted copy)".
    for run in sorted(runs, key=lambda run: (-run.last_round, len(run.name), run.name)):
        # Without a hash the name decides.
        identity = run.first("config_hash") or (run.name,)
        if identity in kept:
            notes.append(f"Left out: {run.name} is a copy of {kept[identity].name}.")
        else:
            kept[identity] = run
    return sorted(kept.values(), key=lambda run: (run.method, by_alpha(run.alpha), run.seed, run.name)), notes


@dataclass(frozen=True, slots=True)
class _Agreement:
    """The runs of one family, those that differ in their learning rate only, and a sentence for each thing to know."""

    runs: tuple[Run, ...] = ()
    swept: tuple[Run, ...] = ()
    notes: tuple[str, ...] = ()


def _agreeing(runs: Sequence[Run]) -> _Agreement:
    """Part the runs of one family into those that it shows and those that are not another seed of their method."""
    by_method: dict[str, list[Run]] = defaultdict(list)
    for run in runs:
        by_method[run.method].append(run)
    shown: list[Run] = []
    swept: list[Run] = []
    notes: list[str] = []
    choices: dict[str, list[str]] = defaultdict(list)
    for method, own in by_method.items():
        ranks = Counter(run.first("rank") for run in own)
        rank = max(ranks, key=lambda rank: (ranks[rank], -float(rank)))
        notes += [
            f"Left out: {run.name} has rank {run.first('rank')}; the runs of {method} shown have rank {rank}."
            for run in own
            if run.first("rank") != rank
        ]
        single, twice = _single([run for run in own if run.first("rank") == rank])
        notes += twice
        by_rate: dict[float, list[Run]] = defaultdict(list)
        for run in single:
            by_rate[float(run.first("lr"))].append(run)
        rate, why = _rate_to_show(by_rate)
        shown += by_rate.pop(rate)
        if by_rate:
            others = ", ".join(map(str, sorted(by_rate)))
            choice = f"learning rate {rate}, {why}; runs with {others} are in the figure learning_rate alone."
            choices[choice].append(method)
        swept += [run for runs in by_rate.values() for run in runs]
    notes += [f"Shown of {', '.join(methods)}: {choice}" for choice, methods in choices.items()]
    return _Agreement(tuple(shown), tuple(swept), tuple(notes))


def _single(runs: Iterable[Run]) -> tuple[list[Run], list[str]]:
    """The runs of one method, one for each alpha, seed and learning rate."""
    kept: dict[object, Run] = {}
    notes = []
    for run in runs:
        place = (run.alpha, run.seed, run.first("lr"))
        if place in kept:
            notes.append(f"Left out: {run.name} has the method, alpha and seed of {kept[place].name}.")
        else:
            kept[place] = run
    return list(kept.values()), notes


def _rate_to_show(by_rate: Mapping[float, Sequence[Run]]) -> tuple[float, str]:
    """A method's learning rate, and why it is that one: never by test accuracy. Unfinished runs do not count."""
    furthest = max(run.last_round for runs in by_rate.values() for run in runs)
    by_rate = {rate: [run for run in runs if run.last_round == furthest] for rate, runs in by_rate.items()}
    most = max(map(len, by_rate.values()))
    rivals = sorted(rate for rate, runs in by_rate.items() if len(runs) == most)
    if len(rivals) == 1:
        return rivals[0], "which most runs have"
    alike = set.intersection(*({(run.alpha, run.seed) for run in by_rate[rate]} for rate in rivals))

    def validation(rate: float) -> float:
        values = [run.late("validation_accuracy") for run in by_rate[rate] if (run.alpha, run.seed) in alike]
        mean = sum(values) / len(values) if values else math.nan
        return -math.inf if math.isnan(mean) else mean

    best = max(rivals, key=lambda rate: (validation(rate), -rate))
    if validation(best) == -math.inf:
        return best, "the lowest of those with equally many runs (there is no validation accuracy to choose by)"
    return best, "the best on validation data of those with equally many runs, with the very seeds that are shown"

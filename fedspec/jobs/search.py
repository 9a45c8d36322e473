"""Which learning rate each method gets from the runs of a search: the best on validation, over all its alphas and seeds.

It depends on the results alone, so that every machine that runs the plan chooses the same.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from fedspec.plan import Item
from fedspec.plan.grid import method_of
from fedspec.results import LAST_ROUNDS, Row


@dataclass(frozen=True, slots=True)
class Choice:
    """A method's search.

    Attributes:
        scores: learning rate -> validation accuracy in [0, 1], the mean over runs of each one's last rounds; a run that failed,
            as those do that diverge, counts 0.
    """

    method: str
    scores: Mapping[float, float]

    @property
    def lr(self) -> float:
        """The best; of equals the smallest."""
        return max(sorted(self.scores), key=self.scores.__getitem__)

    @property
    def at_the_edge(self) -> bool:
        """Whether a better one may lie beyond those that were tried."""
        return len(self.scores) > 1 and self.lr in (min(self.scores), max(self.scores))

    def sentence(self) -> str:
        """For people."""
        tried = ", ".join(f"{lr:g}: {100 * score:.1f} %" for lr, score in sorted(self.scores.items()))
        beyond = "; it is the end of the list, and a better one may lie beyond" if self.at_the_edge else ""
        return f"{self.method}: learning rate {self.lr:g} (validation accuracy {tried}){beyond}"


def choices(items: Iterable[Item], rows_of: Mapping[str, Sequence[Row]]) -> list[Choice]:
    """What a finished search has found, a choice per method in the order of the items.

    Args:
        items: the search.
        rows_of: the rows of those that are done, by id; the others have failed.
    """
    scores: dict[str, dict[float, list[float]]] = defaultdict(lambda: defaultdict(list))
    for item in items:
        late = [row.validation_accuracy or 0.0 for row in rows_of.get(item.id, ())[-LAST_ROUNDS:]]
        scores[method_of(item)][float(item.config["lr"])].append(fmean(late) if late else 0.0)
    return [Choice(method, {lr: fmean(runs) for lr, runs in rates.items()}) for method, rates in scores.items()]

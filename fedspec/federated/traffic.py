"""What a round sends: numbers times their size, in the cheapest exact form, without headers.

Up go the factors that a client has trained, and its dense tensors. Down go, once the round is done, the factors that are new to
it, the dense tensors, and what was folded into base weights. A client that was not sampled gets nothing; once it is sampled
again, it first downloads what it has missed: the present factors and dense tensors once, and of each base weight every folded
residual, or the sum of all, whatever is less. A client of a lower rank sends and gets its own directions; those that all draw
from the seed are never sent.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from fedspec.federated.aggregators.base import Installed, Part
from fedspec.federated.lora import Adapter, Factors

# What a client has missed: plain values, part of a run's state.
Debt = dict[str, Any]


def no_debts(clients: int) -> list[Debt]:
    """Before the first round: all draw the same model from the seed."""
    return [_nothing() for _ in range(clients)]


def fits(debts: Any, clients: int) -> bool:
    """Whether a saved state's debts are those of so many clients."""
    return isinstance(debts, list) and len(debts) == clients and all(map(_is_debt, debts))


def _is_debt(debt: Any) -> bool:
    if not isinstance(debt, dict) or debt.keys() != _nothing().keys():
        return False
    if type(debt["dense"]) is not bool or not isinstance(debt["residual"], dict):
        return False
    counts = [debt["A"], debt["B"], *debt["residual"].values()]
    return all(type(name) is str for name in debt["residual"]) and all(type(count) is int and count >= 0 for count in counts)


def _nothing() -> Debt:
    """How many numbers of the present A and B it lacks, whether it lacks the dense tensors, and for each layer how many numbers
    say what was folded meanwhile."""
    return {"A": 0, "B": 0, "dense": False, "residual": {}}


@dataclass(frozen=True, slots=True)
class Exchange:
    """One round, as far as bytes go.

    Attributes:
        sampled: the clients that take part; all send an update, also those that were rejected.
        before: the adapter that this round trained, and ``trained`` the factors of it that the clients trained.
        installed: what each layer computes with now.
        is_new: whether there is a new model; where all updates were rejected the old one stays, which everybody has.
        dense: the tensors that travel as they are, and how many ``copies`` of their size: a method's variates are a second one.
        itemsize: bytes of one number.
        ranks: each client's, where they have ranks of their own; empty where all have the adapter's.
    """

    sampled: Sequence[int]
    before: Adapter
    trained: Collection[Part]
    installed: Mapping[str, Installed]
    is_new: bool
    dense: Mapping[str, Tensor]
    copies: int
    itemsize: int
    ranks: Sequence[int] = ()

    def columns(self, debts: Sequence[Debt]) -> dict[str, int]:
        """The byte columns of `fedspec.results.Row`, for clients that had missed as much as ``debts`` say."""
        clients, owing = len(self.sampled), [debts[client] for client in self.sampled]
        receivers = clients if self.is_new else 0
        factors_up = sum(self._uploads(client) for client in self.sampled)
        factors_down = sum(debt["A"] + debt["B"] for debt in owing)
        if self.is_new:
            factors_down += sum(sum(self._downloads(client).values()) for client in self.sampled)
        residual = receivers * sum(self._folded.values()) + sum(sum(debt["residual"].values()) for debt in owing)
        dense_down = self._dense * (receivers + sum(debt["dense"] for debt in owing))
        up, down = factors_up + clients * self._dense, factors_down + residual + dense_down
        numbers = {
            "bytes_up": up,
            "bytes_down": down,
            "bytes_head": clients * self._dense + dense_down,
            "bytes_residual": residual,
            "communication_bytes": up + down,
        }
        return {name: self.itemsize * count for name, count in numbers.items()}

    def debts(self, before: Sequence[Debt]) -> list[Debt]:
        """What each client has missed after this round."""
        after = []
        for client, debt in enumerate(before):
            if client in self.sampled:
                debt = _nothing()
            elif self.is_new:
                missed = {"dense": debt["dense"] or bool(self.dense), "residual": self._missed(debt["residual"])}
                debt = debt | missed | self._downloads(client)
            after.append(debt)
        return after

    def _uploads(self, client: int) -> int:
        return sum(self._numel(client, factors, part) for factors in self.before.values() for part in self.trained)

    def _downloads(self, client: int) -> dict[str, int]:
        """The numbers of each factor that a client downloads, by part."""
        numbers: Counter[str] = Counter()
        for layer in self.installed.values():
            numbers.update({part: self._numel(client, layer.factors, part, layer.drawn) for part in layer.download})
        return dict(numbers)

    def _numel(self, client: int, factors: Factors, part: Part, drawn: int = 0) -> int:
        """The numbers of one factor in a client's directions, but for the last ``drawn`` of all."""
        length = factors.B.shape[0] if part == "B" else factors.A.shape[1]
        known = factors.rank - drawn
        return length * (min(known, self.ranks[client]) if self.ranks else known)

    def _missed(self, residual: Mapping[str, int]) -> dict[str, int]:
        """What says all that was folded into each layer: at most the sum itself."""
        whole = {name: layer.factors.B.shape[0] * layer.factors.A.shape[1] for name, layer in self.installed.items()}
        missed = Counter(residual) + Counter(self._folded)
        return {name: min(count, whole.get(name, count)) for name, count in missed.items()}

    @property
    def _folded(self) -> dict[str, int]:
        return {name: layer.folded.numel for name, layer in self.installed.items() if layer.folded is not None}

    @property
    def _dense(self) -> int:
        return self.copies * sum(tensor.numel() for tensor in self.dense.values())

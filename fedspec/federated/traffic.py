"""What a round sends: numbers times their size, in the cheapest exact form, without headers.

Up go the factors that a client has trained, and its dense tensors. Down go, once the round is done, the factors that are new to
it, the dense tensors, and what was folded into base weights. A client that was not sampled gets nothing; once it is sampled
again, it first downloads what it has missed: the present factors and dense tensors once, and every folded residual.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
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
    parts, residual = debt["parts"], debt["residual"]
    known = isinstance(parts, list) and all(part in ("A", "B") for part in parts)
    return known and type(debt["dense"]) is bool and type(residual) is int and residual >= 0


def _nothing() -> Debt:
    return {"parts": [], "dense": False, "residual": 0}


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
    """

    sampled: Sequence[int]
    before: Adapter
    trained: Collection[Part]
    installed: Mapping[str, Installed]
    is_new: bool
    dense: Mapping[str, Tensor]
    copies: int
    itemsize: int

    def columns(self, debts: Sequence[Debt]) -> dict[str, int]:
        """The byte columns of `fedspec.results.Row`, for clients that had missed as much as ``debts`` say."""
        clients, owing = len(self.sampled), [debts[client] for client in self.sampled]
        receivers = clients if self.is_new else 0
        factors_up = clients * sum(_numel(factors, self.trained) for factors in self.before.values())
        factors_down = receivers * sum(_numel(layer.factors, layer.download) for layer in self.installed.values())
        factors_down += sum(_numel(factors, debt["parts"]) for debt in owing for factors in self.before.values())
        residual = receivers * self._folded + sum(debt["residual"] for debt in owing)
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
        downloads = {part for layer in self.installed.values() for part in layer.download}
        after = []
        for client, debt in enumerate(before):
            if client in self.sampled and self.is_new:
                debt = _nothing()
            elif self.is_new:
                debt = {
                    "parts": sorted({*debt["parts"], *downloads}),
                    "dense": debt["dense"] or bool(self.dense),
                    "residual": debt["residual"] + self._folded,
                }
            after.append(debt)
        return after

    @property
    def _folded(self) -> int:
        return sum(layer.folded.numel for layer in self.installed.values() if layer.folded is not None)

    @property
    def _dense(self) -> int:
        return self.copies * sum(tensor.numel() for tensor in self.dense.values())


def _numel(factors: Factors, parts: Iterable[str]) -> int:
    return sum(getattr(factors, part).numel() for part in parts)

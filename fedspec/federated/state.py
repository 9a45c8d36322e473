"""What a run carries from one round to the next.

A `State` is everything that a bit-exact resume needs beside the configuration and the frozen base: nested dicts and lists of
plain values and CPU tensors, so that ``torch.load(weights_only=True)`` reads it back.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from math import isfinite
from typing import Any

from torch import Tensor

from fedspec.errors import DamagedError
from fedspec.federated.lora import Adapter, Factors

State = dict[str, Any]


def is_trained(name: str, parts: Collection[str]) -> bool:
    """Whether clients that train those factors train a tensor of `Weights.flat`: dense ones always."""
    return name[0] == "/" or name[0] in parts


def shape_of(value: Any) -> Any:
    """What a part of a state looks like: tensors as their shape and type, everything else as its type, at every depth."""
    if isinstance(value, Tensor):
        return tuple(value.shape), value.dtype
    if isinstance(value, dict):
        return {key: shape_of(inner) for key, inner in value.items()}
    return [shape_of(inner) for inner in value] if isinstance(value, list) else type(value)


def ordinary(value: Any) -> Any:
    """The same, at every depth, with copies of the tensors that torch's inference mode has made: they can be trained on."""
    if isinstance(value, Tensor):
        return value.clone() if value.is_inference() else value
    if isinstance(value, dict):
        return {key: ordinary(inner) for key, inner in value.items()}
    return [ordinary(inner) for inner in value] if isinstance(value, list) else value


@dataclass(frozen=True, slots=True)
class Weights:
    """Everything about a model that training changes, on the CPU.

    Attributes:
        adapter: each adapted layer's factors.
        dense: tensors that are trained and sent as they are, by parameter name: the head where it is aggregated, all that the
            model has where it is tuned in full.
        delta: what has been folded into the base weight of a layer, (out, in); layers without it are absent.
    """

    adapter: Adapter
    dense: Mapping[str, Tensor]
    delta: Mapping[str, Tensor]

    @property
    def rank(self) -> int:
        """The rank of the adapters, which all layers share; 0 without adapters."""
        return next((factors.rank for factors in self.adapter.values()), 0)

    def cut(self, rank: int) -> Weights:
        """What a client of that rank starts from: the first directions of each adapter, everything else as it is."""
        return replace(self, adapter={name: factors.cut(rank) for name, factors in self.adapter.items()})

    def flat(self) -> dict[str, Tensor]:
        """All tensors that are trained, by name: ``/<parameter>``, ``B/<layer>`` and ``A/<layer>``."""
        flat = {f"/{name}": tensor for name, tensor in self.dense.items()}
        for name, factors in self.adapter.items():
            flat |= {f"B/{name}": factors.B, f"A/{name}": factors.A}
        return flat

    def with_flat(self, flat: Mapping[str, Tensor]) -> Weights:
        """The same weights with other values of what `flat` names."""
        adapter = {name: Factors(flat[f"B/{name}"], flat[f"A/{name}"]) for name in self.adapter}
        return replace(self, adapter=adapter, dense={name: flat[f"/{name}"] for name in self.dense})

    def to_state(self) -> State:
        """As nested dicts."""
        adapter = {name: {"A": factors.A, "B": factors.B} for name, factors in self.adapter.items()}
        return {"adapter": adapter, "dense": dict(self.dense), "delta": dict(self.delta)}

    @classmethod
    def from_state(cls, state: State) -> Weights:
        """The inverse of `to_state`.

        Raises:
            DamagedError: the state is not one of a run.
        """
        try:
            adapter = {name: Factors(B=layer["B"], A=layer["A"]) for name, layer in state["adapter"].items()}
            return cls(adapter, state["dense"], state["delta"])
        except (KeyError, TypeError, AttributeError) as error:
            raise DamagedError(f"A checkpoint's state lacks {error}.", "Take an older checkpoint.") from error

    def nonfinite(self) -> str | None:
        """The name of a tensor that holds an infinity or NaN, if there is one."""
        for name, factors in self.adapter.items():
            if not (_finite(factors.A) and _finite(factors.B)):
                return name
        return next((name for name, tensor in self.dense.items() if not _finite(tensor)), None)


def _finite(tensor: Tensor) -> bool:
    # A sum passes NaN and infinities on, and takes a tenth of the time of asking each number.
    return isfinite(float(tensor.sum())) or bool(tensor.isfinite().all())

"""The one model of a worker, which stays on its device: what training changes is set in place, client by client.

Nothing is copied per client but the factors, and no data move: that is what a bare PyTorch loop would do too.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

import torch
from torch import Tensor, nn

from fedspec.config import TrainingConfig
from fedspec.errors import ExperimentError
from fedspec.federated.aggregators.base import BOTH, Part
from fedspec.federated.lora import HeadLinear, LoRALinear, adapt, dtype_of, scale_of
from fedspec.federated.state import Weights
from fedspec.models.base import Model


class Resident:
    """The one model of a worker: a frozen base on its device, whose adapter, dense tensors and delta are set in place.

    Args:
        model: becomes part of the resident, and is changed.
        base: the values of all its parameters.
        config: whether it gets adapters, their rank, scale, dropout and dtype, and whether the head trains.
        device: where it stays.
    """

    def __init__(self, model: Model, base: Mapping[str, Tensor], config: TrainingConfig, device: torch.device) -> None:
        model.load_state_dict(dict(base))
        model.requires_grad_(False)
        self.layers: dict[str, LoRALinear] = {}
        dense = dict(model.named_parameters())
        if config.tune == "lora":
            self.layers = adapt(model, rank=config.rank, scale=scale_of(config), dropout=config.lora_dropout)
            head = tuple(f"{name}." for name in model.head) if config.head == "aggregate" else ()
            dense = {name: tensor for name, tensor in dense.items() if name.startswith(head)}
        self.heads = _stackable(model, dense) if config.engine == "stacked" else {}
        self._base_weights = {name: base[f"{name}.weight"] for name in self.layers}
        self.module: Model = model.to(dtype_of(config)).to(device)
        self.device, self.dtype = device, dtype_of(config)
        self.dense = {name: parameter.requires_grad_(True) for name, parameter in dense.items()}
        self._parts: Collection[Part] = BOTH
        self.start: list[Tensor] = []
        self._folded: set[str] = set()

    def owner(self, name: str) -> tuple[HeadLinear, str]:
        """Of a dense tensor that can be stacked: its module, and its name in it."""
        path, _, own = name.rpartition(".")
        return self.heads[path], own

    def trained(self) -> list[nn.Parameter]:
        """The parameters that training changes."""
        factors = [getattr(layer, part) for layer in self.layers.values() for part in ("B", "A") if part in self._parts]
        return factors + list(self.dense.values())

    @torch.no_grad()
    def install(self, weights: Weights, trained: Collection[Part] = BOTH) -> None:
        """Take over ``weights``, which every `rewind` comes back to; of the factors only those ``trained`` will change."""
        self._parts = trained
        for name, layer in self.layers.items():
            layer.set(weights.adapter[name])
            layer.B.requires_grad_("B" in trained)
            layer.A.requires_grad_("A" in trained)
            if name in weights.delta or name in self._folded:
                base = self._base_weights[name]
                layer.base.weight.copy_(base + weights.delta[name] if name in weights.delta else base)
        self._folded = set(weights.delta)
        for name, parameter in self.dense.items():
            parameter.copy_(weights.dense[name])
        self.start = [parameter.detach().clone() for parameter in self.trained()]

    @torch.no_grad()
    def rewind(self) -> None:
        """Back to what was last installed, so that no client sees what another one learnt."""
        for parameter, start in zip(self.trained(), self.start, strict=True):
            parameter.copy_(start)

    def snapshot(self) -> Weights:
        """A copy of the trained tensors on the CPU."""
        dense = {name: parameter.detach().to("cpu", copy=True) for name, parameter in self.dense.items()}
        return Weights({name: layer.get() for name, layer in self.layers.items()}, dense, {})


def _stackable(model: nn.Module, names: Iterable[str]) -> dict[str, HeadLinear]:
    """Make the modules that own parameters ``names`` such as can hold several clients', in place; returns them by their names.

    Raises:
        ExperimentError: one of them is no linear layer.
    """
    heads: dict[str, HeadLinear] = {}
    for path in dict.fromkeys(name.rpartition(".")[0] for name in names):
        own = model.get_submodule(path)
        if type(own) is not nn.Linear:
            what = f"The stacked engine cannot train {path}, which is a {type(own).__name__}"
            raise ExperimentError(f"{what}.", 'Set engine = "sequential", or head = "frozen".')
        parent, _, child = path.rpartition(".")
        heads[path] = HeadLinear(own)
        setattr(model.get_submodule(parent), child, heads[path])
    return heads

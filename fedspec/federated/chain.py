"""Gradients of models that are linear layers in turn with ReLU in between, written down instead of recorded.

On models this small autograd takes as much time as the arithmetic: each operation is a node that is made, kept and walked back
in every step. Of a chain the way back is the way there in the opposite order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fedspec.config import TrainingConfig
from fedspec.federated.lora import HeadLinear, LoRALinear, PerClient
from fedspec.federated.resident import Resident

# Where the second is not positive 0, elsewhere the first.
_relu_backward = torch.ops.aten.threshold_backward.default
# By the module that holds several clients' tensors, and their name in its stack.
Gradients = dict[tuple[nn.Module, str], Tensor]


@dataclass(frozen=True, slots=True)
class Chain:
    """The linear layers of a model in their order; adapted ones, and a head of several clients, hold all their tensors."""

    layers: tuple[nn.Linear | LoRALinear, ...]

    @classmethod
    def of(cls, resident: Resident, config: TrainingConfig) -> Chain | None:
        """The model as a chain, if it is one. Where there is dropout, autograd does what its random numbers ask for."""
        layers = tuple(map(resident.module.get_submodule, resident.module.chain))
        known = all(isinstance(layer, LoRALinear | nn.Linear) for layer in layers)
        return cls(layers) if layers and known and not config.lora_dropout else None  # type: ignore[arg-type]

    @classmethod
    def whole(cls, module: nn.Module, trained: Sequence[Tensor]) -> Chain | None:
        """The model as a chain, if it is one of plain layers and the tensors ``trained`` are all of it, each once."""
        layers = tuple(map(module.get_submodule, getattr(module, "chain", ())))
        own = [id(tensor) for layer in layers for tensor in layer.parameters()]
        if layers and all(map(_is_plain, layers)) and sorted(own) == sorted(map(id, trained)):
            return cls(layers)  # type: ignore[arg-type]
        return None

    def slots(self) -> dict[int, tuple[nn.Module, str]]:
        """What `step` calls each parameter of the layers, by its ``id``."""
        return {id(tensor): (layer, name) for layer in self.layers for name, tensor in layer.named_parameters()}

    @torch.inference_mode()
    def step(self, inputs: Tensor, labels: Tensor, shares: Tensor) -> tuple[Tensor, Gradients]:
        """The cross-entropy of each sample, and what its sum, weighted with ``shares``, has for gradients; (samples,) each.

        Samples of several clients follow one another, in equal numbers.
        """
        given: list[Tensor] = []
        between: list[Tensor | None] = []
        values = inputs.flatten(1)
        for layer in self.layers:
            if given:
                values.relu_()
            given.append(values)
            values, narrow = _forward(layer, values)
            between.append(narrow)
        which = labels.unsqueeze(1)
        logs = values.log_softmax(1)
        losses = logs.gather(1, which).squeeze(1).neg_()
        # Of the logits: the probabilities, less 1 where the label is.
        slope = logs.exp_().scatter_add_(1, which, logs.new_full(which.shape, -1.0)).mul_(shares.unsqueeze(1))
        gradients: Gradients = {}
        for place in reversed(range(len(self.layers))):
            slope = _backward(self.layers[place], slope, given[place], between[place], gradients, further=place > 0)
            if place:
                slope = _relu_backward(slope, given[place], 0)
        return losses, gradients


def _is_plain(layer: nn.Module) -> bool:
    """Whether it is a linear layer of its own parameters, at which nobody else wants to look."""
    hooks = (layer._forward_hooks, layer._forward_pre_hooks, layer._backward_hooks, layer._backward_pre_hooks)
    return type(layer) is nn.Linear and not any(hooks) and set(layer._parameters) == {"weight", "bias"}


def _forward(layer: nn.Linear | LoRALinear, values: Tensor) -> tuple[Tensor, Tensor | None]:
    """The layer's outputs, (samples, out), and of an adapted one what B is applied to, (clients, samples of each, r)."""
    if isinstance(layer, LoRALinear):
        stack = _held(layer)
        # The scale costs least where the tensors are narrowest.
        narrow = torch.bmm(_apart(values, stack["A"]), stack["A"].mT).mul_(layer.scale)
        outputs = F.linear(values, layer.base.weight, layer.base.bias)
        _apart(outputs, narrow).baddbmm_(narrow, stack["Bt"])
        return outputs, narrow
    if isinstance(layer, HeadLinear):
        return layer(values), None
    return F.linear(values, layer.weight, layer.bias), None


def _backward(
    layer: nn.Linear | LoRALinear,
    slope: Tensor,
    given: Tensor,
    narrow: Tensor | None,
    gradients: Gradients,
    *,
    further: bool,
) -> Tensor:
    """Put down the gradients of the layer's tensors, from that of its outputs, (samples, out).

    Returns:
        That of its inputs, (samples, in), if anybody needs it ``further`` back.
    """
    if isinstance(layer, LoRALinear):
        stack = _held(layer)
        assert narrow is not None
        own = _apart(slope, narrow)
        of_narrow = torch.bmm(own, stack["Bt"].mT).mul_(layer.scale)
        if stack["A"].requires_grad:
            gradients[layer, "A"] = torch.bmm(of_narrow.mT, _apart(given, narrow))
        if stack["Bt"].requires_grad:
            gradients[layer, "Bt"] = torch.bmm(narrow.mT, own)
        if further:
            slope = slope @ layer.base.weight
            _apart(slope, narrow).baddbmm_(of_narrow, stack["A"])
        return slope
    if isinstance(layer, HeadLinear) and layer.stack is not None:
        weight = layer.stack["weight"]
        own = _apart(slope, weight)
        gradients[layer, "weight"] = torch.bmm(own.mT, _apart(given, weight))
        gradients[layer, "bias"] = own.sum(1)
        return torch.bmm(own, weight).flatten(0, 1)
    if layer.weight.requires_grad:
        gradients[layer, "weight"] = slope.mT @ given
        if layer.bias is not None:
            gradients[layer, "bias"] = slope.sum(0)
    return slope @ layer.weight if further else slope


def _held(layer: LoRALinear) -> PerClient:
    assert layer.stack is not None
    return layer.stack


def _apart(values: Tensor, stack: Tensor) -> Tensor:
    """A view of (samples, width) as (clients, samples of each, width)."""
    return values.view(len(stack), -1, values.shape[1])

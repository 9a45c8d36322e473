"""A trained adapter as PEFT reads it, so that it can be used without this package.

PEFT (Mangrulkar et al. 2022) computes ``W0 + (lora_alpha / r) B A`` for each layer, with an r and a lora_alpha of its own where
patterns say so. Writing files is for others.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from fedspec.config import TrainingConfig
from fedspec.errors import ExperimentError
from fedspec.federated.foundation import TEXTS, WEIGHTS
from fedspec.federated.lora import Factors, scale_of
from fedspec.federated.spectral import DEAD
from fedspec.federated.state import Weights

# What the library's own names stand below in `fedspec.models.bert`.
INNER = "inner."
# Before a module's name in PEFT's files.
PREFIX = "base_model.model."


@dataclass(frozen=True, slots=True)
class PeftAdapter:
    """An adapter in PEFT's words.

    Attributes:
        settings: of its ``LoraConfig``.
        tensors: of ``adapter_model.safetensors``, float32.
        base: what the plain module has beside, by its own names, float32; empty where that is a file of pretrained weights.
        classes: how many labels its head tells apart; 0 if the head is not in ``tensors``.
    """

    settings: dict[str, Any]
    tensors: dict[str, Tensor]
    base: dict[str, Tensor]
    classes: int


def to_peft(config: TrainingConfig, weights: Weights, base: Mapping[str, Tensor]) -> PeftAdapter:
    """What PEFT needs to compute what ``weights`` compute on ``base``.

    What a method has folded into a base weight becomes further directions of that layer's adapter: all that its SVD has.

    Args:
        base: the frozen base as it was saved.

    Raises:
        ExperimentError: the model was tuned in full.
    """
    if not weights.adapter:
        raise ExperimentError(
            "The model was tuned in full, so that there is no adapter.", "Take the tensors of its checkpoint."
        )
    scale = scale_of(config)
    layers = {_named(name): _whole(factors, weights.delta.get(name), scale) for name, factors in weights.adapter.items()}
    wider = {name: factors.rank for name, factors in layers.items() if factors.rank != weights.rank}
    pretrained = WEIGHTS in base
    # Of a pretrained model all that was saved was made here, and must travel; of others it is the base.
    made = {name: value for name, value in base.items() if name not in (WEIGHTS, TEXTS)}
    beside = {_named(name): value for name, value in ({**made, **weights.dense} if pretrained else weights.dense).items()}
    is_library_s = any(name.startswith(INNER) for name in weights.adapter)
    settings = {
        "r": weights.rank,
        "lora_alpha": scale * weights.rank,
        "lora_dropout": config.lora_dropout,
        "target_modules": sorted(layers),
        "rank_pattern": wider,
        "alpha_pattern": {name: scale * rank for name, rank in wider.items()},
        "modules_to_save": sorted({_module(name, layers, is_library_s) for name in beside}) or None,
        "task_type": "SEQ_CLS" if is_library_s else None,
        "inference_mode": True,
    }
    tensors = {f"{PREFIX}{name}.lora_{part}.weight": getattr(layers[name], part) for name in layers for part in ("A", "B")}
    tensors |= {f"{PREFIX}{name}": value for name, value in beside.items()}
    classes = min((value.shape[0] for value in beside.values()), default=0)
    return PeftAdapter(settings, _stored(tensors), {} if pretrained else _stored(made), classes)


def _named(name: str) -> str:
    return name.removeprefix(INNER)


def _stored(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.float().contiguous() for name, value in tensors.items()}


def _whole(factors: Factors, folded: Tensor | None, scale: float) -> Factors:
    """Factors whose product, times ``scale``, is the whole change of the layer's weight."""
    if folded is None:
        return factors
    U, S, V = torch.linalg.svd(folded.double(), full_matrices=False)
    kept = int((S > DEAD * S[0]).sum())
    root = (S[:kept] / scale).sqrt()
    more = Factors(B=U[:, :kept] * root, A=root[:, None] * V[:kept])
    return Factors(torch.cat([factors.B.double(), more.B], dim=1), torch.cat([factors.A.double(), more.A]))


def _module(parameter: str, layers: Mapping[str, Factors], is_library_s: bool) -> str:
    """The module that PEFT saves for a parameter: the whole head that it is in, or of an adapted part the one layer.

    PEFT takes every module that ends so: of the library's models it knows the heads by their names alone, for others the
    last part of `PREFIX` keeps ``out`` from meaning ``lora_dropout`` too.
    """
    top, owner = parameter.partition(".")[0], parameter.rpartition(".")[0]
    module = owner if any(name.partition(".")[0] == top for name in layers) else top
    return module if is_library_s else f"model.{module}"

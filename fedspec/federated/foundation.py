"""The frozen base: what an experiment starts from, what of it is saved for those who take over, and that they have the rest.

What comes from a file of weights, or from a tokenizer, is on each machine that can run the experiment: of that only a digest is
saved, and whoever has another one must not go on.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from pathlib import Path

import torch
from torch import Tensor

from fedspec.data.base import Dataset
from fedspec.errors import CapabilityError, DamagedError
from fedspec.federated.client import train_epoch
from fedspec.federated.seeding import generator, global_seed
from fedspec.federated.updates import Updates
from fedspec.models.base import Model
from fedspec.models.pretrained import PretrainedModel

PRETRAIN_LR, PRETRAIN_DECAY, PRETRAIN_EPOCHS, PRETRAIN_BATCH = 2e-3, 0.01, 20, 32
CPU = torch.device("cpu")
# Their names among tensors, (32,) uint8; no parameter's name begins so.
WEIGHTS, TEXTS = "digest.weights", "digest.texts"
_FIXES = {
    WEIGHTS: ("The pretrained weights", "Put those of the machine that began the experiment there."),
    TEXTS: ("The texts or their tokenizer", "Put the same ones there, and install the versions of constraints.txt."),
}


@dataclass(frozen=True, slots=True)
class Foundation:
    """The frozen base of one experiment, float32 on the CPU.

    Attributes:
        whole: each tensor of the model, by its name in ``state_dict``.
        saved: what makes the same one on another machine: of ``whole`` what was made here, and digests of the rest.
    """

    whole: dict[str, Tensor]
    saved: dict[str, Tensor]


def initial(kind: type[Model], dataset: Dataset, weights: Path | None, seed: int) -> Model:
    """A new model for the samples of ``dataset``; of a pretrained one only what its ``weights`` lack follows from the seed."""
    file = () if weights is None else (weights,)
    with global_seed(CPU, "model", seed):
        return kind(dataset.input_shape, dataset.classes, *file)


def lay(model: Model, dataset: Dataset, seed: int, base: Mapping[str, Tensor] | None) -> Foundation:
    """The base of a new ``model``, which stays as it is.

    Args:
        dataset: has the part to pretrain on, if any; a model that was pretrained elsewhere is not trained on it.
        base: what was saved of an earlier one; ``None`` makes it.

    Raises:
        CapabilityError: the weights or the texts on this machine are not those of ``base``.
        DamagedError: ``base`` is not one of this model.
    """
    digests = _digests(model, dataset)
    loaded = model.loaded if isinstance(model, PretrainedModel) else frozenset()
    whole = _copied(model) if base is not None or loaded else _pretrained(type(model), dataset, seed)
    own = {**{name: value for name, value in whole.items() if name not in loaded}, **digests}
    if base is None:
        return Foundation(whole, own)
    if _shapes(base) != _shapes(own):
        raise DamagedError("The saved base is not one of this model.", "Delete the saved base; it will be made again.")
    for name, digest in digests.items():
        if not torch.equal(base[name], digest):
            what, fix = _FIXES[name]
            raise CapabilityError(f"{what} on this machine are not those that this experiment began with.", fix)
    return Foundation({**whole, **{name: base[name] for name in own.keys() - digests.keys()}}, dict(base))


def _copied(model: Model) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


def _shapes(tensors: Mapping[str, Tensor]) -> dict[str, tuple[torch.Size, torch.dtype]]:
    return {name: (value.shape, value.dtype) for name, value in tensors.items()}


def _digests(model: Model, dataset: Dataset) -> dict[str, Tensor]:
    digests = {}
    if isinstance(model, PretrainedModel):
        digests[WEIGHTS] = model.digest()
    if dataset.train.lengths is not None:
        ids = sha256()
        for part in (dataset.train, dataset.validation, dataset.test):
            for tensor in (part.inputs, part.labels):
                ids.update(repr(tuple(tensor.shape)).encode() + tensor.numpy().astype("<i8").tobytes())
        digests[TEXTS] = ids.digest()
    return {name: torch.frombuffer(bytearray(digest), dtype=torch.uint8) for name, digest in digests.items()}


# A worker's items are in the order of their seeds: all methods and alphas of one start from one base.
@lru_cache(maxsize=4)
def _pretrained(kind: type[Model], dataset: Dataset, seed: int) -> dict[str, Tensor]:
    """A base, trained where the data set has a part for it; on the CPU, so that all kinds of device start from the same."""
    model = initial(kind, dataset, None, seed)
    if (data := dataset.pretrain) is not None:
        updates = Updates(list(model.parameters()), PRETRAIN_LR, PRETRAIN_DECAY)
        shuffle = generator("pretrain", seed)
        with global_seed(CPU, "pretrain", seed):
            for _ in range(PRETRAIN_EPOCHS):
                train_epoch(model.train(), updates, data, PRETRAIN_BATCH, torch.randperm(len(data), generator=shuffle))
    return _copied(model)

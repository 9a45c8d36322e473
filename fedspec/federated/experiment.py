"""From a configuration to everything that its rounds work on: data on the device, a partition, the resident model.

An experiment is a function of its configuration, its data and its frozen base; two machines that prepare the same one train
the same one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fedspec import devices
from fedspec.config import CentralizedConfig, FederatedConfig, server_rank
from fedspec.data import DATASETS, FILE, TEXT
from fedspec.data.base import Corpus, Dataset, Split, limited
from fedspec.errors import CapabilityError, DamagedError, ExperimentError
from fedspec.federated.aggregators import AGGREGATORS
from fedspec.federated.aggregators.base import Aggregator
from fedspec.federated.foundation import initial, lay
from fedspec.federated.lora import Factors, dtype_of, fresh
from fedspec.federated.partition import Partition, dirichlet, iid
from fedspec.federated.privacy import require_accountant
from fedspec.federated.resident import Resident
from fedspec.federated.state import State, Weights
from fedspec.models import MODELS
from fedspec.models.base import Model
from fedspec.models.pretrained import PretrainedModel, TextModel
from fedspec.registry import Entry

Config = FederatedConfig | CentralizedConfig


@dataclass(frozen=True, slots=True)
class Experiment:
    """What the rounds of one configuration work on.

    Attributes:
        config: the whole effective configuration.
        base: the frozen base by parameter name, float32 on the CPU, without what comes from a file of pretrained weights;
            `prepare` makes the same experiment of it.
        dense: what the tensors that are trained as they are start from, by parameter name, float32 on the CPU.
        resident: the model on the device; what it holds between two rounds means nothing.
        train: all clients' samples on the device, one client after the other.
        clients: each client's part of ``train``; all of it for the centralized baseline.
        validation: on the device.
        test: on the device.
        classes: the number of labels.
        label_shares: each client's label mix: (clients, classes) float64.
        partition_hash: names who owns what; empty for the centralized baseline.
    """

    config: Config
    base: dict[str, Tensor]
    dense: dict[str, Tensor]
    resident: Resident
    train: Split
    clients: tuple[Split, ...]
    validation: Split
    test: Split
    classes: int
    label_shares: NDArray[np.float64]
    partition_hash: str

    @property
    def device(self) -> torch.device:
        """Where it trains."""
        return self.resident.device

    def initial_weights(self) -> Weights:
        """What the first round starts from: new adapters, and of the base what is trained as it is."""
        dtype = dtype_of(self.config)
        adapter = {
            name: fresh(layer.base, server_rank(self.config), self.config.seed, 0, name).to(dtype)
            for name, layer in self.resident.layers.items()
        }
        return Weights(adapter, {name: value.to(dtype) for name, value in self.dense.items()}, {})

    def check(self, state: State, *more: str) -> None:
        """Raise unless a saved state is one of this experiment.

        Args:
            more: what it has beside a round and weights.

        Raises:
            DamagedError: it is not.
        """
        weights = Weights.from_state(state)
        wrong = DamagedError("A checkpoint's state is not one of this experiment.", "Take an older checkpoint.")
        layers = {name: (layer.base.out_features, layer.base.in_features) for name, layer in self.resident.layers.items()}
        if weights.adapter.keys() != layers.keys() or not {"round", *more} <= state.keys():
            raise wrong
        if type(state["round"]) is not int or not 0 <= state["round"] <= self.config.rounds:
            raise wrong
        ranks = {_rank(weights.adapter[name], shape, dtype_of(self.config)) for name, shape in layers.items()}
        most = max(server_rank(self.config), getattr(self.config, "max_rank", 0))
        if len(ranks) > 1 or any(not 1 <= rank <= most for rank in ranks):
            raise wrong
        folded = _shapes(weights.delta)
        if _shapes(weights.dense) != _shapes(self.resident.dense):
            raise wrong
        if any(folded[name] != layers.get(name) for name in folded):
            raise wrong


def _rank(factors: Factors, shape: tuple[int, int], dtype: torch.dtype) -> int:
    """The rank of one layer's factors; 0 if they are not those of a layer of this (out, in) shape."""
    tensors = factors.A, factors.B
    if not all(isinstance(tensor, Tensor) and tensor.dtype == dtype and tensor.dim() == 2 for tensor in tensors):
        return 0
    fits = factors.A.shape[0] == factors.B.shape[1] and (factors.B.shape[0], factors.A.shape[1]) == shape
    return factors.rank if fits else 0


def _shapes(tensors: Any) -> dict[Any, Any]:
    """Shapes by name; of what is no tensor, one that nothing has."""
    if not isinstance(tensors, Mapping):
        return {"": ()}
    return {name: value.shape if isinstance(value, Tensor) else () for name, value in tensors.items()}


def prepare(
    config: Config, *, device: str = "any", data_root: Path | None = None, base: Mapping[str, Tensor] | None = None
) -> Experiment:
    """Load the data, share it out and build the model.

    Args:
        device: ``any``, ``cpu``, ``cuda`` or ``mps``.
        data_root: the folder of data sets that do not come with the package.
        base: the frozen base of an earlier call; ``None`` makes it: pretrained where the data set has a part for it. It is made
            on the CPU, so that all kinds of device start from the same one.

    Raises:
        ExperimentError: the configuration cannot run anywhere.
        CapabilityError: it cannot run on this machine: a device, an extra or a name is missing.
        DamagedError: a data file, or the base, is not what it should be.
    """
    place = devices.resolve(device)
    if config.dtype == "float64" and place.type == "mps":
        raise CapabilityError("MPS has no float64.", "Set dtype = 'float32', or device = 'cpu'.")
    if isinstance(config, FederatedConfig):
        load_method(config)  # an unknown one is refused before anything is loaded
        require_accountant(config)
    # The order of sums, and with it the last bits of a result, depends on the number of threads.
    torch.set_num_threads(config.threads)
    model_type: type[Model] = _lookup(MODELS, config.model, "model").load()
    weights = model_type.locate(config.pretrained, data_root) if issubclass(model_type, PretrainedModel) else None
    dataset = _loaded(config, data_root, model_type, weights)
    model = initial(model_type, dataset, weights, config.seed)
    _check_adapters(config, model)
    foundation = lay(model, dataset, config.seed, base)
    resident = Resident(model, foundation.whole, config, place)
    partition = _partition(config, dataset)
    labels = dataset.train.labels.numpy()
    train = _placed(dataset.train, config, place, torch.from_numpy(np.concatenate(partition.clients)))
    return Experiment(
        config=config,
        base=foundation.saved,
        dense={name: foundation.whole[name] for name in resident.dense},
        resident=resident,
        train=train,
        clients=train.parts([len(mine) for mine in partition.clients]),
        validation=_placed(dataset.validation, config, place),
        test=_placed(dataset.test, config, place),
        classes=dataset.classes,
        label_shares=partition.label_shares(labels, dataset.classes),
        partition_hash=partition.hash if isinstance(config, FederatedConfig) else "",
    )


def _lookup(registry: Mapping[str, Entry], name: str, kind: str) -> Entry:
    if name not in registry:
        # Plans are checked where they are enqueued: whoever enqueued it knows the name.
        fix = f"Update fedspec, or choose one of {', '.join(registry)}."
        raise CapabilityError(f"This version has no {kind} called {name!r}.", fix)
    return registry[name]


def _loaded(config: Config, data_root: Path | None, model: type[Model], weights: Path | None) -> Dataset:
    """The data set as ``model`` reads it."""
    entry, file = _source(config)
    if not entry.traits >= TEXT:
        return _read(entry, data_root, file, config.train_samples, None, None)
    if not issubclass(model, TextModel) or weights is None:
        raise ExperimentError(f"{config.model} reads no texts, and {config.dataset} is nothing else.", 'Set model = "bert".')
    return _read(entry, data_root, file, config.train_samples, model, weights)


def _source(config: Config) -> tuple[Entry, tuple[str, ...]]:
    """The data set's line in the registry, and what its function is told beside the data folder."""
    entry = _lookup(DATASETS, config.dataset, "data set")
    return entry, (config.data_file, config.data_digest) if entry.traits >= FILE else ()


# A worker's next item mostly has the data of its last one.
@lru_cache(maxsize=1)
def _read(
    entry: Entry,
    data_root: Path | None,
    file: tuple[str, ...],
    train_samples: int,
    reader: type[TextModel] | None,
    weights: Path | None,
) -> Dataset:
    task: Dataset | Corpus = limited(entry.load()(data_root, *file), train_samples)
    if isinstance(task, Dataset):
        return task
    assert reader is not None
    assert weights is not None
    return task.encoded(reader.encoder(weights))


def share_out(config: FederatedConfig, data_root: Path | None) -> tuple[Partition, NDArray[np.int64], int]:
    """Who owns which training samples, the labels of these, (n,) int64, and the number of classes; for whoever trains nothing.

    Raises:
        ExperimentError, CapabilityError, DamagedError: as `prepare`.
    """
    entry, file = _source(config)
    task: Dataset | Corpus = limited(entry.load()(data_root, *file), config.train_samples)
    return _partition(config, task), task.train.labels.numpy(), task.classes


def load_method(config: FederatedConfig) -> Aggregator:
    """The aggregator of a configuration.

    Raises:
        ExperimentError: there is none of that name.
    """
    method: Aggregator = _lookup(AGGREGATORS, config.method, "method").load().of(config)
    return method


def _check_adapters(config: Config, model: Model) -> None:
    """Raise ExperimentError unless the model has layers that can carry adapters of the rank that is wanted."""
    if config.tune != "lora":
        return
    if not model.lora_targets:
        raise ExperimentError(f"{config.model} has no linear layer that could carry an adapter.", 'Set tune = "full".')
    layers = ((name, model.get_submodule(name)) for name in model.lora_targets)
    # Whatever else stands there is refused where it is adapted.
    shapes = {name: (layer.out_features, layer.in_features) for name, layer in layers if isinstance(layer, nn.Linear)}
    smallest, shape = min(shapes.items(), key=lambda named: min(named[1]), default=("", (0, 0)))
    wanted = {"the highest of ranks" if getattr(config, "ranks", ()) else "rank": server_rank(config)}
    if isinstance(config, FederatedConfig) and config.rank_rule != "fixed":
        wanted["max_rank"] = config.max_rank
    for key, rank in wanted.items():
        if shapes and rank > min(shape):
            what = f"{key} is {rank}, and {smallest}, the smallest adapted layer, is {shape[0]} x {shape[1]}"
            raise ExperimentError(f"{what}: no higher rank than {min(shape)}.", f"Set {key} to {min(shape)} or less.")


def _partition(config: Config, task: Dataset | Corpus) -> Partition:
    labels = task.train.labels.numpy()
    if isinstance(config, CentralizedConfig):
        return Partition((np.arange(len(labels)),))
    sizes = {"clients": config.clients, "seed": config.seed, "min_samples": config.min_client_samples}
    if config.split == "iid":
        return iid(labels, **sizes)
    if config.alpha is None:
        raise ExperimentError("A Dirichlet split needs an alpha.", "Set alpha to a positive number, or split = 'iid'.")
    return dirichlet(labels, alpha=config.alpha, **sizes)


def _placed(split: Split, config: Config, device: torch.device, which: Tensor | None = None) -> Split:
    mine = split if which is None else split.take(which)
    # Token ids are whole numbers, whatever the model computes in.
    inputs = mine.inputs.to(dtype_of(config)) if mine.inputs.is_floating_point() else mine.inputs
    return Split(inputs.to(device), mine.labels.to(device), mine.lengths)

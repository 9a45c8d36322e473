"""The job of a federated run: rounds of clients and an aggregation."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fedspec.config import CentralizedConfig, FederatedConfig, TrainingConfig, clients_in_a_round, complaints, mismatched, unfit
from fedspec.errors import CapabilityError
from fedspec.federated.events import Event
from fedspec.federated.experiment import prepare
from fedspec.federated.rounds import rounds
from fedspec.jobs import VOCABULARY
from fedspec.plan import Item, effective


class FederatedJob:
    """An item whose rounds the engine makes.

    Args:
        base: the frozen base of earlier attempts, None to make it.
        data_root: where data sets lie.
    """

    def __init__(self, item: Item, base: Mapping[str, Tensor] | None, data_root: Path | None) -> None:
        config = effective(item)
        assert isinstance(config, FederatedConfig | CentralizedConfig)  # these kinds have no other
        for _, complaint, fix in (*complaints(config), *_misfits(config)):
            # No plan file of this version asks for it; whoever wrote the item otherwise must not cost this machine its worker.
            raise CapabilityError(f"This version does not run {item.exp}: {complaint}.", fix)
        self.experiment = prepare(config, device=config.device, data_root=data_root, base=base)
        self.device = self.experiment.resident.device.type
        # A plain text: the version is a class of its own, which a checkpoint that is read without unpickling cannot hold.
        self.runtime = str(torch.__version__)

    @property
    def samples(self) -> float:
        """How many samples a round trains on."""
        config, clients = self.experiment.config, len(self.experiment.clients)
        sampled = clients_in_a_round({"participation": getattr(config, "participation", 1.0), "clients": clients})
        return sampled / clients * len(self.experiment.train) * config.local_epochs

    @property
    def base(self) -> Mapping[str, Tensor]:
        """The frozen part of the model, on the CPU."""
        return self.experiment.base

    def run(self, state: Mapping[str, Any] | None) -> Iterator[Event]:
        """Train from ``state``, or from the beginning, to the last round."""
        return rounds(self.experiment, None if state is None else dict(state))


def _misfits(config: TrainingConfig) -> Iterable[tuple[str, str, str]]:
    """What the parts of a configuration cannot do, of those that this version knows; `prepare` refuses the others."""
    traits = {key: names.get(getattr(config, key, "")) for key, names in VOCABULARY.items()}
    if (method := traits["method"]) is not None:
        yield from unfit(config, method)
    if (dataset := traits["dataset"]) is not None and (model := traits["model"]) is not None:
        yield from mismatched(config, dataset, model)

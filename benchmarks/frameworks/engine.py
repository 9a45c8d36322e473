"""The job in fedspec, as a worker runs it."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import torch

from benchmarks.frameworks.job import asked, load
from fedspec.config import FederatedConfig
from fedspec.data.base import Split
from fedspec.federated.events import Aggregated, ClientDone, RoundDone
from fedspec.federated.experiment import prepare
from fedspec.federated.rounds import rounds


def main() -> None:
    """Do the job."""
    path, _, watch = asked(__doc__, "fedspec")
    job = load(path)
    config = FederatedConfig(
        dataset="mnist",
        model="2nn",
        method="fedavg",
        tune="full",
        optimizer="sgd",
        clients=len(job.clients),
        rounds=job.rounds,
        local_epochs=job.epochs,
        batch_size=job.batch_size,
        lr=job.lr,
        seed=job.seed,
    )
    experiment = prepare(config, device="cpu", data_root=Path(os.environ["FEDSPEC_DATA"]), base=job.start)
    # The others evaluate on test images alone: an almost empty validation part makes the evaluation the same.
    one = experiment.validation.take(torch.arange(1))
    experiment = replace(experiment, clients=tuple(Split(*samples) for samples in job.clients), validation=one)
    for event in rounds(experiment):
        if isinstance(event, ClientDone):
            watch.trained()  # the last one counts
        if isinstance(event, Aggregated):
            watch.aggregated()
        if isinstance(event, RoundDone):
            watch.evaluated(event.row.accuracy)


if __name__ == "__main__":
    main()

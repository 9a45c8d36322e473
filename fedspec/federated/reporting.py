"""From a finished round to its row: the columns that federated and centralized runs share."""

from __future__ import annotations

from math import isfinite
from typing import Any

from fedspec.config import FederatedConfig, config_hash
from fedspec.errors import ExperimentError
from fedspec.federated.evaluation import evaluate
from fedspec.federated.experiment import Experiment
from fedspec.results import Row


def make_row(
    experiment: Experiment,
    *,
    round: int,
    rank: int,
    rank_next: int,
    participating: int,
    train_loss: float,
    **columns: Any,
) -> Row:
    """Evaluate what is installed in the resident model, and fill in every column that does not depend on the machine.

    Args:
        columns: what the kind of run adds: gaps, norms, bytes.

    Raises:
        ExperimentError: a loss is not finite, so that there is no result to report.
    """
    config, module = experiment.config, experiment.resident.module
    test, validation = evaluate(module, (experiment.test, experiment.validation), experiment.classes)
    if not (isfinite(train_loss) and isfinite(test.loss)):
        raise ExperimentError(
            f"The model has diverged by round {round}: training loss {train_loss}, test loss {test.loss}.",
            f"Lower lr (it is {config.lr}).",
        )
    federated = config if isinstance(config, FederatedConfig) else None
    return Row(
        method=federated.method if federated else "centralized",
        dataset=config.dataset,
        model=config.model,
        alpha=federated.alpha if federated else None,
        seed=config.seed,
        n_clients=len(experiment.clients),
        participating=participating,
        round=round,
        local_epochs=config.local_epochs,
        lr=config.lr,
        rank=rank,
        rank_next=rank_next,
        accuracy=test.accuracy,
        loss=test.loss,
        worst_client_accuracy=test.worst_accuracy(experiment.label_shares) if federated else None,
        train_loss=train_loss,
        **columns,
        config_hash=config_hash(config),
        partition_hash=experiment.partition_hash,
        validation_accuracy=validation.accuracy,
    )

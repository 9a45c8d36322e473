"""The job in pfl-research: FederatedAveraging on its simulated backend, one process or several under torchrun.

As in its own benchmarks: a user's data set is made when the user is sampled, weighted by its samples. There the samples are
shuffled; pfl by itself would go through them in the same order in every round.
"""

from __future__ import annotations

import os

import numpy as np
import torch
import torch.nn.functional as F
from pfl.aggregate.simulate import SimulatedBackend
from pfl.aggregate.weighting import WeightByDatapoints
from pfl.algorithm.base import NNAlgorithmParams
from pfl.algorithm.federated_averaging import FederatedAveraging
from pfl.callback.base import TrainingProcessCallback
from pfl.callback.central_evaluation import CentralEvaluationCallback
from pfl.data.dataset import Dataset
from pfl.data.federated_dataset import FederatedDataset
from pfl.data.sampling import get_user_sampler
from pfl.hyperparam import NNEvalHyperParams, NNTrainHyperParams
from pfl.metrics import Metrics, Weighted
from pfl.model.pytorch import PyTorchModel
from torch import Tensor

from benchmarks.frameworks.job import EVALUATION_BATCH, TwoNN, Watch, asked, load


class Learner(TwoNN):
    """The model with what pfl asks of one."""

    def loss(self, inputs: Tensor, labels: Tensor) -> Tensor:
        """Of a training batch."""
        self.train()
        return F.cross_entropy(self(inputs), labels)

    @torch.no_grad()
    def metrics(self, inputs: Tensor, labels: Tensor) -> dict[str, Weighted]:
        """Of a batch in evaluation."""
        self.eval()
        return {"accuracy": Weighted(int((self(inputs).argmax(dim=1) == labels).sum()), len(labels))}


class Before(TrainingProcessCallback):
    """Stands before the evaluation. Of several processes the first one has the watch."""

    def __init__(self, watch: Watch | None) -> None:
        self.watch = watch

    def after_central_iteration(
        self, aggregate_metrics: Metrics, model: PyTorchModel, *, central_iteration: int
    ) -> tuple[bool, Metrics]:
        """The round's model is there."""
        if self.watch is not None:
            self.watch.aggregated()
        return False, Metrics()


class After(Before):
    """Stands behind it."""

    def after_central_iteration(
        self, aggregate_metrics: Metrics, model: PyTorchModel, *, central_iteration: int
    ) -> tuple[bool, Metrics]:
        """The round has been evaluated, but for the first one, which pfl leaves out."""
        if self.watch is not None:
            found = dict(aggregate_metrics.to_simple_dict()) if central_iteration else {}
            self.watch.evaluated(found.get("Central val | accuracy"))
        if torch.distributed.is_initialized():
            torch.distributed.barrier()  # nobody goes on before its turn
        return False, Metrics()


def main() -> None:
    """Do the job."""
    path, _, watch = asked(__doc__, "pfl")
    job = load(path)
    # Under torchrun each process must draw the same users, and shuffles its own.
    rank = int(os.environ.get("RANK", "0"))
    np.random.seed(job.seed)
    torch.manual_seed(job.seed + rank)
    network = Learner()
    network.load_state_dict(job.start)
    model = PyTorchModel(
        model=network,
        local_optimizer_create=lambda parameters, lr: torch.optim.SGD(parameters, lr=lr, fused=True),
        central_optimizer=torch.optim.SGD(network.parameters(), lr=1.0),
    )

    def user(number: int) -> Dataset:
        inputs, labels = job.clients[number]
        order = torch.randperm(len(labels))
        return Dataset(raw_data=[inputs[order], labels[order]], user_id=str(number))

    users = list(range(len(job.clients)))
    sizes = {number: len(labels) for number, (_, labels) in enumerate(job.clients)}
    cohort = FederatedDataset(user, get_user_sampler("minimize_reuse", users), user_id_to_weight=sizes)
    evaluation = NNEvalHyperParams(local_batch_size=EVALUATION_BATCH)
    test = CentralEvaluationCallback(Dataset(raw_data=list(job.test)), model_eval_params=evaluation)
    told = None if rank else watch
    FederatedAveraging().run(
        algorithm_params=NNAlgorithmParams(
            central_num_iterations=job.rounds,
            # Of the users' own data: never but in the first round.
            evaluation_frequency=job.rounds,
            train_cohort_size=len(users),
            val_cohort_size=None,
        ),
        backend=SimulatedBackend(training_data=cohort, val_data=cohort, postprocessors=[WeightByDatapoints()]),
        model=model,
        model_train_params=NNTrainHyperParams(
            local_num_epochs=job.epochs, local_learning_rate=job.lr, local_batch_size=job.batch_size
        ),
        model_eval_params=evaluation,
        callbacks=[Before(told), test, After(told)],
        send_metrics_to_platform=False,  # it would print them
    )


if __name__ == "__main__":
    main()

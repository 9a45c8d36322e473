"""The job in Flower: a ServerApp and a ClientApp in its simulation runtime, which Ray runs in one process for each core.

The apps are what its PyTorch quickstart has: a model from the parameters, a DataLoader over the partition and an optimizer in
each round, ``FedAvg`` with an evaluation on the server. What is not the framework's is the others': samples that are tensors
already (`flower_datasets` has the quickstart's), the fused optimizer, the function that evaluates. ``flwr run`` starts the same
runtime from its SuperLink.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg
from flwr.simulation import run_simulation
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from benchmarks.frameworks.job import Job, TwoNN, Watch, accuracy, asked, load

# The batches of a client, in a new order each time: pairs of inputs and labels.
Loader = Callable[[Job, int], Any]


def tensors(job: Job, number: int) -> Any:
    """From tensors in memory."""
    return DataLoader(TensorDataset(*job.clients[number]), batch_size=job.batch_size, shuffle=True)


def client(path: Path, loader_of: Loader) -> ClientApp:
    """The clients' part."""
    app = ClientApp()

    @app.train()
    def train(message: Message, context: Context) -> Message:
        torch.set_num_threads(1)
        job = load(path)
        model = TwoNN()
        model.load_state_dict(message.content["arrays"].to_torch_state_dict())
        loader = loader_of(job, int(context.node_config["partition-id"]))
        criterion = nn.CrossEntropyLoss()
        optimizer = torch.optim.SGD(model.parameters(), lr=message.content["config"]["lr"], fused=True)
        model.train()
        total = 0.0
        for _ in range(job.epochs):
            for inputs, labels in loader:
                optimizer.zero_grad()
                loss = criterion(model(inputs), labels)
                loss.backward()
                optimizer.step()
                total += loss.item()
        metrics = MetricRecord({"train_loss": total / (job.epochs * len(loader)), "num-examples": len(loader.dataset)})
        return Message(content=RecordDict({"arrays": ArrayRecord(model.state_dict()), "metrics": metrics}), reply_to=message)

    return app


def server(path: Path, watch: Watch) -> ServerApp:
    """The server's part."""
    app = ServerApp()

    @app.main()
    def main(grid: Grid, context: Context) -> None:
        job = load(path)

        def evaluate(round: int, arrays: ArrayRecord) -> MetricRecord:
            if round:
                watch.aggregated()
            model = TwoNN()
            model.load_state_dict(arrays.to_torch_state_dict())
            share = accuracy(model, job.test)
            if round:
                watch.evaluated(share)
            return MetricRecord({"accuracy": share})

        everyone = len(job.clients)
        strategy = FedAvg(fraction_evaluate=0.0, min_train_nodes=everyone, min_available_nodes=everyone)
        strategy.start(
            grid=grid,
            initial_arrays=ArrayRecord(job.start),
            train_config=ConfigRecord({"lr": job.lr}),
            num_rounds=job.rounds,
            evaluate_fn=evaluate,
        )

    return app


def simulate(path: Path, processes: int, watch: Watch, loader_of: Loader) -> None:
    """Do the job."""
    torch.manual_seed(load(path).seed)
    run_simulation(
        server(path, watch),
        client(path, loader_of),
        num_supernodes=len(load(path).clients),
        backend_config={
            "client_resources": {"num_cpus": 1, "num_gpus": 0.0},
            "init_args": {"num_cpus": processes, "num_gpus": 0},
        },
    )


if __name__ == "__main__":
    simulate(*asked(__doc__, "flwr", "ray"), tensors)

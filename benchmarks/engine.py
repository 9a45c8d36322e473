"""The sequential engine against a bare PyTorch loop of the same steps: MNIST, 2NN, 10 clients, Dirichlet 0.5.

The bare loop is written as one would without any framework: no events, no checks, no seeds for dropout. Both are timed in
turns in one process, on one thread; medians. Needs ``FEDSPEC_DATA``.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks import Headline, table, write
from fedspec.config import FederatedConfig
from fedspec.federated.events import ClientDone, RoundDone
from fedspec.federated.experiment import Experiment, prepare
from fedspec.federated.rounds import rounds

CONFIG = FederatedConfig(dataset="mnist", model="2nn", method="fedspec", clients=10, alpha=0.5, lr=0.003, rounds=1)


class BareLoRA(nn.Module):
    """The adapter as a tutorial writes it."""

    def __init__(self, weight: Tensor, bias: Tensor, rank: int, scale: float) -> None:
        super().__init__()
        self.weight, self.bias, self.scale = nn.Parameter(weight, False), nn.Parameter(bias, False), scale
        self.A = nn.Parameter(torch.randn(rank, weight.shape[1]) / rank)
        self.B = nn.Parameter(torch.zeros(weight.shape[0], rank))

    def forward(self, x: Tensor) -> Tensor:
        """W0 x + s B A x."""
        return F.linear(x, self.weight, self.bias) + F.linear(F.linear(x, self.A) * self.scale, self.B)


def bare_model(base: dict[str, Tensor]) -> nn.Sequential:
    """The same network without fedspec."""
    head = nn.Linear(200, 10)
    head.load_state_dict({"weight": base["out.weight"], "bias": base["out.bias"]})
    first, second = (BareLoRA(base[f"hidden.{i}.weight"], base[f"hidden.{i}.bias"], 4, 2.0) for i in (0, 1))
    return nn.Sequential(nn.Flatten(), first, nn.ReLU(), second, nn.ReLU(), head.requires_grad_(False))


def bare_round(model: nn.Sequential, clients: list[tuple[Tensor, Tensor]]) -> float:
    """Seconds of one round's steps."""
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    start = [parameter.detach().clone() for parameter in parameters]
    sent = []
    started = time.perf_counter()
    for inputs, labels in clients:
        with torch.no_grad():
            for parameter, value in zip(parameters, start, strict=True):
                parameter.copy_(value)
        optimizer = torch.optim.AdamW(parameters, lr=CONFIG.lr, weight_decay=0.0, fused=True)
        for batch in torch.randperm(len(labels)).split(CONFIG.batch_size):
            loss = F.cross_entropy(model(inputs[batch]), labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        sent.append([parameter.detach().clone() for parameter in parameters])
    return time.perf_counter() - started


def engine_round(experiment: Experiment) -> tuple[float, float]:
    """Seconds until the last client is done, and until the round is."""
    trained = 0.0
    started = time.perf_counter()
    for event in rounds(experiment):
        if isinstance(event, ClientDone):
            trained = time.perf_counter() - started
        if isinstance(event, RoundDone):
            break
    return trained, time.perf_counter() - started


def main() -> None:
    """Measure, print the table, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=7)
    repeats = parser.parse_args().repeats
    experiment = prepare(CONFIG, device="cpu", data_root=Path(os.environ["FEDSPEC_DATA"]))
    model = bare_model({name: value.clone() for name, value in experiment.base.items()})
    clients = [(data.inputs, data.labels) for data in experiment.clients]
    bare_round(model, clients[:1])
    bare, training, whole = [], [], []
    for _ in range(repeats):
        bare.append(bare_round(model, clients))
        trained, complete = engine_round(experiment)
        training.append(trained)
        whole.append(complete)
    medians = {
        "bare loop": statistics.median(bare),
        "engine, training": statistics.median(training),
        "engine, whole round": statistics.median(whole),
    }
    ratios = {name: median / medians["bare loop"] for name, median in medians.items()}
    print(table(["", "s/round", "ratio"], [[name, f"{medians[name]:.3f}", f"{ratios[name]:.3f}"] for name in medians]))
    kept = "yes" if (reached := ratios["engine, training"] <= 1.05) else "NO"
    headlines = [
        Headline("a round's LoRA training over a bare loop", f"{ratios['engine, training']:.3f}", "1.05", reached),
        Headline("the whole round over the bare loop's training", f"{ratios['engine, whole round']:.3f}"),
    ]
    path = write("engine", {"bare": bare, "training": training, "whole": whole, "ratios": ratios}, headlines)
    print(f"\ntraining within 1.05 of the bare loop: {kept}; {repeats} repeats; {path}")


if __name__ == "__main__":
    main()

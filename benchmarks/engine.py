"""Both engines against a bare PyTorch loop of the same LoRA steps: digits (MLP) and MNIST (2NN), 10 clients, Dirichlet 0.5.

The bare loop is written as one would without any framework: no events, no checks, no seeds for dropout. All are timed in
turns in one process, on one thread, from the first round to the last; medians. MNIST needs ``FEDSPEC_DATA``.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections import defaultdict
from pathlib import Path

import torch
import torch.nn.functional as F
from msgspec.structs import replace
from torch import Tensor, nn

from benchmarks import Headline, table, write
from fedspec.config import FederatedConfig
from fedspec.federated.events import ClientDone, StepDone
from fedspec.federated.experiment import Experiment, prepare
from fedspec.federated.rounds import rounds

CASES = {
    "digits, MLP, 20 rounds": FederatedConfig(method="fedspec", lr=0.02),
    "MNIST, 2NN, 1 round": FederatedConfig(dataset="mnist", model="2nn", method="fedspec", lr=0.003, rounds=1),
}
ENGINES = ("sequential", "stacked")
# Of the stacked engine over the sequential one, as wanted.
GAINS = dict(zip(CASES, (4.0, 1.5), strict=True))


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
    head = nn.Linear(*base["out.weight"].T.shape)
    head.load_state_dict({"weight": base["out.weight"], "bias": base["out.bias"]})
    first, second = (BareLoRA(base[f"hidden.{i}.weight"], base[f"hidden.{i}.bias"], 4, 2.0) for i in (0, 1))
    return nn.Sequential(nn.Flatten(), first, nn.ReLU(), second, nn.ReLU(), head.requires_grad_(False))


def bare_run(model: nn.Sequential, clients: list[tuple[Tensor, Tensor]], config: FederatedConfig) -> float:
    """Seconds of the steps of all rounds."""
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    start = [parameter.detach().clone() for parameter in parameters]
    sent = []
    started = time.perf_counter()
    for _ in range(config.rounds):
        for inputs, labels in clients:
            with torch.no_grad():
                for parameter, value in zip(parameters, start, strict=True):
                    parameter.copy_(value)
            optimizer = torch.optim.AdamW(parameters, lr=config.lr, weight_decay=0.0, fused=True)
            for batch in torch.randperm(len(labels)).split(config.batch_size):
                loss = F.cross_entropy(model(inputs[batch]), labels[batch])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            sent.append([parameter.detach().clone() for parameter in parameters])
    return time.perf_counter() - started


def engine_run(experiment: Experiment) -> tuple[float, float]:
    """Seconds that clients train, and of the whole run with its aggregations, gaps and evaluations."""
    trained = 0.0
    started = lap = time.perf_counter()
    for event in rounds(experiment):
        now = time.perf_counter()
        if isinstance(event, StepDone | ClientDone):
            trained += now - lap
        lap = now
    return trained, lap - started


def measure(config: FederatedConfig, repeats: int) -> dict[str, list[float]]:
    """Seconds of each way, by its name."""
    root = Path(os.environ["FEDSPEC_DATA"]) if "FEDSPEC_DATA" in os.environ else None
    engines = {name: prepare(replace(config, engine=name), device="cpu", data_root=root) for name in ENGINES}
    reference = engines["sequential"]
    model = bare_model({name: value.clone() for name, value in reference.base.items()})
    clients = [(data.inputs, data.labels) for data in reference.clients]
    seconds: dict[str, list[float]] = defaultdict(list)
    for repeat in range(repeats + 1):
        lap = {"bare loop": bare_run(model, clients, config)}
        for name, experiment in engines.items():
            lap[f"{name}, training"], lap[f"{name}, whole run"] = engine_run(experiment)
        # The first time warms up.
        for name, taken in lap.items() if repeat else ():
            seconds[name].append(taken)
    return seconds


def main() -> None:
    """Measure, print the table, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=11)
    repeats = parser.parse_args().repeats
    found, rows, headlines = {}, [], []
    for case, config in CASES.items():
        if config.dataset == "mnist" and "FEDSPEC_DATA" not in os.environ:
            print(f"left out, since FEDSPEC_DATA names no folder: {case}")
            continue
        found[case] = seconds = measure(config, repeats)
        ratios = {name: ratio(taken, seconds["bare loop"]) for name, taken in seconds.items()}
        rows += [[case, name, f"{statistics.median(taken):.3f}", f"{ratios[name]:.3f}"] for name, taken in seconds.items()]
        gain = ratio(seconds["sequential, training"], seconds["stacked, training"])
        training, whole = ratios["sequential, training"], ratios["stacked, whole run"]
        headlines += [
            Headline(f"{case}: training in turn over a bare loop", f"{training:.3f}", "1.05", training <= 1.05),
            Headline(f"{case}: training in turn over training together", f"{gain:.2f}", f"{GAINS[case]}", gain >= GAINS[case]),
            Headline(f"{case}: a whole stacked run over the bare loop", f"{whole:.3f}", "0.75", whole <= 0.75),
        ]
    print(table(["", "", "s", "ratio to the bare loop"], rows))
    print(
        table(
            ["", "ratio", "wanted", "reached"], [[h.what, h.figure, h.target, "yes" if h.reached else "NO"] for h in headlines]
        )
    )
    print(f"\n{repeats} repeats in turns, medians of the ratios; {write('engine', found, headlines)}")


def ratio(ours: list[float], theirs: list[float]) -> float:
    """The median of what was measured in one turn."""
    return statistics.median(mine / other for mine, other in zip(ours, theirs, strict=True))


if __name__ == "__main__":
    main()

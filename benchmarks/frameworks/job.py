"""The job that every framework gets, and the watch that it is timed by; imports nothing but torch, so that any framework's
environment can do it.

Ten clients of a Dirichlet partition of MNIST, the 2NN, plain SGD, FedAvg, an evaluation on the test images in each round.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import asdict, dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

EVALUATION_BATCH, CLASSES = 2048, 10
Samples = tuple[Tensor, Tensor]


@dataclass(frozen=True, slots=True)
class Job:
    """What to train, the same numbers for all.

    Attributes:
        rounds: of communication; ``epochs`` passes of each client in each, in batches of ``batch_size``.
        start: the first model by parameter name.
        clients: each one's images (n, 1, 28, 28) float32 and labels (n,) int64.
        test: 10,000 images and labels.
    """

    rounds: int
    epochs: int
    batch_size: int
    lr: float
    seed: int
    start: dict[str, Tensor]
    clients: list[Samples]
    test: Samples

    def save(self, path: Path) -> None:
        """For `load` in another process."""
        torch.save(asdict(self), path)

    def model(self) -> TwoNN:
        """The first model."""
        model = TwoNN()
        model.load_state_dict(self.start)
        return model


@cache
def load(path: Path) -> Job:
    """A saved job, read once in a process."""
    return Job(**torch.load(path, weights_only=True))


class TwoNN(nn.Module):
    """784-200-200-10 with ReLU: 199,210 parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden = nn.ModuleList([nn.Linear(784, 200), nn.Linear(200, 200)])
        self.out = nn.Linear(200, CLASSES)

    def forward(self, inputs: Tensor) -> Tensor:
        """Images (n, 1, 28, 28) to logits (n, 10)."""
        features = inputs.flatten(1)
        for layer in self.hidden:
            features = F.relu(layer(features))
        logits: Tensor = self.out(features)
        return logits


@torch.inference_mode()
def accuracy(model: nn.Module, samples: Samples) -> float:
    """The share of samples that are classified correctly."""
    model.eval()
    hits = 0
    for inputs, labels in zip(*(tensor.split(EVALUATION_BATCH) for tensor in samples), strict=True):
        hits += int((model(inputs).argmax(dim=1) == labels).sum())
    return hits / len(samples[1])


class Watch:
    """Tells of each round when it is over, as a line of JSON on stdout, and waits for a line on stdin before the next one.

    So frameworks take turns: one computes, the others wait. What is told: seconds of this process's CPU time until the last
    client was trained (if the framework says when), seconds until the round's model was there and until it was evaluated, and
    the accuracy. The first round is told as seconds since the process was started: frameworks put off until then what they do
    once.

    Args:
        started: when the process was, as `time.time` tells.
        packages: whose versions to tell.
    """

    def __init__(self, started: float, *packages: str) -> None:
        self._started, self._packages = started, packages
        self._began: float | None = None
        self._began_cpu = 0.0
        self._laps: dict[str, float] = {}

    def trained(self) -> None:
        """The last client of the round is done."""
        self._laps["train_cpu_s"] = time.process_time() - self._began_cpu

    def aggregated(self) -> None:
        """The round's model is there."""
        self._lap("work_s")

    def evaluated(self, accuracy: float | None) -> None:
        """The round is over; ``None``: this framework does not evaluate it."""
        self._lap("round_s")
        told: dict[str, Any] = {**self._laps, "accuracy": accuracy}
        if self._began is None:
            versions = {name: version(name) for name in ("torch", *self._packages)}
            told = {"first_s": time.time() - self._started, "versions": versions, "accuracy": accuracy}
        print(json.dumps(told), flush=True)
        if not sys.stdin.readline():
            raise SystemExit("nobody waits for the next round")
        self._laps = {}
        self._began, self._began_cpu = time.perf_counter(), time.process_time()

    def _lap(self, name: str) -> None:
        if self._began is not None:
            self._laps[name] = time.perf_counter() - self._began


def asked(doc: str | None, *packages: str) -> tuple[Path, int, Watch]:
    """A runner's command line: the job, how many processes it may use, and a watch that runs since it was started."""
    parser = argparse.ArgumentParser(description=doc)
    parser.add_argument("job", type=Path)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--started", type=float, default=time.time(), help="when the process was, in seconds since 1970")
    options = parser.parse_args()
    torch.set_num_threads(1)
    return options.job, options.processes, Watch(options.started, *packages)

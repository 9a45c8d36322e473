"""Result CSVs made up for the tests: `Folder` writes runs whose accuracy and gap are known."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from fedspec.config import CentralizedConfig, FederatedConfig, TrainingConfig, config_hash
from fedspec.results import Row, to_csv


def learning(final: float, seed: int = 1) -> Callable[[int], float]:
    """An accuracy by round that looks like learning and ends near ``final``; seeds differ a little."""

    def accuracy(number: int) -> float:
        wobble = 0.012 * math.sin(number * 2.1 + seed * 1.7) + 0.01 * math.sin(seed * 5.0)
        return min(1.0, max(0.0, final * (1 - 0.8 * math.exp(-number / 3.5)) + wobble))

    return accuracy


def shrinking(first: float, seed: int = 1) -> Callable[[int], float]:
    return lambda number: first * (0.35 + 0.65 * math.exp(-number / 5)) * (1 + 0.08 * math.sin(number + seed))


@dataclass(frozen=True)
class Folder:
    path: Path

    def add(
        self,
        config: TrainingConfig,
        accuracy: float | Callable[[int], float],
        gap: float | Callable[[int], float] | None = None,
        *,
        fedavg_gap: float | None = None,
        worst: float | None = None,
        validation: float | None = None,
        done: int | None = None,
        name: str | None = None,
        method: str = "centralized",
        columns: Mapping[str, Any] | None = None,
    ) -> Path:
        """Write the CSV of a run with these values by round; ``done`` rounds of it, all by default.

        ``fedavg_gap`` is the gap that FedAvg would have left on the run's updates, ``worst`` and ``validation`` are accuracies,
        ``method`` the name of a reference, and ``columns`` more of the CSV's.
        """
        federated = isinstance(config, FederatedConfig)
        rows = [
            Row(
                method=config.method if isinstance(config, FederatedConfig) else method,
                dataset=config.dataset,
                model=config.model,
                alpha=config.alpha if isinstance(config, FederatedConfig) else None,
                seed=config.seed,
                n_clients=config.clients if isinstance(config, FederatedConfig) else 1,
                participating=config.clients if isinstance(config, FederatedConfig) else 1,
                round=number,
                local_epochs=config.local_epochs,
                lr=config.lr,
                rank=config.rank,
                rank_next=config.rank,
                accuracy=accuracy(number) if callable(accuracy) else accuracy,
                loss=0.5,
                train_loss=0.4,
                frobenius_gap=(gap(number) if callable(gap) else gap) if federated else None,
                cf_gap_fedavg=fedavg_gap,
                worst_client_accuracy=worst,
                validation_accuracy=validation,
                # A reference of another kind has a configuration of its own.
                config_hash=config_hash(config) if federated or method == "centralized" else f"{config_hash(config)}-{method}",
                **(columns or {}),
            )
            for number in range(1, (config.rounds if done is None else done) + 1)
        ]
        path = self.path / f"{name or config.name}.csv"  # type: ignore[attr-defined]
        path.write_bytes(to_csv(rows))
        return path

    def level(self, rounds: int = 10, alpha: float | None = 0.5, **accuracies: list[float]) -> None:
        """Runs with these accuracies by method and seed, the same in each round."""
        for method, by_seed in accuracies.items():
            for seed, accuracy in enumerate(by_seed, start=1):
                split: Any = "dirichlet" if alpha else "iid"
                config = FederatedConfig(method=method, seed=seed, rounds=rounds, alpha=alpha, split=split)
                self.add(config, accuracy, 0.1)

    def grid(
        self,
        methods: dict[str, float],
        alphas: Iterable[float | None] = (0.5,),
        seeds: int = 3,
        rounds: int = 10,
        *,
        centralized: float | None = None,
    ) -> None:
        """Runs of all combinations, like learning, with a value in each column that a figure shows."""
        for seed in range(1, seeds + 1):
            for alpha in alphas:
                harder = 0.0 if alpha is None else 0.1 / (1 + 5 * alpha)
                for place, (method, final) in enumerate(methods.items()):
                    split = "iid" if alpha is None else "dirichlet"
                    config = FederatedConfig(method=method, alpha=alpha, split=split, seed=seed, rounds=rounds)
                    gap = shrinking(max(0.0, 1.0 - 0.3 * place) * (0.3 + harder * 8), seed)
                    columns = {
                        "communication_bytes": 1000 * (place + 1),
                        "gap_over_move": 0.1,
                        "effective_rank": 4.0 + place + seed / 10,
                        "tail_nuclear": 0.1,
                        "tail_energy_sq": 0.05,
                    }
                    accuracy = learning(final - harder, seed + place)
                    self.add(config, accuracy, gap, fedavg_gap=1.5, worst=0.5, validation=0.7, columns=columns)
            if centralized is not None:
                self.add(CentralizedConfig(seed=seed, rounds=rounds), learning(centralized, seed))


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    results = tmp_path / "paper_results"
    results.mkdir()
    return Folder(results)

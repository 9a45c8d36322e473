"""The learning rate of each method on the embedded task, chosen on validation with seeds that no plan reports.

One rate per method for all alphas together: what `fedspec.config.TUNED_LR` holds.
"""

from __future__ import annotations

import argparse
import statistics
import time

from benchmarks import late_mean, table, write
from fedspec.config import CentralizedConfig, FederatedConfig
from fedspec.federated.aggregators import AGGREGATORS, LORA
from fedspec.federated.centralized import passes
from fedspec.federated.events import RoundDone
from fedspec.federated.experiment import prepare
from fedspec.federated.rounds import rounds

GRID = (0.003, 0.005, 0.01, 0.02, 0.03, 0.05, 0.1)
ALPHAS = (0.1, 0.5, 1.0)
METHODS = [method for method, entry in AGGREGATORS.items() if entry.traits >= LORA]
SEEDS = (0, 1, 2, 3, 4)  # disjoint from the reported 42..56


def validation_accuracy(config: FederatedConfig | CentralizedConfig) -> float:
    """Percent, the mean of the last rounds of one run."""
    experiment = prepare(config, device="cpu")
    events = rounds(experiment) if isinstance(config, FederatedConfig) else passes(experiment)
    done = (event.row.validation_accuracy for event in events if isinstance(event, RoundDone))
    return late_mean([accuracy for accuracy in done if accuracy is not None])


def configs(method: str, lr: float) -> list[FederatedConfig | CentralizedConfig]:
    """The runs that judge one rate."""
    if method == "centralized":
        return [CentralizedConfig(seed=seed, lr=lr) for seed in SEEDS]
    return [FederatedConfig(method=method, alpha=alpha, seed=seed, lr=lr) for alpha in ALPHAS for seed in SEEDS]


def main() -> None:
    """Run the grid, print it, and say what to put into ``TUNED_LR``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--methods", nargs="+", default=[*METHODS, "centralized"])
    started = time.perf_counter()
    found: dict[str, dict[float, float]] = {}
    for method in parser.parse_args().methods:
        found[method] = {lr: statistics.fmean(map(validation_accuracy, configs(method, lr))) for lr in GRID}
    best = {method: max(scores, key=scores.__getitem__) for method, scores in found.items()}
    rows = [[method, *(f"{scores[lr]:.1f}" for lr in GRID), f"{best[method]}"] for method, scores in found.items()]
    print(table(["validation accuracy, %", *(f"lr {lr}" for lr in GRID), "best"], rows))
    print(f"\nTUNED_LR = {best}\n{time.perf_counter() - started:.0f} s; {write('tune_lr', {'accuracy': found, 'best': best})}")


if __name__ == "__main__":
    main()

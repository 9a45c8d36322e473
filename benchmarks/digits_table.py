"""The methods on the embedded task, beside an earlier implementation's table: do signs agree, do the intervals overlap?

Test accuracy (mean of the last five rounds) over 15 paired seeds, each method at its own tuned rate; the gain over FedAvg in
points with its standard error and 95 % interval (Student's t).
"""

from __future__ import annotations

import statistics
import time
from typing import NamedTuple

from scipy.stats import t as student

from benchmarks import Headline, late_mean, table, write
from fedspec.config import TUNED_LR, FederatedConfig, tuned_lr
from fedspec.federated.aggregators import AGGREGATORS
from fedspec.federated.events import RoundDone
from fedspec.federated.experiment import prepare
from fedspec.federated.rounds import rounds

SEEDS = range(42, 57)
ALPHAS = (0.1, 0.5, 1.0)
BASELINE, CONTROL, CLAIM = "fedavg", "fedavg_rebalanced", "fedspec"
# Those whose learning rates have been tuned.
METHODS = [method for method in AGGREGATORS if method in TUNED_LR]


class Gain(NamedTuple):
    """Points over another method and their standard error over 15 paired seeds."""

    points: float
    error: float

    @property
    def interval(self) -> tuple[float, float]:
        """95 %."""
        half = float(student.ppf(0.975, len(SEEDS) - 1)) * self.error
        return self.points - half, self.points + half

    def __str__(self) -> str:
        low, high = self.interval
        return f"{self.points:+.1f} ±{self.error:.1f} [{low:+.1f}, {high:+.1f}]"


# Another implementation's accuracies of FedAvg and gains over it, of 15 paired seeds of its own.
EARLIER_FEDAVG = {0.1: 76.2, 0.5: 88.9, 1.0: 90.1}
EARLIER = {
    "fedavg_rebalanced": {0.1: Gain(4.5, 1.2), 0.5: Gain(2.2, 0.3), 1.0: Gain(1.2, 0.2)},
    "fedspec": {0.1: Gain(3.8, 0.8), 0.5: Gain(1.4, 0.4), 1.0: Gain(1.1, 0.3)},
}


def accuracy(method: str, alpha: float, seed: int) -> float:
    """Percent on the test part, the mean of the last rounds of one run."""
    experiment = prepare(FederatedConfig(method=method, alpha=alpha, seed=seed, lr=tuned_lr(method)), device="cpu")
    return late_mean([event.row.accuracy for event in rounds(experiment) if isinstance(event, RoundDone)])


def gain_over(base: list[float], scores: list[float]) -> Gain:
    """Paired by seed."""
    paired = [mine - theirs for mine, theirs in zip(scores, base, strict=True)]
    return Gain(statistics.fmean(paired), statistics.stdev(paired) / len(paired) ** 0.5)


def verdict(mine: Gain, theirs: Gain) -> str:
    """Whether a reproduction agrees."""
    signs = "same sign" if (mine.points > 0) == (theirs.points > 0) else "SIGNS DIFFER"
    overlap = mine.interval[0] <= theirs.interval[1] and theirs.interval[0] <= mine.interval[1]
    return f"{signs}, intervals {'overlap' if overlap else 'DO NOT OVERLAP'}"


def main() -> None:
    """Run all, print the table, write the JSON."""
    started = time.perf_counter()
    runs = {method: {alpha: [accuracy(method, alpha, seed) for seed in SEEDS] for alpha in ALPHAS} for method in METHODS}
    rows = []
    for method, by_alpha in runs.items():
        for alpha, scores in by_alpha.items():
            mean = f"{statistics.fmean(scores):.1f}"
            if method == BASELINE:
                rows.append([method, f"{alpha}", mean, "", f"{EARLIER_FEDAVG[alpha]}", ""])
                continue
            gain = gain_over(runs[BASELINE][alpha], scores)
            theirs = EARLIER.get(method, {}).get(alpha)
            rows.append([method, f"{alpha}", mean, str(gain), str(theirs or ""), verdict(gain, theirs) if theirs else ""])
    header = ["method", "alpha", "accuracy, %", "points over FedAvg ±SE [95 %]", "earlier", "agreement"]
    print(table(header, rows))
    print("\nThe claim against the control, which re-balances FedAvg's own product:")
    against = [[f"{alpha}", str(gain_over(runs[CONTROL][alpha], runs[CLAIM][alpha]))] for alpha in ALPHAS]
    print(table(["alpha", "fedspec - fedavg_rebalanced, points ±SE [95 %]"], against))
    headlines = [
        Headline(f"{CLAIM} over {base}, digits, alpha {alpha}: points", str(gain_over(runs[base][alpha], runs[CLAIM][alpha])))
        for base in (BASELINE, CONTROL)
        for alpha in ALPHAS
    ]
    rates = {method: tuned_lr(method) for method in METHODS}
    print(f"\nlearning rates {rates}; {time.perf_counter() - started:.0f} s")
    print(write("digits_table", {"seeds": list(SEEDS), "lr": rates, "accuracy": runs}, headlines))


if __name__ == "__main__":
    main()

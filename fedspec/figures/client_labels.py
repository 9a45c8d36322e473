"""How many samples of each label each client has, a panel per alpha, for one seed.

A CSV has only the hash of its partition, so the partition is made again from the data set; it is drawn only where it has that
very hash.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fedspec.config import FederatedConfig
from fedspec.downloads import offline
from fedspec.errors import FedspecError
from fedspec.figures import Data
from fedspec.figures.families import Family
from fedspec.figures.panels import NothingToDraw, alpha_words, is_leftmost, sheet
from fedspec.figures.runs import Run
from fedspec.plan import effective
from fedspec.suffixes import FEDERATED_SUFFIXES

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# What a partition depends on beside the rows of a CSV: names tell where it is not the default.
IN_NAMES = ("min_client_samples", "train_samples")


def draw(family: Family, data: Data) -> Figure:
    """Draw a square per client and label, the darker the more samples, on one scale for all alphas.

    The seed is the lowest that most alphas have.

    Raises:
        NothingToDraw: the data set cannot be loaded here, or its partitions are other ones than the runs'.
    """
    from matplotlib.colors import PowerNorm
    from matplotlib.ticker import MaxNLocator

    seed = _seed(family)
    panels: dict[float | None, NDArray[np.int64]] = {}
    reasons: list[str] = []
    for alpha in family.alphas:
        runs = [run for run in family.runs if (run.alpha, run.seed) == (alpha, seed)]
        try:
            if runs:
                panels[alpha] = _counts(family, runs, data)
        except NothingToDraw as nothing:
            reasons.append(f"{nothing} (alpha {alpha})")
        except FedspecError as error:
            raise NothingToDraw(f"the partitions cannot be made again here: {str(error).rstrip('.')}") from error
    if reasons:
        raise NothingToDraw("; ".join(reasons))
    figure, grid = sheet(len(panels), share_x=True, share_y=True)
    # By the square root: a client with three samples of a label is another one than a client with none.
    shades = PowerNorm(0.5, vmin=0, vmax=max(int(counts.max()) for counts in panels.values()))
    for axes, (alpha, counts) in zip(grid, panels.items(), strict=True):
        clients, labels = counts.shape
        edges = [np.arange(size + 1) - 0.5 for size in (labels, clients)]
        squares = axes.pcolormesh(*edges, counts, cmap="Greys", norm=shades, edgecolors="white", linewidth=0.4)
        axes.set_ylim(clients - 0.5, -0.5)
        axes.grid(visible=False)
        axes.xaxis.set_major_locator(MaxNLocator(nbins=10, integer=True, min_n_ticks=1))
        axes.yaxis.set_major_locator(MaxNLocator(nbins=10, integer=True, min_n_ticks=1))
        axes.set_title(f"{alpha_words(alpha)} (seed {seed})")
        axes.set_xlabel("Label")
        if is_leftmost(axes):
            axes.set_ylabel("Client")
    bar = figure.colorbar(squares, ax=grid, label="Samples", fraction=0.05, pad=0.01)
    bar.outline.set_visible(False)
    return figure


def _seed(family: Family) -> int:
    cells = {(run.alpha, run.seed) for run in family.runs}
    return min({seed for _, seed in cells}, key=lambda seed: (-sum(other == seed for _, other in cells), seed))


def _counts(family: Family, runs: list[Run], data: Data) -> NDArray[np.int64]:
    """(clients, labels) int64: the samples of the partition that all of ``runs`` have."""
    hashes = {str(run.first("partition_hash")) for run in runs}
    if hashes == {""}:
        raise NothingToDraw("the results do not name their partition")
    from fedspec.federated.experiment import share_out

    with offline():
        partition, labels, classes = share_out(_config(family, runs[0], data), data.root)
    if hashes != {partition.hash}:
        raise NothingToDraw(
            f"made again from the data set, the partition is {partition.hash}, and the results' is {', '.join(sorted(hashes))}"
        )
    counts = [np.bincount(labels[mine], minlength=classes) for mine in partition.clients]
    return np.stack(counts)


def _config(family: Family, run: Run, data: Data) -> FederatedConfig:
    """The run's configuration; of one that the queue does not know as much as its partition depends on and its rows tell."""
    item = data.items.get(str(run.first("run_id")))
    if item is not None and isinstance(config := effective(item), FederatedConfig):
        return config
    named: dict[str, Any] = {}
    for key in IN_NAMES:
        if key in FEDERATED_SUFFIXES and (found := re.search(FEDERATED_SUFFIXES[key].format(r"(\d+)(?=_|$)"), family.key.rest)):
            named[key] = int(found[1])
    return FederatedConfig(
        dataset=family.key.dataset,
        split="iid" if run.alpha is None else "dirichlet",
        alpha=run.alpha,
        clients=family.key.clients,
        seed=run.seed,
        **named,
    )

"""Who owns which training samples.

A partition depends on the labels, the kind of split, alpha, the number of clients, the seed and the minimum size, and
on nothing else; `Partition.hash` names it, so that two machines can see that they agree.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256

import numpy as np
from numpy.typing import NDArray

from fedspec.errors import ExperimentError

MAX_DRAWS = 10_000  # about half a second for 10 clients and 10 classes

Indices = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Partition:
    """The samples of each client: disjoint, and together all of them.

    Attributes:
        clients: for each client its sorted sample indices, (n_i,) int64.
    """

    clients: tuple[Indices, ...]

    @property
    def hash(self) -> str:
        """12 hex digits of who owns what."""
        digest = sha256()
        for indices in self.clients:
            digest.update(np.int64(len(indices)).astype("<i8").tobytes() + indices.astype("<i8").tobytes())
        return digest.hexdigest()[:12]

    def label_shares(self, labels: Indices, classes: int) -> NDArray[np.float64]:
        """Each client's label mix: (clients, classes) float64, rows sum to 1."""
        counts = np.stack([np.bincount(labels[indices], minlength=classes) for indices in self.clients])
        shares: NDArray[np.float64] = counts / counts.sum(axis=1, keepdims=True)
        return shares


def dirichlet(labels: Indices, *, alpha: float, clients: int, seed: int, min_samples: int = 1) -> Partition:
    """Split each class over the clients in proportions drawn from a symmetric Dirichlet distribution.

    The scheme of Hsu, Qi and Brown 2019 (arXiv 1909.06335) in its per-class form (Yurochkin et al. 2019). A draw that
    leaves a client with fewer than ``min_samples`` samples is drawn again: moving samples to it would bend the label mix.

    Args:
        labels: (n,) int64
        alpha: concentration; small values give each class to few clients.

    Raises:
        ExperimentError: alpha is not positive and finite, or no draw can or does meet the minimum.
    """
    if not (alpha > 0 and np.isfinite(alpha)):
        raise ExperimentError(f"The Dirichlet alpha is {alpha}.", "Set alpha to a positive number, such as 0.5.")
    _check_sizes(len(labels), clients, min_samples)
    rng = np.random.Generator(np.random.PCG64(seed))
    counts = np.bincount(labels)
    for _ in range(MAX_DRAWS):
        shares = rng.dirichlet(np.full(clients, alpha), size=len(counts))
        ends = (np.cumsum(shares, axis=1)[:, :-1] * counts[:, None]).astype(np.int64)
        sizes = np.diff(ends, axis=1, prepend=0, append=counts[:, None])
        if sizes.sum(axis=0).min() >= max(1, min_samples):
            break
    else:
        raise ExperimentError(
            f"No Dirichlet({alpha}) draw of {MAX_DRAWS} gave each of {clients} clients at least {min_samples} samples.",
            "Raise alpha, or lower clients or min_client_samples.",
        )
    parts: list[list[Indices]] = [[] for _ in range(clients)]
    for label, stops in enumerate(ends):
        members = rng.permutation(np.flatnonzero(labels == label))
        for mine, part in zip(parts, np.split(members, stops), strict=True):
            mine.append(part)
    return Partition(tuple(np.sort(np.concatenate(mine)) for mine in parts))


def iid(labels: Indices, *, clients: int, seed: int, min_samples: int = 1) -> Partition:
    """Split the samples at random into clients of equal size (to one sample).

    Raises:
        ExperimentError: there are too few samples.
    """
    _check_sizes(len(labels), clients, min_samples)
    order = np.random.Generator(np.random.PCG64(seed)).permutation(len(labels))
    return Partition(tuple(np.sort(part) for part in np.array_split(order, clients)))


def _check_sizes(samples: int, clients: int, min_samples: int) -> None:
    if clients < 1:
        raise ExperimentError(f"The experiment has {clients} clients.", "Set clients to at least 1.")
    if clients * max(1, min_samples) > samples:
        raise ExperimentError(
            f"{clients} clients with at least {max(1, min_samples)} samples each need more than the {samples} that there are.",
            "Lower clients or min_client_samples, or take a larger data set.",
        )

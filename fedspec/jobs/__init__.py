"""Job kinds: how an item of each kind is run. One file a kind, one line here.

A job never sees the journal: it yields what it has done, and the worker around it saves, reports and publishes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from fedspec.data import DATASETS
from fedspec.errors import CapabilityError
from fedspec.federated.aggregators import AGGREGATORS
from fedspec.jobs.meeting import Meeting
from fedspec.models import MODELS
from fedspec.plan import Item, Vocabulary
from fedspec.registry import Entry

if TYPE_CHECKING:
    from torch import Tensor

    from fedspec.federated.events import Event

JOBS: dict[str, Entry] = {
    "federated": Entry("fedspec.jobs.federated:FederatedJob", "Federated run"),
    "centralized": Entry("fedspec.jobs.centralized:CentralizedJob", "Centralized baseline"),
}

# Names that plans may use, and what they can do, without importing what they stand for.
VOCABULARY: Vocabulary = {
    key: {name: entry.traits for name, entry in registry.items()}
    for key, registry in (("method", AGGREGATORS), ("dataset", DATASETS), ("model", MODELS))
}


class Job(Protocol):
    """One item being run on this machine.

    Attributes:
        device: where it runs, as the CSV names it; ``runtime`` the version of what computes.
        samples: how many a round trains on, those of all its clients and of each pass over them; the mean, where clients are
            sampled.
        base: the frozen part of the model, on the CPU. Given back to `open_job`, it makes the identical job.
    """

    device: str
    runtime: str

    @property
    def samples(self) -> float:
        """Of a round."""
        ...

    @property
    def base(self) -> Mapping[str, Tensor]:
        """The frozen part of the model."""
        ...

    def run(self, state: Mapping[str, Any] | None) -> Iterator[Event]:
        """Train from ``state``, or from the beginning, to the last round; yields after each client and each round."""
        ...


class GangJob(Job, Protocol):
    """One item being run by several workers together: `run` is the root's part."""

    def assist(self) -> Iterator[None]:
        """A member's part: work for the root until it ends the run; yields often, so that the worker can ask whether to go on.

        Raises:
            MemberLostError: the root was silent on the link.
        """
        ...


class OpenJob(Protocol):
    """Makes the job of an item. ``base`` is the frozen base of earlier attempts, None to make it.

    ``meeting``: for an item that several workers run together, how they find each other.

    Raises:
        ExperimentError: the item cannot run anywhere. CapabilityError: it cannot run here.
    """

    def __call__(self, item: Item, base: Mapping[str, Tensor] | None, meeting: Meeting | None = None) -> Job: ...  # noqa: D102


def opener(data_root: Path | None) -> OpenJob:
    """Real jobs, with data sets below ``data_root``."""

    def open_job(item: Item, base: Mapping[str, Tensor] | None, meeting: Meeting | None = None) -> Job:
        if item.kind not in JOBS:
            raise CapabilityError(f"This version of fedspec has no jobs of the kind {item.kind!r}.", "Update fedspec here.")
        together = () if meeting is None else (meeting,)
        job: Job = JOBS[item.kind].load()(item, base, data_root, *together)
        return job

    return open_job

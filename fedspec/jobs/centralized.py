"""The job of the centralized baseline: the same adapters, all data in one place, equally many passes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from fedspec.federated.centralized import passes
from fedspec.federated.events import Event
from fedspec.jobs.federated import FederatedJob


class CentralizedJob(FederatedJob):
    """Prepared like a federated run; its rounds are passes over the pooled data."""

    def run(self, state: Mapping[str, Any] | None) -> Iterator[Event]:
        """Train from ``state``, or from the beginning, to the last round."""
        return passes(self.experiment, None if state is None else dict(state))

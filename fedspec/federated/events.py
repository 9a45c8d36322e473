"""What a run tells its caller about: clients, aggregations and rounds, as they are done."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fedspec.results import Row

if TYPE_CHECKING:
    from fedspec.federated.state import State
    from fedspec.federated.statistics import LayerStatistics


@dataclass(frozen=True, slots=True)
class StepDone:
    """Clients that train together have taken a step: ``steps`` of ``total`` that the longest of them takes in the round.

    ``samples``: how many samples of all clients the step was made on.
    """

    round: int
    steps: int
    total: int
    samples: int


@dataclass(frozen=True, slots=True)
class ClientDone:
    """A client has trained; ``loss`` is its mean training loss over all its steps."""

    round: int
    client: int
    samples: int
    loss: float


@dataclass(frozen=True, slots=True)
class ClientRejected:
    """A client's update was left out of the round; the weights of the others sum to 1 without it."""

    round: int
    client: int
    samples: int
    reason: str


@dataclass(frozen=True, slots=True)
class Aggregated:
    """The server has made the next model.

    Attributes:
        round: the round, from 1.
        clients: how many updates it is made of; 0 where all were rejected and the previous model stays.
        layers: each layer's statistics; empty where the previous model stays.
    """

    round: int
    clients: int
    layers: Mapping[str, LayerStatistics]


@dataclass(frozen=True, slots=True)
class RoundDone:
    """A round is complete.

    Attributes:
        round: the round, from 1.
        row: its result, without what only the caller knows: run_id, sec_*, device and torch_version.
        state: what the next round starts from.
    """

    round: int
    row: Row
    state: State


Event = StepDone | ClientDone | ClientRejected | Aggregated | RoundDone

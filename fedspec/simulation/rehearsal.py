"""The work of a simulated machine: a job whose rounds form a hash chain, so that a wrong resume cannot go unseen."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from fedspec.config import FederatedConfig
from fedspec.federated.events import ClientDone, Event, RoundDone
from fedspec.plan import Item, make_item
from fedspec.results import Row

if TYPE_CHECKING:
    from torch import Tensor

METHOD = "fedavg"


def rehearsal(seed: int, rounds: int, clients: int) -> Item:
    """An item for `RehearsalJob`."""
    return make_item("federated", FederatedConfig(method=METHOD, seed=seed, rounds=rounds, clients=clients))


def expected_rows(item: Item) -> list[Row]:
    """The rows that every undisturbed run of the item has."""
    link, rows = "", []
    for number in range(1, int(item.config["rounds"]) + 1):
        link = next_link(item, number, link)
        rows.append(_row(item, number, link))
    return rows


class RehearsalJob:
    """Trains nothing, but takes time: ``sleep(seconds)`` is called for every client."""

    device = "simulated"
    runtime = "0"

    def __init__(self, item: Item, base: Mapping[str, Tensor] | None, sleep: Callable[[float], None], client_s: float) -> None:
        import torch

        self.item, self.sleep, self.client_s = item, sleep, client_s
        self.base: Mapping[str, Tensor] = base or {"seed": torch.tensor([int(item.config["seed"])])}

    def run(self, state: Mapping[str, Any] | None) -> Iterator[Event]:
        """The chain from ``state`` to the last round."""
        number, link = (0, "") if state is None else (int(state["round"]), str(state["link"]))
        while number < self.item.config["rounds"]:
            number += 1
            for client in range(self.item.config["clients"]):
                self.sleep(self.client_s)
                yield ClientDone(number, client, 1, 0.0)
            link = next_link(self.item, number, link)
            yield RoundDone(number, _row(self.item, number, link), {"round": number, "link": link})


def next_link(item: Item, number: int, link: str) -> str:
    """The state after round ``number``, from the state before it."""
    return hashlib.sha256(f"{item.id}/{number}/{link}".encode()).hexdigest()


def accuracy(link: str) -> float:
    """The accuracy that a state is taken to have."""
    return int(link[:8], 16) / 2**32


def _row(item: Item, number: int, link: str) -> Row:
    config = item.config
    return Row(
        method=METHOD,
        dataset=config["dataset"],
        model=config["model"],
        seed=config["seed"],
        n_clients=config["clients"],
        participating=config["clients"],
        round=number,
        local_epochs=1,
        lr=config["lr"],
        rank=config["rank"],
        rank_next=config["rank"],
        accuracy=accuracy(link),
        loss=0.0,
        train_loss=0.0,
        run_id=item.id,
    )

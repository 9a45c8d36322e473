"""The work of a simulated machine: a job whose rounds form a hash chain, so that a wrong resume cannot go unseen."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from fedspec.config import FederatedConfig
from fedspec.federated.events import ClientDone, Event, RoundDone
from fedspec.jobs.meeting import Meeting, MemberLostError
from fedspec.plan import Item, Role, make_item
from fedspec.results import Row

if TYPE_CHECKING:
    from torch import Tensor

METHOD = "fedavg"
ROLES = (Role(name="root"), Role(name="peer"))
# A root or a member that says nothing on the link for so long is lost.
SILENCE_S = 3.0


def rehearsal(seed: int, rounds: int, clients: int, roles: Sequence[Role] = ()) -> Item:
    """An item for `RehearsalJob`, or for `PairJob` with `ROLES`."""
    return make_item("federated", FederatedConfig(method=METHOD, seed=seed, rounds=rounds, clients=clients), roles=roles)


def expected_rows(item: Item) -> list[Row]:
    """The rows that every undisturbed run of the item has."""
    link, rows = "", []
    for number in range(1, int(item.config["rounds"]) + 1):
        link = next_link(item, number, link)
        rows.append(_row(item, number, link))
    return rows


class RehearsalJob:
    """Trains nothing, but takes time: ``sleep(seconds)`` is called for every client. Rows tell on which ``device`` it ran."""

    runtime = "0"

    def __init__(
        self,
        item: Item,
        base: Mapping[str, Tensor] | None,
        sleep: Callable[[float], None],
        client_s: float,
        device: str = "simulated",
    ) -> None:
        import torch

        self.device = device
        self.item, self.sleep, self.client_s = item, sleep, client_s
        self.base: Mapping[str, Tensor] = base or {"seed": torch.tensor([int(item.config["seed"])])}
        self.samples: float = item.config["clients"]

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


@dataclass(slots=True)
class Link:
    """A network between two processes: when each side of a meeting last said something, by its token."""

    clock: Callable[[], float]
    said: dict[tuple[str, str], float] = field(default_factory=dict)
    ended: set[str] = field(default_factory=set)

    def say(self, token: str, role: str) -> None:
        """Tell the other side that this one is there."""
        self.said[token, role] = self.clock()

    def silent_s(self, token: str, role: str) -> float:
        """How long the other side has said nothing."""
        return self.clock() - self.said.get((token, role), float("-inf"))


class PairJob(RehearsalJob):
    """Two roles: each round needs the peer to be there. What both hear goes over a `Link`, never through the folder."""

    def __init__(self, *about: Any, meeting: Meeting, link: Link, patience_s: float) -> None:
        super().__init__(*about)
        self.meeting, self.link, self.patience_s = meeting, link, patience_s

    def run(self, state: Mapping[str, Any] | None) -> Iterator[Event]:
        """The root's part."""
        token = f"{self.item.id}/{self.meeting.attempt}/{self.meeting.members()['root']}"
        self.meeting.announce(["link"], token)
        self._await(token, "peer")
        for event in super().run(state):
            self.link.say(token, "root")
            if self.link.silent_s(token, "peer") > SILENCE_S + self.client_s:
                self.meeting.lost("peer")
                raise MemberLostError("The peer was silent.", "Nothing is lost; the gang begins anew.")
            yield event
        self.link.ended.add(token)

    def assist(self) -> Iterator[None]:
        """The peer's part."""
        found = self.meeting.found()
        self.link.say(found.token, "peer")
        self._await(found.token, "root")
        while found.token not in self.link.ended:
            self.link.say(found.token, "peer")
            if self.link.silent_s(found.token, "root") > SILENCE_S + self.client_s:
                raise MemberLostError("The root was silent.", "Nothing is lost; the gang begins anew.")
            self.sleep(1.0)
            yield

    def _await(self, token: str, role: str) -> None:
        me = "root" if role == "peer" else "peer"
        waited = 0.0
        while self.link.silent_s(token, role) > SILENCE_S:
            if waited > self.patience_s:
                raise MemberLostError(f"The {role} did not come.", "Nothing is lost; the gang begins anew.")
            self.link.say(token, me)
            self.sleep(1.0)
            waited += 1.0
        self.link.say(token, me)


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

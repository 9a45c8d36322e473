"""A trivial job for two roles over a real socket: the root sends a number, the peer hashes it, and that is the round."""

from __future__ import annotations

import os
import secrets
import signal
import socket
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from machines import _Printer

from fedspec.federated.events import Event, RoundDone
from fedspec.jobs.meeting import Meeting, MemberLostError
from fedspec.plan import Item
from fedspec.simulation.rehearsal import RehearsalJob, next_link

# Silence on the link that the root takes for a loss. The peer answers in a moment.
SILENCE_S = 3.0


@dataclass(frozen=True)
class Part:
    """What a process is told. One with ``dies_in`` kills itself when it is in that role and round."""

    workspace: str
    scale: float
    dies_in: tuple[str, int] | None = None


class SocketPair(RehearsalJob):
    """Root and peer; the chain of rounds is made by the peer, so that it shows whether both were there."""

    def __init__(self, item: Item, base: Mapping[str, Any] | None, meeting: Meeting, dies_in: tuple[str, int] | None) -> None:
        super().__init__(item, base, time.sleep, 0.0)
        self.meeting, self.dies_in = meeting, dies_in

    def run(self, state: Mapping[str, Any] | None) -> Iterator[Event]:
        token = secrets.token_hex(8)
        with socket.create_server(("127.0.0.1", 0)) as server:
            server.settimeout(SILENCE_S)
            self.meeting.announce([f"127.0.0.1:{server.getsockname()[1]}"], token)
            try:
                line, peer = self._accept(server, token)
            except TimeoutError as error:
                raise self._lost("did not come") from error
            with line, peer:
                for event in super().run(state):
                    if isinstance(event, RoundDone):
                        answer = self._ask(peer, f"{event.round} {state['link'] if state else ''}")
                        state = event.state
                        assert answer == event.state["link"], "the peer counted otherwise"
                        self._perhaps_die("root", event.round)
                    yield event
                peer.write(b"over\n")
                peer.flush()

    def assist(self) -> Iterator[None]:
        found = self.meeting.found()
        host, port = found.addresses[0].split(":")
        try:
            with socket.create_connection((host, int(port)), SILENCE_S) as line, line.makefile("rwb") as root:
                root.write(found.token.encode() + b"\n")
                root.flush()
                while (order := root.readline().decode().rstrip("\n")) != "over":
                    if not order:
                        raise MemberLostError("The root is gone.", "Nothing is lost; the gang begins anew.")
                    number, link = order.split(" ")
                    self._perhaps_die("peer", int(number))
                    root.write(next_link(self.item, int(number), link).encode() + b"\n")
                    root.flush()
                    yield
        except OSError as error:
            raise MemberLostError(f"The root does not answer: {error}.", "Nothing is lost; the gang begins anew.") from error

    def _accept(self, server: socket.socket, token: str) -> tuple[socket.socket, Any]:
        while True:
            line, _ = server.accept()
            line.settimeout(SILENCE_S)
            peer = line.makefile("rwb")
            if peer.readline().decode().strip() == token:
                return line, peer
            peer.close()  # of an attempt that is over
            line.close()

    def _ask(self, peer: Any, order: str) -> str:
        try:
            peer.write(order.encode() + b"\n")
            peer.flush()
            answer = peer.readline().decode().strip()
        except OSError as error:
            raise self._lost("was silent") from error
        if not answer:
            raise self._lost("is gone")
        return str(answer)

    def _lost(self, how: str) -> MemberLostError:
        self.meeting.lost("peer")
        return MemberLostError(f"The peer {how}.", "Nothing is lost; the gang begins anew.")

    def _perhaps_die(self, role: str, number: int) -> None:
        # In the first attempt only: whoever takes the place of the dead is to live.
        if self.dies_in == (role, number) and self.meeting.attempt == 1:
            os.kill(os.getpid(), signal.SIGKILL)


def work(part: Part) -> None:
    """A worker process that runs pairs over sockets, and all else as ever."""
    from fedspec.supervisor import Settings, open_worker
    from fedspec.worker import StopSignal, drive

    settings = Settings(workspace=part.workspace, name=os.environ["FEDSPEC_NAME"], time_scale=part.scale)
    worker = open_worker(settings, _Printer(), StopSignal())
    alone = worker.open_job

    def open_job(item: Item, base: Mapping[str, Any] | None, meeting: Meeting | None = None) -> Any:
        return alone(item, base) if meeting is None else SocketPair(item, base, meeting, part.dies_in)

    worker.open_job = open_job
    sys.exit(1 if drive(worker).failed else 0)

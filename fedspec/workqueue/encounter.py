"""The loop of `pairing`: reads what the other machines say, touches the locks, and writes this machine's own file.

Each side writes only files of its own, besides the locks that it is asked to try, and removes them when it is done.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC
from pathlib import Path

import msgspec

from fedspec.clock import Clock
from fedspec.errors import FolderError, SetupError
from fedspec.files import Files
from fedspec.workqueue import pairing
from fedspec.workqueue.pairing import Do, Pair, Side, Word
from fedspec.workqueue.slots import NewHex
from fedspec.workspace import Workspace

POLL_S, SLOWEST_POLL_S, FASTEST_POLL_S = 0.1, 1.0, 0.005
# A round trip need not be polled for more often than so many times.
POLLS_A_TRIP = 20
KEEP_ALIVE_S = 5.0
# A file that is being replaced may be missing from a share's listing for a moment.
GONE_AFTER_LOOKS = 10
# Words of another process in this machine's own file: an old one may come back, one that lives says more and more.
STRANGERS = 3
MAX_BYTES = 64 << 10


class Encounter:
    """One machine's part in finding out, with others that do the same, what the folder does.

    Args:
        machine: this machine's id; ``name`` what people call it.
        others: how many other machines to wait for; more may join.
        scale: factor on all waiting times.
    """

    def __init__(
        self,
        files: Files,
        clock: Clock,
        workspace: Workspace,
        machine: str,
        name: str,
        others: int = 1,
        scale: float = 1.0,
        new_hex: NewHex = secrets.token_hex,
    ) -> None:
        self.files, self.clock, self.workspace = files, clock, workspace
        self.machine, self.name, self.others, self.scale = machine, name, others, scale
        self.session = new_hex(3)
        self.pairs: dict[str, Pair] = {}
        self.done = False
        self.news_at = clock.monotonic()
        self._missing: dict[str, int] = {}
        self._locks: dict[str, Callable[[], None]] = {}
        self._said: tuple[bool, dict[str, Word]] | None = None
        self._say_again_at = 0.0
        self._n = 0
        self._strangers: set[tuple[str, int]] = set()

    @property
    def met(self) -> list[Pair]:
        """The machines that have answered this process."""
        return [pair for pair in self.pairs.values() if pair.met_at is not None]

    @property
    def found_out(self) -> list[Pair]:
        """Those about which there is nothing more to find out."""
        now = self.clock.monotonic()
        return [pair for pair in self.met if pairing.complete(pair, now, self.scale)]

    @property
    def poll_s(self) -> float:
        """How long to wait until the next look: the sooner, the faster the answers come."""
        lag = pairing.lag_of([lag for pair in self.met for lag in pair.lags])
        wanted = POLL_S if lag is None else min(max(lag.median / POLLS_A_TRIP, POLL_S), SLOWEST_POLL_S)
        return max(wanted * self.scale, FASTEST_POLL_S)

    def poll(self) -> bool:
        """Take one look and say what is new; whether all is known, and every peer has said the same or has left.

        Raises:
            FolderError: the folder refused.
            SetupError: another computer goes by this one's id.
        """
        sides = self._read()
        self._check_own(sides.pop(self.machine, None))
        for side in sides.values():
            self._hear(side)
        for machine in self.pairs.keys() - sides.keys():
            self._miss(machine)
        for machine in self.pairs:
            self._touch(machine)
        now = self.clock.monotonic()
        awaited = [pair for pair in self.met if not pairing.silent(pair, now, self.scale)]
        known = self.found_out
        # Once said it stays so: a peer may have left upon it.
        self.done = self.done or (len(known) >= self.others and all(pair in known for pair in awaited))
        self._say()
        return self.done and all(pair.done or self._gone(pair.machine) for pair in awaited)

    def close(self) -> None:
        """Let every lock go and remove this machine's files."""
        for machine in list(self._locks):
            self._release(machine)
        self._clean(f".{self.machine}.lock")

    def _read(self) -> dict[str, Side]:
        """What each machine says; what is no such file is nobody's word."""
        sides = {}
        for name in self.files.names(self.workspace.pairs):
            with suppress(OSError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
                side = msgspec.json.decode(self.files.read(self.workspace.pairs / name, limit=MAX_BYTES), type=Side)
                if name == f"{side.machine}.json":
                    sides[side.machine] = side
        return sides

    def _check_own(self, found: Side | None) -> None:
        """This machine's file as the folder has it: a sync client may have lost it, or brought an old one back."""
        if self._n and (found is None or found.session != self.session):
            self._said = None
        if found is not None and found.session != self.session:
            self._strangers.add((found.session, found.n))
            if len(self._strangers) >= STRANGERS:
                what = f"Another computer goes by this one's id, {self.machine}: one was copied from the other."
                fix = "Delete fedspec's own folder on the copy ('fedspec doctor' there names it), then start on both again."
                raise SetupError(what, fix)

    def _hear(self, side: Side) -> None:
        now, wall = self.clock.monotonic(), self.clock.now()
        pair = self.pairs.get(side.machine)
        if pair is None and len(self.pairs) >= pairing.MAX_PEERS:
            return
        self._missing.pop(side.machine, None)
        if pair is None or pair.session != side.session:
            self._release(side.machine)
            pair = pairing.begin(side, now, wall)
        before = pair
        pair = pairing.hear(pair, side, self.machine, self.session, now, wall, self._precisely())
        if pair.met_at is not None and (pair.n, pair.met_at) != (before.n, before.met_at):
            self.news_at = now
        self.pairs[side.machine] = pair

    def _miss(self, machine: str) -> None:
        """A machine takes its file away when it leaves; if that is too early, it counts as never met."""
        self._missing[machine] = self._missing.get(machine, 0) + 1
        if self._gone(machine) and not pairing.complete(self.pairs[machine], self.clock.monotonic(), self.scale):
            self._release(machine)
            del self.pairs[machine], self._missing[machine]

    def _gone(self, machine: str) -> bool:
        return self._missing.get(machine, 0) >= GONE_AFTER_LOOKS

    def _touch(self, machine: str) -> None:
        """Do what is due with the two locks between this machine and another."""
        pair = self.pairs[machine]
        match pairing.own_lock(pair):
            case Do.HOLD:
                pair = pairing.held(pair, self._hold(machine))
            case Do.RELEASE:
                self._release(machine)
                pair = pairing.released(pair)
            case _:
                pass
        if pairing.their_lock(pair) is Do.TRY:
            got = self._try(self.workspace.pair_lock(f"{machine}-{pair.session}", self.machine))
            pair = pairing.tried(pair, got, self.clock.monotonic(), self.scale)
        self.pairs[machine] = pair

    def _hold(self, machine: str) -> bool:
        with suppress(FolderError):  # a folder without locks
            release = self.files.hold(self.workspace.pair_lock(f"{self.machine}-{self.session}", machine))
            if release is not None:
                self._locks[machine] = release
        return machine in self._locks

    def _release(self, machine: str) -> None:
        release = self._locks.pop(machine, None)
        if release is not None:
            release()

    def _try(self, lock: Path) -> bool | None:
        """Whether the lock can be had; it is let go at once. None where the folder has no locks."""
        try:
            release = self.files.hold(lock)
        except FolderError:
            return None
        if release is not None:
            release()
        return release is not None

    def _say(self) -> None:
        now = self.clock.monotonic()
        words = {machine: pair.word for machine, pair in self.pairs.items()}
        news = self._said != (self.done, words)
        if news or now >= self._say_again_at:
            self._n += 1
            side = Side(
                machine=self.machine,
                session=self.session,
                name=self.name,
                n=self._n,
                wall=self._precisely(),
                done=self.done,
                words=words,
            )
            self.files.write(self.workspace.pair(self.machine), msgspec.json.encode(side), durable=False)
            self._said, self._say_again_at = (self.done, words), now + KEEP_ALIVE_S * self.scale

    def _precisely(self) -> str:
        """The wall clock to the millisecond: `timestamp` tells whole seconds."""
        return self.clock.now().astimezone(UTC).isoformat(timespec="milliseconds")

    def _clean(self, *endings: str) -> None:
        """Remove what processes of this machine have left, and what ends so."""
        mine = (f"{self.machine}.json", f"{self.machine}-")
        for name in self.files.names(self.workspace.pairs):
            if name.startswith(mine) or name.endswith(endings):
                with suppress(FolderError):  # Windows deletes no file that a peer has open; that peer will
                    self.files.remove(self.workspace.pairs / name)

"""A real Samba server on a free loopback port, and worker processes on machines that see its share as a folder of theirs."""

from __future__ import annotations

import getpass
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
from machines import Machine, Running
from smbfiles import Share, SmbFiles

from fedspec.workqueue.records import decode
from fedspec.workspace import Workspace

HOST = "127.0.0.1"
NAME = "work"
PATIENCE_S = 30.0

CONFIGURATION = """
[global]
    server role = standalone server
    interfaces = {host}
    bind interfaces only = yes
    smb ports = {port}
    disable netbios = yes
    load printers = no
    printcap name = /dev/null
    disable spoolss = yes
    passdb backend = tdbsam:{home}/passdb.tdb
    private dir = {home}
    state directory = {home}
    cache directory = {home}
    lock directory = {home}
    pid directory = {home}
    ncalrpc dir = {home}/ncalrpc
    log file = {home}/log
[{name}]
    path = {folder}
    read only = no
"""


@contextmanager
def serving(folder: Path, home: Path) -> Iterator[Share]:
    """A Samba server that shares ``folder`` as long as the block lasts, and keeps all that is its own in ``home``.

    Skips the test where there is none.
    """
    smbd, pdbedit = _found("smbd"), _found("pdbedit")
    home.mkdir(parents=True, exist_ok=True)
    with socket.socket() as free:
        free.bind((HOST, 0))
        port = free.getsockname()[1]
    share = Share(HOST, port, NAME, getpass.getuser(), secrets.token_hex(8), folder)
    settings = home / "smb.conf"
    text = CONFIGURATION.format(host=HOST, port=port, home=home, name=NAME, folder=folder)
    settings.write_text(text, encoding="utf-8")
    subprocess.run(
        [pdbedit, f"--configfile={settings}", "--create", f"--user={share.user}", "--password-from-stdin"],
        input=f"{share.password}\n{share.password}\n",
        text=True,
        check=True,
        capture_output=True,
    )
    with (home / "output").open("wb") as output:
        server = subprocess.Popen(
            [smbd, "--foreground", "--no-process-group", f"--configfile={settings}"],
            stdin=subprocess.PIPE,  # whose end it takes for its own: it does not outlive a killed test
            stdout=output,
            stderr=output,
            start_new_session=True,  # it signals its whole process group when it ends, and must not be in this one
        )
    try:
        _wait_for(server, port, home)
        yield share
    finally:
        _end(server)


def _found(program: str) -> str:
    if sys.platform != "linux" or os.geteuid() != 0:
        pytest.skip("needs Linux and root: smbd acts as the user who logs on")
    path = shutil.which(program, path=os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/usr/bin")))
    if path is None:
        pytest.skip(f"needs {program}: install the package samba")
    return path


def _wait_for(server: subprocess.Popen[bytes], port: int, home: Path) -> None:
    end = time.monotonic() + PATIENCE_S
    while True:
        with suppress(OSError), socket.create_connection((HOST, port)):
            return
        if server.poll() is not None or time.monotonic() > end:
            logs = [path.read_text(errors="replace") for path in (home / "output", home / "log") if path.exists()]
            raise RuntimeError("\n".join(["smbd did not start:", *logs]))
        time.sleep(0.02)


def _end(server: subprocess.Popen[bytes]) -> None:
    """End the server and its children, one of which serves each connection, by their process ids."""
    with suppress(psutil.NoSuchProcess):
        family = [psutil.Process(server.pid), *psutil.Process(server.pid).children(recursive=True)]
        for stop in (psutil.Process.terminate, psutil.Process.kill):
            for member in family:
                with suppress(psutil.NoSuchProcess):
                    stop(member)
            _, family = psutil.wait_procs(family, timeout=5.0)
    server.communicate()


# Machines


@dataclass(frozen=True, slots=True)
class Trap:
    """What a worker does to itself when the ``count``-th record of a kind is on its way to the share."""

    kind: str
    count: int
    number: signal.Signals


@dataclass(frozen=True, slots=True)
class Orders:
    """What a process is told: where the share's folder is for it, and what to do there."""

    share: Share
    mount: Path
    workspace: Path
    name: str = ""
    scale: float = 1.0
    trap: Trap | None = None
    times: int = 0


class TrappedFiles(SmbFiles):
    """The share's files, for a worker that has a trap set."""

    def __init__(self, share: Share, mount: Path, trap: Trap | None) -> None:
        super().__init__(share, mount)
        self.trap, self.passed = trap, 0

    def append(self, path: Path, data: bytes) -> None:
        """Add to the end; the machine's own copy comes first, and there no trap is set."""
        if self.trap is not None and path.is_relative_to(self.mount):
            kinds = [type(record).__name__.lower() for record in map(decode, data.split(b"\n")) if record]
            self.passed += kinds.count(self.trap.kind)
            if self.passed >= self.trap.count:
                number, self.trap = self.trap.number, None
                os.kill(os.getpid(), number)
        super().append(path, data)


@dataclass
class SmbMachine(Machine):
    """A machine with the share mounted at a place of its own, where its disk has nothing. ``workspace`` is the server's."""

    share: Share | None = None

    @property
    def mount(self) -> Path:
        """Where it sees the share; whoever goes past the files port finds nothing there, or leaves something."""
        return self.folder / "mount"

    def orders(self, **more: object) -> Orders:
        """The orders for a process of this machine."""
        assert self.share is not None
        seen = self.mount / self.workspace.relative_to(self.share.folder)
        return Orders(self.share, self.mount, seen, self.name, **more)  # type: ignore[arg-type]

    def files(self) -> SmbFiles:
        """The share for this very process."""
        assert self.share is not None
        return SmbFiles(self.share, self.mount)

    def work_there(self, scale: float, trap: Trap | None = None) -> Running:
        """Start a worker that works on the share until every item is done."""
        return self.start(work, self.orders(scale=scale, trap=trap))

    def start(self, target: Callable[[Orders], None], orders: Orders) -> Running:
        """Start a process."""
        return self._start(target, orders, self._log())


def work(orders: Orders) -> None:
    """A worker on the share, with a job that costs nothing."""
    from fedspec.checkpoints import CheckpointManager
    from fedspec.simulation.rehearsal import RehearsalJob
    from fedspec.worker import StopSignal, Worker, drive
    from fedspec.workqueue.distributor import WorkDistributor
    from fedspec.workqueue.liveness import NETWORK_SHARE

    files = TrappedFiles(orders.share, orders.mount, orders.trap)
    workspace = Workspace(orders.workspace)
    queue = WorkDistributor(workspace, files=files, timing=NETWORK_SHARE.scaled(orders.scale))
    queue.require_queue()
    queue.join(orders.name, {"cpu"})
    worker = Worker(
        queue,
        CheckpointManager(workspace.checkpoints, files),
        lambda item, base: RehearsalJob(item, base, time.sleep, 0.0),
        _Printer(),
        StopSignal(),
    )
    finished = drive(worker)
    sys.stdout.write(f"requests: {files.requests} calls: {dict(files.calls)}\n")
    sys.exit(1 if finished.failed else 0)


def hold(orders: Orders) -> None:
    """Hold the lock until killed."""
    release = SmbFiles(orders.share, orders.mount).hold(orders.workspace / "a.lock")
    sys.stdout.write(f"held: {release is not None}\n")
    sys.stdout.flush()
    time.sleep(PATIENCE_S)


def count(orders: Orders) -> None:
    """Raise the number in a file by one, again and again, each time under the lock."""
    files = SmbFiles(orders.share, orders.mount)
    number = orders.workspace / "number"
    for _ in range(orders.times):
        with files.lock(orders.workspace / "a.lock", PATIENCE_S) as alone:
            assert alone
            files.write(number, str(int(files.read(number)) + 1).encode(), durable=False)


def replace(orders: Orders) -> None:
    """Replace a file again and again, each time by a text of another length."""
    files = SmbFiles(orders.share, orders.mount)
    for length in range(1, orders.times + 1):
        files.write(orders.workspace / "text", text_of(length), durable=False)


def text_of(length: int) -> bytes:
    """A text that shows whether it is whole."""
    return f"{length:06d}".encode() + b"x" * (997 * length % 100_000) + b"end"


class _Printer:
    """A reporter that prints events."""

    def event(self, text: str) -> None:
        sys.stdout.write(text + "\n")
        sys.stdout.flush()

    def status(self, text: str) -> None:
        pass

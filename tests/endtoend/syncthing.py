"""Two real Syncthing daemons on loopback that share one folder: pausing their connection, waiting until both sides are equal.

Nothing leaves the machine: no discovery, no relays, no updates. Syncthing looks at changes some time after they come; that time
is scaled by the factor that scales the queue's own times, so that the two keep their proportion.
"""

from __future__ import annotations

import copy
import json
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.error import URLError
from urllib.parse import urlencode
from urllib.request import Request, urlopen
from xml.etree import ElementTree

import psutil
import pytest

from fedspec.supervisor import SYNCTHING_IGNORES

FOLDER = "shared"
# How long Syncthing collects changes before it looks at them: as it comes, and the least that it takes.
WATCH_DELAY_S = 10.0
LEAST_WATCH_DELAY_S = 1
# What Syncthing keeps for itself.
PRIVATE = (".stfolder", ".stignore", ".stversions")
CONFLICT = ".sync-conflict-"
PATIENCE_S = 120.0
START_ATTEMPTS = 3


def require_syncthing() -> None:
    """Skip where the program is missing."""
    if shutil.which("syncthing") is None:
        pytest.skip("needs the program syncthing (Debian package: syncthing)")


class Daemon:
    """One side: the daemon, and the folder that it keeps equal to the other's."""

    def __init__(self, name: str, home: Path, folder: Path) -> None:
        self.name, self.home, self.folder = name, home, folder
        folder.mkdir(parents=True)
        generate = ["syncthing", "generate", f"--home={home}", "--no-default-folder", "--skip-port-probing"]
        subprocess.run(generate, check=True, capture_output=True)
        config = ElementTree.parse(home / "config.xml")
        self.device = config.find("device").get("id", "")  # type: ignore[union-attr]
        self._key = config.findtext("gui/apikey") or ""
        self.gui, self.port = free_port(), free_port()
        self._process: subprocess.Popen[bytes] | None = None

    def configure(self, peer: Daemon) -> None:
        """Write the configuration: one folder, one peer, loopback only."""
        path = self.home / "config.xml"
        config = ElementTree.parse(path)
        root = config.getroot()
        _set(root, "gui/address", f"127.0.0.1:{self.gui}")
        for key, value in OPTIONS.items():
            _set(root, f"options/{key}", value)
        _set(root, "options/listenAddress", f"tcp4://127.0.0.1:{self.port}")
        for device in root.findall("device"):
            root.remove(device)
        for daemon in (self, peer):
            device = ElementTree.SubElement(root, "device", id=daemon.device, name=daemon.name, compression="metadata")
            ElementTree.SubElement(device, "address").text = f"tcp4://127.0.0.1:{daemon.port}"
        # A folder as Syncthing makes one, conflict copies and all: what is left out would not be the default but nothing.
        folder = copy.deepcopy(root.find("defaults/folder"))
        assert folder is not None
        watch = {"fsWatcherDelayS": str(LEAST_WATCH_DELAY_S)}
        folder.attrib.update({"id": FOLDER, "label": FOLDER, "path": str(self.folder), **watch})
        _set(folder, "minDiskFree", "0")
        for device in folder.findall("device"):
            folder.remove(device)
        for daemon in (self, peer):
            ElementTree.SubElement(folder, "device", id=daemon.device)
        root.append(folder)
        config.write(path, encoding="utf-8")
        (self.folder / ".stignore").write_bytes(SYNCTHING_IGNORES)

    def start(self) -> None:
        """Start the process and wait until it answers."""
        serve = ["syncthing", "serve", f"--home={self.home}", "--no-browser", "--no-restart", "--no-upgrade"]
        log = (self.home / "log.txt").open("ab")
        self._process = subprocess.Popen(serve, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        log.close()
        wait(lambda: self.running is False or self.answers(), f"{self.name} to answer")
        if not self.running:
            raise ConnectionError(f"{self.name} ended at once:\n{(self.home / 'log.txt').read_text(encoding='utf-8')[-2000:]}")

    @property
    def running(self) -> bool:
        """Whether the process lives."""
        return self._process is not None and self._process.poll() is None

    def stop(self) -> None:
        """End the process and its children, each by its id."""
        if self._process is None:
            return
        family = [self._process.pid, *self._children()]
        self._process.terminate()
        try:
            self._process.wait(15)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        for pid in family[1:]:
            if psutil.pid_exists(pid):
                psutil.Process(pid).kill()

    def _children(self) -> list[int]:
        assert self._process is not None
        try:
            return [child.pid for child in psutil.Process(self._process.pid).children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def ask(self, path: str, method: str = "GET", **query: str) -> Any:
        """Call the REST interface."""
        address = f"http://127.0.0.1:{self.gui}/rest/{path}?{urlencode(query)}"
        request = Request(address, method=method, headers={"X-API-Key": self._key})
        with urlopen(request, timeout=30) as answer:
            return json.loads(answer.read() or b"null")

    def answers(self) -> bool:
        """Whether the REST interface is up."""
        try:
            return bool(self.ask("system/ping"))
        except (URLError, OSError):
            return False

    def connected(self, peer: Daemon) -> bool:
        """Whether it speaks with its peer."""
        return bool(self.ask("system/connections")["connections"].get(peer.device, {}).get("connected"))

    def idle(self) -> bool:
        """Whether it has nothing to scan and nothing to fetch."""
        status = self.ask("db/status", folder=FOLDER)
        return status["state"] == "idle" and status["needTotalItems"] == 0

    def complete(self, peer: Daemon) -> bool:
        """Whether its peer has all that it has."""
        state = self.ask("db/completion", folder=FOLDER, device=peer.device)
        return bool(state["completion"] == 100 and state["needItems"] == 0 and state["needDeletes"] == 0)

    def scan(self) -> None:
        """Look at the whole folder now; returns when that is done."""
        self.ask("db/scan", "POST", folder=FOLDER)

    def writers(self, file: str) -> set[str]:
        """The devices on which a file was changed one after the other, as Syncthing's version vector has them.

        Changes that two made at once are not in it: the loser's becomes a conflict copy, and its turn is forgotten.
        """
        version = self.ask("db/file", folder=FOLDER, file=file)["global"]["version"]
        return {entry.partition(":")[0] for entry in version}


class SyncthingPair:
    """Two daemons, ``a`` and ``b``, that share one folder; a context manager.

    Args:
        root: where everything lies: ``a``, ``b`` and the daemons' homes.
        scale: the factor for the time that the daemons wait after a change.
    """

    def __init__(self, root: Path, scale: float) -> None:
        require_syncthing()
        self.root, self.scale = root, scale
        self._closing = threading.Event()
        self._hurry: list[threading.Thread] = []

    def __enter__(self) -> SyncthingPair:
        for attempt in range(START_ATTEMPTS):
            base = self.root / f"pair{attempt}"
            self.a, self.b = (Daemon(name, base / f"home-{name}", base / name) for name in "ab")
            self.a.configure(self.b)
            self.b.configure(self.a)
            try:
                self.a.start()
                self.b.start()
                wait(lambda: self.connected and self.a.idle() and self.b.idle(), "both to be connected and idle")
                self._hurry = [threading.Thread(target=self._look, args=(side,), daemon=True) for side in self.sides]
                for thread in self._hurry:
                    thread.start()
                return self
            except (ConnectionError, AssertionError):  # somebody else took a port in between
                self.close()
                if attempt + 1 == START_ATTEMPTS:
                    raise
        raise AssertionError("unreachable")

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Stop both daemons."""
        self._closing.set()
        for thread in self._hurry:
            thread.join()
        self._hurry.clear()
        self._closing.clear()
        self.a.stop()
        self.b.stop()

    @property
    def sides(self) -> tuple[Daemon, Daemon]:
        """Both."""
        return self.a, self.b

    @property
    def connected(self) -> bool:
        """Whether they speak with each other."""
        return self.a.connected(self.b) and self.b.connected(self.a)

    def writers(self, file: str) -> set[str]:
        """The devices on which a file was changed one after the other, as both daemons know them."""
        return self.a.writers(file) | self.b.writers(file)

    def pause(self) -> None:
        """Cut the connection: both sides go on, and learn nothing of each other."""
        self.a.ask("system/pause", "POST", device=self.b.device)
        wait(lambda: not self.a.connected(self.b) and not self.b.connected(self.a), "the connection to be cut")

    def resume(self) -> None:
        """Let them meet again."""
        self.a.ask("system/resume", "POST", device=self.b.device)
        wait(lambda: self.connected, "the connection to come back")

    @contextmanager
    def partition(self) -> Iterator[None]:
        """A while in which they learn nothing of each other."""
        self.pause()
        try:
            yield
        finally:
            self.resume()

    def sync(self) -> None:
        """Wait until both sides are in sync: looked through, nothing left to fetch, and equal to the last byte."""
        for side in self.sides:
            side.scan()
        wait(
            lambda: (
                all(side.idle() for side in self.sides)
                and self.a.complete(self.b)
                and self.b.complete(self.a)
                # Last, since it reads everything; what it finds is the proof, whatever the daemons say.
                and contents(self.a.folder) == contents(self.b.folder)
            ),
            "both sides to be equal",
            self.differences,
        )

    def _look(self, side: Daemon) -> None:
        """Make a side look at its folder after the scaled delay, over and over: its own watcher knows whole seconds only."""
        while not self._closing.wait(WATCH_DELAY_S * self.scale):
            with suppress(URLError, OSError):
                side.scan()

    def differences(self) -> str:
        """What is not equal yet."""
        one, other = contents(self.a.folder), contents(self.b.folder)
        return f"different: {sorted(path for path in one.keys() | other.keys() if one.get(path) != other.get(path))}"


OPTIONS: Mapping[str, str] = {
    "globalAnnounceEnabled": "false",
    "localAnnounceEnabled": "false",
    "relaysEnabled": "false",
    "natEnabled": "false",
    "announceLANAddresses": "false",
    "stunKeepaliveStartS": "0",
    "urAccepted": "-1",
    "crashReportingEnabled": "false",
    "autoUpgradeIntervalH": "0",
    "startBrowser": "false",
    "setLowPriority": "false",
    "reconnectionIntervalS": "1",
}


def contents(folder: Path) -> dict[str, bytes]:
    """Files by their path in the shared folder, without what Syncthing keeps for itself and temporary files."""
    found = {}
    for path in folder.rglob("*"):
        name = path.relative_to(folder).as_posix()
        if name.split("/")[0] in PRIVATE or path.name.endswith(".tmp"):
            continue
        try:
            found[name] = path.read_bytes()
        except (FileNotFoundError, IsADirectoryError):
            continue
    return found


def conflict_copies(folder: Path) -> list[str]:
    """Paths of the copies that Syncthing made where two sides had changed one file."""
    return sorted(name for name in contents(folder) if CONFLICT in name)


def original_of(name: str) -> str:
    """The path of the file that a conflict copy is one of: ``x.sync-conflict-<date>-<time>-<device>.csv`` -> ``x.csv``."""
    stem, _, rest = name.partition(CONFLICT)
    _, dot, ending = rest.partition(".")
    return stem + dot + ending


def free_port() -> int:
    """A port that nobody has now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait(condition: Callable[[], object], what: str, explain: Callable[[], str] = str, seconds: float = PATIENCE_S) -> None:
    """Wait for something that daemons do, generously."""
    end = time.monotonic() + seconds
    while True:
        try:
            if condition():
                return
        except (URLError, OSError, KeyError):
            pass
        assert time.monotonic() < end, f"waited {seconds} s for {what}; {explain()}"
        time.sleep(0.05)


def _set(root: ElementTree.Element, path: str, value: str) -> None:
    element = root.find(path)
    if element is None:
        raise ValueError(f"this version of Syncthing has no setting {path}")
    element.text = value

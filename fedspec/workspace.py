"""Where everything is: finds the shared folder and names every file in it, and this machine's own folder beside it.

No path is glued together anywhere else. Reading and writing is for others.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

import platformdirs

from fedspec.errors import SetupError, UsageError
from fedspec.host import host, host_by_name

STATE_FOLDER = "distributed_work"
# Names and paths that were asked for last.
REMEMBERED = 4096
_SAFE = re.compile(r"[a-z0-9][a-z0-9._-]{0,120}")
# Devices on Windows in every folder and with every ending: con.json is the console.
_RESERVED = frozenset({"con", "prn", "aux", "nul", *(f"{port}{n}" for port in ("com", "lpt") for n in range(10))})


@dataclass(frozen=True)
class Workspace:
    """The three state folders that machines share."""

    root: Path

    @classmethod
    def find(cls, explicit: str | Path | None = None, environ: Mapping[str, str] = os.environ) -> Workspace:
        """The folder named explicitly, else ``FEDSPEC_WORKSPACE``, else the nearest parent of the current folder that
        holds a ``distributed_work/``, else the checkout.

        Raises:
            SetupError: a folder that was named does not exist. It may be a share that is not connected: never create it.
        """
        named = explicit or environ.get("FEDSPEC_WORKSPACE")
        if named:
            root = Path(named).expanduser().absolute()
            if not root.is_dir():
                raise SetupError(
                    f"There is no folder {root}.",
                    "Connect the share or wait for it to sync; to start there, create the folder.",
                )
            return cls(root)
        here = Path.cwd()
        for folder in (here, *here.parents):
            if (folder / STATE_FOLDER).is_dir():
                return cls(folder)
        checkout = Path(__file__).resolve().parents[1]
        return cls(checkout if (checkout / "pyproject.toml").is_file() else here)

    @cached_property
    def queue(self) -> Path:
        """The queue's folder."""
        return self.root / STATE_FOLDER

    @cached_property
    def view(self) -> Path:
        """The queue for people: derived, never the basis of a decision."""
        return self.queue / "work_queue.json"

    @cached_property
    def queue_lock(self) -> Path:
        """Held while claiming and while rendering the view, where the folder's locks work."""
        return self.queue / "work_queue.json.lock"

    @cached_property
    def plans(self) -> Path:
        """Immutable items."""
        return self.queue / "plan"

    def plan(self, item_id: str) -> Path:
        """The file of one item."""
        return inside(self.plans, f"p-{checked(item_id)}.json")

    @cached_property
    def journals(self) -> Path:
        """One journal per process, in segments."""
        return self.queue / "journal"

    def journal(self, worker: str, segment: int) -> Path:
        """One segment of one worker's journal."""
        return inside(self.journals, f"{checked(worker)}.{segment:04d}.jsonl")

    def relayed(self, worker: str, by: str) -> Path:
        """What a dead worker had journalled on its machine but not here, brought by its successor."""
        return self.journals / f"{checked(worker)}.by-{checked(by)}.jsonl"

    @cached_property
    def beats(self) -> Path:
        """One heartbeat per process."""
        return self.queue / "beat"

    def beat(self, worker: str) -> Path:
        """One worker's heartbeat."""
        return inside(self.beats, f"{checked(worker)}.json")

    def log(self, worker: str) -> Path:
        """What one worker did, for people."""
        return self.queue / "logs" / f"{checked(worker)}.log"

    @cached_property
    def pairs(self) -> Path:
        """Where machines find out together what the folder's locks are worth and how long news takes."""
        return self.queue / "pair"

    def pair(self, machine: str) -> Path:
        """What one machine says meanwhile."""
        return self.pairs / f"{checked(machine)}.json"

    def pair_lock(self, holder: str, taker: str) -> Path:
        """A lock that the process ``holder`` holds and the machine ``taker`` tries to take."""
        return self.pairs / f"{checked(holder)}.{checked(taker)}.lock"

    def probe(self, tag: str) -> Path:
        """A file that is written, moved and deleted to see that it can be; of each look its own."""
        return self.queue / f"probe-{checked(tag)}.txt"

    def quarantined(self, name: str) -> Path:
        """Where a damaged file is kept."""
        return self.queue / "quarantine" / name

    @cached_property
    def checkpoints(self) -> Path:
        """The checkpoints' folder; `CheckpointPaths` names the files in it."""
        return self.root / "checkpoints_distributed"

    @cached_property
    def results(self) -> Path:
        """Published results, one CSV an experiment."""
        return self.root / "paper_results"

    def result(self, exp: str) -> Path:
        """The CSV of one experiment."""
        return inside(self.results, f"{checked(exp)}.csv")

    @cached_property
    def figures(self) -> Path:
        """Where figures go."""
        return self.results / "figures"

    @cached_property
    def tables(self) -> Path:
        """Where tables go."""
        return self.results / "tables"

    @cached_property
    def report(self) -> Path:
        """The page that shows all of it."""
        return self.results / "report.html"


@dataclass(frozen=True, slots=True)
class CheckpointPaths:
    """The files in a checkpoints' folder."""

    root: Path

    def generations(self, exp: str) -> Path:
        """The saved rounds of one experiment."""
        return inside(inside(self.root, "gen"), checked(exp))

    def generation(self, exp: str, name: str) -> Path:
        """One saved round."""
        return inside(self.generations(exp), checked(name))

    def base(self, sha: str) -> Path:
        """One frozen base, named by its content."""
        return self.root / "gen" / "base" / f"{checked(sha)}.pt"

    def progress(self, exp: str) -> Path:
        """The derived copy that says how far an experiment is."""
        return inside(self.root, f"{checked(exp)}.json")

    def model(self, exp: str) -> Path:
        """The derived copy of the latest generation."""
        return inside(self.root, f"{checked(exp)}_model.pt")


@dataclass(frozen=True)
class LocalState:
    """This machine's own folder, outside every share: its identity and its workers' slots."""

    root: Path

    @classmethod
    def find(
        cls,
        environ: Mapping[str, str] = os.environ,
        host: Callable[[], str] = host,
        by_name: Callable[[], str] = host_by_name,
    ) -> LocalState:
        """``FEDSPEC_STATE``, else the user's state folder; in it a folder per host, since homes may be shared or copied.

        It goes by the system's own id, and by name and network card only where there is none. What stands under the name, as
        versions before this wrote it, is taken over.
        """
        named = environ.get("FEDSPEC_STATE")
        base = Path(named).expanduser().absolute() if named else platformdirs.user_state_path("fedspec")
        if not (own := host()):
            return cls(base / f"host-{by_name()}")
        root = base / f"host-{own}"
        return cls(root if root.is_dir() else _taken_over(base / f"host-{by_name()}", root))

    @cached_property
    def machine(self) -> Path:
        """The machine's id."""
        return self.root / "machine.json"

    @cached_property
    def machine_lock(self) -> Path:
        """Held while the id is first made."""
        return self.root / "machine.lock"

    @cached_property
    def slots(self) -> Path:
        """One folder per worker process that has not been closed."""
        return self.root / "slots"

    def slot_lock(self, worker: str) -> Path:
        """Held by the worker while it lives: free means dead."""
        return inside(self.slots, f"{checked(worker)}.lock")

    def slot(self, worker: str) -> Path:
        """Which workspace the worker belongs to."""
        return inside(self.slots, f"{checked(worker)}.json")

    def journal_copy(self, worker: str) -> Path:
        """The worker's journal as it was written, whatever happens to the shared one."""
        return inside(self.slots, f"{checked(worker)}.jsonl")

    def archive(self, workspace: Workspace) -> Path:
        """Journals of this machine's workers that have left this workspace, should the shared ones go back in time."""
        return self.root / f"archive-{self._key(workspace)}"

    def archives(self, folders: Iterable[str]) -> list[Path]:
        """Of ``folders`` here those that are an `archive` of some workspace."""
        return [self.root / name for name in folders if name.startswith("archive-")]

    def archived(self, workspace: Workspace, worker: str) -> Path:
        """The journal of one of them."""
        return self.archive(workspace) / f"{checked(worker)}.jsonl"

    def archived_slot(self, workspace: Workspace, worker: str) -> Path:
        """What was noted in its `slot`."""
        return self.archive(workspace) / f"{checked(worker)}.json"

    def snapshot(self, workspace: Workspace) -> Path:
        """What was read of this workspace, for the next process that looks."""
        return self.root / f"snapshot-{self._key(workspace)}.bin"

    def claim_lock(self, workspace: Workspace) -> Path:
        """Held while a worker of this machine claims an item of this workspace."""
        return inside(self.root, f"claims-{self._key(workspace)}.lock")

    def pair_lock(self, workspace: Workspace) -> Path:
        """Held while this machine finds out with others what this workspace's locks are worth."""
        return self.root / f"pair-{self._key(workspace)}.lock"

    def measured(self, workspace: Workspace) -> Path:
        """What it found out."""
        return self.root / f"pair-{self._key(workspace)}.json"

    def chosen_mode(self, workspace: Workspace) -> Path:
        """How a person told this machine to use this workspace."""
        return self.root / f"mode-{self._key(workspace)}.json"

    @staticmethod
    def _key(workspace: Workspace) -> str:
        return hashlib.sha256(str(workspace.root).encode()).hexdigest()[:12]


def _taken_over(former: Path, root: Path) -> Path:
    """Rename a machine's folder, if nobody is at work in it; else it serves once more. Returns where it is."""
    try:
        # A worker has a slot for as long as it lives, and until its machine's next one has closed it.
        if any(path.suffix in (".lock", ".json", ".jsonl") for path in (former / "slots").iterdir()):
            return former
    except OSError:  # no folder, or no slot was ever taken
        pass
    try:
        former.rename(root)
    except OSError:  # there is none, another process was quicker, or Windows: somebody has a file of it open
        return former if former.is_dir() and not root.is_dir() else root
    return root


def data_root(environ: Mapping[str, str] = os.environ) -> Path:
    """Where data sets lie: ``FEDSPEC_DATA``, else the user's cache. Never in the share."""
    named = environ.get("FEDSPEC_DATA")
    return Path(named).expanduser() if named else platformdirs.user_cache_path("fedspec") / "data"


@lru_cache(maxsize=REMEMBERED)
def inside(folder: Path, name: str) -> Path:
    """``folder / name``. Each poll asks for the same ones again, and a path is slow to make."""
    return folder / name


@lru_cache(maxsize=REMEMBERED)
def checked(name: str) -> str:
    """``name`` if it is safe as a file name on every system and cannot leave its folder.

    Raises:
        UsageError: it is not; names of experiments and workers may come from a peer.
    """
    if name.partition(".")[0] in _RESERVED:
        raise UsageError(f"{name[:80]!r} cannot be a file name on Windows.", "Choose another name.")
    # Lower case alone: no two names are one file on a disk that ignores case. Windows drops a dot at the end.
    if not _SAFE.fullmatch(name) or ".." in name or name.endswith("."):
        raise UsageError(f"{name[:80]!r} cannot be a file name here.", "Use lower-case letters, digits, '.', '_' and '-' only.")
    return name

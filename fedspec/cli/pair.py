"""``fedspec doctor --pair``: this machine's part in finding out, with others, what the shared folder does."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from fedspec.cli.checks import forget, modes, seconds
from fedspec.cli.console import emit_json
from fedspec.cli.doctor import as_json
from fedspec.cli.findings import Finding, show
from fedspec.cli.live import FIELDS, WORKERS, TerminalReporter
from fedspec.cli.opening import checked_scale, machine_name
from fedspec.clock import Clock, SystemClock
from fedspec.errors import SetupError, UsageError
from fedspec.files import FencedFiles, Files
from fedspec.folders import FolderKind
from fedspec.workqueue import pairing
from fedspec.workqueue.encounter import Encounter
from fedspec.workqueue.modes import Measured, Met, Notes, names, result
from fedspec.workqueue.pairing import Pair
from fedspec.workqueue.slots import Slots
from fedspec.workqueue.wording import clock_face, count, in_words
from fedspec.workspace import Workspace

START = "fedspec doctor --pair"
# Where news takes longer than this, people are told that it takes minutes.
SLOW_NEWS_S = 5.0
CLOCKS_AGREE_S = 0.5


def pair(
    workspace: Path | None, name: str | None, machines: int, timeout_min: float, time_scale: float, *, json: bool = False
) -> None:
    """Meet the others, keep what was found out, and say it.

    Raises:
        UsageError: a number that makes no sense.
        SetupError: nobody came, somebody left too early, or another process of this machine is at it.
    """
    if not 2 <= machines <= pairing.MAX_PEERS:
        raise UsageError(f"--machines must be between 2 and {pairing.MAX_PEERS}, not {machines}.", "Leave it out for two.")
    if not timeout_min > 0:
        raise UsageError(f"--timeout must be greater than 0, not {timeout_min:g}.", "Leave it out for 10 minutes.")
    scale = checked_scale(time_scale)
    clock, place = SystemClock(), Workspace.find(workspace)
    files = FencedFiles(place.root)
    notes = Notes(place, files=files)
    before = notes.choice()
    with _alone(files, notes):
        machine = Slots(files, notes.local, place).machine_id()
        voice = Voice(machine_name(name), machines - 1, timeout_min * 60 * scale)
        voice.begin(place.root, before.kind)
        with _encounter(files, clock, place, machine, voice, scale) as encounter:
            pairs = _meet(encounter, voice)
    measured = result(pairs, before.kind, clock.now())
    notes.keep(measured)
    choice = notes.choice()
    if json:
        emit_json({"pair": measured, "folder": as_json(place.root, choice, scale)})
        return
    voice.reporter.event("")
    for finding in findings(measured, before.kind):
        show(finding)
    for finding in modes(place.root, choice, scale):
        if finding.about == "mode":  # the rest has just been said
            show(finding)


class Voice:
    """What a person reads while machines meet, and when they did not."""

    def __init__(self, name: str, others: int, patience_s: float) -> None:
        self.name, self.others, self.patience_s = name, others, patience_s
        self.reporter = TerminalReporter()
        self._met: dict[str, str] = {}
        self._slow = False

    def begin(self, root: Path, kind: FolderKind) -> None:
        """What this is about, and what to do on the other machine."""
        where = "in its copy of this folder" if kind.mode == "sync" else "in this folder"
        what = "the other machine" if self.others == 1 else f"{self.others} other machines"
        self.reporter.event(f"Shared folder {root} ({kind.label})")
        self.reporter.event(f"Now start the same on {what}, {where}:")
        self.reporter.event(f"  {START}" + (f" --machines {self.others + 1}" if self.others > 1 else ""))

    def tell(self, encounter: Encounter) -> None:
        """What has happened, and what is going on."""
        now, labels = encounter.clock.monotonic(), self.labels(encounter)
        for machine in self._met.keys() - labels.keys():
            self.reporter.event(f"{self._met.pop(machine)} has left. Start it there again: {START}")
        for machine in labels.keys() - self._met.keys():
            self._met[machine] = labels[machine]
            self.reporter.event(f"Found {labels[machine]}. Leave both running.")
        if not self._slow and any(lag > SLOW_NEWS_S for pair in encounter.met for lag in pair.lags):
            self._slow = True
            self.reporter.event("News takes its time here; this lasts some minutes.")
        lines = [self._line(encounter, pair, labels[pair.machine], now) for pair in encounter.met]
        missing = self.others - len(lines)
        if missing > 0:
            what = "the other machine" if self.others == 1 else f"{missing} more of {count(self.others, 'machine')}"
            left = clock_face(max(0.0, self.patience_s - (now - encounter.news_at)))
            lines.append(FIELDS.join([f"Waiting for {what}", f"{left} left", "Ctrl-C ends it, nothing changes"]))
        self.reporter.status(WORKERS.join(lines))

    def _line(self, encounter: Encounter, pair: Pair, label: str, now: float) -> str:
        if pair in encounter.found_out:
            return FIELDS.join([label, "all is known" if pair.done else "all is known here, waiting until it is there"])
        silent_s = now - pair.news_at
        lag = pairing.lag_of(pair.lags)
        if silent_s > 2 * encounter.scale * pairing.TRY_S and (lag is None or silent_s > 3 * lag.max):
            return FIELDS.join([label, f"silent for {clock_face(silent_s)}"])
        answers = f"answer {len(pair.lags) + 1}" + (f", {seconds(lag.median)} each" if lag else "")
        return FIELDS.join([label, answers, f"locks: {_trial(pair)}"])

    def labels(self, encounter: Encounter) -> dict[str, str]:
        """Machine -> what to call it here; with its id where two have one name."""
        every = [self.name, *(pair.name for pair in encounter.met)]
        return {
            pair.machine: pair.name if every.count(pair.name) == 1 else f"{pair.name} ({pair.machine})"
            for pair in encounter.met
        }

    def gave_up(self, encounter: Encounter) -> SetupError:
        """Nothing was heard for too long: from whom, and what to look at."""
        time, folder = in_words(self.patience_s), encounter.workspace.root
        if encounter.met:
            who = " and ".join(sorted(self.labels(encounter).values()))
            fix = f"See what it says there, then start '{START}' on both again."
            return SetupError(f"{who} stopped answering; nothing new has come for {time}.", fix)
        deaf = [pair.name for pair in encounter.pairs.values() if pair.news_at > pair.pinged_at]
        if deaf:
            fix = f"Look at the sync client or the share on both: files of this machine do not reach {deaf[0]}."
            return SetupError(f"{deaf[0]} is there, but does not see this machine.", fix)
        fix = f"Start '{START}' there while it runs here. If it does, the two do not see one folder; here it is {folder}."
        return SetupError(f"No other machine has answered within {time}.", fix)


def findings(measured: Measured, kind: FolderKind) -> Iterator[Finding]:
    """What was found out, in words."""
    for peer in measured.peers:
        if peer.lag_s is not None:
            trips = count(peer.lag_s.samples, "round trip")
            text = f"{peer.name} answers in {seconds(peer.lag_s.median)}, at worst {seconds(peer.lag_s.max)} ({trips})"
            yield Finding("ok", "lag", f"{text}; {_clock(peer)}")
    yes = [peer for peer in measured.peers if peer.locks]
    no = [peer for peer in measured.peers if not peer.locks]
    if yes:
        yield Finding("ok", "locks", f"locks exclude {names(yes)}: what is held here is refused there, and vice versa")
    if no and kind.mode == "sync":
        yield Finding("ok", "locks", f"locks do not exclude {names(no)}, as in every synced folder; the queue is safe without")
    elif no:
        fix = "Nothing to do: the queue is safe without. Faster with them: mount SMB without 'nobrl', NFS without 'nolock'."
        yield Finding("warn", "locks", f"locks do not exclude {names(no)}: they were given twice, or not at all", fix)


def _clock(peer: Met) -> str:
    if peer.clock_s is None or peer.clock_error_s is None:
        return "its clock is unknown"
    if abs(peer.clock_s) <= max(CLOCKS_AGREE_S, peer.clock_error_s):
        return "clocks agree"
    return f"its clock is {seconds(abs(peer.clock_s))} {'ahead' if peer.clock_s > 0 else 'behind'}"


def _trial(pair: Pair) -> str:
    """How far the two trials of locks are, in words."""
    theirs = pair.theirs
    if theirs is None:
        return ""
    if pair.excludes is not None:
        return "they exclude" if pair.excludes else "they exclude nobody"
    if pairing.verdict(pair.word.hold, theirs.take) is None and pair.word.hold == "held":
        return "holding one, it tries"
    if theirs.hold == "held":
        return "it holds one, trying"
    return "asking"


def _meet(encounter: Encounter, voice: Voice) -> Sequence[Pair]:
    """Look and say until all is known. Raises SetupError if the others let us wait for too long."""
    clock = encounter.clock
    with voice.reporter.live():
        while not encounter.poll():
            voice.tell(encounter)
            if clock.monotonic() - encounter.news_at > voice.patience_s:
                if not encounter.found_out:
                    raise voice.gave_up(encounter)
                voice.reporter.event(
                    f"warn   Of {count(voice.others, 'other machine')} only these came; the rest is as unknown."
                )
                break
            clock.sleep(encounter.poll_s)
    return encounter.found_out


@contextmanager
def _encounter(files: Files, clock: Clock, place: Workspace, machine: str, voice: Voice, scale: float) -> Iterator[Encounter]:
    """An encounter that leaves the folder as it was, however it ends."""
    fresh = not place.queue.is_dir()
    encounter = Encounter(files, clock, place, machine, voice.name, voice.others, scale)
    try:
        yield encounter
    except KeyboardInterrupt:
        voice.reporter.event("Stopped; nothing is changed.")
        raise
    finally:
        encounter.close()
        forget(place.pairs)
        if fresh:
            forget(place.queue)


@contextmanager
def _alone(files: Files, notes: Notes) -> Iterator[None]:
    """Two processes of one machine would write one file, and learn nothing."""
    release = files.hold(notes.local.pair_lock(notes.workspace))
    if release is None:
        raise SetupError(f"'{START}' is already running on this machine.", "Start the other one on another machine.")
    try:
        yield
    finally:
        release()

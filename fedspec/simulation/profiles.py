"""What can go wrong in each kind of shared folder, and how often."""

from __future__ import annotations

from dataclasses import dataclass, replace

from fedspec.workqueue.liveness import NETWORK_SHARE, SYNC_FOLDER, Timing


@dataclass(frozen=True, slots=True)
class Weather:
    """What a sync service does to files. Times in seconds, the rest probabilities per change that is carried.

    Attributes:
        delay: usual time until a change arrives; each file's own, so that order means nothing. steady: always just that.
        late: probability that it takes ``late_s`` instead.
        torn: a part of a new file is seen before the whole. preallocated: zeros of its size are.
        silent: of two versions that meet one vanishes without a conflict copy.
        revive: a deleted file comes back.
        conflict_name: name of a conflict copy, from stem, suffix and a number.
    """

    delay: float = 5.0
    steady: bool = False
    late: float = 0.0
    late_s: float = 600.0
    torn: float = 0.0
    preallocated: float = 0.0
    silent: float = 0.0
    revive: float = 0.0
    conflict_name: str = "{stem}.sync-conflict-20260101-{number:06d}-ABCDEFG{suffix}"


@dataclass(frozen=True, slots=True)
class Profile:
    """A kind of folder, the work in it and the faults that strike. Probabilities without a unit are per schedule.

    Attributes:
        weather: how copies of the folder meet; None for a share that all machines see at once.
        crash, stop, refuse: per step of a write: dying, being stopped for long, a refused write (virus scanner, full disk).
        unreadable: per read: an evicted file or one that somebody holds.
        never_here: per read of a saved round: it is evicted, and its bytes never come back.
        bad_sector: per read of a saved round: this machine's disk can never read it again.
        stale_s: a listing of a folder may be so old.
        pairs: how many of the items two machines run together.
        sleep, offline: per machine and hour. days: an offline time that lasts for days.
        apart: two machines hear nothing of each other for a while, and others hear both.
        death: probability that a crashed machine never comes back.
        retire: somebody retires a machine that is away, and it comes back.
        sibling: one machine runs a second worker.
        evening: people stop all workers in order, and start them again later, some machines away from the others meanwhile.
        skew_h: wall clocks are off by up to so many hours, and jump.
    """

    name: str
    timing: Timing
    weather: Weather | None
    machines: tuple[int, int] = (2, 5)
    items: int = 4
    pairs: int = 1
    rounds: int = 4
    clients: int = 2
    client_s: float = 40.0
    crash: float = 0.002
    stop: float = 0.002
    refuse: float = 0.002
    unreadable: float = 0.001
    blocking: float = 0.0
    never_here: float = 0.0
    bad_sector: float = 0.0
    stale_s: float = 0.0
    sleep: float = 0.3
    offline: float = 0.3
    days: float = 0.05
    apart: float = 0.1
    death: float = 0.2
    clone: float = 0.03
    restore: float = 0.05
    person: float = 0.3
    retire: float = 0.1
    sibling: float = 0.15
    evening: float = 0.1
    reboot_s: float = 300.0
    skew_h: float = 12.0


FAULTS = (
    "crash", "stop", "refuse", "unreadable", "blocking", "never_here", "bad_sector", "stale_s", "sleep", "offline", "days",
    "apart", "death", "clone", "restore", "person", "retire", "sibling", "evening",
)  # fmt: skip
_SYNC = Profile("", SYNC_FOLDER, Weather())

PROFILES: dict[str, Profile] = {
    "dropbox": replace(
        _SYNC,
        name="dropbox",
        weather=Weather(
            delay=8.0,
            late=0.02,
            preallocated=0.2,
            conflict_name="{stem} (Büro-PC's conflicted copy 2026-01-01 {number}){suffix}",
        ),
    ),
    "icloud": replace(
        _SYNC,
        name="icloud",
        weather=Weather(delay=20.0, late=0.05, late_s=900.0, silent=0.5, conflict_name="{stem} {number}{suffix}"),
        unreadable=0.003,
        blocking=0.001,
        never_here=0.01,
    ),
    "syncthing": replace(_SYNC, name="syncthing", weather=Weather(delay=3.0, late=0.01, revive=0.05)),
    "smb": replace(
        _SYNC,
        name="smb",
        timing=NETWORK_SHARE,
        weather=None,
        client_s=10.0,
        refuse=0.004,
        stale_s=10.0,
        reboot_s=90.0,
        bad_sector=0.01,
    ),
    "brutal": replace(
        _SYNC,
        name="brutal",
        weather=Weather(
            delay=45.0,
            late=0.1,
            late_s=1800.0,
            torn=0.05,
            silent=0.3,
            revive=0.1,
            conflict_name="{stem} (Konflikt-Kopie von Büro {number} 2026-01-01){suffix}",
        ),
        crash=0.006,
        stop=0.006,
        refuse=0.004,
        unreadable=0.005,
        blocking=0.001,
        never_here=0.01,
        bad_sector=0.01,
        sleep=0.8,
        offline=0.8,
        restore=0.15,
        clone=0.15,
        person=0.6,
        apart=0.3,
        retire=0.3,
        evening=0.3,
    ),
}


def fair_weather(profile: Profile, delay_s: float) -> Profile:
    """The same folder without a fault, where every change arrives after about ``delay_s``: what the protocol itself costs."""
    never: dict[str, float] = dict.fromkeys(FAULTS, 0.0)
    return replace(profile, **never, weather=Weather(delay=delay_s, steady=True))  # type: ignore[arg-type]

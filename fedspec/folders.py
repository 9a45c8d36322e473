"""What carries a folder's files to other machines: a sync client, a network file system, or nothing; and what clients leave.

Standard library only: the set-up scripts ask before anything is installed.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

# Names that sync clients give their folders, and marks they leave in them.
SYNCED_NAMES = {
    "com~apple~clouddocs": "iCloud Drive",
    "iclouddrive": "iCloud Drive",
    "icloud drive": "iCloud Drive",
    "cloudstorage": "a cloud drive",
    "my drive": "Google Drive",
}
SYNCED_PREFIXES = {
    "dropbox": "Dropbox",
    "onedrive": "OneDrive",
    "google drive": "Google Drive",
    "googledrive": "Google Drive",
    "nextcloud": "Nextcloud",
    "owncloud": "ownCloud",
}
SYNCED_MARKS = {
    ".stfolder": "Syncthing",
    ".dropbox.cache": "Dropbox",
    ".tmp.drivedownload": "Google Drive",
    ".nextcloudsync.log": "Nextcloud",
    ".owncloudsync.log": "ownCloud",
}
# 9p is also how WSL shows a Windows drive, where both systems would fight over one environment.
NETWORK_TYPES = {
    *("9p", "afpfs", "cifs", "fuse.rclone", "fuse.sshfs", "nfs", "nfs4", "smb3", "smbfs", "webdav"),
    *("vboxsf", "prl_fs", "fuse.vmhgfs-fuse"),  # what a virtual machine sees of its host
    *("afs", "beegfs", "ceph", "fuse.ceph", "fuse.glusterfs", "gpfs", "lustre"),  # clusters
}
# What the systems say of a file whose bytes are not here: SF_DATALESS on macOS; OFFLINE, RECALL_ON_OPEN and
# RECALL_ON_DATA_ACCESS on Windows.
DATALESS_FLAG = 0x4000_0000
RECALLED_ATTRIBUTES = 0x0000_1000 | 0x0004_0000 | 0x0040_0000
# A name of ours, and what sync clients put into it when two machines have written a file. Dropbox and others write in the
# user's language, but always in brackets, and with the date or with a word that is nearly the same in many languages.
_OURS = r"(?P<stem>[a-z0-9][a-z0-9._-]*?)"
_END = r"(?P<end>(?:\.[a-z0-9]+)?)"
_WORDS = "|".join(["confli", "konfli", "konflí", "case", "競合", "衝突", "冲突", "충돌", "конфликт", r"\d{4}-\d\d-\d\d"])
_COPIES = (
    ("Syncthing", r"\.sync-conflict-\d{8}-\d{6}-[A-Z0-9]+"),
    ("ownCloud", r"_conflict-[^.]+"),
    ("Dropbox", rf" ?\([^()]*(?i:{_WORDS})[^()]*\)"),
    ("Google Drive", r" \(\d+\)"),
    ("iCloud Drive", r" \d{1,3}"),
    ("OneDrive", r"-[A-Za-z0-9]*[A-Z][A-Za-z0-9_-]*"),
)
_COPIED = re.compile(f"{_OURS}(?:{'|'.join(mark for client, mark in _COPIES if client != 'Google Drive')})+{_END}")


@dataclass(frozen=True, slots=True)
class FolderKind:
    """What carries a folder. ``mode``: ``local``, ``network`` (its locks may work) or ``sync`` (they exclude nobody)."""

    label: str
    mode: str

    @property
    def is_shared(self) -> bool:
        """Whether other machines see the folder's files."""
        return self.mode != "local"


LOCAL = FolderKind("local disk", "local")


def folder_kind(folder: Path) -> FolderKind:
    """What carries ``folder``, judged by its path, the marks in it and its file system."""
    client = _sync_client(folder)
    if client is not None:
        return FolderKind(client, "sync")
    system = network_type(folder)
    return LOCAL if system is None else FolderKind(f"network share ({system})", "network")


def _sync_client(folder: Path) -> str | None:
    for part in folder.parts:
        name = part.casefold()
        if name in SYNCED_NAMES:
            return SYNCED_NAMES[name]
        for prefix, client in SYNCED_PREFIXES.items():
            if name.startswith(prefix):  # "OneDrive - University", "Dropbox (Personal)"
                return client
    for parent in (folder, *folder.parents):
        for mark, client in SYNCED_MARKS.items():
            if (parent / mark).exists():
                return client
    return "iCloud Drive" if sys.platform == "darwin" and is_in_icloud_home(folder, Path.home()) else None


def is_in_icloud_home(folder: Path, home: Path) -> bool:
    """Whether macOS keeps ``folder`` in iCloud with its setting "Desktop & Documents Folders"."""
    drive = home / "Library" / "Mobile Documents" / "com~apple~CloudDocs"
    return any(folder.is_relative_to(home / name) and (drive / name).exists() for name in ("Desktop", "Documents"))


def network_type(folder: Path) -> str | None:
    """The type of the network file system that holds ``folder``, None for a local one."""
    if sys.platform == "win32":
        import ctypes

        drive_remote = 4
        is_unc = folder.drive.startswith("\\\\")
        return "smb" if is_unc or ctypes.windll.kernel32.GetDriveTypeW(folder.anchor) == drive_remote else None
    try:
        if sys.platform == "darwin":
            lines = subprocess.run(["/sbin/mount"], capture_output=True, text=True, check=True).stdout.splitlines()
            mounts = list(mounts_of_macos(lines))
        else:
            mounts = list(mounts_of_linux(Path("/proc/mounts").read_text(encoding="utf-8", errors="replace").splitlines()))
    except (OSError, subprocess.CalledProcessError):
        return None
    kind = file_system_of(folder, mounts)
    return kind if kind in NETWORK_TYPES else None


def mounts_of_linux(lines: Iterable[str]) -> Iterator[tuple[Path, str]]:
    """(mount point, type) from lines like ``//nas/share /mnt/my\\040share cifs rw 0 0``."""
    for line in lines:
        _, point, kind, *_ = line.split(" ")
        yield Path(re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), point)), kind


def mounts_of_macos(lines: Iterable[str]) -> Iterator[tuple[Path, str]]:
    """(mount point, type) from lines like ``//me@nas/share on /Volumes/share (smbfs, nodev, nosuid)``."""
    for line in lines:
        if match := re.fullmatch(r".+? on (/.*) \((\w+).*\)", line):
            yield Path(match[1]), match[2]


def file_system_of(folder: Path, mounts: Iterable[tuple[Path, str]]) -> str:
    """The type of the innermost mount that holds ``folder``; of two at one place the later one covers the other."""
    holding = [(len(point.parts), kind) for point, kind in mounts if folder.is_relative_to(point)]
    return max(reversed(holding), key=lambda mount: mount[0], default=(0, ""))[1]


class ConflictCopy(NamedTuple):
    """What a name says: which client names its copies so, and the file that two machines have written."""

    client: str
    original: str


def conflict_copy(name: str) -> ConflictCopy | None:
    """What a file's name says about being a sync client's copy of one of our files; None if it is not, or says nothing."""
    for client, mark in _COPIES:
        # A copy can have copies.
        if match := re.fullmatch(f"{_OURS}(?:{mark})+{_END}", name):
            return ConflictCopy(client, match["stem"] + match["end"])
    return None


def original_of(name: str) -> str | None:
    """The name of the file that ``name`` is a conflict copy of, or of a copy of one; None if it looks like none.

    A number in brackets is left out: browsers and people make such copies too. A name alone is never a reason to delete.
    """
    match = _COPIED.fullmatch(name)
    return match["stem"] + match["end"] if match else None


def is_dataless(flags: int, attributes: int) -> bool:
    """Whether a file is there by name only, by what ``stat`` says of it on macOS (flags) and on Windows (attributes)."""
    return bool(flags & DATALESS_FLAG or attributes & RECALLED_ATTRIBUTES)

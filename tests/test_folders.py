"""What carries a folder is known by its path, the marks in it and its mounts, before anything is installed."""

from __future__ import annotations

from pathlib import Path

import pytest

from fedspec import folders


@pytest.mark.parametrize(
    ("path", "client"),
    [
        ("you/Library/Mobile Documents/com~apple~CloudDocs/fedspec", "iCloud Drive"),
        ("you/iCloudDrive/fedspec", "iCloud Drive"),
        ("you/Dropbox (Personal)/fedspec", "Dropbox"),
        ("you/OneDrive - University/fedspec", "OneDrive"),
        ("you/Library/CloudStorage/GoogleDrive-you/fedspec", "a cloud drive"),
    ],
)
def test_a_synced_folder_is_known_by_its_name(tmp_path: Path, path: str, client: str) -> None:
    assert folders.folder_kind(tmp_path / path) == folders.FolderKind(client, "sync")


def test_a_syncthing_folder_is_known_by_its_mark(tmp_path: Path) -> None:
    (tmp_path / ".stfolder").mkdir()
    assert folders.folder_kind(tmp_path / "code" / "fedspec").label == "Syncthing"


def test_documents_are_synced_where_icloud_took_them_over(tmp_path: Path) -> None:
    folder = tmp_path / "Documents" / "fedspec"
    assert not folders.is_in_icloud_home(folder, home=tmp_path)
    (tmp_path / "Library" / "Mobile Documents" / "com~apple~CloudDocs" / "Documents").mkdir(parents=True)
    assert folders.is_in_icloud_home(folder, home=tmp_path)
    assert not folders.is_in_icloud_home(tmp_path / "code" / "fedspec", home=tmp_path)


@pytest.mark.parametrize(
    ("folder", "kind"),
    [
        ("/mnt/my share/fedspec", "cifs"),
        ("/mnt/my share", "cifs"),
        ("/mnt/my share2/fedspec", "ext4"),
        ("/data/fedspec", "nfs4"),
    ],
)
def test_the_innermost_and_latest_mount_decides(folder: str, kind: str) -> None:
    lines = [
        "/dev/sda1 / ext4 rw 0 0",
        "tmpfs /data tmpfs rw 0 0",
        "nas:/data /data nfs4 rw 0 0",
        "//nas/share /mnt/my\\040share cifs rw 0 0",
    ]
    assert folders.file_system_of(Path(folder), list(folders.mounts_of_linux(lines))) == kind


def test_mounts_are_read_as_macos_lists_them() -> None:
    lines = [
        "/dev/disk3s1s1 on / (apfs, sealed, local)",
        "//me@nas._smb._tcp.local/a on on /Volumes/a on (smbfs, nodev)",
        "?",
    ]
    assert list(folders.mounts_of_macos(lines)) == [(Path("/"), "apfs"), (Path("/Volumes/a on"), "smbfs")]


def test_a_plain_folder_is_local(tmp_path: Path) -> None:
    assert folders.folder_kind(tmp_path) == folders.LOCAL
    assert not folders.LOCAL.is_shared


@pytest.mark.parametrize(
    ("name", "client", "original"),
    [
        ("work_queue.sync-conflict-20260105-094107-ABC234X.json", "Syncthing", "work_queue.json"),
        ("622ca8db-626788.0000.sync-conflict-20260105-094107-ABC234X.jsonl", "Syncthing", "622ca8db-626788.0000.jsonl"),
        ("work_queue (Jane's conflicted copy 2026-01-05).json", "Dropbox", "work_queue.json"),
        ("work_queue (Jane's conflicted copy).json", "Dropbox", "work_queue.json"),
        ("work_queue (DESKTOP-UMS014A's conflicted copy 2026-01-05 094107).json", "Dropbox", "work_queue.json"),
        ("work_queue (In Konflikt stehende Kopie von Jürgen 2026-01-05).json", "Dropbox", "work_queue.json"),
        ("work_queue (Copie en conflit de Zoé 2026-01-05).json", "Dropbox", "work_queue.json"),
        ("work_queue (Copia en conflicto de Ana).json", "Dropbox", "work_queue.json"),
        ("work_queue (ジェーン の競合コピー 2026-01-05).json", "Dropbox", "work_queue.json"),
        ("work_queue (конфликтующая копия с Аней).json", "Dropbox", "work_queue.json"),
        ("work_queue (Case Conflict).json", "Dropbox", "work_queue.json"),
        ("work_queue (Jane's conflicted copy 2026-01-05) (Ann's conflicted copy).json", "Dropbox", "work_queue.json"),
        ("work_queue (1).json", "Google Drive", "work_queue.json"),
        ("work_queue 2.json", "iCloud Drive", "work_queue.json"),
        ("fedavg_dirichlet_alpha0.5 12.csv", "iCloud Drive", "fedavg_dirichlet_alpha0.5.csv"),
        ("r0007.a02.622ca8db-626788.0123456789ab 3.pt", "iCloud Drive", "r0007.a02.622ca8db-626788.0123456789ab.pt"),
        ("work_queue-DESKTOP-AB12CD.json", "OneDrive", "work_queue.json"),
        ("p-c55158d70ad9-MacBook-Pro.json", "OneDrive", "p-c55158d70ad9.json"),
        ("622ca8db-626788.0000-Janes_PC.jsonl", "OneDrive", "622ca8db-626788.0000.jsonl"),
        ("work_queue_conflict-20260105-094107.json", "ownCloud", "work_queue.json"),
        ("work_queue.json (Jane's conflicted copy)", "Dropbox", "work_queue.json"),
    ],
)
def test_a_conflict_copy_is_known_by_its_name(name: str, client: str, original: str) -> None:
    assert folders.conflict_copy(name) == (client, original)


@pytest.mark.parametrize(
    "name",
    [
        "work_queue.json",
        "work_queue.json.lock",
        "p-c55158d70ad9.json",
        "622ca8db-626788.0000.jsonl",
        "622ca8db-626788.by-622ca8db-626789.jsonl",
        "r0007.a02.622ca8db-626788.0123456789ab.pt",
        "fedspec_dirichlet_alpha0.5_c5_r10_s43.csv",
        "fedspec_dirichlet_alpha0.5_model.pt",
        "~work_queue.json.0123abcd.tmp",
        "README.md",
        "My notes 2.txt",
        "",
    ],
)
def test_no_name_that_we_give_looks_like_a_conflict_copy(name: str) -> None:
    assert folders.conflict_copy(name) is None


def test_what_is_not_on_this_disk_is_known_by_the_file_s_flags() -> None:
    assert folders.is_dataless(flags=0x4000_0000, attributes=0)
    assert folders.is_dataless(flags=0, attributes=0x0040_0020)
    assert not folders.is_dataless(flags=0x20, attributes=0x20)

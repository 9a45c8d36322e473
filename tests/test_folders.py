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

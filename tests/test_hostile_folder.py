"""Whatever kind of file lies in the workspace under whatever name: the worker finishes its items and stays inside."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.hostilekit import ITEM, Ground, odd, put, sparse

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="POSIX has the odder files")

Plant = Callable[[Path, Ground], None]
GIB = 1 << 30

FOLDERS = {
    "journals": "distributed_work/journal/evil.jsonl",
    "plans": "distributed_work/plan/p-0123456789ab.json",
    "beats": "distributed_work/beat/evil.json",
    "logs": "distributed_work/logs/evil.log",
    "quarantine": "distributed_work/quarantine/evil.pt",
    "results": "paper_results/evil.csv",
    "copies of checkpoints": "checkpoints_distributed/evil.json",
    "generations": f"checkpoints_distributed/gen/{ITEM.exp}/r0001.a01.abcdabcd-123456.0123456789ab.pt",
    "bases": "checkpoints_distributed/gen/base/0123456789ab.pt",
    "an unsafe experiment": "checkpoints_distributed/gen/EVIL ..\n/r0001.a01.abcdabcd-123456.0123456789ab.pt",
}


def socket_at(path: Path, ground: Ground) -> None:
    here = Path.cwd()
    os.chdir(path.parent)  # the name of a socket may have a hundred bytes only
    try:
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(path.name)
    finally:
        os.chdir(here)


KINDS: dict[str, Plant] = {
    "a folder": lambda path, ground: path.mkdir(),
    "a pipe": lambda path, ground: os.mkfifo(path),
    "a socket": socket_at,
    "a link to itself": lambda path, ground: path.symlink_to(path),
    "a link to nothing": lambda path, ground: path.symlink_to(ground.home / "nothing"),
    "a link to endless zeros": lambda path, ground: path.symlink_to("/dev/zero"),
    "a link to somebody's file": lambda path, ground: path.symlink_to(ground.home / "diary.txt"),
    "a gibibyte without a line": lambda path, ground: sparse(path, GIB),
    "nothing at all": lambda path, ground: put(path),
    "deep JSON": lambda path, ground: put(path, b"[" * 1_000_000),
    "a name that is no text": lambda path, ground: put(
        path.with_name(odd(b"\xff\xfe\xed\xa0\x80" + path.suffix.encode())), b"{}"
    ),
    "a name that clears the screen": lambda path, ground: put(path.with_name(f"p-\x1b[2J\n\r[red]{path.suffix}"), b"{}"),
}


@pytest.fixture
def ground(tmp_path: Path) -> Ground:
    ground = Ground(tmp_path)
    ground.enqueue(ITEM)
    return ground


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("folder", FOLDERS)
def test_odd_files_stop_no_worker_and_nothing_outside_changes(ground: Ground, folder: str, kind: str):
    before = ground.at_home()
    path = ground.share / FOLDERS[folder]
    path.parent.mkdir(parents=True, exist_ok=True)
    KINDS[kind](path, ground)
    ground.work()
    ground.check()
    assert ground.at_home() == before

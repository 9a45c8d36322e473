"""The kinds of `Files` that behave alike, each with what a killed process leaves in it."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # pytest's importlib mode leaves helpers beside the tests unfound

from filekit import NewProcess, Orphan, processes

from fedspec.files import DiskFiles, Files, MemoryFiles
from fedspec.files.powercut import LossyKernel


@pytest.fixture
def process(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[NewProcess]:
    """Each call is another process that uses the same files."""
    if kind != "samba":
        yield processes(kind, tmp_path)
        return
    share = request.getfixturevalue("share")
    from smbfiles import SmbFiles

    with ExitStack() as ended:
        yield lambda: ended.enter_context(closing(SmbFiles(share, share.folder)))


@pytest.fixture
def files(process: NewProcess) -> Files:
    return process()


@pytest.fixture
def orphan(process: NewProcess) -> Orphan:
    """Leaves the temporary file of a process that was killed so many seconds ago; returns its name."""

    def leave(path: Path, age_s: float) -> str:
        files = process()
        temporary = path.with_name(f"~{path.name}.0badcafe.tmp")
        if isinstance(files, MemoryFiles):
            files.contents[temporary], files.disk.began_s[temporary] = b"half", files.disk.now_s - age_s
        elif isinstance(files, DiskFiles) and isinstance(kernel := files.kernel, LossyKernel):
            now, kernel.now_s = kernel.now_s, kernel.now_s - age_s
            kernel.close(kernel.create(temporary))
            kernel.now_s = now
        else:
            temporary.write_bytes(b"half")
            os.utime(temporary, (time.time() - age_s,) * 2)
        return temporary.name

    return leave

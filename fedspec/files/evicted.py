"""Reading what a sync client has evicted: the bytes come from the cloud, in their own time, and nobody hangs meanwhile."""

from __future__ import annotations

import errno
import re
import threading
import time
from collections.abc import Callable
from pathlib import Path

# How long a reader waits for a download that has just begun, and while others are late already. After that it goes on, and asks
# again at its next poll.
PATIENCE_S, BRIEFLY_S = 5.0, 0.05
# A folder may come back empty of bytes as a whole; each download costs a thread. So many places are for files that were not
# tried yet: others that never come are asked for first at each poll.
MANY, FEW = 8, 2
# A download that takes longer makes room for another one, though nobody can end its thread: what a dead machine never sent may
# never come. The second number of such threads is reached soon; then one more may follow in each such time, for a file that was
# not tried yet, up to the third.
STUCK_S, MOST, UTMOST = 30.0, 64, 512

# What iCloud leaves of a file before macOS 14, and how many bytes such a stub may have.
_STUB = re.compile(r"\.(.+)\.icloud")
MAX_STUB_BYTES = 4096


def evicted(name: str) -> str | None:
    """The file for which ``name`` is the stub that iCloud left, ``.<file>.icloud``; None if it is no stub."""
    match = _STUB.fullmatch(name)
    return match[1] if match else None


def shown(name: str) -> str | None:
    """The name of the file that an entry of a folder stands for; None for temporary and hidden ones."""
    name = evicted(name) or name
    return None if name.startswith(".") or name.endswith(".tmp") else name


def stub_of(path: Path) -> Path:
    """Where iCloud would leave the stub of a file."""
    return path.with_name(f".{path.name}.icloud")


def size_in_stub(data: bytes) -> int:
    """Bytes in the file that a stub stands for, as the stub says; its own where it does not say."""
    import plistlib

    try:
        size = plistlib.loads(data)["NSURLFileSizeKey"]
    except Exception:  # whatever plistlib finds in bytes that are none of Apple's
        return len(data)
    return size if isinstance(size, int) and 0 <= size < 1 << 62 else len(data)


class Downloads:
    """The reads that wait for a sync client.

    Whole files (checkpoints) and reads of at most so many bytes (journals, heartbeats, plans) do not wait for each other.

    Args:
        read: ``read(path, offset, limit)`` gives a file's bytes, and may take for ever.
        patience_s: how long to wait for a download that has just begun.
        now: seconds that never go back.
    """

    def __init__(
        self,
        read: Callable[[Path, int, int], bytes],
        patience_s: float = PATIENCE_S,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self.read, self.patience_s, self.now = read, patience_s, now
        self._whole: dict[Path, _Download] = {}
        self._limited: dict[Path, _Download] = {}
        self._tried: set[Path] = set()  # those that were asked for, and have not come
        self._lock = threading.Lock()
        # For how long readers have waited since then.
        self._waited_s, self._since_s = 0.0, now()

    def fetch(self, path: Path, offset: int = 0, limit: int = -1) -> bytes:
        """The file's bytes from ``offset`` on, at most ``limit`` of them if that is not negative, if they come in time.

        Raises:
            OSError: EAGAIN while the download goes on.
            BaseException: whatever ended the download.
        """
        with self._lock:
            now_s = self.now()
            if now_s - self._since_s >= STUCK_S:
                self._waited_s, self._since_s = 0.0, now_s
            running = self._whole if limit < 0 else self._limited
            download = running.get(path)
            late = [other for other in running.values() if now_s - other.began_s < STUCK_S]
            # Whoever reads a hundred evicted files must not wait a hundred times: only where no other is late already.
            patience_s = 0.0 if late or download is not None else self.patience_s
            kept = FEW if path in self._tried else 0
            most = MOST - kept if late or kept else UTMOST
            if download is None and len(late) < MANY - kept and len(running) < most:
                download = self._begin(path, offset, limit, running)
                patience_s = min(BRIEFLY_S, self.patience_s) if late else self.patience_s
        # Nor may a thousand quick ones one after the other keep a heart waiting.
        patience_s = max(0.0, min(patience_s, self.patience_s - self._waited_s))
        # Of another part of the file it is enough to know that it is being downloaded.
        in_time = download is not None and download.part == (offset, limit) and download.ended.wait(patience_s)
        self._waited_s += self.now() - now_s
        if download is None or not in_time:
            raise OSError(errno.EAGAIN, "is being downloaded", str(path))
        if download.error is not None:
            raise download.error
        return download.data

    def _begin(self, path: Path, offset: int, limit: int, running: dict[Path, _Download]) -> _Download | None:
        download = _Download(path, (offset, limit), self.now())
        try:
            threading.Thread(target=self._run, args=(download, running), name="download", daemon=True).start()
        except RuntimeError:  # the system has no thread left
            return None
        running[path] = download
        self._tried.add(path)
        return download

    def _run(self, download: _Download, running: dict[Path, _Download]) -> None:
        try:
            download.data = self.read(download.path, *download.part)
        except BaseException as error:
            # Also that there is no memory for it: an empty file would be something else.
            download.error = error
        finally:
            # Forgotten whatever came of it: the file is here now, or whoever reads next asks for it again.
            with self._lock:
                del running[download.path]
                if download.error is None:
                    self._tried.discard(download.path)
            download.ended.set()


class _Download:
    def __init__(self, path: Path, part: tuple[int, int], began_s: float) -> None:
        self.path, self.part, self.began_s = path, part, began_s
        self.data = b""
        self.error: BaseException | None = None
        self.ended = threading.Event()

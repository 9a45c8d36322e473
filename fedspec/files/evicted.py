"""Reading what a sync client has evicted: the bytes come from the cloud, in their own time, and nobody hangs meanwhile."""

from __future__ import annotations

import errno
import threading
from collections.abc import Callable
from pathlib import Path

# How long a reader waits for a download that has just begun. After that it goes on, and asks again at its next poll.
PATIENCE_S = 5.0
# A folder may come back empty of bytes as a whole; each download costs a thread.
MANY = 8


class Downloads:
    """The reads that wait for a sync client. ``read(path)`` gives the whole file, and may take for ever."""

    def __init__(self, read: Callable[[Path], bytes], patience_s: float = PATIENCE_S) -> None:
        self.read, self.patience_s = read, patience_s
        self._running: dict[Path, _Download] = {}
        self._lock = threading.Lock()

    def fetch(self, path: Path) -> bytes:
        """The file's bytes, if they come in time.

        Raises:
            OSError: EAGAIN while the download goes on; else why it failed.
        """
        with self._lock:
            download = self._running.get(path)
            # Whoever reads a hundred evicted files must not wait a hundred times: only where no other is late already.
            patience = 0.0 if self._running else self.patience_s
            if download is None and len(self._running) < MANY:
                download = self._running[path] = _Download(path)
                threading.Thread(target=self._run, args=(download,), name="download", daemon=True).start()
        if download is None or not download.ended.wait(patience):
            raise OSError(errno.EAGAIN, "is being downloaded", str(path))
        if download.error is not None:
            raise download.error
        return download.data

    def _run(self, download: _Download) -> None:
        try:
            download.data = self.read(download.path)
        except OSError as error:
            download.error = error
        finally:
            # Forgotten whatever came of it: the file is here now, or whoever reads next asks for it again.
            with self._lock:
                del self._running[download.path]
            download.ended.set()


class _Download:
    def __init__(self, path: Path) -> None:
        self.path = path
        self.data = b""
        self.error: OSError | None = None
        self.ended = threading.Event()

"""As much of the Hugging Face hub as downloads ask for, on this machine, and a process that knows no other."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class Hub:
    """One that is running. ``asked``: the paths, as they were asked for."""

    address: str = ""
    asked: list[str] = field(default_factory=list)

    def run(self, code: str, *arguments: object, home: Path, **settings: str) -> list[str]:
        """The lines that ``code`` prints in a process that has this hub: its library reads settings when it is imported."""
        paths = os.pathsep.join(sys.path)
        environment = {**os.environ, "HF_HOME": str(home), "HF_ENDPOINT": self.address, "PYTHONPATH": paths, **settings}
        command = [sys.executable, "-c", code, *map(str, arguments)]
        result = subprocess.run(command, env=environment, capture_output=True, encoding="utf-8", check=False)
        assert result.returncode == 0, result.stderr
        return result.stdout.splitlines()


@contextmanager
def serving(files: Mapping[str, bytes], models: Mapping[str, Path] | None = None) -> Iterator[Hub]:
    """Serve ``files``, path -> content, and ``models``, name -> folder."""
    served = dict(files)
    for name, folder in (models or {}).items():
        names = sorted(path.name for path in folder.iterdir())
        about = {"id": name, "sha": COMMIT, "siblings": [{"rfilename": file} for file in names]}
        served[f"/api/models/{name}/revision/main"] = json.dumps(about).encode()
        tree = [{"type": "file", "path": file, "size": (folder / file).stat().st_size, "oid": "0" * 40} for file in names]
        served[f"/api/models/{name}/tree/{COMMIT}"] = json.dumps(tree).encode()
        served |= {f"/{name}/resolve/{COMMIT}/{file}": (folder / file).read_bytes() for file in names}
    hub = Hub()
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Handler, served, hub.asked)) as server:
        hub.address = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield hub
        finally:
            server.shutdown()
            thread.join()


class _Handler(BaseHTTPRequestHandler):
    def __init__(self, served: Mapping[str, bytes], asked: list[str], *others: object) -> None:
        self.served, self.asked = served, asked
        super().__init__(*others)  # type: ignore[arg-type]

    def do_HEAD(self) -> None:
        path = self.path.partition("?")[0]
        content = self.served.get(path)
        self.asked.append(path)
        self.send_response(200 if content is not None else 404)
        if content is not None:
            self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
            self.send_header("X-Repo-Commit", COMMIT)
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()

    def do_GET(self) -> None:
        self.do_HEAD()
        self.wfile.write(self.served.get(self.path.partition("?")[0], b""))

    def log_message(self, *arguments: object) -> None:
        """Nothing."""

"""``setup_windows.bat`` under wine's cmd: which Python it takes, what it passes on, and what it says without one.

Wine has no Python. A program of a few lines stands in for it, compiled here, which writes down how it was called.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
NEEDED = {"wine": "wine", "x86_64-w64-mingw32-gcc": "gcc-mingw-w64-x86-64"}
# A Python that is asked whether it is new enough says what STANDIN_NEW says; the set-up itself ends with STANDIN_CODE.
STAND_IN = r"""
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int number(const char *name) { const char *text = getenv(name); return text ? atoi(text) : 0; }

int main(int argc, char **argv) {
    FILE *log = fopen(getenv("STANDIN_LOG"), "a");
    for (int i = 0; i < argc; i++) fprintf(log, "%s%c", argv[i], i + 1 < argc ? '\t' : '\n');
    fclose(log);
    for (int i = 1; i < argc; i++) {
        if (!strcmp(argv[i], "-c")) return number("STANDIN_OLD");
        if (!strcmp(argv[i], "--venv-name")) { puts(".venv"); return 0; }
    }
    return number("STANDIN_CODE");
}
"""

pytestmark = pytest.mark.long

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="module")
def windows(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A wine of its own with a stand-in for Python, ended by itself when its last program has."""
    missing = [package for tool, package in NEEDED.items() if shutil.which(tool) is None]
    if missing:
        pytest.skip(f"needs the package(s) {', '.join(missing)}")
    folder = tmp_path_factory.mktemp("wine")
    (folder / "standin.c").write_text(STAND_IN, encoding="utf-8")
    compile_ = ["x86_64-w64-mingw32-gcc", "-o", str(folder / "standin.exe"), str(folder / "standin.c")]
    subprocess.run(compile_, check=True, capture_output=True)
    yield folder
    subprocess.run(["wineserver", "-k"], env=_environment(folder), check=False, capture_output=True)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout with a space in its name, as users have them; the set-up's Python part is never read."""
    folder = tmp_path / "my checkout"
    folder.mkdir()
    shutil.copy(ROOT / "setup_windows.bat", folder)
    (folder / "setup_common.py").touch()
    return folder


@pytest.fixture
def run(windows: Path, checkout: Path) -> Run:
    """Runs the script as ``cmd /c`` does; with ``after``, then that in the same window."""

    def call(*arguments: str, after: str = "", **variables: str) -> subprocess.CompletedProcess[str]:
        command = ["setup_windows.bat", *arguments]
        if after:
            # Not for exit codes: wine's cmd makes 1 of all that `call` comes back with.
            window = checkout / "window.cmd"
            window.write_bytes(f"@call setup_windows.bat {' '.join(arguments)}\r\n{after}\r\n".encode())
            command = [window.name]
        environment = _environment(windows) | {"STANDIN_LOG": _theirs(checkout / "log.txt")} | variables
        return subprocess.run(
            ["wine", "cmd", "/c", *command],
            cwd=checkout,
            env=environment,
            check=False,
            capture_output=True,
            text=True,
            timeout=120,
        )

    return call


def _environment(windows: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name not in ("PYTHON", "WINEPATH", "DISPLAY")}
    return kept | {"WINEPREFIX": str(windows / "prefix"), "WINEDEBUG": "-all", "WINEDLLOVERRIDES": "mscoree,mshtml="}


def _theirs(path: Path) -> str:
    """A path as Windows programs see it."""
    return "Z:" + str(path).replace("/", "\\")


def _calls(checkout: Path) -> list[list[str]]:
    log = checkout / "log.txt"
    return [line.split("\t") for line in log.read_text(encoding="utf-8").splitlines()] if log.exists() else []


@pytest.mark.parametrize("code", [0, 1, 3])
def test_arguments_go_to_the_set_up_and_its_exit_code_comes_back(run: Run, windows: Path, checkout: Path, code: int):
    ended = run("quick", "a b", "--json", PYTHON=_theirs(windows / "standin.exe"), STANDIN_CODE=str(code))
    assert ended.returncode == code, ended.stderr
    asked, called = _calls(checkout)
    assert asked[1] == "-c"
    assert called[1:] == [_theirs(checkout / "setup_common.py"), "quick", "a b", "--json"]


def test_the_launcher_is_found_and_asked_for_the_newest_first(run: Run, windows: Path, checkout: Path):
    launcher = windows / "bin"
    launcher.mkdir()
    shutil.copy(windows / "standin.exe", launcher / "py.exe")
    assert run("test", WINEPATH=_theirs(launcher)).returncode == 0
    asked, called = _calls(checkout)
    assert asked[1:3] == ["-3.13", "-c"]
    assert called[1:] == ["-3.13", _theirs(checkout / "setup_common.py"), "test"]


@pytest.mark.parametrize("old", [False, True])
def test_without_a_python_that_is_new_enough_it_says_how_to_get_one(run: Run, windows: Path, checkout: Path, old: bool):
    chosen = {"PYTHON": _theirs(windows / "standin.exe"), "STANDIN_OLD": "1"} if old else {}
    ended = run("quick", **chosen)
    assert ended.returncode == 3
    what, fix = ended.stderr.splitlines()
    assert what.startswith("error: PYTHON is set to" if old else "error: No Python 3.11 or newer was found")
    assert fix.startswith("  fix: Run ")
    assert len(_calls(checkout)) == int(old)


def test_without_an_argument_the_environment_stays_active_in_the_window(run: Run, windows: Path, checkout: Path):
    scripts = checkout / ".venv" / "Scripts"
    scripts.mkdir(parents=True)
    (scripts / "activate.bat").write_bytes(b"@set VIRTUAL_ENV=active\r\n")
    ended = run(after="@echo [%VIRTUAL_ENV%] [%FOUND%]", PYTHON=_theirs(windows / "standin.exe"))
    assert ended.stdout.split("\n")[-2].strip() == "[active] []", ended.stdout
    failed = run(after="@echo [%VIRTUAL_ENV%]", PYTHON=_theirs(windows / "standin.exe"), STANDIN_CODE="3")
    assert failed.stdout.split("\n")[-2].strip() == "[]", failed.stdout

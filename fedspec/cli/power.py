"""Whether this machine goes to sleep by itself, where that can be asked for nothing."""

from __future__ import annotations

import platform
import re
import subprocess
from collections.abc import Iterator

from fedspec.cli.findings import Finding

ASK_FOR_S = 3.0
PMSET = ["/usr/bin/pmset", "-g"]
POWERCFG = ["powercfg", "/query", "SCHEME_CURRENT", "SUB_SLEEP", "STANDBYIDLE"]


def sleeping() -> Iterator[Finding]:
    """A warning if the machine sleeps while nobody touches it: it does so in the middle of a run, too."""
    system = platform.system()
    if system == "Darwin":
        after_s = sleep_of_macos(_said(PMSET))
        fix = "Start the run with 'caffeinate -i' before the command; a closed lid still sends it to sleep."
    elif system == "Windows":
        after_s = sleep_of_windows(_said(POWERCFG))
        fix = "Settings > System > Power: let it never sleep while plugged in, at least until the run is done."
    else:
        return
    if after_s:
        text = f"this machine goes to sleep after {after_s / 60:.0f} min without a touch, in the middle of a run too"
        yield Finding("warn", "sleep", text, fix)
    elif after_s == 0:
        yield Finding("ok", "sleep", "this machine does not go to sleep by itself")


def sleep_of_macos(said: str) -> float | None:
    """Seconds until sleep, 0 for never, None if unknown, from `pmset -g`: `` sleep    10 (sleep prevented by ...)``."""
    match = re.search(r"^\s*sleep\s+(\d+)", said, re.MULTILINE)
    return 60.0 * int(match[1]) if match else None


def sleep_of_windows(said: str) -> float | None:
    """The same from `powercfg /query`, in whatever language: of the hexadecimal seconds the last two are mains and battery."""
    values = re.findall(r"0x([0-9a-fA-F]{8})\s*$", said, re.MULTILINE)
    return float(int(values[-2], 16)) if len(values) >= 2 else None


def _said(command: list[str]) -> str:
    try:
        return subprocess.run(command, capture_output=True, timeout=ASK_FOR_S, check=True).stdout.decode(errors="replace")
    except (OSError, subprocess.SubprocessError):
        return ""

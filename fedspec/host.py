"""Which host this is, by the id that its operating system made for itself when it was installed.

Names and addresses change: a Mac takes its name from the network it is in, people rename their computers, and which network
card comes first depends on what is plugged in.
"""

from __future__ import annotations

import hashlib
import platform
import re
import sys
import uuid
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path

LINUX_IDS = (Path("/etc/machine-id"), Path("/var/lib/dbus/machine-id"))
IOREG = ("/usr/sbin/ioreg", "-rd1", "-c", "IOPlatformExpertDevice")
# What asks the system takes milliseconds.
PATIENCE_S = 5.0
_ID = re.compile(r"[0-9a-f]{32}")


def _text(path: Path) -> str:
    return path.read_text(encoding="ascii")


def _output(command: Sequence[str]) -> str:
    import subprocess  # takes a while, and only a Mac needs it

    try:
        asked = subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace", timeout=PATIENCE_S, check=True)
    except subprocess.SubprocessError as error:
        raise OSError(f"{command[0]} does not answer") from error
    return asked.stdout


def _machine_guid() -> str:
    if sys.platform == "win32":
        import winreg

        access = winreg.KEY_READ | winreg.KEY_WOW64_64KEY
        with winreg.OpenKey(winreg.HKEY_LOCAL_MACHINE, r"SOFTWARE\Microsoft\Cryptography", 0, access) as key:
            return str(winreg.QueryValueEx(key, "MachineGuid")[0])
    else:
        raise OSError("there is no registry")


def system_id(
    system: str,
    text: Callable[[Path], str] = _text,
    output: Callable[[Sequence[str]], str] = _output,
    machine_guid: Callable[[], str] = _machine_guid,
) -> str:
    """The operating system's own id, 32 hex digits, or "" where it has none.

    ``system`` is `platform.system()`; the others read a file, run a command and ask the Windows registry, and raise OSError.
    """
    said = []
    with suppress(OSError, ValueError):
        match system:
            case "Darwin":
                said = re.findall(r'"IOPlatformUUID"\s*=\s*"([^"]*)"', output(IOREG))
            case "Windows":
                said = [machine_guid()]
    for path in LINUX_IDS if system == "Linux" else ():
        # In a container either may be absent, empty, or say that it is to be made yet.
        with suppress(OSError, ValueError):
            said.append(text(path))
    ids = (re.sub(r"[^0-9a-z]", "", one.lower()) for one in said)
    return next((one for one in ids if _ID.fullmatch(one) and one.strip(one[0])), "")


@cache
def host() -> str:
    """8 hex digits for this host, "" where its system has no id. Nobody learns the id from them."""
    own = system_id(platform.system())
    return _hashed(f"fedspec/{own}") if own else ""


def host_by_name(hardware: Callable[[], int] = uuid.getnode) -> str:
    """8 hex digits for this host's name and network card."""
    # Without a network card Python makes an address up, another one in each process; its group bit tells.
    card = 0 if (address := hardware()) >> 40 & 1 else address
    return _hashed(f"{platform.node()}/{card:012x}")


def _hashed(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]

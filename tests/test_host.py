"""A host is known by what its system says of itself, not by names and addresses that change."""

from __future__ import annotations

import platform
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from fedspec.host import LINUX_IDS, host, host_by_name, system_id

ID = "4c4c4544003957108052b4c04f384833"
TOLD = """+-o J293AP  <class IOPlatformExpertDevice, id 0x100000110, registered, matched, active>
    {
      "IOPlatformSerialNumber" = "C02XXXXXXXXX"
      "IOPlatformUUID" = "4C4C4544-0039-5710-8052-B4C04F384833"
      "model" = <"MacBookPro17,1">
    }
"""


def refused(error: Exception) -> Callable[..., Any]:
    def ask(*_: object) -> str:
        raise error

    return ask


def linux(*texts: str) -> str:
    files = dict(zip(LINUX_IDS, texts, strict=False))

    def text(path: Path) -> str:
        if path not in files:
            raise FileNotFoundError
        return files[path]

    return system_id("Linux", text, refused(OSError()), refused(OSError()))


def test_linux_has_its_id_in_a_file():
    assert linux(f"{ID}\n") == ID


@pytest.mark.parametrize("first", ["", "\n", "uninitialized\n", "0" * 32, ID[:31], f"{ID}0"])
def test_an_id_that_is_still_to_be_made_is_none_and_the_other_file_is_asked(first: str):
    assert linux(first) == ""
    assert linux(first, f"{ID}\n") == ID


def test_without_the_files_there_is_no_id():
    assert linux() == ""
    assert system_id("Linux", refused(UnicodeDecodeError("ascii", b"\xff", 0, 1, ""))) == ""


def test_a_mac_tells_its_platform_s_uuid():
    def output(command: Sequence[str]) -> str:
        assert Path(command[0]).name == "ioreg"
        return TOLD

    assert system_id("Darwin", refused(OSError()), output, refused(OSError())) == ID


@pytest.mark.parametrize("command", [("/no/such/program",), (sys.executable, "-c", "raise SystemExit(1)")])
def test_a_mac_that_does_not_answer_has_no_id(command: tuple[str, ...], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("fedspec.host.IOREG", command)
    assert system_id("Darwin") == ""
    assert system_id("Darwin", refused(OSError()), lambda command: "nothing of the sort") == ""


def test_windows_has_its_id_in_the_registry():
    asked = refused(OSError())
    assert system_id("Windows", asked, asked, lambda: "4c4c4544-0039-5710-8052-b4c04f384833") == ID
    assert system_id("Windows", asked, asked, lambda: "{4C4C4544-0039-5710-8052-B4C04F384833}") == ID
    assert system_id("Windows", asked, asked, asked) == ""


def test_a_system_that_is_none_of_the_three_has_no_id():
    asked = refused(AssertionError())
    assert system_id("Plan9", asked, asked, asked) == ""


def test_the_host_is_the_same_at_each_call_and_does_not_tell_its_id():
    assert host() == host()
    own = system_id(platform.system())
    assert bool(host()) == bool(own)
    assert not own or host() not in own


def test_without_a_network_card_the_address_that_python_makes_up_does_not_count():
    made_up = [1 << 40 | n for n in (3, 4)]
    assert host_by_name(lambda: made_up[0]) == host_by_name(lambda: made_up[1])
    assert host_by_name(lambda: 3) != host_by_name(lambda: 4)

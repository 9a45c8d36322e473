"""What every test stands on: a clean environment, reproducible examples, and the two fixtures for data and long proofs."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import hypothesis
import pytest

# What tests of several folders share lies there.
sys.path.insert(0, str(Path(__file__).parent / "endtoend"))

if TYPE_CHECKING:
    from smbfiles import Share

# Before anything imports torch or matplotlib: several workers on few cores are faster with one thread each, results do
# not depend on the machine's core count, and figures need no screen.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["MPLBACKEND"] = "Agg"

# What a developer has set for real runs must not change a test. FEDSPEC_DATA says where test data lies, and stays.
for _name in [name for name in os.environ if name.startswith("FEDSPEC_") and name != "FEDSPEC_DATA"]:
    del os.environ[_name]

# A slow machine is no failure. On CI the same examples come every time; at home new ones do, and find new failures.
hypothesis.settings.register_profile("ci", deadline=None, derandomize=True, print_blob=True)
hypothesis.settings.register_profile("home", deadline=None, print_blob=True)
hypothesis.settings.load_profile("ci" if os.environ.get("CI") else "home")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--long", action="store_true", help="run the long forms of proofs as well (marker: long)")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--long"):
        return
    left_out = [item for item in items if item.get_closest_marker("long")]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


@pytest.fixture(scope="session", autouse=True)
def own_user_folders(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Tests leave nothing in the data folders of the person who runs them (machine id, local journals, caches)."""
    base = tmp_path_factory.mktemp("user")
    for name in ("XDG_DATA_HOME", "XDG_STATE_HOME", "WIN_PD_OVERRIDE_LOCAL_APPDATA"):  # what platformdirs looks at
        os.environ[name] = str(base / name.lower())


@pytest.fixture(scope="session")
def data_root() -> Path:
    """The folder with real data sets (MNIST/, FashionMNIST/, ...) that FEDSPEC_DATA names."""
    if not (folder := os.environ.get("FEDSPEC_DATA")):
        pytest.skip("needs real data: FEDSPEC_DATA is not set")
    return Path(folder)


@pytest.fixture(scope="session")
def share(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Share]:
    """A real SMB share of all the tests' temporary folders; skips where there is no Samba."""
    from samba import serving

    with serving(tmp_path_factory.getbasetemp(), tmp_path_factory.mktemp("smbd")) as share:
        yield share

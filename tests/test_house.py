"""The habits of the house that no linter knows: names, sizes, what is in git, what starts without torch."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "fedspec"
STATE_FOLDERS = ("distributed_work", "checkpoints_distributed", "paper_results")

# Written in pieces, so that this file does not hold what it looks for.
PYTORCH_INDEX = ".".join(("download", "pytorch", "org"))
REGISTRY_HOSTS = [".".join(parts) for parts in (("pypi", "org"), ("pythonhosted", "org"), ("anaconda", "org"))]
MACHINE_PATHS = re.compile(r"(?<![\w.~>-])/(?:work/|root/|home/(?!you\b)\w|Users/(?!(?:you|me)\b)\w)|\.\./shared\b")


def files_for_git() -> list[str]:
    """Paths of what is in git or would be after `git add --all`."""
    git = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    try:
        listing = subprocess.run(git, cwd=ROOT, capture_output=True, encoding="utf-8", check=True).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"needs a git checkout: {error}")
    return sorted(path for path in set(listing.split("\0")) if path and (ROOT / path).is_file())


def modules_after(command: list[str], folder: Path) -> set[str]:
    """The modules that a fedspec command has imported when it ends, whatever its exit code is."""
    code = f"""
import sys
from fedspec.cli import main
try:
    main({command!r})
except SystemExit:
    pass
sys.stderr.write("\\nmodules: " + " ".join(sys.modules))
"""
    environment = {**os.environ, "FEDSPEC_WORKSPACE": str(folder)}
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, env=environment, capture_output=True, encoding="utf-8", check=False
    )
    assert "\nmodules: " in result.stderr, result.stderr
    return set(result.stderr.rpartition("\nmodules: ")[2].split())


def test_nothing_directly_under_the_package_is_named_like_the_standard_library():
    # A user who runs a script from inside the package would import it instead. `__init__` and the like are no names.
    names = {path.stem for path in PACKAGE.iterdir() if not path.name.startswith(("_", "."))}
    assert not names & sys.stdlib_module_names


def test_no_module_is_too_long_to_read_in_one_sitting():
    lengths = {
        str(path.relative_to(ROOT)): len(path.read_text(encoding="utf-8").splitlines()) for path in PACKAGE.rglob("*.py")
    }
    assert not {path: lines for path, lines in lengths.items() if lines > 400}


def test_no_file_knows_this_machine_or_a_registry():
    found = []
    for path in files_for_git():
        try:
            text = (ROOT / path).read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        hosts = REGISTRY_HOSTS + ([PYTORCH_INDEX] if path != "setup_windows.bat" else [])
        found += [f"{path}: {host}" for host in hosts if host in text]
        # Only the CI script may look beside the checkout, for real data.
        found += [f"{path}: {match[0]}" for match in MACHINE_PATHS.finditer(text) if path != ".ci/run"]
    assert not found


def test_file_names_work_on_every_file_system():
    paths = files_for_git()
    assert not [path for path in paths if not re.fullmatch(r"[A-Za-z0-9._/-]+", path)]
    assert len({path.casefold() for path in paths}) == len(paths)


def test_only_a_readme_of_each_state_folder_is_in_git():
    for folder in STATE_FOLDERS:
        assert [path for path in files_for_git() if path.startswith(f"{folder}/")] == [f"{folder}/README.md"]


@pytest.mark.parametrize("command", [["--help"], ["progress"]], ids=" ".join)
def test_a_command_that_only_tells_starts_without_the_heavy_libraries(command: list[str], tmp_path: Path):
    (tmp_path / "distributed_work").mkdir()
    assert not modules_after(command, tmp_path) & {"torch", "pandas", "matplotlib.pyplot"}


def test_help_loads_all_commands_and_no_queue(tmp_path: Path):
    loaded = modules_after(["--help"], tmp_path)
    assert "fedspec.cli.queue" in loaded
    assert "fedspec.workqueue.distributor" not in loaded

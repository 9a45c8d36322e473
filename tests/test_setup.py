"""Set-up: which Python, which folder, when it is silent, and what it says when it cannot go on."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parent.parent
needs_bash = pytest.mark.skipif(os.name == "nt" or shutil.which("bash") is None, reason="needs bash")


def load_common(checkout: Path) -> ModuleType:
    """The set-up module of ``checkout``; it is a script, and in no package."""
    spec = importlib.util.spec_from_file_location("setup_common", checkout / "setup_common.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


common = load_common(ROOT)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of what set-up needs."""
    folder = tmp_path / "my checkout"
    folder.mkdir()
    for name in ("setup.sh", "setup_common.py", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, folder)
    return folder


def make_program(path: Path, script: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    path.chmod(0o755)


def pretend_ready(checkout: Path, fedspec: str = 'echo "fedspec $*"', tools: str = "base") -> Path:
    """An environment that looks finished, with a stand-in for the command."""
    venv = checkout / ".venv"
    (venv / "bin").mkdir(parents=True)
    (venv / "bin" / "python").symlink_to(sys.executable)
    make_program(venv / "bin" / "fedspec", fedspec)
    stamp = load_common(checkout).wanted_stamp(dev=tools == "dev")
    (venv / "fedspec-setup.txt").write_text("\n".join(stamp) + "\n", encoding="utf-8")
    return venv


def run_setup(checkout: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """``./setup.sh`` with a package index that nobody answers for."""
    offline = {
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_INDEX_URL": "http://127.0.0.1:9/simple",
        "PIP_RETRIES": "0",
        "PIP_FIND_LINKS": "",
        "PIP_EXTRA_INDEX_URL": "",
        "PIP_NO_CACHE_DIR": "1",
    }
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("PIP_")}
    return subprocess.run(
        ["/usr/bin/env", "bash", str(checkout / "setup.sh"), *arguments],
        env={**inherited, **offline, "PYTHON": sys.executable, **environment},
        capture_output=True,
        encoding="utf-8",
        check=False,
    )


@needs_bash
class TestTheScript:
    def test_quick_runs_the_quick_plan_and_passes_flags_on(self, checkout: Path):
        pretend_ready(checkout)
        result = run_setup(checkout, "quick", "--rounds", "2")
        assert (result.stdout, result.stderr, result.returncode) == ("fedspec run quick --rounds 2\n", "", 0)

    def test_any_other_argument_goes_to_fedspec_and_its_exit_code_comes_back(self, checkout: Path):
        pretend_ready(checkout, 'echo "$1|$2"; exit 4')
        result = run_setup(checkout, "progress", "two words")
        assert (result.stdout, result.returncode) == ("progress|two words\n", 4)

    def test_an_environment_that_is_up_to_date_is_left_alone(self, checkout: Path):
        venv = pretend_ready(checkout)
        before = sorted((path.name, path.lstat().st_mtime_ns) for path in venv.rglob("*"))
        run_setup(checkout, "progress")
        assert sorted((path.name, path.lstat().st_mtime_ns) for path in venv.rglob("*")) == before

    def test_a_version_managers_empty_shim_is_passed_over(self, checkout: Path, tmp_path: Path):
        pretend_ready(checkout)
        programs = tmp_path / "programs"
        make_program(programs / "python3.13", "exit 127")
        make_program(programs / "python3.12", f'exec "{sys.executable}" "$@"')
        for name in ("bash", "dirname"):
            (programs / name).symlink_to(str(shutil.which(name)))
        result = run_setup(checkout, "progress", PYTHON="", PATH=str(programs))
        assert (result.stdout, result.returncode) == ("fedspec progress\n", 0)

    def test_without_a_python_it_says_how_to_get_one(self, checkout: Path, tmp_path: Path):
        programs = tmp_path / "programs"
        make_program(programs / "python3", "exit 1")
        for name in ("bash", "dirname", "uname"):
            (programs / name).symlink_to(str(shutil.which(name)))
        result = run_setup(checkout, PYTHON="", PATH=str(programs))
        assert result.returncode == 3
        assert re.match(r"error: No Python 3.11 .*\n  fix: Install one", result.stderr)

    def test_an_unsuitable_choice_of_python_is_refused_not_replaced(self, checkout: Path):
        result = run_setup(checkout, PYTHON="/nowhere/python3.9")
        assert result.returncode == 3
        assert result.stderr.startswith("error: PYTHON is set to /nowhere/python3.9")

    def test_without_a_network_it_says_so_and_keeps_a_log(self, checkout: Path):
        result = run_setup(checkout, "quick")
        assert result.returncode == 3
        assert "error: pip cannot reach the package index.\n  fix: Connect to the network" in result.stderr
        assert "pip install" in (checkout / ".venv" / "setup.log").read_text(encoding="utf-8")
        assert not load_common(checkout).is_ready(checkout / ".venv", dev=False)


@needs_bash
class TestWhenTheEnvironmentIsReady:
    def test_a_changed_pin_asks_for_a_new_set_up(self, checkout: Path):
        venv = pretend_ready(checkout)
        module = load_common(checkout)
        assert module.is_ready(venv, dev=False)
        with (checkout / "constraints.txt").open("a", encoding="utf-8") as pins:
            pins.write("more==1\n")
        assert not module.is_ready(venv, dev=False)

    @pytest.mark.parametrize(("tools", "dev", "ready"), [("dev", False, True), ("dev", True, True), ("base", True, False)])
    def test_the_tools_of_developers_hold_what_users_need_but_not_the_reverse(
        self, checkout: Path, tools: str, dev: bool, ready: bool
    ):
        assert load_common(checkout).is_ready(pretend_ready(checkout, tools=tools), dev=dev) is ready

    def test_a_moved_checkout_or_a_vanished_python_is_made_anew_but_not_a_persons_own(self, checkout: Path, tmp_path: Path):
        venv = pretend_ready(checkout)
        assert not load_common(checkout).is_unusable(venv)
        moved = checkout.rename(tmp_path / "moved")
        assert load_common(moved).is_unusable(moved / ".venv")
        (moved / ".venv" / "fedspec-setup.txt").unlink()
        assert not load_common(moved).is_unusable(moved / ".venv")
        (moved / ".venv" / "bin" / "python").unlink()
        assert load_common(moved).is_unusable(moved / ".venv")


def test_a_debian_without_its_venv_package_hears_which_one(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(common.SetupError) as problem:
        common.check_base_python()
    assert f"sudo apt install python3.{sys.version_info.minor}-venv" in problem.value.fix


class TestWhereTheEnvironmentLives:
    def test_a_shared_checkout_gets_its_environment_in_local_data(self, tmp_path: Path):
        venv = common.venv_folder(tmp_path / "Dropbox" / "fedspec")
        assert venv.parent == common.local_data_folder()
        assert venv != common.venv_folder(tmp_path / "Dropbox" / "another")
        assert venv.name.isascii()

    def test_local_data_is_where_platformdirs_puts_it(self, monkeypatch: pytest.MonkeyPatch):
        import platformdirs

        monkeypatch.delenv("WIN_PD_OVERRIDE_LOCAL_APPDATA", raising=False)
        assert common.local_data_folder() == Path(platformdirs.user_data_dir("fedspec", appauthor=False))


class TestWhatIsInstalled:
    @pytest.mark.parametrize(
        ("card", "build"),
        [
            ("581.29, 7.5", "cu130"),  # GTX 1660 Ti
            ("552.12, 7.5", "cu126"),  # the same with last year's driver
            ("581.29, 6.1", "cu126"),  # GTX 1080
            ("591.44, 12.0", "cu130"),  # RTX 5090
            ("Field is not supported", "cu126"),
        ],
    )
    def test_the_build_of_torch_fits_the_card_and_its_driver(self, card: str, build: str):
        assert common.choose_cuda_build(card) == build

    @pytest.mark.parametrize(
        ("output", "what"),
        [
            ("OSError: [Errno 28] No space left on device", "The disk is full"),
            ("Failed to establish a new connection: ...\nNo matching distribution found for torch==2.13.0", "pip cannot reach"),
            ("ERROR: No matching distribution found for torch==2.13.0", "There is no PyTorch for Python 3"),
            (
                "ERROR: No module named 'x'\n\nnote: This is no problem of pip.\n",
                "The installation failed: ERROR: No module named 'x'",
            ),
            ("Killed", "The installation failed: Killed"),
            ("", "The installation failed: no output"),
        ],
    )
    def test_a_failure_is_explained_with_its_remedy_and_its_log(self, tmp_path: Path, output: str, what: str):
        problem = common.explain(tmp_path, output)
        assert problem.what.startswith(what)
        assert "setup.log" in problem.fix

    def test_only_a_large_download_is_worth_a_line(self):
        line = "  Downloading torch-2.13.0-cp311-cp311-manylinux_2_28_x86_64.whl (915.1 MB)"
        match = common.LARGE_DOWNLOAD.search(line)
        assert match is not None
        assert match.groups() == ("torch", "915.1 MB")
        assert common.LARGE_DOWNLOAD.search("Downloading typer-0.29.2-py3-none-any.whl (56 kB)") is None
        assert common.LARGE_DOWNLOAD.search("Downloading msgspec-0.22.0-py3-none-any.whl (2.1 MB)") is None

    def test_every_direct_dependency_is_pinned(self):
        project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        extras = project["optional-dependencies"]
        asked_for = [*project["dependencies"], *extras["text"], *extras["dev"]]
        names = [re.match(r"[A-Za-z0-9-]+", requirement)[0] for requirement in asked_for]
        pins = re.findall(r"^([A-Za-z0-9-]+)==", (ROOT / "constraints.txt").read_text(encoding="utf-8"), re.MULTILINE)
        assert sorted(pins) == sorted(names)

    def test_the_windows_script_is_ascii_with_the_line_ends_that_cmd_needs(self):
        script = (ROOT / "setup_windows.bat").read_bytes()
        assert script.isascii()
        assert script.count(b"\n") == script.count(b"\r\n") > 0


@pytest.mark.parametrize("plan", ["quick", "distributed", "paper"])
def test_each_experiment_script_runs_its_plan_with_the_flags_it_was_given(plan: str, monkeypatch: pytest.MonkeyPatch):
    import runpy

    import fedspec.cli

    calls: list[list[str]] = []
    monkeypatch.setattr(fedspec.cli, "main", lambda argv: calls.append(argv) or 4)
    monkeypatch.setattr(sys, "argv", [f"run_{plan}_experiments.py", "--dry-run"])
    with pytest.raises(SystemExit) as stop:
        runpy.run_path(str(ROOT / "experiments" / f"run_{plan}_experiments.py"), run_name="__main__")
    assert calls == [["run", plan, "--dry-run"]]
    assert stop.value.code == 4

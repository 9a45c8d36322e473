"""What setup.sh and setup_windows.bat have in common: make this checkout's environment, then run what is asked for.

It runs on a bare Python 3.11, before anything is installed, so it uses the standard library alone. Finding that Python
is left to the two scripts. Messages go to stderr: what `./setup.sh progress --json` prints stays clean.
"""

from __future__ import annotations

import errno
import hashlib
import importlib.util
import os
import platform
import re
import shutil
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path

from fedspec.folders import folder_kind

CHECKOUT = Path(__file__).resolve().parent
SCRIPT = "setup_windows.bat" if os.name == "nt" else "./setup.sh"
SETUP_PROBLEM = 3
ABORTED = 130

# pip names a wheel's size when it starts the download; only those that take a while are worth a line.
LARGE_DOWNLOAD = re.compile(r"Downloading (?:\S*/)?([A-Za-z0-9_.]+)-\S+ \(((?:\d{2,}(?:\.\d+)? MB)|(?:\d+(?:\.\d+)? GB))\)")

# What pip's output says about a failure, in the order of how sure the sign is: (sign, what happened, what to do).
DISK_FULL = ("No space left on device", "not enough space on the disk", "WinError 112")
OFFLINE = (
    "Failed to establish a new connection",
    "NewConnectionError",
    "Temporary failure in name resolution",
    "Network is unreachable",
    "ProxyError",
    "ReadTimeoutError",
    "SSLError",
    "No matching distribution found for setuptools",  # it exists for every Python: no index answered
)
NO_WHEEL = ("No matching distribution found for torch", "No matching distribution found for torchvision")

DESCRIBE_DEVICE = """
import os, platform, subprocess, torch
if torch.cuda.is_available():
    card = torch.cuda.get_device_properties(0)
    device = f"cuda ({card.name}, {round(card.total_memory / 2**30)} GB)"
elif torch.backends.mps.is_available():
    chip = subprocess.run(["sysctl", "-n", "machdep.cpu.brand_string"], capture_output=True, text=True).stdout.strip()
    device = f"mps ({chip})"
else:
    device = f"cpu ({os.cpu_count()} cores)"
python = ".".join(platform.python_version_tuple()[:2])
print(f"Python {python}, PyTorch {'.'.join(torch.__version__.split('.')[:2])}, device {device}")
"""


class SetupError(Exception):
    """Set-up cannot go on: what happened, and the remedy."""

    def __init__(self, what: str, fix: str) -> None:
        super().__init__(what)
        self.what = what
        self.fix = fix


def main(argv: list[str]) -> int:
    """Set up, then run: nothing, `test`, `quick`, or any fedspec command. Returns the exit code of what ran."""
    try:
        venv = venv_folder(CHECKOUT)
        if argv == ["--venv-name"]:  # setup_windows.bat asks, to leave the environment active
            print(venv.name)  # the name alone is ASCII, whatever the user is called
            return 0
        testing = argv[:1] == ["test"]
        is_new = not is_ready(venv, dev=testing)
        if is_new:
            install(venv, dev=testing)
        if is_new or not argv:
            say(f"ok   {describe(venv)}")
        if not argv:
            say(next_steps(venv))
            return 0
        if testing:
            return run_checks(venv, argv[1:])
        command = ["run", *argv] if argv[0] == "quick" else argv
        return hand_over([str(program(venv, "fedspec")), *command])
    except SetupError as error:
        say(f"error: {error.what}\n  fix: {error.fix}")
        return SETUP_PROBLEM
    except KeyboardInterrupt:
        say(f"\nStopped. The same command ({SCRIPT}) goes on from here.")
        return ABORTED


def say(text: str) -> None:
    """Tell the person in front of the screen."""
    print(text, file=sys.stderr, flush=True)


# --- where the environment lives -----------------------------------------------------------------------------------


def venv_folder(checkout: Path) -> Path:
    """`.venv` in the checkout; in this user's local data if other machines see the checkout.

    A Mac's and a PC's environments would overwrite each other, and a sync client would upload gigabytes of PyTorch.
    """
    if not folder_kind(checkout).is_shared:
        return checkout / ".venv"
    name = hashlib.sha256(str(checkout).encode()).hexdigest()[:8]
    return local_data_folder() / f"venv-{name}"


def local_data_folder() -> Path:
    """This user's data folder on this machine, the one that platformdirs names once it is installed."""
    if os.name == "nt":
        base = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    else:
        usual = Path("Library", "Application Support") if sys.platform == "darwin" else Path(".local", "share")
        base = Path(os.environ.get("XDG_DATA_HOME") or Path.home() / usual)
    return base / "fedspec"


def program(venv: Path, name: str) -> Path:
    """The path of a program in the environment."""
    return venv / "Scripts" / f"{name}.exe" if os.name == "nt" else venv / "bin" / name


# --- making it ------------------------------------------------------------------------------------------------------


def is_ready(venv: Path, *, dev: bool) -> bool:
    """Whether the environment holds what pyproject.toml and constraints.txt ask for now."""
    stamp = read_stamp(venv)
    is_complete = stamp[:2] == wanted_stamp(dev=dev)[:2] and (stamp[2:] == ["dev"] or not dev)
    return is_complete and program(venv, "python").exists() and program(venv, "fedspec").exists()


def wanted_stamp(*, dev: bool) -> list[str]:
    """What a finished set-up writes: the checkout, a digest of what was asked for, and with which tools."""
    asked_for = (CHECKOUT / "pyproject.toml").read_bytes() + (CHECKOUT / "constraints.txt").read_bytes()
    return [str(CHECKOUT), hashlib.sha256(asked_for).hexdigest(), "dev" if dev else "base"]


def read_stamp(venv: Path) -> list[str]:
    """The stamp of the last finished set-up; empty where there was none."""
    try:
        return stamp_file(venv).read_text(encoding="utf-8").splitlines()
    except OSError:
        return []


def stamp_file(venv: Path) -> Path:
    """The file whose presence says that the set-up was finished."""
    return venv / "fedspec-setup.txt"


def install(venv: Path, *, dev: bool) -> None:
    """Make the environment and install this checkout into it, with a log beside it."""
    check_base_python()
    try:
        if is_unusable(venv):
            shutil.rmtree(venv)
        stamp_file(venv).unlink(missing_ok=True)
        venv.mkdir(parents=True, exist_ok=True)
        kind = folder_kind(CHECKOUT)
        if kind.is_shared:
            say(f"     {kind.label} carries this checkout to other machines, so the environment goes to {venv}")
        if not starts(venv, "-m", "pip", "--version"):
            say(f"     Making an environment in {venv}")
            run_logged(venv, [sys.executable, "-m", "venv", str(venv)])
        say(f"     Installing fedspec and what it needs (minutes the first time; log: {venv / 'setup.log'})")
        # Compiling all of PyTorch takes longer than compiling the parts in use when they are first imported; but where Python
        # may not keep what it compiles then, every start would compile them again.
        lazily = [] if sys.dont_write_bytecode else ["--no-compile"]
        for arguments in pip_steps(venv, dev=dev):
            pip = [str(program(venv, "python")), "-m", "pip", "install", *lazily, "--progress-bar", "off"]
            run_logged(venv, [*pip, "--disable-pip-version-check", "--no-input", "-c", "constraints.txt", *arguments])
        stamp_file(venv).write_text("\n".join(wanted_stamp(dev=dev)) + "\n", encoding="utf-8")
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise disk_full(venv) from error
        raise SetupError(
            f"Cannot write the environment: {error}.",
            "Check that you may write there, or move the checkout to a folder of your own.",
        ) from error


def check_base_python() -> None:
    """Debian and Ubuntu ship venv's other half as a package of its own."""
    if importlib.util.find_spec("ensurepip") is None:
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        raise SetupError(
            f"The Python at {sys.executable} cannot make environments: its venv package is not installed.",
            f"On Debian or Ubuntu: sudo apt install python{version}-venv, then run the same command again.",
        )


def is_unusable(venv: Path) -> bool:
    """Whether what lies there must be made anew: its Python is gone, or the checkout moved (programs hold full paths)."""
    if not venv.exists():
        return False
    moved = read_stamp(venv)[:1] not in ([], [str(CHECKOUT)])
    return moved or not starts(venv, "-c", "")


def starts(venv: Path, *arguments: str) -> bool:
    """Whether the environment's Python is there and runs with ``arguments``."""
    python = program(venv, "python")
    return python.exists() and subprocess.run([python, *arguments], capture_output=True, check=False).returncode == 0


def pip_steps(venv: Path, *, dev: bool) -> Iterator[list[str]]:
    """The arguments of each `pip install`, in order."""
    # Set by setup_windows.bat: PyPI's Windows wheel of PyTorch is CPU-only. Without dependencies, since that
    # index has other versions of them than constraints.txt names.
    torch_index = os.environ.get("FEDSPEC_TORCH_INDEX")
    build = cuda_build() if torch_index else None
    if build and f"+{build}" not in installed_torch(venv):
        say("     NVIDIA card found: taking PyTorch with CUDA (about 2 GB)")
        index = f"{torch_index}/{build}"
        yield ["--no-deps", "--force-reinstall", "--index-url", index, "torch", "torchvision"]
    # The tests run what the extra is for.
    yield ["-e", ".[dev,text]" if dev else "."]


def cuda_build() -> str | None:
    """The build of PyTorch that fits this machine's NVIDIA card and driver, such as "cu130"; None without a card."""
    try:
        query = ["nvidia-smi", "--query-gpu=driver_version,compute_cap", "--format=csv,noheader"]
        answer = subprocess.run(query, capture_output=True, text=True, check=True, timeout=60).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    return choose_cuda_build(answer.splitlines()[0]) if answer.strip() else None


def choose_cuda_build(card: str) -> str:
    """The newest build that runs on a card described as ``driver_version, compute_cap``.

    CUDA 13 needs driver 580 and a Turing card (7.5) or newer; CUDA 12.6 serves what is older.
    """
    numbers = re.fullmatch(r"\s*(\d+)[\d.]*\s*,\s*(\d+)\.(\d+)\s*", card)
    if numbers is None:
        return "cu126"
    driver, *capability = map(int, numbers.groups())
    return "cu130" if driver >= 580 and capability >= [7, 5] else "cu126"


def installed_torch(venv: Path) -> str:
    """The version of PyTorch in the environment, such as "2.13.0+cu130"; empty if there is none."""
    ask = "from importlib.metadata import version; print(version('torch'))"
    return subprocess.run([program(venv, "python"), "-c", ask], capture_output=True, text=True, check=False).stdout.strip()


def run_logged(venv: Path, command: Sequence[str]) -> None:
    """Run ``command`` in the checkout with its output in the log, and a line on the screen for what takes long."""
    last_lines: deque[str] = deque(maxlen=200)
    with (venv / "setup.log").open("a", encoding="utf-8") as log:
        log.write(f"$ {' '.join(command)}\n")
        with subprocess.Popen(
            command, cwd=CHECKOUT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, encoding="utf-8", errors="replace"
        ) as process:
            assert process.stdout is not None
            for line in process.stdout:
                log.write(line)
                log.flush()
                last_lines.append(line)
                if match := LARGE_DOWNLOAD.search(line):
                    say(f"     Downloading {match[1]} ({match[2]})")
                elif line.startswith("Installing collected packages:"):
                    say(f"     Installing {line.count(',') + 1} packages")
    if process.returncode != 0:
        raise explain(venv, "".join(last_lines))


def explain(venv: Path, output: str) -> SetupError:
    """The problem behind a failed command, from what it printed."""
    log = venv / "setup.log"
    if any(sign in output for sign in DISK_FULL):
        return disk_full(venv)
    if any(sign in output for sign in OFFLINE):
        return SetupError(
            "pip cannot reach the package index.",
            f"Connect to the network (or set HTTPS_PROXY), then run the same command again. Log: {log}",
        )
    if any(sign in output for sign in NO_WHEEL):
        return SetupError(
            f"There is no PyTorch for Python {platform.python_version()} on {platform.system()} {platform.machine()}.",
            f"Install a 64-bit Python 3.13 (on a Mac: for Apple silicon), remove {venv}, run this again. Log: {log}",
        )
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    errors = [line for line in lines if line.casefold().startswith("error:")]
    return SetupError(
        f"The installation failed: {(errors or lines or ['no output'])[-1]}",
        f"Read the end of {log}, then run the same command again.",
    )


def disk_full(venv: Path) -> SetupError:
    """The problem of a disk without room."""
    return SetupError(
        f"The disk is full: {venv} or the temporary folder has no room left.",
        f"Free about 5 GB, then run the same command again. Log: {venv / 'setup.log'}",
    )


# --- what runs in it ------------------------------------------------------------------------------------------------


def describe(venv: Path) -> str:
    """One line on what was installed and what it computes on."""
    result = subprocess.run(
        [program(venv, "python"), "-c", DESCRIBE_DEVICE], capture_output=True, encoding="utf-8", errors="replace", check=False
    )
    if result.returncode != 0:
        last = (result.stderr.strip().splitlines() or ["no output"])[-1]
        fix = "Install Microsoft's Visual C++ runtime (vc_redist.x64)" if os.name == "nt" else f"Remove {venv}"
        raise SetupError(f"PyTorch does not load: {last}", f"{fix}, then run the same command again.")
    return result.stdout.strip()


def next_steps(venv: Path) -> str:
    """What a person may run after the set-up."""
    if os.name == "nt":
        return (
            f"Next:  {SCRIPT} quick     run the quick experiment, with figures\n"
            f"       fedspec doctor              check this machine and the shared folder\n"
            f"       (in PowerShell first: & '{venv}\\Scripts\\Activate.ps1')"
        )
    activate = venv / "bin" / "activate"
    return (
        f"Next:  {SCRIPT} quick     run the quick experiment, with figures\n"
        f"       {SCRIPT} doctor    check this machine and the shared folder\n"
        f"       source '{activate}'    then `fedspec` is a command in this window"
    )


def run_checks(venv: Path, pytest_arguments: Sequence[str]) -> int:
    """Every check, all of them even if one fails, and pytest last. Returns 0 only if all passed."""
    checks = {
        "ruff check": ["ruff", "check", "."],
        "ruff format": ["ruff", "format", "--check", "."],
        "mypy": ["mypy"],
        "import contract": ["lint-imports", "--no-logo"],
    }
    failed = []
    for name, (tool, *arguments) in checks.items():
        start = time.monotonic()
        result = subprocess.run(
            [program(venv, tool), *arguments],
            cwd=CHECKOUT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
            check=False,
        )
        if result.returncode == 0:
            say(f"ok   {name} ({time.monotonic() - start:.0f} s)")
        else:
            failed.append(name)
            say(f"{result.stdout.rstrip()}\nerror: {name} failed")
    # More workers than this cost more memory and start-up time than they save.
    workers = ["--numprocesses", "logical", "--maxprocesses", "4"]
    code = subprocess.run([program(venv, "pytest"), *workers, *pytest_arguments], cwd=CHECKOUT, check=False).returncode
    if failed:
        say(f"error: {', '.join(failed)} failed.\n  fix: See above; `ruff check --fix` and `ruff format` mend what is style.")
    return code or int(bool(failed))


def hand_over(command: list[str]) -> int:
    """Become ``command``, or run it and return its exit code where a process cannot become another one (Windows)."""
    if os.name != "nt":
        os.execv(command[0], command)
    with subprocess.Popen(command) as process:
        while True:
            try:
                return process.wait()
            except KeyboardInterrupt:
                continue  # Ctrl-C reached the command as well, which saves its round and then ends by itself


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

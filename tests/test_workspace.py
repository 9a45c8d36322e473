"""The shared folder is found the same way by everybody, and no name from a peer can lead out of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path, PureWindowsPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedspec.errors import SetupError, UsageError
from fedspec.workspace import STATE_FOLDER, CheckpointPaths, LocalState, Workspace, checked

WORKER = "9f2c11ab-03d7e1"
NAMED: dict[str, Callable[[str], Path]] = {
    "plan": Workspace(Path("/w")).plan,
    "journal": lambda name: Workspace(Path("/w")).journal(name, 3),
    "relayed": lambda name: Workspace(Path("/w")).relayed(name, name),
    "beat": Workspace(Path("/w")).beat,
    "log": Workspace(Path("/w")).log,
    "pair": Workspace(Path("/w")).pair,
    "pair_lock": lambda name: Workspace(Path("/w")).pair_lock(name, name),
    "probe": Workspace(Path("/w")).probe,
    "result": Workspace(Path("/w")).result,
    "generation": lambda name: CheckpointPaths(Path("/w")).generation(name, name),
    "base": CheckpointPaths(Path("/w")).base,
    "progress": CheckpointPaths(Path("/w")).progress,
    "model": CheckpointPaths(Path("/w")).model,
    "slot": LocalState(Path("/w")).slot,
    "slot_lock": LocalState(Path("/w")).slot_lock,
    "journal_copy": LocalState(Path("/w")).journal_copy,
}
UNSAFE = [
    "",
    ".",
    "..",
    "../x",
    "a/b",
    "a\\b",
    "/etc/passwd",
    "C:x",
    "a..b",
    "A",
    "ä",
    "a b",
    "a\n",
    "a\0",
    ".hidden",
    "-x",
    "x" * 200,
    "x.",
    "con",
    "nul.tar.gz",
    "com1.x",
    "lpt9",
]


@pytest.mark.parametrize("name", UNSAFE)
@pytest.mark.parametrize("path", NAMED)
def test_a_name_that_is_no_safe_file_name_makes_no_path(path: str, name: str):
    with pytest.raises(UsageError, match="cannot be a file name"):
        NAMED[path](name)


@given(st.text(max_size=30))
def test_a_safe_name_stays_in_its_folder_on_every_system(name: str):
    try:
        safe = checked(name)
    except UsageError:
        return
    assert safe == name == safe.casefold()
    assert PureWindowsPath("w", safe).parts == ("w", safe)
    assert Path("w", safe).resolve().parent == Path("w").resolve()


@pytest.mark.parametrize("name", ["console", "auxiliary.json", "com10", "nul-1", "c.con"])
def test_a_name_that_only_looks_like_a_device_is_safe(name: str):
    assert checked(name) == name


def test_two_names_are_two_files_on_a_disk_that_ignores_case():
    assert checked("fedavg") == "fedavg"
    with pytest.raises(UsageError):
        checked("FedAvg")


def test_every_path_leaves_room_for_the_workspace_s_own_on_windows():
    """Without the long form of a path Windows takes 259 characters, and a workspace lies at some 50."""
    name, worker = "x" * 121, "ffffffff-ffffff"
    file = f"r99999.a999.{worker}.{'f' * 12}.pt"
    space, saved = Workspace(Path("/w")), CheckpointPaths(Path("/w/checkpoints_distributed"))
    paths = [saved.generation(name, file), saved.model(name), space.result(name), space.quarantined(f"{name}.{file}")]
    lengths = [len(f"{path.with_name(f'~{path.name}.ffffffff.tmp')}") - len("/w") for path in paths]
    assert max(lengths) <= 208
    assert max(len(path.name) for path in paths) + len("~.ffffffff.tmp") < 255


def test_every_file_has_a_path_of_its_own():
    paths = [path(WORKER) for path in NAMED.values()]
    assert len(set(paths)) == len(paths)
    journals = Workspace(Path("/w"))
    assert journals.journal(WORKER, 0) != journals.journal(WORKER, 1)


def test_the_folders_are_those_the_readme_names(tmp_path: Path):
    space = Workspace(tmp_path)
    assert space.view == tmp_path / "distributed_work" / "work_queue.json"
    assert space.result("fedavg_dirichlet_alpha0.1") == tmp_path / "paper_results" / "fedavg_dirichlet_alpha0.1.csv"
    assert space.checkpoints == tmp_path / "checkpoints_distributed"
    assert CheckpointPaths(space.checkpoints).model("e") == space.checkpoints / "e_model.pt"


# Finding it


def test_the_folder_that_was_named_wins_over_the_environment_and_that_over_the_current_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    for name in ("flag", "variable", "here/deep"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "here" / STATE_FOLDER).mkdir()
    monkeypatch.chdir(tmp_path / "here" / "deep")
    environ = {"FEDSPEC_WORKSPACE": str(tmp_path / "variable")}
    assert Workspace.find(tmp_path / "flag", environ).root == tmp_path / "flag"
    assert Workspace.find(None, environ).root == tmp_path / "variable"
    assert Workspace.find(None, {}).root == tmp_path / "here"


def test_a_folder_that_was_named_and_is_not_there_is_never_created(tmp_path: Path):
    with pytest.raises(SetupError, match="There is no folder"):
        Workspace.find(tmp_path / "share", {})
    assert not (tmp_path / "share").exists()


def test_without_a_queue_above_the_checkout_is_the_workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    assert (Workspace.find(None, {}).root / "pyproject.toml").is_file()


def test_a_machine_s_own_folder_is_bound_to_the_host_and_can_be_named(tmp_path: Path):
    local = LocalState.find({"FEDSPEC_STATE": str(tmp_path)})
    assert local.root.parent == tmp_path
    assert local == LocalState.find({"FEDSPEC_STATE": str(tmp_path)})
    assert local.claim_lock(Workspace(tmp_path / "a")) != local.claim_lock(Workspace(tmp_path / "b"))


def states(tmp_path: Path, own: str, name: str) -> LocalState:
    return LocalState.find({"FEDSPEC_STATE": str(tmp_path)}, lambda: own, lambda: name)


def test_a_machine_s_own_folder_stays_when_the_host_is_renamed_and_is_another_host_s_never(tmp_path: Path):
    local = states(tmp_path, "11111111", "aaaaaaaa")
    local.machine.parent.mkdir(parents=True)
    assert states(tmp_path, "11111111", "bbbbbbbb") == local
    assert states(tmp_path, "22222222", "aaaaaaaa") != local
    assert states(tmp_path, "", "aaaaaaaa") != local
    assert states(tmp_path, "", "aaaaaaaa") == states(tmp_path, "", "aaaaaaaa") != states(tmp_path, "", "bbbbbbbb")


@pytest.mark.parametrize("slots", [False, True])
def test_a_folder_that_went_by_the_host_s_name_is_taken_over(tmp_path: Path, slots: bool):
    former = states(tmp_path, "", "aaaaaaaa")
    former.slots.mkdir(parents=True) if slots else former.root.mkdir()
    former.machine.write_text("me", encoding="utf-8")
    local = states(tmp_path, "11111111", "aaaaaaaa")
    assert local.machine.read_text(encoding="utf-8") == "me"
    assert local != former
    assert not former.root.exists()
    assert states(tmp_path, "11111111", "bbbbbbbb") == local


def test_a_folder_that_went_by_the_host_s_name_is_not_moved_from_under_a_worker(tmp_path: Path):
    former = states(tmp_path, "", "aaaaaaaa")
    former.slots.mkdir(parents=True)
    former.slot_lock("11111111-000001").touch()
    assert states(tmp_path, "11111111", "aaaaaaaa") == former
    former.slot_lock("11111111-000001").unlink()
    assert states(tmp_path, "11111111", "aaaaaaaa") != former


def test_of_two_processes_that_take_a_folder_over_both_have_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    former = states(tmp_path, "", "aaaaaaaa")
    former.root.mkdir()
    rename = Path.rename

    def late(self: Path, target: Path) -> Path:
        rename(self, target)
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", late)
    assert states(tmp_path, "11111111", "aaaaaaaa").root == tmp_path / "host-11111111"


def test_a_folder_that_cannot_be_moved_serves_where_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    former = states(tmp_path, "", "aaaaaaaa")
    former.root.mkdir()

    def refuse(self: Path, target: Path) -> Path:
        raise PermissionError

    monkeypatch.setattr(Path, "rename", refuse)
    assert states(tmp_path, "11111111", "aaaaaaaa") == former


# What carries it

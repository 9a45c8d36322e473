"""``plots/plot_*.py`` draw what there is without arguments, and take the options that their users know."""

from __future__ import annotations

from pathlib import Path

import pytest

from fedspec.config import CentralizedConfig, FederatedConfig
from fedspec.federated.aggregators import AGGREGATORS
from fedspec.figures import FIGURES
from fedspec.figures.script import main

from .conftest import Folder

PLOTS = Path(__file__).parents[2] / "plots"


@pytest.fixture
def workspace(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> Folder:
    monkeypatch.setenv("FEDSPEC_WORKSPACE", str(folder.path.parent))
    return folder


@pytest.mark.parametrize("name", FIGURES)
def test_there_is_a_script_of_three_lines_for_each_figure(name: str) -> None:
    text = (PLOTS / f"plot_{name}.py").read_text(encoding="utf-8")
    assert f'main("{name}")' in text
    assert len(text.splitlines()) == 3


@pytest.mark.parametrize("arguments", [[], ["--all"]])
def test_without_options_all_results_are_drawn(
    arguments: list[str], workspace: Folder, capsys: pytest.CaptureFixture[str]
) -> None:
    workspace.grid({"fedavg": 0.8, "fedspec": 0.8}, seeds=1, rounds=3)
    assert main("accuracy", arguments) == 0
    printed = capsys.readouterr()
    figures = workspace.path / "figures"
    assert printed.out.splitlines() == [str(figures / "accuracy.pdf"), str(figures / "accuracy.png")]
    assert printed.err == ""
    assert {path.name for path in figures.iterdir()} == {"accuracy.pdf", "accuracy.png"}


def test_no_results_are_a_set_up_problem_with_a_remedy(workspace: Folder, capsys: pytest.CaptureFixture[str]) -> None:
    assert main("accuracy", []) == 3
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.splitlines()[0].startswith("error: No results in ")
    assert printed.err.splitlines()[1:] == ["  fix: Run an experiment first: fedspec run quick"]


def test_named_files_are_drawn_whatever_their_names(workspace: Folder, tmp_path: Path) -> None:
    arguments = ["--output", str(tmp_path / "deep" / "gap.v1.pdf")]
    arguments += ["--fedspec", str(workspace.add(FederatedConfig(method="fedspec"), 0.8, 0.1, name="mine"))]
    arguments += ["--fedavg", str(workspace.add(FederatedConfig(), 0.8, 0.2))]
    arguments += ["--centralized", str(workspace.add(CentralizedConfig(), 0.9))]
    assert main("frobenius_gap", arguments) == 0
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["gap.v1.pdf"]


def test_several_files_of_a_method_are_its_seeds(workspace: Folder, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths = [str(workspace.add(FederatedConfig(seed=seed), 0.8)) for seed in (1, 2)]
    assert main("accuracy", ["--fedavg", *paths, "--output", str(tmp_path / "a.png")]) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'a.png'}\n"


@pytest.mark.parametrize("method", AGGREGATORS)
def test_every_registered_method_has_an_option(method: str, workspace: Folder, tmp_path: Path) -> None:
    path = workspace.add(FederatedConfig(method=method), 0.8, name="mine")
    assert main("accuracy", [f"--{method}", str(path), "--output", str(tmp_path / "a.png")]) == 0
    assert (tmp_path / "a.png").is_file()


@pytest.mark.parametrize("name", FIGURES)
def test_help_says_what_is_drawn_and_all_options(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(name, ["--help"])
    assert left.value.code == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert f"{FIGURES[name].label}, as PDF and PNG." in printed
    assert all(f"--{option} " in printed for option in (*AGGREGATORS, "centralized", "output", "all"))


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (["--wrong", "x"], "error: Unrecognized arguments: --wrong x."),
        (["--fedavg"], "error: Argument --fedavg: expected at least one argument."),
    ],
)
def test_an_option_that_cannot_be_read_is_an_error_like_any_other(
    arguments: list[str], what: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main("accuracy", arguments) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.splitlines() == [what, "  fix: See 'python plots/plot_accuracy.py --help'."]


def test_a_damaged_file_is_warned_of_and_the_rest_drawn(workspace: Folder, capsys: pytest.CaptureFixture[str]) -> None:
    workspace.add(FederatedConfig(), 0.8)
    (workspace.path / "bad.csv").write_bytes(b"\0")
    assert main("accuracy", []) == 0
    assert capsys.readouterr().err.startswith("warning: Left out: ")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--output", "figure.svg"], "neither a PDF nor a PNG"),
        (["--all", "--fedavg", "fedavg_dirichlet_alpha0.5.csv"], "--all draws all results"),
        (["--fedspec", "fedavg_dirichlet_alpha0.5.csv"], "is a run of fedavg"),
        (["--fedavg", "fedavg_dirichlet_alpha0.5.csv", "--fedspec", "fedspec_dirichlet_alpha0.5_c5.csv"], "not be compared"),
        (["--output", "figure.pdf"], "not be compared"),
    ],
)
def test_a_wrong_option_is_a_usage_error(
    arguments: list[str], says: str, workspace: Folder, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace.add(FederatedConfig(), 0.8)
    workspace.add(FederatedConfig(method="fedspec", clients=5), 0.8)
    monkeypatch.chdir(workspace.path)
    assert main("accuracy", arguments) == 2
    printed = capsys.readouterr().err
    assert says in printed
    assert "\n  fix: " in printed


@pytest.mark.parametrize(("name", "config"), [("accuracy", CentralizedConfig()), ("frobenius_gap", FederatedConfig())])
def test_nothing_to_draw_is_an_error(
    name: str, config: FederatedConfig | CentralizedConfig, workspace: Folder, capsys: pytest.CaptureFixture[str]
) -> None:
    option = "--centralized" if isinstance(config, CentralizedConfig) else "--fedavg"
    assert main(name, [option, str(workspace.add(config, 0.8))]) == 3
    assert capsys.readouterr().err.splitlines()[-1].startswith("  fix: ")


def test_a_missing_file_is_named(workspace: Folder, capsys: pytest.CaptureFixture[str]) -> None:
    assert main("accuracy", ["--fedavg", "gone.csv"]) == 3
    assert "gone.csv" in capsys.readouterr().err

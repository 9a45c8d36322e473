"""Figures are the same bytes for the same results, show what the results hold, and hide nothing behind a legend."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from fedspec.config import CentralizedConfig, FederatedConfig
from fedspec.errors import SetupError, UsageError
from fedspec.figures import FIGURES, draw_all, draw_family, draw_images
from fedspec.figures.families import group
from fedspec.figures.panels import BAND_ALPHA, MANY_LINES, NothingToDraw
from fedspec.figures.runs import load_runs
from fedspec.figures.style import PANEL_HEIGHT_IN, paper_style

from .conftest import Folder

# Those that need no data set, as `fedspec.figures` itself needs none.
DRAWN = [name for name, entry in FIGURES.items() if "data" not in entry.traits]
METHODS = {"fedavg": 0.8, "fedavg_rebalanced": 0.84, "fedspec": 0.85}


def figure(folder: Folder, name: str = "accuracy") -> Figure:
    (family, *_) = group(load_runs(folder.path)[0]).families
    with paper_style():
        drawn: Figure = FIGURES[name].load()(family)
        drawn.canvas.draw()
    return drawn


def lines(drawn: Figure, panel: int = 0) -> list[Any]:
    return list(drawn.axes[panel].get_lines())


def bands(drawn: Figure, panel: int = 0) -> list[Any]:
    return [found for found in drawn.axes[panel].collections if isinstance(found, PolyCollection)]


@pytest.fixture(scope="module")
def drawn_once(tmp_path_factory: pytest.TempPathFactory) -> tuple[Folder, list[Path]]:
    folder = Folder(tmp_path_factory.mktemp("results"))
    folder.grid(METHODS, seeds=2, centralized=0.95)
    for seed in (1, 2):
        folder.add(FederatedConfig(seed=seed, rounds=10, lr=0.1), 0.5, validation=0.6)
    return folder, draw_all(folder.path, folder.path / "figures", DRAWN)


def test_each_figure_is_a_pdf_and_a_png(drawn_once: tuple[Folder, list[Path]]) -> None:
    folder, paths = drawn_once
    assert [path.name for path in paths] == [f"{name}.{kind}" for name in DRAWN for kind in ("pdf", "png")]
    assert {path.name for path in (folder.path / "figures").iterdir()} == {path.name for path in paths}
    magic = [path.read_bytes()[:4] for path in paths]
    assert magic == [b"%PDF", b"\x89PNG"] * len(DRAWN)


def test_two_processes_draw_the_same_bytes(drawn_once: tuple[Folder, list[Path]], tmp_path: Path) -> None:
    """Whatever the hash seed, the time zone, the backend and the person's own matplotlibrc."""
    folder, paths = drawn_once
    (tmp_path / "matplotlibrc").write_text("font.size: 30\nlines.linewidth: 9\nfigure.dpi: 300\n", encoding="utf-8")
    program = (
        "import sys\n"
        "from pathlib import Path\n"
        "from fedspec.figures import draw_all\n"
        "draw_all(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:])"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "7", "TZ": "Asia/Tokyo", "MPLBACKEND": "svg", "MATPLOTLIBRC": str(tmp_path)}
    arguments = [str(folder.path), str(tmp_path / "again"), *DRAWN]
    subprocess.run([sys.executable, "-c", program, *arguments], check=True, env=environment, timeout=60)
    for path in paths:
        assert (tmp_path / "again" / path.name).read_bytes() == path.read_bytes(), path.name


def test_a_pdf_carries_no_date_and_its_text_as_truetype(drawn_once: tuple[Folder, list[Path]]) -> None:
    for path in drawn_once[1][::2]:
        data = path.read_bytes()
        assert b"CreationDate" not in data
        assert b"/Type3" not in data
        assert b"/FontFile2" in data


def test_a_figure_is_as_wide_as_a_column_or_a_page(drawn_once: tuple[Folder, list[Path]]) -> None:
    for path in drawn_once[1][::2]:
        width = float(path.read_bytes().partition(b"/MediaBox [ 0 0 ")[2].split()[0])
        assert round(width / 72, 3) in (3.5, 7.0), path.name


def test_an_svg_names_nothing_by_lot_and_no_date(folder: Folder) -> None:
    folder.grid(METHODS, seeds=1, rounds=3)
    (family,) = group(load_runs(folder.path)[0]).families
    (first,), (second,) = (draw_images("accuracy", family, ["svg"]) for _ in range(2))
    assert first == second
    assert b"<svg" in first
    assert b"dc:date" not in first


def test_drawing_leaves_a_persons_settings_alone(folder: Folder) -> None:
    folder.grid(METHODS, seeds=1)
    before = dict(mpl.rcParams)
    draw_all(folder.path, folder.path / "figures", ["accuracy"])
    assert dict(mpl.rcParams) == before


@pytest.mark.parametrize(
    ("alphas", "seeds", "centralized"),
    [((0.5,), 1, None), ((0.5,), 3, 0.95), ((0.1, 0.5, 1.0), 2, 0.95), ((0.1, 0.5, 1.0, None), 2, None)],
)
def test_a_legend_lies_on_no_panel_and_inside_the_page(
    alphas: tuple[float | None, ...], seeds: int, centralized: float | None, folder: Folder
) -> None:
    long_name = "fedavg_with_server_momentum_and_a_name_that_takes_more_than_a_line"
    for name, methods in (("accuracy", METHODS), ("frobenius_gap", {**METHODS, long_name: 0.7, "ffa": 0.6, "flora": 0.5})):
        folder.grid(methods, alphas=alphas, seeds=seeds, rounds=5, centralized=centralized)
        drawn = figure(folder, name)
        (legend,) = drawn.legends
        box = legend.get_window_extent()
        page = drawn.bbox
        assert (box.x0 >= page.x0, box.x1 <= page.x1, box.y1 <= page.y1) == (True, True, True)
        for axes in drawn.axes:
            assert not box.overlaps(axes.get_tightbbox())
            assert axes.get_window_extent().height > 0.6 * PANEL_HEIGHT_IN * drawn.dpi


@pytest.mark.parametrize(("panels", "width"), [((0.5,), 3.5), ((0.1, 0.5), 7.0), ((0.1, 0.5, 1.0), 7.0)])
def test_one_panel_fills_a_column_and_more_a_page(panels: tuple[float, ...], width: float, folder: Folder) -> None:
    folder.grid({"fedavg": 0.8}, alphas=panels, seeds=1)
    assert figure(folder).get_size_inches()[0] == width


def test_panels_go_from_heterogeneous_to_iid_and_share_the_accuracy_axis(folder: Folder) -> None:
    folder.grid(METHODS, alphas=(None, 1.0, 0.1), seeds=2)
    drawn = figure(folder)
    assert [axes.get_title() for axes in drawn.axes] == [
        r"$\alpha$ = 0.1 (2 seeds)",
        r"$\alpha$ = 1.0 (2 seeds)",
        "iid (2 seeds)",
    ]
    assert len({axes.get_ylim() for axes in drawn.axes}) == 1
    assert drawn.axes[0].get_ylabel() == "Test accuracy (%)"
    assert {axes.get_xlabel() for axes in drawn.axes} == {"Communication round"}


def test_one_seed_is_said_and_has_no_band(folder: Folder) -> None:
    folder.grid(METHODS, seeds=1)
    drawn = figure(folder)
    assert drawn.axes[0].get_title() == r"$\alpha$ = 0.5 (1 seed)"
    assert bands(drawn) == []
    assert "95 % interval" not in [text.get_text() for text in drawn.legends[0].get_texts()]


def test_a_line_is_the_mean_and_a_band_the_interval(folder: Folder) -> None:
    for seed, accuracy in enumerate((0.5, 0.6, 0.7), start=1):
        folder.add(FederatedConfig(seed=seed, rounds=4), accuracy)
    drawn = figure(folder)
    (line,), (band,) = lines(drawn), bands(drawn)
    np.testing.assert_allclose(line.get_ydata(), [60.0] * 4)
    heights = band.get_paths()[0].vertices[:, 1]
    np.testing.assert_allclose((heights.min(), heights.max()), (60 - 24.8414, 60 + 24.8414), atol=1e-3)


def test_the_legends_interval_has_the_tints_of_all_bands(folder: Folder) -> None:
    """One grey for all would be the tint of the centralized runs alone."""
    folder.grid(METHODS, seeds=2, centralized=0.95)
    drawn = figure(folder)
    tints = [tuple(band.get_facecolor()[0]) for band in bands(drawn)]
    patches = [patch for patch in drawn.legends[0].findobj(Rectangle) if patch.get_alpha() == BAND_ALPHA]
    assert [patch.get_facecolor() for patch in patches] == tints
    assert len(set(tints)) == len(METHODS) + 1


def test_a_line_without_a_band_has_no_tint_in_the_legend(folder: Folder) -> None:
    folder.grid({"fedavg": 0.8}, seeds=2)
    folder.add(CentralizedConfig(rounds=10), 0.95)
    drawn = figure(folder)
    assert len([patch for patch in drawn.legends[0].findobj(Rectangle) if patch.get_alpha() == BAND_ALPHA]) == 1


def test_of_many_methods_the_last_rounds_intervals_stand_side_by_side(folder: Folder) -> None:
    """Bands of many methods would hide one another."""
    methods = {f"new{number}": 0.5 + number / 50 for number in range(MANY_LINES + 1)}
    folder.grid(methods, seeds=3)
    drawn = figure(folder)
    assert bands(drawn) == []
    bars = [found for found in drawn.axes[0].collections if isinstance(found, LineCollection)]
    ends = [float(bar.get_segments()[0][0][0]) for bar in bars]
    assert len(set(ends)) == len(methods)
    assert min(ends) > 10
    assert max(drawn.axes[0].get_xticks()) <= 10
    assert "95 % interval, last round" in [text.get_text() for text in drawn.legends[0].get_texts()]


def test_identical_seeds_and_accuracies_at_the_ends_are_drawn(folder: Folder) -> None:
    for seed in (1, 2):
        folder.add(FederatedConfig(seed=seed), 1.0, 0.0)
        folder.add(FederatedConfig(seed=seed, method="fedspec"), 0.0, 0.0)
    assert figure(folder).axes[0].get_ylim() == (0.0, 100.0)
    low, high = figure(folder, "frobenius_gap").axes[0].get_ylim()
    assert -0.05 * high < low < 0 < high


def test_an_unfinished_run_does_not_bend_the_mean(folder: Folder) -> None:
    for seed in (1, 2):
        folder.add(FederatedConfig(seed=seed), 0.8)
    folder.add(FederatedConfig(seed=3), 0.1, done=5)
    drawn = figure(folder)
    np.testing.assert_allclose(lines(drawn)[0].get_ydata(), 80.0)
    assert drawn.axes[0].get_title() == r"$\alpha$ = 0.5 (2 seeds)"


def test_a_run_of_a_single_round_is_drawn(folder: Folder) -> None:
    folder.add(FederatedConfig(), 0.8, 0.1, done=1)
    folder.add(CentralizedConfig(), 0.9, done=1)
    assert len(lines(figure(folder))) == 2


def test_centralized_has_a_line_in_each_accuracy_panel_and_none_among_the_gaps(folder: Folder) -> None:
    folder.grid({"fedavg": 0.8}, alphas=(0.1, 0.5), seeds=2, centralized=0.95)
    assert [line.get_color() for panel in (0, 1) for line in lines(figure(folder), panel)].count("#000000") == 2
    assert len(lines(figure(folder, "frobenius_gap"))) == 1


def test_experiments_that_may_not_be_compared_get_a_figure_each(folder: Folder) -> None:
    folder.grid(METHODS, seeds=2, rounds=3)
    folder.grid(METHODS, seeds=1, rounds=4)
    paths = draw_all(folder.path, folder.path / "figures", ["accuracy"])
    names = [path.stem for path in paths if path.suffix == ".png"]
    assert names == ["accuracy", "accuracy_digits_mlp_c10_r3", "accuracy_digits_mlp_c10_r4"]
    largest, r3, r4 = (path for path in paths if path.suffix == ".png")
    assert largest.read_bytes() == r3.read_bytes() != r4.read_bytes()


def test_what_was_left_out_is_told_to_the_caller_and_not_printed(folder: Folder, capfd: pytest.CaptureFixture[str]) -> None:
    folder.add(FederatedConfig(), 0.8)
    (folder.path / "fedspec_dirichlet_alpha0.5.csv").write_bytes(b"method,round\n")
    told: list[str] = []
    paths = draw_all(folder.path, folder.path / "figures", ["accuracy", "frobenius_gap"], warn=told.append)
    assert {path.stem for path in paths} == {"accuracy"}
    assert "fedspec_dirichlet_alpha0.5.csv" in told[0]
    assert told[1] == "frobenius_gap is not drawn: no federated run here has values for it."
    assert capfd.readouterr() == ("", "")


def test_an_unknown_figure_is_refused_before_anything_is_drawn(folder: Folder) -> None:
    with pytest.raises(UsageError, match="accuracy, frobenius_gap"):
        draw_all(folder.path, folder.path / "figures", ["accuracy", "acuracy"])
    assert not (folder.path / "figures").exists()


def test_no_results_say_what_to_run(folder: Folder) -> None:
    with pytest.raises(SetupError, match="fedspec run quick"):
        draw_all(folder.path, folder.path / "figures")


def test_a_family_without_values_makes_no_file(folder: Folder) -> None:
    folder.add(FederatedConfig(), 0.8, None)
    (family,) = group(load_runs(folder.path)[0]).families
    with pytest.raises(NothingToDraw, match="no federated run here has values"):
        draw_family("frobenius_gap", family, folder.path / "figures" / "gap")
    assert not (folder.path / "figures").exists()


def test_importing_the_package_imports_neither_pandas_nor_matplotlib_nor_torch() -> None:
    program = "import sys, fedspec.figures; print(sorted({'pandas', 'matplotlib', 'torch', 'numpy'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("name", FIGURES)
def test_every_registry_line_leads_to_a_function_and_fits_a_file_name(name: str) -> None:
    assert callable(FIGURES[name].load())
    assert name == name.lower()
    assert name.replace("_", "").isalnum()

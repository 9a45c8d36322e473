"""Each figure shows what the rows hold, and says why where it has nothing to show."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from fedspec.config import CentralizedConfig, FederatedConfig
from fedspec.figures import FIGURES, Data, draw_images
from fedspec.figures.comparisons import study
from fedspec.figures.families import Family, group
from fedspec.figures.panels import NothingToDraw
from fedspec.figures.runs import load_runs
from fedspec.figures.style import paper_style, styles
from fedspec.plan import make_item

from .conftest import Folder, learning

METHODS = {"fedavg": 0.8, "fedavg_rebalanced": 0.84, "fedspec": 0.85}
FOURTEEN = [*METHODS, "fedspec_residual", "fedex", *(f"a_method_with_a_long_name_{number}" for number in range(9))]


def family_of(folder: Folder) -> Family:
    return group(load_runs(folder.path)[0]).families[0]


def figure(folder: Folder, name: str, *more: object) -> Figure:
    with paper_style():
        drawn: Figure = FIGURES[name].load()(family_of(folder), *more)
        drawn.canvas.draw()
    return drawn


def texts(drawn: Figure) -> list[str]:
    return [text.get_text() for axes in drawn.axes for text in axes.texts]


def legend(drawn: Figure) -> list[str]:
    return [text.get_text() for text in drawn.legends[0].get_texts()]


def points(axes: Any, color: str) -> np.ndarray:
    """The (x, y) of all that is drawn in a colour."""
    found = [line.get_xydata() for line in axes.get_lines() if to_hex(line.get_color()).upper() == color]
    return np.concatenate([xy for xy in found if len(xy)]) if found else np.empty((0, 2))


@pytest.mark.parametrize("name", [name for name, entry in FIGURES.items() if "data" not in entry.traits])
def test_fourteen_methods_are_drawn_inside_the_page(name: str, folder: Folder) -> None:
    folder.grid(dict.fromkeys(FOURTEEN, 0.8), alphas=(0.1, 0.5), seeds=2, rounds=5)
    for method in FOURTEEN:
        folder.add(FederatedConfig(method=method, seed=1, rounds=5, lr=0.1), 0.5, validation=0.6)
    drawn = figure(folder, name)
    page, (box,) = drawn.bbox, [found.get_window_extent() for found in drawn.legends]
    assert (box.x0 >= page.x0, box.x1 <= page.x1, box.y1 <= page.y1) == (True, True, True)
    for axes in drawn.axes:
        area = axes.get_tightbbox()
        assert not box.overlaps(axes.get_window_extent())
        assert (area.x0 >= page.x0 - 1, area.x1 <= page.x1 + 1, area.y0 >= page.y0 - 1) == (True, True, True)


@pytest.mark.parametrize("name", [name for name, entry in FIGURES.items() if "data" not in entry.traits])
def test_whatever_is_drawn_lies_within_its_panel(name: str, folder: Folder) -> None:
    """Also where panels share an axis and the last one has the highest values."""
    for alpha, level in ((0.1, 0.2), (0.5, 0.6), (1.0, 0.97)):
        for method, place in (("fedavg", 0), ("fedspec", 1), ("fedex", 2)):
            for seed in (1, 2, 3):
                config = FederatedConfig(method=method, alpha=alpha, seed=seed, rounds=6)
                columns = {
                    "communication_bytes": 1000 + 9000 * place,
                    "gap_over_move": level * (2 - place),
                    "effective_rank": 20 * level + place,
                    "tail_nuclear": level / 2,
                    "tail_energy_sq": level / 3,
                }
                accuracy = learning(level + place / 100, seed)
                folder.add(config, accuracy, level * (2 - place), fedavg_gap=2 * level, validation=level, columns=columns)
            folder.add(FederatedConfig(method=method, alpha=alpha, seed=1, rounds=6, lr=0.1), 0.5, validation=level - 0.1)
    for axes in figure(folder, name).axes:
        (left, right), (bottom, top) = sorted(axes.get_xlim()), sorted(axes.get_ylim())
        for line in axes.get_lines():
            x, y = np.asarray(line.get_xdata(), dtype=float), np.asarray(line.get_ydata(), dtype=float)
            if len(x) and line.get_transform() == axes.transData:
                assert (left <= x.min(), x.max() <= right, bottom <= y.min(), y.max() <= top) == (True,) * 4, line


def test_where_fedavg_has_no_gap_either_there_is_nothing_to_reduce(folder: Folder) -> None:
    """As with FFA-LoRA, whose clients share a factor: what is left is rounding."""
    for method, gap, fedavg_gap in (("fedavg", 0.4, 0.4), ("fedspec", 0.2, 0.4), ("ffa", 1e-16, 3e-17)):
        folder.add(FederatedConfig(method=method), 0.8, gap, fedavg_gap=fedavg_gap, columns={"ideal_norm": 5.0})
    for name in ("gain_and_gap", "gap_by_alpha"):
        drawn = figure(folder, name)
        assert points(drawn.axes[-1], styles(["ffa"])["ffa"].color).size == 0
    assert legend(figure(folder, "gain_and_gap")) == ["FedSpec"]


@pytest.mark.parametrize("name", FIGURES)
def test_where_there_is_nothing_to_show_the_reason_is_told(name: str, folder: Folder) -> None:
    folder.add(FederatedConfig(), 0.8, None)
    if name in ("accuracy", "overview"):
        assert draw_images(name, family_of(folder), ["png"])
        return
    with pytest.raises(NothingToDraw, match=r"^[a-z].*[^.]$"):
        draw_images(name, family_of(folder), ["png"])


def test_the_forest_has_a_line_for_each_comparison_with_its_numbers(folder: Folder) -> None:
    folder.level(10, 0.1, fedavg=[0.80, 0.81, 0.83], fedspec=[0.70, 0.72, 0.71])
    folder.level(10, 0.5, fedavg=[0.80, 0.81, 0.83], fedavg_rebalanced=[0.81, 0.80, 0.83], fedspec=[0.84, 0.86, 0.87])
    said = texts(figure(folder, "differences"))
    assert [text for text in said if MINUS in text and "Fed" in text] == [
        f"FedSpec {MINUS} FedAvg",
        f"FedAvg rebalanced {MINUS} FedAvg",
        f"FedSpec {MINUS} FedAvg",
        f"FedSpec {MINUS} FedAvg rebalanced",
    ]
    assert f"{MINUS}10.33 [{MINUS}14.13, {MINUS}6.54]" in said
    assert "+0.00 [" in "".join(said)


def test_the_forests_points_are_filled_where_the_corrected_verdict_is_significant(folder: Folder) -> None:
    levels = {"fedavg": [0.80, 0.81, 0.83], "fedspec": [0.84, 0.86, 0.87], "fedavg_rebalanced": [0.81, 0.80, 0.83]}
    folder.level(10, 0.5, **levels)
    found = study(family_of(folder)).comparisons
    drawn = figure(folder, "differences")
    marks = [line for line in drawn.axes[0].get_lines() if line.get_marker() == "s"]
    assert [mark.get_xdata()[0] for mark in marks] == pytest.approx([comparison.points for comparison in found])
    assert [mark.get_markerfacecolor() != "white" for mark in marks] == [comparison.significant for comparison in found]
    assert {comparison.significant for comparison in found} == {True, False}
    assert "95 %, all 3 at once (Bonferroni)" in legend(drawn)
    assert "significant (Holm over 3)" in legend(drawn)


def test_what_does_not_fit_into_the_forest_has_arrowheads(folder: Folder) -> None:
    """With two seeds the simultaneous interval is many times as wide as what one reads."""
    folder.level(10, 0.5, fedavg=[0.80, 0.81], fedavg_rebalanced=[0.81, 0.80], fedspec=[0.84, 0.86], fedex=[0.84, 0.87])
    (axes,) = figure(folder, "differences").axes
    low, high = axes.get_xlim()
    lines = [line.get_xdata() for line in axes.get_lines() if len(line.get_xdata()) == 2 and line.get_linewidth() == 0.7]
    assert {edge for line in lines for edge in line} >= {low, high}
    assert all(low <= edge <= high for line in lines for edge in line)


def test_a_single_seed_has_a_point_and_no_interval_in_the_forest(folder: Folder) -> None:
    folder.level(10, 0.5, fedavg=[0.80], fedspec=[0.84])
    assert "+4.00 no interval" in texts(figure(folder, "differences"))


def test_each_run_is_a_point_of_gain_and_reduction(folder: Folder) -> None:
    for seed in (1, 2, 3):
        folder.add(FederatedConfig(seed=seed), 0.80, 0.4, fedavg_gap=0.4)
        folder.add(FederatedConfig(method="fedspec", seed=seed), 0.80 + seed / 100, 0.2 + seed / 100, fedavg_gap=0.4)
    folder.add(FederatedConfig(method="fedspec", seed=4), 0.99, 0.2, fedavg_gap=0.4)
    (axes,) = figure(folder, "gain_and_gap").axes
    color = styles(["fedspec"])["fedspec"].color
    expected = [[100 * (1 - (0.2 + seed / 100) / 0.4), seed] for seed in (1, 2, 3)]
    np.testing.assert_allclose(points(axes, color)[:3], expected)
    assert "3 seeds" in axes.get_title()
    assert points(axes, styles(["fedavg"])["fedavg"].color).size == 0


@pytest.mark.parametrize("widened", [0.6, 3.9])
def test_a_widened_gap_does_not_press_the_others_together_and_no_tick_is_beyond_all_of_a_gap(
    widened: float, folder: Folder
) -> None:
    for method, gap in (("fedavg", 0.4), ("fedspec", 0.3), ("fedex", 0.0), ("fedrpca", widened)):
        folder.add(FederatedConfig(method=method), 0.8, gap, fedavg_gap=0.4)
    drawn = figure(folder, "gain_and_gap")
    (axes,) = drawn.axes
    assert max(axes.get_xticks()) == 100
    assert {"0", "100"} <= {tick.get_text() for tick in axes.get_xticklabels()}
    left, zero, spec, all_of_it = axes.transAxes.inverted().transform(
        [axes.transData.transform((x, 0)) for x in (100 * (1 - widened / 0.4), 0, 25, 100)]
    )[:, 0]
    assert 0 < left < zero < spec < all_of_it < 1
    assert all_of_it - zero > 0.25


def test_learning_rates_are_compared_on_validation(folder: Folder) -> None:
    for lr, test, validation in ((0.01, 0.9, 0.6), (0.02, 0.2, 0.8), (0.1, 0.5, 0.7)):
        for seed in (1, 2):
            folder.add(FederatedConfig(seed=seed, lr=lr), test, validation=validation)
    folder.add(FederatedConfig(seed=3, lr=0.1), 0.5, validation=0.0, done=3)
    drawn = figure(folder, "learning_rate")
    (axes,) = drawn.axes
    line = next(line for line in axes.get_lines() if len(line.get_xdata()) == 3)
    np.testing.assert_allclose(line.get_xydata(), [[0.01, 60], [0.02, 80], [0.1, 70]])
    (ring,) = [line for line in axes.get_lines() if line.get_markerfacecolor() == "none"]
    assert ring.get_xydata().tolist() == [[0.02, pytest.approx(80)]]
    assert axes.get_ylabel() == "Validation accuracy (%)"


def test_bytes_are_summed_over_rounds_and_references_are_levels(folder: Folder) -> None:
    for seed in (1, 2):
        folder.add(FederatedConfig(seed=seed, rounds=4), 0.8, columns={"communication_bytes": 500})
    folder.add(CentralizedConfig(rounds=4), 0.95)
    (axes,) = figure(folder, "accuracy_by_bytes").axes
    line, level = axes.get_lines()
    np.testing.assert_allclose(line.get_xdata(), [0.5, 1.0, 1.5, 2.0])
    np.testing.assert_allclose(level.get_ydata(), 95)
    assert (axes.get_xlabel(), axes.get_xscale()) == ("Sent and received (kB)", "linear")


def test_bytes_that_differ_much_are_drawn_on_a_logarithmic_axis_with_plain_numbers(folder: Folder) -> None:
    for method, sent in (("fedavg", 1_000_000), ("fedspec", 10_000_000)):
        folder.add(FederatedConfig(method=method, rounds=4), 0.8, columns={"communication_bytes": sent})
    drawn = figure(folder, "accuracy_by_bytes")
    (axes,) = drawn.axes
    assert (axes.get_xlabel(), axes.get_xscale()) == ("Sent and received (MB)", "log")
    assert {tick.get_text() for tick in axes.get_xticklabels()} >= {"1", "2", "5", "10"}


@pytest.mark.parametrize(("ranks", "steps"), [((4, 4), 1), ((4, 6), 2)])
def test_ranks_are_one_line_where_all_have_the_same(ranks: tuple[int, int], steps: int, folder: Folder) -> None:
    for method, last in zip(("fedavg", "fedspec"), ranks, strict=True):
        path = folder.add(FederatedConfig(method=method, rounds=3), 0.8, 0.1, columns={"effective_rank": 3.0})
        lines = path.read_text().splitlines()
        cells = lines[-1].split(",")
        cells[lines[0].split(",").index("rank")] = str(last)
        path.write_text("\n".join([*lines[:-1], ",".join(cells)]) + "\n")
    axes = figure(folder, "rank").axes[0]
    assert len([line for line in axes.get_lines() if line.get_drawstyle() == "steps-mid"]) == steps


def test_the_gap_by_alpha_begins_at_zero_and_stands_at_its_alpha(folder: Folder) -> None:
    for alpha, gap in ((0.1, 0.4), (0.5, 0.2)):
        for seed in (1, 2):
            config = FederatedConfig(method="fedspec", alpha=alpha, seed=seed)
            folder.add(config, 0.8, gap, fedavg_gap=0.8, columns={"gap_over_move": gap / 2})
    drawn = figure(folder, "gap_by_alpha")
    color = styles(["fedspec"])["fedspec"].color
    for axes, scale in zip(drawn.axes, (1, 0.5, 1.25), strict=True):
        np.testing.assert_allclose(points(axes, color), [[0, 0.4 * scale], [1, 0.2 * scale]])
        low, high = axes.get_ylim()
        assert -0.05 * high < low < 0
        assert [tick.get_text() for tick in axes.get_xticklabels()] == ["0.1", "0.5"]


def test_the_overview_shows_the_default_alpha_in_four_panels(folder: Folder) -> None:
    folder.grid(METHODS, alphas=(0.1, 0.5, 1.0), seeds=2, centralized=0.95)
    drawn = figure(folder, "overview")
    assert len(drawn.axes) == 4
    assert all(r"$\alpha$ = 0.5 (2 seeds)" in axes.get_xlabel() for axes in drawn.axes[2:])
    np.testing.assert_allclose(drawn.axes[3].get_lines()[0].get_ydata()[-1], 10.0)


MINUS = "\N{MINUS SIGN}"


@pytest.fixture(scope="module")
def digits() -> Callable[[FederatedConfig], str]:
    """The hash of the partition that an experiment on the digits has."""
    from fedspec.federated.experiment import share_out

    return lambda config: share_out(config, None)[0].hash


def test_client_labels_are_those_of_the_partition_that_the_rows_name(
    folder: Folder, digits: Callable[[FederatedConfig], str], tmp_path: Path
) -> None:
    for alpha in (0.1, 0.5):
        config = FederatedConfig(alpha=alpha, seed=7, clients=6, min_client_samples=3)
        folder.add(config, 0.8, columns={"partition_hash": digits(config)})
    drawn = figure(folder, "client_labels", Data(tmp_path))
    assert [axes.get_title() for axes in drawn.axes[:2]] == [r"$\alpha$ = 0.1 (seed 7)", r"$\alpha$ = 0.5 (seed 7)"]
    for axes in drawn.axes[:2]:
        (squares,) = axes.collections
        assert squares.get_array().shape == (6, 10)
        assert squares.get_array().sum() == 629


def test_iid_clients_have_labels_too(folder: Folder, digits: Callable[[FederatedConfig], str]) -> None:
    config = FederatedConfig(alpha=None, split="iid")
    folder.add(config, 0.8, columns={"partition_hash": digits(config)})
    assert figure(folder, "client_labels", Data()).axes[0].get_title() == "iid (seed 42)"


def test_the_queue_says_what_a_partition_depends_on_beyond_the_rows(folder: Folder, tmp_path: Path) -> None:
    """As of arrays of one's own, whose file no row names."""
    from fedspec.federated.experiment import share_out

    labels = np.arange(300) % 3
    np.savez(tmp_path / "mine.npz", x=np.ones((300, 4), dtype=np.float32), y=labels)
    config = FederatedConfig(dataset="npz", data_file="mine.npz", clients=4)
    item = make_item("federated", config)
    columns = {"run_id": item.id, "partition_hash": share_out(config, tmp_path)[0].hash}
    folder.add(config, 0.8, columns=columns, name="fedavg_dirichlet_alpha0.5_npz_c4_mine")
    known = figure(folder, "client_labels", Data(tmp_path, {item.id: item}))
    (squares,) = known.axes[0].collections
    assert squares.get_array().shape == (4, 3)
    with pytest.raises(NothingToDraw, match="cannot be made again here"):
        draw_images("client_labels", family_of(folder), ["png"], Data(tmp_path))


def test_looking_at_results_downloads_nothing(folder: Folder, tmp_path: Path) -> None:
    folder.add(FederatedConfig(dataset="mnist"), 0.8, columns={"partition_hash": "123456abcdef"})
    with pytest.raises(NothingToDraw, match=r"MNIST is not here.*run an experiment with it on this machine first"):
        draw_images("client_labels", family_of(folder), ["png"], Data(tmp_path))
    assert not list(tmp_path.glob("MNIST"))


@pytest.mark.parametrize(
    ("config", "hash_", "reason"),
    [
        (FederatedConfig(), "123456abcdef", "the partition is [0-9a-f]{12}, and the results' is 123456abcdef"),
        (FederatedConfig(), "", "the results do not name their partition"),
        (FederatedConfig(dataset="mnist", model="mlp"), "123456abcdef", "cannot be made again here: MNIST needs a data folder"),
        (FederatedConfig(dataset="unheard_of"), "123456abcdef", "no data set called 'unheard_of'"),
        (FederatedConfig(clients=400), "123456abcdef", "400 clients"),
    ],
)
def test_client_labels_that_cannot_be_vouched_for_are_not_drawn(
    config: FederatedConfig, hash_: str, reason: str, folder: Folder
) -> None:
    folder.add(config, 0.8, columns={"partition_hash": hash_})
    with pytest.raises(NothingToDraw) as told:
        draw_images("client_labels", family_of(folder), ["png"])
    assert re.search(reason, str(told.value))

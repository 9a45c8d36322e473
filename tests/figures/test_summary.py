"""What the summary says follows from the rows, whichever way they go."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedspec.config import CentralizedConfig, FederatedConfig
from fedspec.figures.intervals import mean_interval
from fedspec.figures.summary import FamilySummary, summarize, summarize_files
from fedspec.results import load_results

from .conftest import Folder


def results(folder: Folder, rounds: int = 10, alpha: float | None = 0.5, **accuracies: list[float]) -> FamilySummary:
    """The summary of runs with these accuracies by seed, the same in each round."""
    for method, by_seed in accuracies.items():
        for seed, accuracy in enumerate(by_seed, start=1):
            config = FederatedConfig(
                method=method, seed=seed, rounds=rounds, alpha=alpha, split="dirichlet" if alpha else "iid"
            )
            folder.add(config, accuracy, 0.1)
    (summary,) = summarize(load_results(folder.path))
    return summary


def test_the_interval_is_students() -> None:
    mean, half = mean_interval([1.0, 2.0, 3.0])
    assert half is not None
    # t(0.975, 2) = 4.3027 in every table.
    assert (mean.item(), half.item()) == pytest.approx((2.0, 4.302653 / np.sqrt(3)), rel=1e-6)


@given(st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=8), st.floats(-1e3, 1e3), st.randoms())
def test_an_interval_moves_with_its_values_and_has_no_order(values: list[float], shift: float, random: object) -> None:
    mean, half = mean_interval(values)
    shuffled = list(values)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    moved_mean, moved_half = mean_interval([value + shift for value in shuffled])
    assert half is not None
    assert moved_half is not None
    assert moved_mean == pytest.approx(mean + shift, abs=1e-8)
    assert moved_half == pytest.approx(half, abs=1e-8)


def test_one_seed_has_no_interval() -> None:
    assert mean_interval([[1.0, 2.0]])[1] is None


def test_a_gain_within_the_noise_is_called_not_significant(folder: Folder) -> None:
    (alpha,) = results(folder, fedavg=[0.88, 0.89, 0.90], fedspec=[0.90, 0.8975, 0.9169]).alphas
    assert alpha.sentences() == [
        "alpha 0.5: FedAvg 0.8900, FedSpec 0.9048",
        "  FedSpec - FedAvg: +1.48 points (+1.66 % relative), 95 % interval -0.14 to +3.10, 3 seeds: not significant",
    ]


def test_where_fedspec_loses_the_summary_says_that_it_loses(folder: Folder) -> None:
    (alpha,) = results(folder, fedavg=[0.90, 0.91, 0.92], fedspec=[0.85, 0.862, 0.868]).alphas
    (comparison,) = alpha.comparisons
    assert comparison.significant
    assert comparison.sentence() == (
        "FedSpec - FedAvg: -5.00 points (-5.49 % relative), 95 % interval -5.50 to -4.50, 3 seeds: FedSpec is worse"
    )


def test_where_fedspec_wins_it_wins(folder: Folder) -> None:
    (alpha,) = results(folder, fedavg=[0.85, 0.862, 0.868], fedspec=[0.90, 0.91, 0.92]).alphas
    assert alpha.comparisons[0].sentence().endswith("95 % interval +4.50 to +5.50, 3 seeds: FedSpec is better")


@settings(max_examples=25)
@given(pairs=st.lists(st.tuples(st.integers(0, 1000), st.integers(0, 1000)), min_size=1, max_size=5))
def test_exchanging_the_names_changes_the_sign_and_not_the_verdict(
    pairs: list[tuple[int, int]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    ours, theirs = ([pair[side] / 1000 for pair in pairs] for side in (0, 1))
    (one,) = results(Folder(tmp_path_factory.mktemp("a")), 1, fedavg=ours, fedspec=theirs).alphas[0].comparisons
    (two,) = results(Folder(tmp_path_factory.mktemp("b")), 1, fedavg=theirs, fedspec=ours).alphas[0].comparisons
    assert one.points == pytest.approx(-two.points)
    assert one.significant == two.significant


def test_the_control_stands_beside_the_claim(folder: Folder) -> None:
    (alpha,) = results(folder, fedavg=[0.8, 0.81], fedavg_rebalanced=[0.85, 0.86], fedspec=[0.86, 0.865]).alphas
    assert [(found.method, found.baseline) for found in alpha.comparisons] == [
        ("fedavg_rebalanced", "fedavg"),
        ("fedspec", "fedavg"),
        ("fedspec", "fedavg_rebalanced"),
    ]


def test_one_seed_claims_nothing(folder: Folder) -> None:
    (alpha,) = results(folder, fedavg=[0.80], fedspec=[0.90]).alphas
    assert alpha.comparisons[0].sentence() == (
        "FedSpec - FedAvg: +10.00 points (+12.50 % relative), 1 seed: no interval, not significant"
    )


@pytest.mark.parametrize("gain", [0.0, 0.02, 1 / 30])
def test_seeds_without_variance_claim_nothing(gain: float, folder: Folder) -> None:
    (alpha,) = results(folder, fedavg=[0.80, 0.81, 0.83], fedspec=[0.80 + gain, 0.81 + gain, 0.83 + gain]).alphas
    assert not alpha.comparisons[0].significant
    assert alpha.comparisons[0].sentence().endswith("3 seeds without variance: no interval, not significant")


def test_only_seeds_that_both_have_are_compared(folder: Folder) -> None:
    (alpha,) = results(folder, fedavg=[0.80, 0.81, 0.10], fedspec=[0.90, 0.92]).alphas
    assert alpha.comparisons[0].seeds == 2
    assert alpha.comparisons[0].points == pytest.approx(10.5)
    assert alpha.comparisons[0].relative_percent == pytest.approx(100 * 10.5 / 80.5)


def test_the_number_of_seeds_is_said_where_the_methods_differ_in_it(folder: Folder) -> None:
    folder.add(CentralizedConfig(rounds=10, seed=1), 0.95)
    summary = results(folder, fedavg=[0.80, 0.81, 0.10], fedspec=[0.90])
    assert summary.alphas[0].sentences()[0] == "alpha 0.5: FedAvg 0.5700 (3 seeds), FedSpec 0.9000 (1 seed)"
    assert summary.sentences()[-1] == "Centralized: 0.9500 (1 seed)"


def test_as_many_seeds_are_not_the_same_seeds(folder: Folder) -> None:
    folder.add(FederatedConfig(rounds=10, seed=1), 0.8)
    folder.add(FederatedConfig(rounds=10, seed=2, method="fedspec"), 0.9)
    (summary,) = summarize(load_results(folder.path))
    assert summary.alphas[0].sentences() == ["alpha 0.5: FedAvg 0.8000 (1 seed), FedSpec 0.9000 (1 seed)"]


def test_the_number_of_seeds_goes_unsaid_where_all_are_equal(folder: Folder) -> None:
    for seed in (1, 2):
        folder.add(CentralizedConfig(rounds=10, seed=seed), 0.95)
    lines = results(folder, fedavg=[0.80, 0.82], fedspec=[0.80, 0.81]).sentences()
    assert "alpha 0.5: FedAvg 0.8100, FedSpec 0.8050" in lines
    assert lines[-1] == "Centralized: 0.9500"


@pytest.mark.parametrize("with_fedavg", [True, False])
def test_the_gap_is_compared_on_the_same_updates(with_fedavg: bool, folder: Folder) -> None:
    """FedAvg's own runs see other updates: their gap, which a theorem says nothing of, has no part in it."""
    if with_fedavg:
        for seed in (1, 2):
            folder.add(FederatedConfig(seed=seed), 0.8, 0.01, fedavg_gap=0.01)
    for seed, gap, fedavg_gap in ((1, 0.1, 0.2), (2, 0.3, 0.3)):
        folder.add(FederatedConfig(method="fedspec", seed=seed), 0.8, gap, fedavg_gap=fedavg_gap)
    (summary,) = summarize(load_results(folder.path))
    assert summary.alphas[0].sentences()[-1] == (
        "  On the same updates FedSpec's Frobenius gap is 0.80 times FedAvg's (a theorem says at most 1; it is not a result)"
    )


@pytest.mark.parametrize(("gap", "fedavg_gap"), [(0.1, None), (None, 0.1), (0.0, 0.0)])
def test_of_an_unknown_gap_nothing_is_said(gap: float | None, fedavg_gap: float | None, folder: Folder) -> None:
    folder.add(FederatedConfig(), 0.8, 0.4, fedavg_gap=0.4)
    folder.add(FederatedConfig(method="fedspec"), 0.8, gap, fedavg_gap=fedavg_gap)
    (summary,) = summarize(load_results(folder.path))
    assert summary.alphas[0].gap_ratio is None
    assert not any("Frobenius" in line for line in summary.sentences())


def test_several_intervals_are_said_once_not_to_be_corrected(folder: Folder) -> None:
    folder.add(FederatedConfig(seed=3), 0.1, done=4)
    results(folder, 20, alpha=0.1, fedavg=[0.8, 0.81], fedspec=[0.85, 0.87])
    lines = results(folder, 20, fedavg=[0.8, 0.81], fedavg_rebalanced=[0.85, 0.87], fedspec=[0.86, 0.865]).sentences()
    said = "Intervals are not corrected for the number of comparisons (4)."
    assert [place for place, line in enumerate(lines) if "corrected" in line] == [len(lines) - 1]
    assert lines[-1] == said


@pytest.mark.parametrize("accuracies", [{"fedavg": [0.8, 0.81]}, {"fedavg": [0.8], "fedavg_rebalanced": [0.9]}])
def test_one_interval_or_none_needs_no_correction(accuracies: dict[str, list[float]], folder: Folder) -> None:
    fedspec = [0.85, 0.87][: len(accuracies["fedavg"])]
    assert not any("corrected" in line for line in results(folder, fedspec=fedspec, **accuracies).sentences())


def test_the_mean_is_of_the_last_five_rounds(folder: Folder) -> None:
    folder.add(FederatedConfig(rounds=8), lambda number: number / 10)
    (summary,) = summarize(load_results(folder.path))
    assert summary.alphas[0].levels[0].accuracy == pytest.approx(0.6)
    assert summary.sentences()[0] == "digits, mlp, 10 clients, 8 rounds: test accuracy, mean of rounds 4 to 8"


def test_fewer_rounds_are_all_counted(folder: Folder) -> None:
    folder.add(FederatedConfig(rounds=2), lambda number: number / 10)
    (summary,) = summarize(load_results(folder.path))
    assert summary.alphas[0].levels[0].accuracy == pytest.approx(0.15)
    assert summary.first_round == 1


def test_an_unfinished_run_is_named_and_not_counted(folder: Folder) -> None:
    folder.add(FederatedConfig(seed=3, rounds=10), 0.1, done=4)
    summary = results(folder, fedavg=[0.80, 0.80], fedspec=[0.80, 0.80])
    assert summary.alphas[0].levels[0].accuracy == pytest.approx(0.8)
    assert summary.sentences()[-1] == "Not counted, unfinished: fedavg_dirichlet_alpha0.5_r10_s3 (4 of 10 rounds)"


def test_without_fedavg_nothing_is_compared(folder: Folder) -> None:
    (alpha,) = results(folder, fedspec=[0.9, 0.91]).alphas
    assert alpha.sentences() == ["alpha 0.5: FedSpec 0.9050"]


def test_a_baseline_of_zero_has_no_relative_gain(folder: Folder) -> None:
    (alpha,) = results(folder, fedavg=[0.0, 0.0], fedspec=[0.1, 0.2]).alphas
    assert alpha.comparisons[0].relative_percent is None
    assert "relative" not in alpha.comparisons[0].sentence()


def test_every_alpha_and_the_centralized_runs_are_told(folder: Folder) -> None:
    folder.add(CentralizedConfig(rounds=10), 0.95)
    results(folder, fedavg=[0.8], fedspec=[0.8])
    results(folder, alpha=0.1, fedavg=[0.7])
    lines = results(folder, alpha=None, fedavg=[0.9]).sentences()
    assert [line.split(":")[0] for line in lines if not line.startswith(" ")][1:] == [
        "alpha 0.1",
        "alpha 0.5",
        "iid",
        "Centralized",
    ]


def test_a_damaged_file_does_not_silence_the_others(folder: Folder) -> None:
    results(folder, fedavg=[0.8], fedspec=[0.8])
    (folder.path / "fedavg_dirichlet_alpha0.1.csv").write_bytes(b"\xff\xfe")
    (summary,) = summarize_files(folder.path)
    assert len(summary.alphas) == 1

"""What the summary says follows from the rows, whichever way they go."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedspec.config import CentralizedConfig, FederatedConfig
from fedspec.figures.summary import gap_sentence, p_value, signed, summarize_files

from .conftest import Folder


def told(folder: Folder, rounds: int = 10, alpha: float | None = 0.5, **accuracies: list[float]) -> list[str]:
    """What is said of runs with these accuracies by seed, and of all that is in the folder already."""
    folder.level(rounds, alpha, **accuracies)
    return summarize_files(folder.path)


def test_a_gain_within_the_noise_is_called_not_significant(folder: Folder) -> None:
    assert told(folder, fedavg=[0.88, 0.89, 0.90], fedspec=[0.90, 0.8975, 0.9169]) == [
        "digits, mlp, 10 clients, 10 rounds: test accuracy, mean of rounds 6 to 10",
        "alpha 0.5: FedAvg 0.8900, FedSpec 0.9048",
        "  FedSpec - FedAvg: +1.48 points (+1.66 % relative), 95 % interval -0.14 to +3.10, 3 seeds, p = 0.059:"
        " not significant",
        "A paired t test, the only one here; better and worse are said below 0.05.",
    ]


def test_where_fedspec_loses_the_summary_says_that_it_loses(folder: Folder) -> None:
    lines = told(folder, fedavg=[0.90, 0.91, 0.92], fedspec=[0.85, 0.862, 0.868])
    assert lines[2] == (
        "  FedSpec - FedAvg: -5.00 points (-5.49 % relative), 95 % interval -5.50 to -4.50, 3 seeds, p = 0.00053:"
        " FedSpec is worse"
    )
    assert not any("better" in line for line in lines[:-1])


def test_where_fedspec_wins_it_wins(folder: Folder) -> None:
    lines = told(folder, fedavg=[0.85, 0.862, 0.868], fedspec=[0.90, 0.91, 0.92])
    assert lines[2].endswith("95 % interval +4.50 to +5.50, 3 seeds, p = 0.00053: FedSpec is better")
    assert not any("worse" in line for line in lines[:-1])


def test_what_only_its_own_interval_finds_is_not_significant_after_the_correction(folder: Folder) -> None:
    folder.level(10, 0.1, fedavg=[0.88, 0.89, 0.90], fedspec=[0.90, 0.8975, 0.9169])
    lines = told(folder, fedavg=[0.88, 0.89, 0.90], fedspec=[0.90, 0.900, 0.9150])
    assert lines[-2] == (
        "  FedSpec - FedAvg: +1.50 points (+1.69 % relative), 95 % interval +0.26 to +2.74, 3 seeds, p = 0.035,"
        " corrected for 2 comparisons 0.07: not significant after the correction"
    )
    assert not any("is better" in line for line in lines)


def test_the_correction_is_told_in_each_sentence_and_once_below(folder: Folder) -> None:
    folder.level(20, 0.1, fedavg=[0.8, 0.81], fedspec=[0.85, 0.87])
    lines = told(folder, 20, fedavg=[0.8, 0.81], fedavg_rebalanced=[0.85, 0.87], fedspec=[0.86, 0.865])
    compared = [line for line in lines if " - " in line]
    assert len(compared) == 4
    assert all("corrected for 4 comparisons " in line for line in compared)
    assert lines[-1] == (
        "Each interval is its own comparison's. Each p is a paired t test's, and Holm's correction is over all 4 comparisons of"
        " test accuracy here; better and worse are said where the corrected p is below 0.05."
    )


@pytest.mark.parametrize("accuracies", [{"fedavg": [0.8]}, {"fedspec": [0.8, 0.9]}])
def test_where_nothing_is_tested_no_test_is_spoken_of(accuracies: dict[str, list[float]], folder: Folder) -> None:
    assert not any("test," in line or "correct" in line for line in told(folder, fedavg_rebalanced=[0.85], **accuracies)[1:])


def test_who_is_best_is_said_of_three_methods_and_more(folder: Folder) -> None:
    levels = {"fedavg": [0.70, 0.71, 0.72, 0.70], "fedex": [0.80, 0.81, 0.83, 0.80]}
    assert not any("Best" in line for line in told(folder, **levels))
    lines = told(folder, fedspec=[0.802, 0.811, 0.829, 0.803])
    assert [line for line in lines if "Best" in line] == [
        "  Best mean: FedSpec, not shown to be better than each of the 2 others (closest: FedEx-LoRA, +0.13 points, p = 0.24)"
    ]


def test_the_best_is_told_whoever_it_is(folder: Folder) -> None:
    levels = {"fedavg": [0.80, 0.81, 0.82, 0.80], "fedex": [0.70, 0.72, 0.71, 0.70], "fedspec": [0.60, 0.63, 0.61, 0.61]}
    folder.level(10, 0.1, **levels)
    best = [line for line in told(folder, **levels) if "Best" in line]
    assert len(best) == 2
    assert best[0].startswith("  Best mean: FedAvg, better than each of the 2 others (closest: FedEx-LoRA, +10.00 points, p ")
    assert "corrected for 2 alphas " in best[0]


def test_a_best_that_cannot_be_tested_says_so(folder: Folder) -> None:
    lines = told(folder, fedavg=[0.7], fedex=[0.6], fedspec=[0.9])
    assert lines[-1] == "  Best mean: FedSpec; whether it is better than each of the 2 others cannot be tested"


def test_one_seed_claims_nothing(folder: Folder) -> None:
    lines = told(folder, fedavg=[0.80], fedspec=[0.90])
    assert lines[2:] == ["  FedSpec - FedAvg: +10.00 points (+12.50 % relative), 1 seed: no interval, not significant"]


@pytest.mark.parametrize("gain", [0.0, 0.02, 1 / 30])
def test_seeds_without_variance_claim_nothing(gain: float, folder: Folder) -> None:
    lines = told(folder, fedavg=[0.80, 0.81, 0.83], fedspec=[0.80 + gain, 0.81 + gain, 0.83 + gain])
    assert lines[2].endswith("3 seeds without variance: no interval, not significant")


def test_the_number_of_seeds_is_said_where_the_methods_differ_in_it(folder: Folder) -> None:
    folder.add(CentralizedConfig(rounds=10, seed=1), 0.95)
    lines = told(folder, fedavg=[0.80, 0.81, 0.10], fedspec=[0.90])
    assert lines[1] == "alpha 0.5: FedAvg 0.5700 (3 seeds), FedSpec 0.9000 (1 seed)"
    assert lines[-1] == "Centralized: 0.9500 (1 seed)"


def test_as_many_seeds_are_not_the_same_seeds(folder: Folder) -> None:
    folder.add(FederatedConfig(rounds=10, seed=1), 0.8)
    folder.add(FederatedConfig(rounds=10, seed=2, method="fedspec"), 0.9)
    assert told(folder)[1] == "alpha 0.5: FedAvg 0.8000 (1 seed), FedSpec 0.9000 (1 seed)"


def test_the_number_of_seeds_goes_unsaid_where_all_are_equal(folder: Folder) -> None:
    for seed in (1, 2):
        folder.add(CentralizedConfig(rounds=10, seed=seed), 0.95)
    lines = told(folder, fedavg=[0.80, 0.82], fedspec=[0.80, 0.81])
    assert "alpha 0.5: FedAvg 0.8100, FedSpec 0.8050" in lines
    assert "Centralized: 0.9500" in lines


def test_the_gap_is_told_and_not_as_a_result(folder: Folder) -> None:
    folder.add(FederatedConfig(method="fedspec"), 0.8, 0.1, fedavg_gap=0.2)
    assert told(folder)[-1] == (
        "  On the same updates FedSpec's Frobenius gap is 0.50 times FedAvg's (a theorem says at most 1; it is not a result)"
    )
    assert "look for the error" in gap_sentence(1.2)


def test_an_unfinished_run_is_named(folder: Folder) -> None:
    folder.add(FederatedConfig(seed=3, rounds=10), 0.1, done=4)
    lines = told(folder, fedavg=[0.80, 0.80])
    assert lines[-1] == "Not counted, unfinished: fedavg_dirichlet_alpha0.5_r10_s3 (4 of 10 rounds)"


def test_a_baseline_of_zero_has_no_relative_gain(folder: Folder) -> None:
    assert not any("relative" in line for line in told(folder, fedavg=[0.0, 0.0], fedspec=[0.1, 0.2]))


def test_every_alpha_and_the_centralized_runs_are_told(folder: Folder) -> None:
    folder.add(CentralizedConfig(rounds=10), 0.95)
    folder.level(10, 0.5, fedavg=[0.8], fedspec=[0.8])
    folder.level(10, 0.1, fedavg=[0.7])
    lines = told(folder, alpha=None, fedavg=[0.9])
    assert [line.split(":")[0] for line in lines if not line.startswith(" ")][1:] == [
        "alpha 0.1",
        "alpha 0.5",
        "iid",
        "Centralized",
    ]


def test_a_damaged_file_does_not_silence_the_others(folder: Folder) -> None:
    folder.level(10, 0.5, fedavg=[0.8], fedspec=[0.8])
    (folder.path / "fedavg_dirichlet_alpha0.1.csv").write_bytes(b"\xff\xfe")
    assert told(folder)[1] == "alpha 0.5: FedAvg 0.8000, FedSpec 0.8000"


@given(st.floats(0, 1))
def test_a_p_value_is_never_rounded_over_the_threshold(p: float) -> None:
    text = p_value(p)
    assert text == "< 0.0001" if p < 0.0001 else (float(text.removeprefix("= ")) < 0.05) == (p < 0.05)


@pytest.mark.parametrize(
    ("p", "text"), [(0.04999, "= 0.04999"), (0.05, "= 0.05"), (0.0123, "= 0.012"), (1.0, "= 1"), (None, "")]
)
def test_a_p_value_has_two_digits_where_these_do(p: float | None, text: str) -> None:
    assert p_value(p) == text


def test_no_difference_has_no_minus() -> None:
    assert signed(-0.0) == "+0.00"

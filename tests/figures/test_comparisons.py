"""Who is compared with whom, paired by seed and corrected together, and what stays open."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from fedspec.config import CentralizedConfig, FederatedConfig
from fedspec.figures.comparisons import WORST_CLIENT, Study, leader, study
from fedspec.figures.families import group
from fedspec.figures.runs import load_runs

from .conftest import Folder


def studied(folder: Folder, rounds: int = 10, alpha: float | None = 0.5, **accuracies: list[float]) -> Study:
    """The study of runs with these accuracies by seed, and of all that is in the folder already."""
    folder.level(rounds, alpha, **accuracies)
    (family,) = group(load_runs(folder.path)[0]).families
    return study(family)


def pairs(found: Study) -> list[tuple[str, str]]:
    return [(comparison.method, comparison.baseline) for comparison in found.comparisons]


def test_every_method_stands_against_fedavg_and_each_claim_against_its_control(folder: Folder) -> None:
    methods = ("fedavg", "fedavg_rebalanced", "fedspec", "fedspec_residual", "fedex", "mine")
    found = studied(folder, **{method: [0.8, 0.81] for method in methods})
    assert pairs(found) == [
        *((method, "fedavg") for method in methods[1:]),
        ("fedspec", "fedavg_rebalanced"),
        ("fedspec_residual", "fedex"),
    ]


def test_without_fedavg_only_the_control_is_compared(folder: Folder) -> None:
    assert pairs(studied(folder, fedspec=[0.9, 0.91])) == []
    assert pairs(studied(folder, fedavg_rebalanced=[0.9, 0.91])) == [("fedspec", "fedavg_rebalanced")]


def test_a_comparison_is_scipys_paired_test_of_the_seeds_that_both_have(folder: Folder) -> None:
    found = studied(folder, fedavg=[0.80, 0.81, 0.77, 0.10], fedspec=[0.90, 0.92, 0.85])
    (comparison,) = found.comparisons
    expected = stats.ttest_rel([90, 92, 85], [80, 81, 77])
    assert comparison.paired.seeds == 3
    assert comparison.points == pytest.approx(29 / 3)
    assert comparison.relative_percent == pytest.approx(100 * 29 / (80 + 81 + 77))
    assert comparison.paired.p == pytest.approx(expected.pvalue)
    assert (comparison.adjusted_p, comparison.among) == (comparison.paired.p, 1)


def test_all_alphas_of_a_family_are_corrected_together(folder: Folder) -> None:
    studied(folder, alpha=0.1, fedavg=[0.7, 0.72, 0.71], fedspec=[0.75, 0.78, 0.75])
    found = studied(folder, fedavg=[0.8, 0.81, 0.80], fedavg_rebalanced=[0.85, 0.87, 0.83], fedspec=[0.86, 0.865, 0.86])
    assert {comparison.among for comparison in found.comparisons} == {4}
    smallest = min(found.comparisons, key=lambda comparison: comparison.paired.p or 1.0)
    assert smallest.adjusted_p == pytest.approx(4 * smallest.paired.p)
    assert all(comparison.adjusted_p >= comparison.paired.p for comparison in found.comparisons)


def test_what_cannot_be_tested_costs_the_others_nothing(folder: Folder) -> None:
    found = studied(folder, fedavg=[0.80, 0.81, 0.83], fedavg_rebalanced=[0.9], fedspec=[0.84, 0.86, 0.87])
    assert [(comparison.adjusted_p, comparison.among) for comparison in found.comparisons] == [
        (None, 1),
        (found.comparisons[1].paired.p, 1),
        (None, 1),
    ]


def test_a_tie_is_counted_and_is_no_difference(folder: Folder) -> None:
    """A tie was found out by looking: leaving it out would make the others' correction depend on what came out."""
    found = studied(folder, fedavg=[0.8, 0.81, 0.83], fedavg_rebalanced=[0.8, 0.81, 0.83], fedspec=[0.84, 0.86, 0.87])
    tied, won, _ = found.comparisons
    assert (tied.points, tied.adjusted_p, tied.verdict) == (pytest.approx(0), 1.0, "not significant")
    assert won.among == 3


@settings(max_examples=25)
@given(scores=st.lists(st.tuples(st.integers(0, 1000), st.integers(0, 1000)), min_size=1, max_size=5))
def test_exchanging_the_names_changes_the_sign_and_not_the_verdict(
    scores: list[tuple[int, int]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    ours, theirs = ([pair[side] / 1000 for pair in scores] for side in (0, 1))
    (one,) = studied(Folder(tmp_path_factory.mktemp("a")), 1, fedavg=ours, fedspec=theirs).comparisons
    (two,) = studied(Folder(tmp_path_factory.mktemp("b")), 1, fedavg=theirs, fedspec=ours).comparisons
    assert one.points == pytest.approx(-two.points)
    assert one.adjusted_p == pytest.approx(two.adjusted_p)
    assert one.significant == two.significant


def test_the_simultaneous_interval_is_wider_and_excludes_zero_only_where_holm_rejects(folder: Folder) -> None:
    found = studied(folder, fedavg=[0.8, 0.81, 0.80], fedavg_rebalanced=[0.85, 0.87, 0.83], fedspec=[0.860, 0.871, 0.859])
    for comparison in found.comparisons:
        assert comparison.paired.simultaneous > comparison.paired.half_width
        assert comparison.significant or abs(comparison.points) <= comparison.paired.simultaneous
    assert any(comparison.significant for comparison in found.comparisons)


def test_the_best_must_be_better_than_each_and_not_only_than_fedavg(folder: Folder) -> None:
    levels = {"fedavg": [0.70, 0.71, 0.72, 0.70], "fedex": [0.80, 0.81, 0.83, 0.80], "fedspec": [0.802, 0.811, 0.829, 0.803]}
    (alpha,) = studied(folder, **levels).alphas
    assert alpha.comparisons[1].significant
    assert (alpha.best.method, alpha.best.closest, alpha.best.rivals) == ("fedspec", "fedex", 2)
    assert not alpha.best.significant
    assert alpha.best.p == pytest.approx(stats.ttest_rel(levels["fedspec"], levels["fedex"]).pvalue)


def test_the_best_of_all_is_found_whoever_it_is_and_corrected_for_the_alphas(folder: Folder) -> None:
    levels = {"fedavg": [0.80, 0.81, 0.82, 0.80], "fedex": [0.70, 0.72, 0.71, 0.70], "fedspec": [0.60, 0.63, 0.61, 0.61]}
    studied(folder, alpha=0.1, **levels)
    for alpha in studied(folder, alpha=0.5, **levels).alphas:
        assert (alpha.best.method, alpha.best.closest) == ("fedavg", "fedex")
        assert alpha.best.significant
        assert alpha.best.adjusted_p == pytest.approx(2 * alpha.best.p)


@pytest.mark.parametrize("methods", [2, 3, 6])
def test_among_equals_the_best_is_called_better_in_five_of_a_hundred_at_most(methods: int) -> None:
    """Though who leads is picked from the data."""
    draw = np.random.default_rng(methods)
    draws = 1500
    seeds = draw.normal(0, 0.03, (draws, 1, 5))
    values = 0.8 + seeds + draw.normal(0, 0.02, (draws, methods, 5))
    found = [leader({f"m{place}": dict(enumerate(row)) for place, row in enumerate(one)}) for one in values]
    wrong = sum(p is not None and p < 0.05 for *_, p in found)
    assert wrong <= 0.065 * draws
    assert methods > 2 or wrong >= 0.035 * draws


def test_a_best_mean_of_other_seeds_is_not_better(folder: Folder) -> None:
    (alpha,) = studied(folder, fedavg=[0.9, 0.8], fedspec=[0.85, 0.79, 0.99]).alphas
    assert alpha.best.method == "fedspec"
    assert (alpha.best.p, alpha.best.significant) == (1.0, False)


def test_a_best_with_a_rival_that_cannot_be_tested_is_not_tested(folder: Folder) -> None:
    (alpha,) = studied(folder, fedavg=[0.7, 0.71], fedex=[0.6], fedspec=[0.9, 0.93]).alphas
    assert (alpha.best.p, alpha.best.adjusted_p, alpha.best.among, alpha.best.significant) == (None, None, 0, False)


def test_a_method_that_is_missing_at_one_alpha_is_compared_at_the_others(folder: Folder) -> None:
    studied(folder, alpha=0.1, fedavg=[0.7, 0.71])
    found = studied(folder, alpha=0.5, fedavg=[0.8, 0.81], fedspec=[0.9, 0.92])
    assert [(comparison.alpha, comparison.method) for comparison in found.comparisons] == [(0.5, "fedspec")]
    assert [[level.method for level in alpha.levels] for alpha in found.alphas] == [["fedavg"], ["fedavg", "fedspec"]]
    assert found.alphas[0].best is None


def test_the_worst_client_is_judged_on_its_own_column(folder: Folder) -> None:
    for seed in (1, 2, 3):
        folder.add(FederatedConfig(seed=seed), 0.8, worst=0.5)
        folder.add(FederatedConfig(seed=seed, method="fedspec"), 0.7, worst=0.5 + seed / 100)
    folder.add(FederatedConfig(seed=4), 0.8)
    (family,) = group(load_runs(folder.path)[0]).families
    (comparison,) = study(family, WORST_CLIENT).comparisons
    assert comparison.points == pytest.approx(2.0)
    assert study(family).comparisons[0].points == pytest.approx(-10)
    assert study(family, WORST_CLIENT).alphas[0].level("fedavg").seeds == (1, 2, 3)


def test_an_outcome_without_values_has_no_alphas(folder: Folder) -> None:
    folder.add(FederatedConfig(), 0.8)
    (family,) = group(load_runs(folder.path)[0]).families
    assert study(family, WORST_CLIENT).alphas == ()


def test_references_have_a_level_and_no_comparison(folder: Folder) -> None:
    folder.add(CentralizedConfig(rounds=10, seed=1), 0.95)
    folder.add(CentralizedConfig(rounds=10, seed=1), 0.92, method="linear_probe", name="linear_probe_r10_s1")
    found = studied(folder, fedavg=[0.80, 0.81], fedspec=[0.9, 0.92])
    assert [(level.method, level.mean) for level in found.references] == [
        ("centralized", pytest.approx(0.95)),
        ("linear_probe", pytest.approx(0.92)),
    ]
    assert {level.method for alpha in found.alphas for level in alpha.levels} == {"fedavg", "fedspec"}


def test_the_mean_is_of_the_last_five_rounds(folder: Folder) -> None:
    folder.add(FederatedConfig(rounds=8), lambda number: number / 10)
    found = studied(folder, 8)
    assert found.alphas[0].levels[0].mean == pytest.approx(0.6)
    assert (found.first_round, found.last_round) == (4, 8)


def test_fewer_rounds_are_all_counted(folder: Folder) -> None:
    folder.add(FederatedConfig(rounds=2), lambda number: number / 10)
    found = studied(folder)
    assert found.alphas[0].levels[0].mean == pytest.approx(0.15)
    assert found.first_round == 1


def test_an_unfinished_run_is_named_and_not_counted(folder: Folder) -> None:
    folder.add(FederatedConfig(seed=3, rounds=10), 0.1, done=4)
    found = studied(folder, fedavg=[0.80, 0.80], fedspec=[0.80, 0.80])
    assert found.alphas[0].levels[0].mean == pytest.approx(0.8)
    assert found.unfinished == ("fedavg_dirichlet_alpha0.5_r10_s3 (4 of 10 rounds)",)


@pytest.mark.parametrize("with_fedavg", [True, False])
def test_the_gap_is_compared_on_the_same_updates(with_fedavg: bool, folder: Folder) -> None:
    """FedAvg's own runs see other updates: their gap, which a theorem says nothing of, has no part in it."""
    if with_fedavg:
        for seed in (1, 2):
            folder.add(FederatedConfig(seed=seed), 0.8, 0.01, fedavg_gap=0.01)
    for seed, gap, fedavg_gap in ((1, 0.1, 0.2), (2, 0.3, 0.3)):
        folder.add(FederatedConfig(method="fedspec", seed=seed), 0.8, gap, fedavg_gap=fedavg_gap)
    assert studied(folder).alphas[0].gap_ratio == pytest.approx((0.1 / 0.2 + 0.3 / 0.3) / 2)


@pytest.mark.parametrize(("gap", "fedavg_gap"), [(0.1, None), (None, 0.1), (0.0, 0.0), (3e-10, 1e-17)])
def test_of_an_unknown_gap_nothing_is_said(gap: float | None, fedavg_gap: float | None, folder: Folder) -> None:
    folder.add(FederatedConfig(), 0.8, 0.4, fedavg_gap=0.4)
    folder.add(FederatedConfig(method="fedspec"), 0.8, gap, fedavg_gap=fedavg_gap, columns={"ideal_norm": 5.0})
    assert studied(folder).alphas[0].gap_ratio is None

"""Intervals and p values are scipy's, and Holm's correction is its definition."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import stats

from fedspec.figures.inference import NO_VARIANCE, holm, mean_interval, paired

points = st.lists(st.tuples(st.floats(-100, 100), st.floats(-100, 100)), min_size=2, max_size=20)
p_values = st.lists(st.floats(0, 1), max_size=12)


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


def test_one_seed_has_no_interval_and_no_test() -> None:
    assert mean_interval([[1.0, 2.0]])[1] is None
    alone = paired([3.0], 4)
    assert (alone.mean, alone.half_width, alone.simultaneous, alone.p) == (3.0, None, None, None)


@given(points, st.integers(1, 30))
def test_a_paired_test_is_scipys(pairs: list[tuple[float, float]], comparisons: int) -> None:
    ours, theirs = zip(*pairs, strict=True)
    differences = [one - other for one, other in pairs]
    assume(np.std(differences) > 1e-3)
    found, expected = paired(differences, comparisons), stats.ttest_rel(ours, theirs)
    assert found.p == pytest.approx(float(expected.pvalue), rel=1e-6, abs=1e-12)
    for half, level in ((found.half_width, 0.95), (found.simultaneous, 1 - 0.05 / comparisons)):
        interval = expected.confidence_interval(level)
        assert (found.mean - half, found.mean + half) == pytest.approx((interval.low, interval.high), rel=1e-6, abs=1e-6)


@given(points, st.integers(1, 30))
def test_intervals_and_p_values_agree_on_zero(pairs: list[tuple[float, float]], comparisons: int) -> None:
    """Each interval excludes 0 where its own p is below 0.05, and the simultaneous one where that is so after Bonferroni."""
    differences = [one - other for one, other in pairs]
    found = paired(differences, comparisons)
    assume(found.half_width is not None)
    for half, p in ((found.half_width, found.p), (found.simultaneous, found.p * comparisons)):
        assume(abs(p - 0.05) > 1e-9)
        assert (abs(found.mean) > half) == (p < 0.05)


@pytest.mark.parametrize("difference", [0.0, 2.0, -1 / 3, NO_VARIANCE])
def test_differences_without_variance_prove_nothing(difference: float) -> None:
    found = paired([difference] * 3)
    assert (found.mean, found.half_width, found.p) == (pytest.approx(difference), None, 1.0)


@given(p_values)
def test_holm_is_its_definition(values: list[float]) -> None:
    """Step down from the smallest: reject while p(i) <= level / (m - i + 1), and stop at the first that is not."""
    adjusted = holm(values)
    for level in (0.001, 0.05, 0.3):
        assume(all(abs((len(values) - i) * p - level) > 1e-12 for p in values for i in range(len(values))))
        rejected = set()
        for rank, place in enumerate(sorted(range(len(values)), key=values.__getitem__)):
            if values[place] > level / (len(values) - rank):
                break
            rejected.add(place)
        assert {place for place, p in enumerate(adjusted) if p <= level} == rejected


@given(p_values, st.randoms())
def test_holm_has_no_order_keeps_ranks_and_lies_between_none_and_bonferroni(values: list[float], random: object) -> None:
    adjusted = holm(values)
    assert all(p <= q <= min(1.0, len(values) * p) + 1e-15 for p, q in zip(values, adjusted, strict=True))
    assert [q for _, q in sorted(zip(values, adjusted, strict=True))] == sorted(adjusted)
    order = list(range(len(values)))
    random.shuffle(order)  # type: ignore[attr-defined]
    assert holm([values[place] for place in order]) == [adjusted[place] for place in order]


def test_holm_in_an_example_from_the_paper_tables() -> None:
    """Smallest of four times 4, next times 3, then 2, then 1, never falling."""
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])

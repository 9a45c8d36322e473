from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from fedspec.federated.lora import Factors
from fedspec.federated.spectral import DEAD, LowRank, Spectrum, refactor


@st.composite
def products(draw: st.DrawFn) -> LowRank:
    """Products of all shapes: thin, thick, of full and of deficient rank, well and badly scaled."""
    out, width, inner = draw(st.integers(1, 24)), draw(st.integers(1, 24)), draw(st.integers(1, 30))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    left = torch.randn(out, inner, generator=generator, dtype=torch.float64)
    right = torch.randn(inner, width, generator=generator, dtype=torch.float64)
    if draw(st.booleans()):
        right[inner // 2 :] = right[0].clone()
    return LowRank(left * 10 ** draw(st.integers(-6, 6)), right)


def restored(spectrum: Spectrum) -> Tensor:
    return spectrum.U @ torch.diag(spectrum.S) @ spectrum.V


@given(products())
def test_the_stacked_qr_is_the_dense_svd_to_1e_10(product: LowRank) -> None:
    spectrum, dense = product.svd(), torch.linalg.svdvals(product.dense())
    tolerance = 1e-10 * float(dense[0])
    kept = len(spectrum.S)
    torch.testing.assert_close(spectrum.S[: len(dense)], dense[:kept], rtol=0, atol=tolerance)
    assert dense[kept:].sum() <= tolerance
    torch.testing.assert_close(restored(spectrum), product.dense(), rtol=0, atol=tolerance)
    torch.testing.assert_close(product.singular_values(), spectrum.S, rtol=0, atol=1e-14 * float(dense[0]))
    eye = torch.eye(kept, dtype=torch.float64)
    torch.testing.assert_close(spectrum.U.T @ spectrum.U, eye, rtol=0, atol=1e-10)
    torch.testing.assert_close(spectrum.V @ spectrum.V.T, eye, rtol=0, atol=1e-10)


@given(products())
def test_norms_are_those_of_the_matrix_that_is_never_built(product: LowRank) -> None:
    assert product.norm() == pytest.approx(float(product.dense().norm()), rel=1e-10)
    assert (product - product).norm() <= 1e-14 * product.left.norm() * product.right.norm()
    twice = LowRank(2 * product.left, product.right)
    assert (twice - product).norm() == pytest.approx(product.norm(), rel=1e-10)


@given(products(), st.integers(1, 8), st.sampled_from(["even", "b", "a"]))
def test_refactoring_is_the_best_approximation_of_its_rank(product: LowRank, rank: int, split: str) -> None:
    factors = refactor(product.svd(), rank, 2.0, split, "test")  # type: ignore[arg-type]
    assert factors.rank == rank
    S = torch.linalg.svdvals(product.dense())
    missed = product - LowRank.of(factors, 2.0)
    assert missed.norm() == pytest.approx(float(S[rank:].norm()), rel=1e-6, abs=2 * DEAD * float(S[0]))


def test_the_split_says_which_factor_carries_the_singular_values() -> None:
    S = torch.tensor([9.0, 4.0], dtype=torch.float64)
    eye = torch.eye(2, dtype=torch.float64)
    norms = {}
    for split in ("even", "b", "a"):
        factors = refactor(Spectrum(eye, S, eye), 2, 1.0, split, "test")
        norms[split] = factors.B.norm(dim=0).tolist(), factors.A.norm(dim=1).tolist()
    assert norms == {"even": ([3, 2], [3, 2]), "b": ([9, 4], [1, 1]), "a": ([1, 1], [9, 4])}


def test_dead_directions_get_an_empty_column_and_a_random_row() -> None:
    eye = torch.eye(3, dtype=torch.float64)
    S = torch.tensor([1.0, DEAD / 2, 0.0], dtype=torch.float64)
    factors = refactor(Spectrum(eye, S, eye), 3, 1.0, "even", 42, 1, "layer")
    assert factors.B[:, 1:].abs().max() == 0
    assert (factors.A[1:].norm(dim=1) > 0.1).all()
    again = refactor(Spectrum(eye, S, eye), 3, 1.0, "even", 42, 1, "layer")
    assert torch.equal(factors.A, again.A)
    other = refactor(Spectrum(eye, S, eye), 3, 1.0, "even", 42, 2, "layer")
    assert not torch.equal(factors.A[1:], other.A[1:])


def test_a_zero_matrix_refactors_to_a_fresh_adapter() -> None:
    zero = LowRank(torch.zeros(5, 2, dtype=torch.float64), torch.randn(2, 4, dtype=torch.float64))
    factors = refactor(zero.svd(), 2, 1.0, "even", "test")
    assert factors.B.abs().max() == 0
    assert factors.A.abs().min() > 0


def test_weighted_sums_take_clients_of_different_ranks() -> None:
    one = Factors(torch.ones(3, 1), torch.ones(1, 2))
    two = Factors(torch.ones(3, 2), torch.ones(2, 2))
    product = LowRank.weighted_sum([one, two], [0.25, 0.75], scale=2.0)
    assert product.dense().tolist() == [[3.5, 3.5]] * 3
    assert product.dense().dtype == torch.float64


def test_a_factor_that_all_clients_share_is_taken_once(factors: Callable[..., Factors]) -> None:
    one, two = factors(), factors()
    for pair in ([one, Factors(two.B, one.A)], [one, Factors(one.B, two.A)]):
        shared = LowRank.thinnest_sum(pair, [0.25, 0.75], scale=2.0)
        assert shared.left.shape[1] == one.rank
        expected = sum(2 * w * f.B.double() @ f.A.double() for f, w in zip(pair, [0.25, 0.75], strict=True))
        torch.testing.assert_close(shared.dense(), expected)
        assert LowRank.weighted_sum(pair, [0.25, 0.75], scale=2.0).left.shape[1] == 2 * one.rank
    assert LowRank.thinnest_sum([one, two], [0.25, 0.75], scale=2.0).left.shape[1] == 2 * one.rank


def test_a_matrix_is_sent_in_its_cheapest_form() -> None:
    assert LowRank(torch.ones(10, 2), torch.ones(2, 10)).numel == 40
    assert LowRank(torch.ones(10, 8), torch.ones(8, 10)).numel == 100

"""Quantiles of an ordering, and the curves over them."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tis_ray.analysis import Cell
from tis_ray.analysis.quantiles import quantile_curves, quantile_slices
from tis_ray.errors import InputError
from tis_ray.metrics.description import describe


def test_slices_by_hand_as_in_the_paper() -> None:
    # 197,196 rows: chunks of 19,719, the last of 19,725; parts of the first of 1,971.
    found = quantile_slices(197_196, 10, 500, focus=True)
    assert found[(1,)] == slice(0, 500)
    assert found[(2,)] == slice(19_719, 20_219)
    assert found[(10,)] == slice(177_471, 177_971)
    assert found[(1, 2)] == slice(1_971, 2_471)
    assert len(found) == 20


@given(st.integers(2, 12), st.integers(1, 9), st.integers(0, 200))
def test_slices_are_of_their_size_and_apart(bins: int, rows: int, more: int) -> None:
    candidates = bins * rows + more
    slices = list(quantile_slices(candidates, bins, rows, focus=False).values())
    assert all(part.stop - part.start == rows for part in slices)
    assert all(a.stop <= b.start for a, b in itertools.pairwise(slices))
    assert slices[-1].stop <= candidates


def test_a_pool_too_small_is_refused() -> None:
    with pytest.raises(InputError, match="quantile of 99 candidates in 10 has 9 rows, fewer than"):
        quantile_slices(99, 10, 10, focus=False)
    with pytest.raises(InputError, match="part of the first quantile of 10 candidates in 10 has 1"):
        quantile_slices(100, 10, 2, focus=True)


def test_curves_are_means_over_seeds_with_their_correlation() -> None:
    cells = [
        {"representation": "less", "quantile": [q], "seed": s, "query_loss": q + 0.1 * s}
        for q in (1, 2, 3, 4)
        for s in (0, 1)
    ]
    cells.append({"representation": "less", "quantile": [1, 2], "seed": 0, "query_loss": 1.0})
    (curve,) = quantile_curves(
        [Cell.from_json(cell) for cell in cells], [describe("query_loss"), describe("test_loss")]
    )
    assert curve.values == pytest.approx((1.05, 2.05, 3.05, 4.05))
    assert (curve.seeds, curve.correlation.rho) == (2, pytest.approx(1))
    assert not curve.focus

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.properties import tries
from tis_ray.selectors import sums
from tis_ray.selectors.sums import FixedPoint, Floating, column_sums, rounded, settled


@pytest.mark.parametrize("rows", [1, 2, 9, 81, 700])
def test_column_sums_add_row_after_row_wherever_the_column_stands(rows):
    rng = np.random.default_rng(rows)
    terms_Mb, weights_M = np.exp(-40 * rng.random((rows, 300))), rng.random(rows)
    plain, weighted = terms_Mb[0].copy(), weights_M[0] * terms_Mb[0]
    for weight, row in zip(weights_M[1:], terms_Mb[1:], strict=True):
        plain += row
        weighted += weight * row
    for start, stop in ((0, 300), (0, 1), (7, 8), (3, 5), (1, 10), (0, 17), (100, 299)):
        block = terms_Mb[:, start:stop]
        for part in (block, np.asfortranarray(block)):
            assert column_sums(part).tobytes() == plain[start:stop].tobytes()
            assert column_sums(part, weights_M).tobytes() == weighted[start:stop].tobytes()


@pytest.mark.parametrize("rows", [1, 2, 9, 81, 128, 129, 700])
def test_float32_columns_are_added_in_float32_128_rows_at_a_time(rows):
    rng = np.random.default_rng(rows)
    terms_Mb = np.exp(-40 * rng.random((rows, 300))).astype(np.float32)
    weights_M = rng.random(rows).astype(np.float32)
    total = np.zeros(300)
    for start in range(0, rows, 128):
        part = np.zeros(300, dtype=np.float32)
        for weight, row in zip(weights_M[start : start + 128], terms_Mb[start:], strict=False):
            part += weight * row
        total += part
    for start, stop in ((0, 300), (0, 1), (7, 8), (3, 5), (1, 10), (0, 17), (100, 299)):
        block = terms_Mb[:, start:stop]
        for part in (block, np.asfortranarray(block)):
            assert column_sums(part, weights_M).tobytes() == total[start:stop].tobytes()
    exact = weights_M.astype(float) @ terms_Mb.astype(float)
    np.testing.assert_allclose(total, exact, rtol=1e-5)


@tries(60)
@given(
    seed=st.integers(0, 2**32),
    terms=st.integers(1, 3000),
    cuts=st.lists(st.integers(0, 3000), max_size=5),
    bits=st.sampled_from([28, 45]),
)
def test_settled_sums_do_not_depend_on_cuts_or_order(seed, terms, cuts, bits):
    """With 45 bits many are unsure."""
    rng = np.random.default_rng(seed)
    kernel_Mn = np.exp(-rng.random((40, terms)) * rng.choice([1, 5, 50], (40, 1)))
    kernel_Mn = kernel_Mn.astype(np.float32).astype(float)
    weights_n = rng.uniform(0.9, 1.1, terms).astype(np.float32).astype(float)
    grid = FixedPoint.bounded(1.1, 1.1 * terms, terms, levels=3)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sums, "BITS", bits)
        exact = rounded(grid.value(grid.counts(kernel_Mn * weights_n)))
        plain = rounded(np.array([math.fsum(row) for row in kernel_Mn * weights_n]))
        order, bounds = rng.permutation(terms), sorted(cut for cut in cuts if cut <= terms)
        for columns in (np.arange(terms), order):
            parts = np.split(columns, bounds)
            found, sure = settled(
                [Floating(kernel_Mn[:, part] @ weights_n[part], len(part)) for part in parts]
            )
            np.testing.assert_array_equal(found[sure], exact[sure])
            np.testing.assert_array_equal(found[sure], plain[sure])
    assert bits > 28 or sure.mean() > 0.9


def test_a_sum_on_the_border_is_not_sure():
    border = 1 + 2.0**-28
    _, sure = settled([Floating(np.array([border, border + 2.0**-40, 1.0]), 10)])
    assert sure.tolist() == [False, True, True]


def test_rounded_numbers_have_28_bits():
    assert rounded(np.array([1 / 3, 0.0, 3e200])).tolist() == [
        round(2**29 / 3) / 2**29,
        0.0,
        pytest.approx(3e200, rel=2.0**-28),
    ]


@tries(60)
@given(
    seed=st.integers(0, 2**32),
    terms=st.integers(1, 3000),
    levels=st.sampled_from([1, 2]),
    cuts=st.lists(st.integers(0, 3000), max_size=5),
    largest=st.sampled_from([1e-3, 1.0, 37.0]),
)
def test_counts_do_not_depend_on_cuts_or_order_and_are_fine(seed, terms, levels, cuts, largest):
    rng = np.random.default_rng(seed)
    terms_Mb = largest * np.exp(-rng.random((4, terms)) * np.array([[0], [5], [50], [800]]))
    grid = FixedPoint.bounded(largest, largest * terms, terms, levels)
    whole = grid.counts(terms_Mb[:, rng.permutation(terms)])
    parts = np.split(terms_Mb, sorted(cut for cut in cuts if cut <= terms), axis=1)
    total = sum(grid.counts(part.copy()) for part in parts)
    np.testing.assert_array_equal(total, whole)

    exact = np.array([math.fsum(row) for row in terms_Mb])
    error = terms * largest * (2.0**-50 if levels == 1 else terms * 2.0**-100)
    np.testing.assert_allclose(grid.value(total), exact, rtol=2.0**-52, atol=error)


def test_a_sum_at_its_bound_does_not_overflow():
    grid = FixedPoint.bounded(1.0, 1e6, 10**6, 2)
    total = sum(grid.counts(np.ones((1, 10**5))) for _ in range(10))
    assert grid.value(total).tolist() == [1e6]

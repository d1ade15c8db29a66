"""Spearman's ρ against scipy and plain enumeration; p-values, ties, intervals."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from tis_ray.analysis.correlation import EXACT_POINTS, critical_rho, spearman

small = st.lists(st.integers(0, 6), min_size=3, max_size=7)


def enumerated_p(x: list[float], y: list[float]) -> float:
    """Count over all permutations, with a tolerance, as a reader would."""
    left, right = stats.rankdata(x), stats.rankdata(y)
    found = abs(np.corrcoef(left, right)[0, 1])
    every = [abs(np.corrcoef(left, permuted)[0, 1]) for permuted in itertools.permutations(right)]
    return float(np.mean(np.array(every) >= found - 1e-12))


@given(small, st.data())
def test_rho_and_the_usual_p_are_scipys(x: list[int], data: st.DataObject) -> None:
    y = data.draw(st.lists(st.integers(0, 6), min_size=len(x), max_size=len(x)))
    found = spearman(x, y)
    if len(set(x)) == 1 or len(set(y)) == 1:
        assert found.rho is None
        return
    theirs = stats.spearmanr(x, y)
    assert found.rho == pytest.approx(theirs.statistic, abs=1e-12)
    assert found.p_t == pytest.approx(theirs.pvalue, abs=1e-7)
    assert found.ties == (len(set(x)) < len(x) or len(set(y)) < len(y))


@pytest.mark.parametrize(
    ("x", "y"),
    [
        ([1, 2, 3, 4], [1, 2, 3, 4]),
        ([1, 2, 3, 4, 5, 6], [2, 1, 4, 3, 6, 5]),
        ([1, 2, 3, 4, 5, 6, 7], [3, 3, 1, 2, 2, 9, 9]),  # ties
        ([1, 1, 2, 2, 3, 3], [5, 4, 4, 3, 3, 3]),  # ties on both sides
    ],
)
def test_permutation_p_is_what_enumeration_counts(x: list[float], y: list[float]) -> None:
    assert spearman(x, y).p_value == pytest.approx(enumerated_p(x, y), abs=1e-12)


def test_the_sides_may_be_swapped() -> None:
    x, y = [3.0, 1.0, 2.0, 2.0, 5.0, 4.0], [1.0, 1.0, 0.0, 2.0, 8.0, 3.0]
    there, back = spearman(x, y), spearman(y, x)
    assert there.rho == pytest.approx(back.rho, abs=1e-15)
    assert (there.ties, there.p_value) == (back.ties, back.p_value)


def test_ten_points_need_a_larger_rho_than_students_t_says() -> None:
    assert critical_rho(10) == pytest.approx(0.648, abs=5e-4)  # in the tables of Zar (1972)
    assert critical_rho(8) == pytest.approx(0.738, abs=5e-4)
    assert critical_rho(5) == pytest.approx(1.0)
    assert critical_rho(4) is None
    # d² = 60 of ten pairs: ρ = 0.636 is called by t, not by permutations.
    between = spearman(range(10), [1, 3, 0, 4, 2, 8, 9, 5, 7, 6])
    assert between.rho is not None
    assert between.p_value is not None
    assert between.p_t is not None
    assert between.p_value > 0.01 * between.p_t


def test_many_points_draw_permutations_that_agree_with_t() -> None:
    rng = np.random.default_rng(3)
    x = rng.normal(size=60)
    y = 0.25 * x + rng.normal(size=60)
    found = spearman(x.tolist(), y.tolist())
    assert found.n > EXACT_POINTS
    assert found.p_value == pytest.approx(found.p_t, abs=0.015)
    assert spearman(x.tolist(), y.tolist()) == found  # the same seed, the same draws


def test_interval_holds_rho_and_covers_the_truth_in_95_of_100_studies() -> None:
    rng = np.random.default_rng(0)
    truth = 0.7
    of_ranks = 6 / math.pi * math.asin(truth / 2)  # Spearman's ρ of a normal pair
    hits = 0
    for _ in range(1000):
        x = rng.normal(size=20)
        y = truth * x + math.sqrt(1 - truth**2) * rng.normal(size=20)
        found = spearman(x.tolist(), y.tolist())
        assert found.low is not None
        assert found.high is not None
        assert found.low < found.rho < found.high  # type: ignore[operator]
        hits += found.low <= of_ranks <= found.high
    assert 0.93 < hits / 1000 < 0.97


def test_perfect_and_flat_curves_have_no_interval() -> None:
    perfect = spearman(range(10), range(10))
    assert perfect.rho == pytest.approx(1.0)
    assert (perfect.low, perfect.high, perfect.p_t) == (None, None, 0.0)
    assert perfect.p_value == pytest.approx(2 / math.factorial(10))
    flat = spearman(range(10), [0.5] * 10)
    assert (flat.rho, flat.p_value, flat.low) == (None, None, None)
    assert spearman([1.0], [2.0]).rho is None


@pytest.mark.parametrize(("x", "y"), [([1, 2], [1]), ([1, math.nan], [1, 2]), ([1, 2], [1, 1e400])])
def test_what_cannot_be_ranked_is_refused(x: list[float], y: list[float]) -> None:
    with pytest.raises(ValueError, match="spearman needs"):
        spearman(x, y)


def test_fewer_than_three_points_have_no_p() -> None:
    found = spearman([1.0, 2.0], [3.0, 5.0])
    assert found.rho == pytest.approx(1.0)
    assert (found.p_value, found.p_t, found.low) == (None, None, None)
    assert spearman([1.0, 2.0, 3.0], [3.0, 5.0, 9.0]).p_value == pytest.approx(1 / 3)

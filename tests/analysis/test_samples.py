"""Means over runs and rows: parts of their spread, against plain formulas."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from tis_ray.analysis.samples import Part, Sample, Spread, interaction, rows_part

T = stats.t.ppf


def sample(rows_SR: np.ndarray, share: bool = False) -> Sample:
    return Sample(dict(enumerate(rows_SR.mean(axis=1).tolist())), rows_SR, share)


def test_a_mean_over_runs_and_rows_has_both_parts_each_once() -> None:
    rng = np.random.default_rng(0)
    rows_SR = rng.normal(0, 1, (4, 1)) + rng.normal(0, 2, 30) + rng.normal(0, 0.5, (4, 30))
    runs, rows = rows_SR.mean(axis=1), rows_SR.mean(axis=0)
    rest = sum(
        (rows_SR[s, r] - runs[s] - rows[r] + rows_SR.mean()) ** 2
        for s in range(4)
        for r in range(30)
    ) / (3 * 29)
    assert interaction(rows_SR) == pytest.approx(rest)
    own = np.var(runs, ddof=1) / 4 - rest / (4 * 30)
    half = math.sqrt(T(0.975, 3) ** 2 * own + T(0.975, 29) ** 2 * np.var(rows, ddof=1) / 30)
    found = sample(rows_SR).mean()
    assert (found.low, found.high) == pytest.approx((runs.mean() - half, runs.mean() + half))
    assert found.sd == pytest.approx(np.std(runs, ddof=1))


def test_without_rows_it_is_students_interval() -> None:
    found = Sample({0: 1.0, 1: 2.0, 2: 4.0}).mean()
    low, high = stats.t.interval(0.95, 2, np.mean([1, 2, 4]), stats.sem([1, 2, 4]))
    assert (found.low, found.high) == pytest.approx((low, high))


def test_shares_stay_between_0_and_1_and_all_right_is_not_certain() -> None:
    every = sample(np.ones((3, 20)), share=True).mean()
    low, high = stats.binomtest(20, 20).proportion_ci(0.95, "wilson")
    assert (every.low, every.high) == (pytest.approx(low), high)
    rows = np.ones((3, 20))
    rows[:, 0] = 0
    nearly = sample(rows, share=True).mean()
    assert nearly.high == 1.0
    assert sample(np.ones((3, 20))).mean().low is None  # a loss of 1 everywhere: nothing is known


@given(
    st.lists(st.tuples(st.floats(1e-6, 10), st.integers(1, 40)), min_size=1, max_size=3),
    st.floats(1e-3, 50),
)
def test_p_is_that_of_the_interval_that_just_holds_zero(parts, difference) -> None:
    spread = Spread(tuple(Part("x", variance, df) for variance, df in parts))
    p_value = spread.p_value(difference)
    if 1e-12 < p_value < 0.9999:
        assert spread.half(1 - p_value) == pytest.approx(difference, rel=1e-5)
    if len(parts) == 1:
        t = difference / math.sqrt(parts[0][0])
        assert p_value == pytest.approx(2 * stats.t.sf(t, parts[0][1]), rel=1e-6, abs=1e-12)


def test_rows_of_a_share_have_two_half_rows_more() -> None:
    left, right = np.array([[1.0, 1, 0, 1]]), np.array([[1.0, 1, 0, 1]])
    part = rows_part(sample(left, share=True), sample(right, share=True))
    assert part is not None
    assert (part.variance, part.df) == (1 / 16, 3)  # all rows agree: not certain of the next
    part = rows_part(sample(left), sample(right + np.array([0, 1, 2, 3])))
    assert part is not None
    assert part.variance == pytest.approx(np.var([0, 1, 2, 3], ddof=1) / 4)
    assert rows_part(sample(left), Sample({0: 1.0})) is None
    assert rows_part(sample(left), sample(np.ones((1, 5)))) is None


def test_samples_that_do_not_hold_together_are_refused() -> None:
    with pytest.raises(ValueError, match="finite"):
        Sample({})
    with pytest.raises(ValueError, match="finite"):
        Sample({0: math.nan})
    with pytest.raises(ValueError, match="2 runs have rows, 1 a value"):
        Sample({0: 1.0}, np.ones((2, 3)))

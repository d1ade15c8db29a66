"""Differences over cells: interval, test, verdict, ranks."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from tis_ray.analysis.comparison import (
    compare_cells,
    subset_against_random,
    wilcoxon_p,
    with_holm,
)
from tis_ray.analysis.intervals import bootstrap_interval, mean_interval
from tis_ray.analysis.ranks import mean_ranks, wins
from tis_ray.analysis.samples import Sample
from tis_ray.metrics.description import describe

LOSS, SHARE = describe("test_loss"), describe("exact_match")

numbers = st.floats(-100, 100).map(lambda v: round(v, 4))


@pytest.mark.parametrize(
    ("n", "draw", "truth"),
    [
        (5, lambda rng, n: rng.normal(size=n), 0.0),
        (25, lambda rng, n: rng.normal(size=n), 0.0),
        (10, lambda rng, n: rng.exponential(size=n), 1.0),
    ],
)
def test_bootstrap_interval_covers_the_true_mean_in_95_of_100_studies(n, draw, truth) -> None:
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(1500):
        interval = bootstrap_interval(draw(rng, n))
        hits += interval.low <= truth <= interval.high
    assert 0.935 <= hits / 1500 <= 0.965


def test_a_null_study_says_better_or_worse_in_at_most_5_of_100() -> None:
    rng = np.random.default_rng(1)
    told = [
        compare_cells(values, baseline, metric=LOSS).verdict
        for values, baseline in rng.normal(size=(1500, 2, 10))
    ]
    assert np.mean([verdict != "cannot tell" for verdict in told]) <= 0.05 + 0.011  # 2 errors


def test_a_clear_difference_is_called_both_ways() -> None:
    rng = np.random.default_rng(2)
    loss = rng.normal(1, 0.3, 25)
    found = compare_cells(loss - rng.uniform(0.1, 0.3, 25), loss, metric=LOSS)
    assert (found.verdict, found.better, found.worse, found.n) == ("better", 25, 0, 25)
    assert found.p_value == pytest.approx(2**-24)  # every sign negative: 2 / 2^25
    turned = compare_cells(loss - 0.1, loss, metric=SHARE)
    assert (turned.verdict, turned.worse) == ("cannot tell", 25)  # equal differences: no interval
    assert "same in all 25 cells" in turned.note


def test_few_cells_cannot_reach_a_verdict() -> None:
    found = compare_cells([1.0, 2.0, 3.1, 4.0, 5.2], [2.0, 3.3, 4.0, 5.1, 6.0], metric=LOSS)
    assert found.p_value == 0.0625  # 2 / 2^5
    assert found.high < 0
    assert found.verdict == "cannot tell"


@given(st.lists(numbers, min_size=1, max_size=8), st.data())
def test_swapping_sides_mirrors_the_difference(values, data) -> None:
    others = data.draw(st.lists(numbers, min_size=len(values), max_size=len(values)))
    there = compare_cells(values, others, metric=LOSS)
    back = compare_cells(others, values, metric=LOSS)
    assert back.difference == pytest.approx(-there.difference, abs=1e-12)
    assert (back.better, back.worse) == (there.worse, there.better)
    assert (back.p_value is None) == (there.p_value is None)
    if there.p_value is not None:
        assert back.p_value == pytest.approx(there.p_value)


def test_missing_results_are_left_out_in_pairs() -> None:
    found = compare_cells([1.0, math.nan, 3.0], [2.0, 2.0, math.nan], metric=LOSS)
    assert (found.n, found.difference) == (1, -1.0)
    assert compare_cells([math.nan], [1.0], metric=LOSS) is None
    with pytest.raises(ValueError, match="cannot pair"):
        compare_cells([1.0], [1.0, 2.0], metric=LOSS)


def test_two_to_four_values_have_students_interval() -> None:
    values = [1.0, 2.0, 4.0]
    assert bootstrap_interval(values) == mean_interval(values)


def test_wilcoxon_is_scipys_exact_test_and_counts_signs_when_all_agree() -> None:
    differences = np.array([-0.5, 0.25, -1.5, 2.25, -3.0, -4.5, -7.0, 0.75])
    assert wilcoxon_p(differences) == stats.wilcoxon(differences, method="exact").pvalue
    assert wilcoxon_p([1.0, 2.0, 3.0, 4.0]) == 2 * 0.5**4
    assert wilcoxon_p([0.0, 0.0]) is None


def test_holm_is_over_all_that_is_given() -> None:
    rng = np.random.default_rng(0)
    base = rng.normal(size=10)
    found = with_holm(
        {
            ("a",): compare_cells(base - 1 - 0.1 * rng.random(10), base, metric=LOSS),
            ("b",): compare_cells(base + 0.01 * rng.normal(size=10), base, metric=LOSS),
        }
    )
    assert found["a",].p_holm == pytest.approx(2 * found["a",].p_value)
    assert found["b",].p_holm == found["b",].p_value
    assert found["a",].survives_holm


def test_cells_within_the_margin_are_alike_and_others_cannot_be_told() -> None:
    rng = np.random.default_rng(0)
    base = rng.normal(1, 0.3, 20)
    close = compare_cells(base + rng.normal(0, 0.005, 20), base, metric=LOSS)
    far = compare_cells(base + rng.normal(0, 0.2, 20), base, metric=LOSS)
    assert (close.verdict, far.verdict) == ("alike", "cannot tell")


def test_ranks_share_ties_and_wins_count_for_all_who_tie() -> None:
    losses_CA = np.array([[1.0, 2.0, 2.0], [3.0, 1.0, 2.0], [1.0, 1.0, math.nan]])
    assert mean_ranks(losses_CA, lower_is_better=True) == pytest.approx([2.0, 1.75, 2.25])
    assert wins(losses_CA, lower_is_better=True).tolist() == [1, 1, 0]
    assert wins(losses_CA, lower_is_better=False).tolist() == [1, 1, 1]


@given(st.lists(st.lists(numbers, min_size=4, max_size=4), min_size=1, max_size=6))
def test_mean_ranks_add_up(rows) -> None:
    ranks = mean_ranks(np.array(rows), lower_is_better=False)
    assert ranks.sum() == pytest.approx(10)


def test_a_difference_of_shares_is_no_larger_than_all_of_them() -> None:
    """Of one test row: 1 or 0, and no interval of 300 points."""
    random = Sample({0: 0.0, 1: 1.0, 2: 0.0, 3: 0.0, 4: 0.0}, share=True)
    found = subset_against_random(
        Sample({0: 1.0, 1: 1.0}, share=True), random, metric=describe("exact_match")
    )
    assert (found.low, found.high, found.verdict) == (
        pytest.approx(-0.5602, abs=1e-4),
        1.0,
        "cannot tell",
    )

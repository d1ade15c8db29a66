"""Agreement of orderings: by hand, against plain loops, and what must hold for any two."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tis_ray.analysis.agreement import (
    jaccard,
    pairwise_agreement,
    random_jaccard,
    rank_biased_overlap,
    weight_of_top,
)

PERSISTENCE = st.floats(0.05, 0.995)


@st.composite
def pairs(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Two equally long rankings with some candidates in common."""
    length = draw(st.integers(1, 12))
    sides = [draw(st.permutations(range(20))) for _ in range(2)]
    return np.array(sides[0][:length]), np.array(sides[1][:length])


def naive(left: Sequence[int], right: Sequence[int], p: float) -> float:
    shares = [len({*left[:d]} & {*right[:d]}) / d for d in range(1, len(left) + 1)]
    total = math.fsum(share * p**d for d, share in enumerate(shares, start=1))
    return shares[-1] * p ** len(left) + (1 - p) / p * total


def test_by_hand() -> None:
    left, right = np.array([7, 1, 2]), np.array([1, 7, 5])
    assert jaccard(left, right) == 2 / 4
    assert jaccard(left, right[:1]) == 1 / 3  # of other lengths too
    # Shared at depths 1, 2, 3: 0, 2, 2. At p = 1/2: 2/3 · 1/8 + 1/4 · 1 + 1/8 · 2/3.
    assert rank_biased_overlap(left, right, 0.5) == pytest.approx(1 / 12 + 1 / 4 + 1 / 12)


def test_the_top_counts_most() -> None:
    left = np.arange(10)
    top, bottom = left.copy(), left.copy()
    top[0], bottom[9] = 99, 99
    assert jaccard(left, top) == jaccard(left, bottom)
    assert rank_biased_overlap(left, top, 0.8) < rank_biased_overlap(left, bottom, 0.8)


@given(pairs(), PERSISTENCE)
def test_rank_biased_overlap_is_that_of_a_plain_loop(
    pair: tuple[np.ndarray, np.ndarray], p: float
) -> None:
    assert rank_biased_overlap(*pair, p) == pytest.approx(naive(*pair, p), abs=1e-12)


@given(pairs(), PERSISTENCE)
def test_both_are_symmetric_one_for_equal_and_zero_for_disjoint(
    pair: tuple[np.ndarray, np.ndarray], p: float
) -> None:
    left, right = pair
    for measure in (jaccard, lambda a, b: rank_biased_overlap(a, b, p)):
        assert measure(left, right) == measure(right, left)
        assert measure(left, left) == pytest.approx(1, abs=1e-12)
        assert measure(left, right + 100) == 0
        assert 0 <= measure(left, right) <= 1 + 1e-12


def test_random_subsets_agree_as_much_as_expected() -> None:
    rng = np.random.default_rng(0)
    draws = [rng.permutation(1000)[:200] for _ in range(40)]
    seen = np.mean([jaccard(a, b) for a, b in zip(draws[:20], draws[20:], strict=True)])
    assert random_jaccard(200, 1000) == 200 / 1800
    assert seen == pytest.approx(random_jaccard(200, 1000), abs=0.01)
    assert random_jaccard(5, 5) == 1


def test_all_pairs_are_compared_at_the_length_of_the_shortest() -> None:
    rankings = {"a": np.arange(5), "b": np.arange(4)[::-1], "c": np.arange(90, 95)}
    found = pairwise_agreement(rankings, 100)
    assert found is not None
    assert (found["names"], found["rows"]) == (["a", "b", "c"], 4)
    assert found["random"] == random_jaccard(4, 100)
    pairs = {(pair["left"], pair["right"]): pair for pair in found["pairs"]}
    assert {*pairs} == {(0, 1), (0, 2), (1, 2)}
    assert pairs[0, 1]["jaccard"] == 1  # rows 0 to 3 of both
    assert pairs[0, 1]["rank_biased"] == rank_biased_overlap(np.arange(4), np.arange(4)[::-1])
    assert pairs[0, 2]["jaccard"] == pairs[0, 2]["rank_biased"] == 0
    assert pairwise_agreement({"a": np.arange(5)}, 100) is None


def test_the_weight_of_the_top_is_that_of_the_paper() -> None:
    """Section 4.3 of Webber et al. 2010: at p = 0.9 the first 10 ranks have 86% of the weight."""
    assert weight_of_top(10, 0.9) == pytest.approx(0.8556, abs=5e-5)
    assert weight_of_top(100) == pytest.approx(0.85, abs=0.005)


@given(st.integers(1, 30), st.floats(0.1, 0.95))
def test_the_weight_is_what_lists_that_agree_to_a_depth_get_at_least(depth: int, p: float) -> None:
    """Lists that share their first ranks and nothing below: the sum to infinity, by definition."""
    total = sum(p**d * min(d, depth) / d for d in range(1, 3000)) * (1 - p) / p
    tail = sum(p**d * depth / d for d in range(depth + 1, 3000)) * (1 - p) / p
    assert weight_of_top(depth, p) == pytest.approx(total, abs=1e-9)
    assert tail < weight_of_top(depth, p)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: jaccard(np.array([1, 1]), np.array([2])), "twice"),
        (lambda: jaccard(np.array([]), np.array([])), "empty"),
        (lambda: rank_biased_overlap(np.arange(2), np.arange(3)), "of 2 and 3 candidates"),
        (lambda: rank_biased_overlap(np.arange(0), np.arange(0)), "equal lengths"),
        (lambda: rank_biased_overlap(np.arange(2), np.array([3, 3])), "twice"),
        (lambda: rank_biased_overlap(np.arange(2), np.arange(2), 1.0), "p is 1.0"),
        (lambda: random_jaccard(6, 5), "not within 1 and 5"),
        (lambda: weight_of_top(0), "at least 1"),
    ],
)
def test_what_makes_no_sense_is_refused(call: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()  # type: ignore[operator]

"""Every distance against a plain reference, and the inequalities that tie them together."""

from __future__ import annotations

import json
import math
from collections import Counter
from itertools import combinations, product
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.optimize import linprog

from tests.properties import tries
from tis_ray.analysis import distances
from tis_ray.analysis.distances import (
    EXACT_LIMIT,
    balanced_assignment,
    cosine_cost,
    mmd,
    subset_distances,
    wasserstein,
)

sizes = st.tuples(st.integers(1, 4), st.integers(1, 6))
costs = sizes.flatmap(lambda shape: arrays(np.float64, shape, elements=st.floats(0, 2, width=32)))
fast = tries(60)


def unit(count: int, width: int, seed: int = 0) -> np.ndarray:
    rows = np.random.default_rng(seed).standard_normal((count, width))
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def clustered_cost(queries: int, candidates: int, seed: int = 0) -> np.ndarray:
    """Queries of a few clusters, candidates of many."""
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((40, 16))
    query = centres[rng.integers(0, 6, queries)] + 0.5 * rng.standard_normal((queries, 16))
    subset = centres[rng.integers(0, 40, candidates)] + rng.standard_normal((candidates, 16))
    query /= np.linalg.norm(query, axis=1, keepdims=True)
    subset /= np.linalg.norm(subset, axis=1, keepdims=True)
    return cosine_cost(query @ subset.T)


def linear_program(cost_MB: np.ndarray) -> float:
    queries, candidates = cost_MB.shape
    rows = np.kron(np.eye(queries), np.ones(candidates))
    columns = np.kron(np.ones(queries), np.eye(candidates))
    masses = np.r_[np.full(queries, 1 / queries), np.full(candidates, 1 / candidates)]
    return float(linprog(cost_MB.ravel(), A_eq=np.vstack([rows, columns]), b_eq=masses).fun)


def every_assignment(cost_MB: np.ndarray) -> float:
    """The best of all ways to give candidates to queries, floor or ceil of B/M to each."""
    queries, candidates = cost_MB.shape
    fair = {candidates // queries, -(-candidates // queries)}
    return min(
        sum(cost_MB[i, j] for j, i in enumerate(owners)) / candidates
        for owners in product(range(queries), repeat=candidates)
        if all(owners.count(i) in fair for i in range(queries))
    )


def test_worked_by_hand() -> None:
    """Queries at 0 and 4 on a line, candidates at 0, 1 and 4: the 1/2 at 0 takes 1/6 from 1."""
    cost_MB = np.abs(np.subtract.outer([0.0, 4.0], [0.0, 1.0, 4.0]))
    found = subset_distances(cost_MB, np.array([[0.0], [4.0]]), np.array([[0.0], [1.0], [4.0]]))
    assert (found.queries, found.candidates) == (2, 3)
    assert found.w1.value == pytest.approx(1 / 6 * 1 + 1 / 6 * 3)
    assert found.w1.upper == found.w1.value
    assert (found.w1.method, found.w1.reg) == ("network simplex", None)
    assert found.assignment == pytest.approx(1 / 3)
    assert found.query_to_subset == 0
    assert found.subset_to_query == pytest.approx(1 / 3)
    assert found.chamfer == pytest.approx(1 / 3)
    assert found.mmd is not None
    assert found.mmd.linear == pytest.approx(1 / 3)
    assert found.mmd.bandwidth == 3  # of 0 0 1 1 3 3 3 4 4 4 between 0, 4, 0, 1, 4


def test_results_are_json() -> None:
    found = subset_distances(clustered_cost(3, 7), unit(3, 2), unit(7, 2))
    assert json.loads(json.dumps(found.to_dict(), allow_nan=False)) == found.to_dict()


@fast
@given(costs)
def test_w1_is_the_linear_programme(cost_MB: np.ndarray) -> None:
    assert wasserstein(cost_MB).value == pytest.approx(linear_program(cost_MB), abs=1e-9)


@fast
@given(costs)
def test_assignment_is_the_best_of_all(cost_MB: np.ndarray) -> None:
    assert balanced_assignment(cost_MB) == pytest.approx(every_assignment(cost_MB), abs=1e-9)


@fast
@given(costs)
def test_one_way_terms_are_below_w1_and_w1_below_the_largest_cost(cost_MB: np.ndarray) -> None:
    for limit in (EXACT_LIMIT, 0):
        found = subset_distances(cost_MB, exact_limit=limit)
        one_way = max(found.query_to_subset, found.subset_to_query)
        assert one_way <= found.w1.value + 1e-12
        assert found.chamfer <= 2 * found.w1.value + 1e-12
        assert found.w1.upper <= cost_MB.max() + 1e-12


@fast
@given(costs, st.integers(2, 3))
def test_whole_shares_are_w1(cost_MB: np.ndarray, share: int) -> None:
    square = cost_MB[:, np.arange(share * len(cost_MB)) % cost_MB.shape[1]]
    assert balanced_assignment(square) == pytest.approx(wasserstein(square).value, abs=1e-9)


@fast
@given(costs, st.randoms(use_true_random=False))
def test_order_does_not_matter(cost_MB: np.ndarray, random: Random) -> None:
    rows, columns = (list(range(size)) for size in cost_MB.shape)
    random.shuffle(rows)
    random.shuffle(columns)
    for limit in (EXACT_LIMIT, 0):
        found = subset_distances(cost_MB, exact_limit=limit)
        moved = subset_distances(cost_MB[np.ix_(rows, columns)], exact_limit=limit)
        assert moved.w1.value == pytest.approx(found.w1.value, abs=1e-9)
        assert moved.chamfer == pytest.approx(found.chamfer, abs=1e-12)
        assert moved.assignment == pytest.approx(found.assignment, abs=1e-9)


@fast
@given(costs, st.integers(2, 3), st.sampled_from([0, 1]))
def test_repeating_a_side_changes_nothing(cost_MB: np.ndarray, times: int, axis: int) -> None:
    found, again = (subset_distances(c) for c in (cost_MB, np.repeat(cost_MB, times, axis)))
    assert again.w1.value == pytest.approx(found.w1.value, abs=1e-9)
    assert again.query_to_subset == pytest.approx(found.query_to_subset, abs=1e-12)
    assert again.subset_to_query == pytest.approx(found.subset_to_query, abs=1e-12)


@fast
@given(*[st.lists(st.integers(0, 4), min_size=1, max_size=6)] * 2)
def test_w1_and_mmd_are_zero_for_equal_measures_alone(left: list[int], right: list[int]) -> None:
    corners = unit(5, 3)
    query, subset = corners[left], corners[right]
    found = subset_distances(cosine_cost(query @ subset.T), query, subset, bandwidth=1.0)
    shares = [{k: v / len(side) for k, v in Counter(side).items()} for side in (left, right)]
    equal = shares[0] == pytest.approx(shares[1])
    assert found.mmd is not None
    assert (found.w1.value < 1e-9) == equal
    assert (found.mmd.rbf < 1e-6) == equal


@pytest.mark.parametrize(("queries", "candidates"), [(81, 1000), (30, 31), (8, 2000), (200, 200)])
def test_sinkhorn_is_close_to_exact(queries: int, candidates: int) -> None:
    """In standard deviations of the cost: 0.5% below, 1% above; 0.05% below with reg / 10."""
    cost_MB = clustered_cost(queries, candidates)
    exact, spread = wasserstein(cost_MB).value, cost_MB.std()
    found = wasserstein(cost_MB, exact_limit=cost_MB.size - 1)
    assert (found.method, found.reg) == ("sinkhorn", pytest.approx(0.02 * spread))
    assert -1e-12 <= exact - found.value <= 0.005 * spread
    assert -1e-12 <= found.upper - exact <= 0.01 * spread
    finer = wasserstein(cost_MB, exact_limit=0, reg=0.002 * spread)
    assert -1e-12 <= exact - finer.value <= 0.0005 * spread


@pytest.mark.parametrize("passes", [1, 2, 5, 50])
def test_sinkhorn_brackets_the_truth_wherever_it_ends(
    passes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(distances, "_PASSES", passes)
    monkeypatch.setattr(distances, "_BLOCK", 64)
    for seed in range(5):
        cost_MB = clustered_cost(12, 100 + seed, seed)
        exact, found = wasserstein(cost_MB).value, wasserstein(cost_MB, exact_limit=0)
        assert found.value - 1e-12 <= exact <= found.upper + 1e-12


@fast
@given(costs)
def test_sinkhorn_brackets_any_costs(cost_MB: np.ndarray) -> None:
    found = wasserstein(cost_MB, exact_limit=0)
    assert found.value - 1e-9 <= wasserstein(cost_MB).value <= found.upper + 1e-9


@pytest.mark.parametrize("constant", [0.0, 0.1, 1.0])
def test_sinkhorn_of_equal_costs(constant: float) -> None:
    found = wasserstein(np.full((3, 7), constant), exact_limit=0)
    assert (found.value, found.upper) == pytest.approx((constant, constant), abs=1e-12)


def test_sinkhorn_finds_its_scale() -> None:
    """Cosines that differ in the third digit, as gradients have, are as well resolved."""
    cost_MB = clustered_cost(20, 300)
    narrow = 1 - 1e-3 * (1 - cost_MB)
    found = wasserstein(narrow, exact_limit=0)
    assert found.upper - found.value < 1e-5 * cost_MB.std() + 1e-9


def test_beyond_the_limit_the_assignment_is_left_out() -> None:
    found = subset_distances(clustered_cost(4, 9), exact_limit=35)
    assert (found.assignment, found.mmd, found.w1.method) == (None, None, "sinkhorn")


def test_selectors_minimise_what_the_table_says() -> None:
    """Doubly greedy has the least subset_to_query of all subsets; round robin bounds assignment."""
    cost_MN, budget = clustered_cost(3, 9), 5
    subsets = [list(subset) for subset in combinations(range(9), budget)]
    found = {tuple(s): subset_distances(cost_MN[:, s]).subset_to_query for s in subsets}
    greedy = tuple(sorted(np.argsort(cost_MN.min(axis=0))[:budget]))
    assert found[greedy] == pytest.approx(min(found.values()))
    taken, paid = [], 0.0
    for turn in range(budget):
        left = [j for j in range(9) if j not in taken]
        taken.append(min(left, key=lambda j: cost_MN[turn % 3, j]))
        paid += cost_MN[turn % 3, taken[-1]] / budget
    assert balanced_assignment(cost_MN[:, taken]) <= paid + 1e-12


def plain_mmd(left: np.ndarray, right: np.ndarray, bandwidth: float) -> float:
    def mean(one: np.ndarray, other: np.ndarray) -> float:
        pairs = [math.dist(x, y) ** 2 / (2 * bandwidth**2) for x in one for y in other]
        return float(np.mean([math.exp(-pair) for pair in pairs]))

    return math.sqrt(max(mean(left, left) + mean(right, right) - 2 * mean(left, right), 0))


def test_mmd_is_the_double_sum(monkeypatch: pytest.MonkeyPatch) -> None:
    query, subset = unit(7, 3), unit(11, 3, seed=1)
    everything = np.vstack([query, subset])
    median = np.median([math.dist(x, y) for x, y in combinations(everything, 2)])
    found = mmd(query, subset)
    assert found.bandwidth == pytest.approx(median)
    assert found.rbf == pytest.approx(plain_mmd(query, subset, median))
    gram = [(x @ y.T).mean() for x, y in ((query, query), (subset, subset), (query, subset))]
    assert found.linear == pytest.approx(math.sqrt(gram[0] + gram[1] - 2 * gram[2]))
    monkeypatch.setattr(distances, "_BLOCK", 3)
    assert mmd(query, subset).rbf == pytest.approx(found.rbf)
    monkeypatch.setattr(distances, "_PAIRED", 4)
    assert mmd(query, subset).bandwidth == pytest.approx(median, rel=0.2)


def test_mmd_of_points_that_are_all_equal() -> None:
    found = mmd(np.ones((2, 3)), np.ones((5, 3)))
    assert (found.linear, found.rbf, found.bandwidth) == (0, 0, 1)


def test_linear_mmd_is_below_the_euclidean_w1() -> None:
    query, subset = unit(9, 4), unit(30, 4, seed=1)
    euclidean = np.linalg.norm(query[:, None] - subset, axis=2)
    assert mmd(query, subset).linear <= wasserstein(euclidean).value


def test_cosine_cost_clips_rounding_and_refuses_the_rest() -> None:
    found = cosine_cost(np.array([[1.0004, -1.0004, 0.25]], np.float32))
    assert found.dtype == np.float64
    assert found.tolist() == [[0, 2, 0.75]]
    for broken in (1.01, -2.0, np.nan, np.inf):
        with pytest.raises(ValueError, match="cosines"):
            cosine_cost(np.array([[0.0, broken]]))


@pytest.mark.parametrize("broken", [np.nan, np.inf, -0.1])
def test_unusable_costs_name_their_query(broken: float) -> None:
    cost_MB = np.ones((3, 2))
    cost_MB[1, 0] = broken
    for function in (wasserstein, balanced_assignment, subset_distances):
        with pytest.raises(ValueError, match="query 1 are not finite and >= 0"):
            function(cost_MB)


def test_other_bad_inputs() -> None:
    for shape in ((0, 3), (3, 0), (3,)):
        with pytest.raises(ValueError, match="queries × candidates"):
            wasserstein(np.ones(shape))
    with pytest.raises(ValueError, match="do not fit"):
        subset_distances(np.ones((2, 3)), unit(3, 2), unit(2, 2))
    with pytest.raises(ValueError, match="above 0"):
        wasserstein(np.ones((2, 3)), exact_limit=0, reg=0.0)

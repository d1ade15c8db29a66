"""Query weights: each selector that takes them against a plain version, and what holds for all."""

from __future__ import annotations

import inspect
import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.properties import tries
from tests.selectors.strategies import tied_cosines, tied_scores
from tis_ray.errors import InputError
from tis_ray.selectors import SELECTORS, select
from tis_ray.selectors.query_weights import relative
from tis_ray.selectors.round_robin import turns

WEIGHTED = ["round_robin", "uot", "knn_uniform", "knn_kde", "subtask"]
SETTINGS = tries(60)


def needed(selector: str, scores_MN: np.ndarray) -> dict:
    queries, candidates = scores_MN.shape
    features = np.random.default_rng(0).standard_normal((candidates, 3)).astype(np.float32)
    values = {
        "features": features / np.linalg.norm(features, axis=1, keepdims=True),
        "groups": [i % 3 for i in range(queries)],
    }
    return {name: values[name] for name in SELECTORS.own[selector].needed}


def by_index(ordering) -> np.ndarray:
    found = np.empty(len(ordering))
    found[ordering.indices] = ordering.scores
    return found


def plain_turns(weights: list[float], budget: int) -> list[int]:
    """Whose turn it is: times in exact arithmetic, one after the other."""
    taken, order = [0] * len(weights), []
    for _ in range(budget):
        times = [Fraction(k + 1) / Fraction(w) for k, w in zip(taken, weights, strict=True)]
        order.append(min(range(len(weights)), key=lambda i: (times[i], i)))
        taken[order[-1]] += 1
    return order


def test_selectors_with_weights_are_these():
    taking = [name for name, rule in SELECTORS.own.items() if "weights" in rule.parameters]
    assert sorted(taking) == sorted(WEIGHTED)
    for name in WEIGHTED:
        assert (
            inspect.signature(SELECTORS.own[name].coordinate).parameters["weights"].default is None
        )


@pytest.mark.parametrize("selector", WEIGHTED)
@SETTINGS
@given(case=tied_cosines(), weight=st.sampled_from([1.0, 3.7, 1e-300, 1e300]))
def test_equal_weights_change_nothing(selector, case, weight, same):
    scores_MN, _, budget = case
    params = needed(selector, scores_MN)
    weights = [weight] * len(scores_MN)
    same(
        select(scores_MN, selector, budget, weights=weights, **params),
        select(scores_MN, selector, budget, **params),
    )


@pytest.mark.parametrize("selector", WEIGHTED)
@SETTINGS
@given(case=tied_cosines(), seed=st.integers(0, 2**32), power=st.integers(-60, 60))
def test_only_ratios_matter_in_any_shards_and_at_any_budget(
    selector, case, seed, power, select_sharded, same
):
    scores_MN, cuts, budget = case
    candidates = scores_MN.shape[1]
    weights = np.exp(2 * np.random.default_rng(seed).standard_normal(len(scores_MN)))
    params = needed(selector, scores_MN)
    whole = select(scores_MN, selector, candidates, weights=weights, **params)
    for other in (weights * 2.0**power, weights.tolist()):
        same(select(scores_MN, selector, candidates, weights=other, **params), whole)
    found = select_sharded(scores_MN, cuts, selector, budget, weights=weights, **params)
    same(found, whole.prefix(budget))


@SETTINGS
@given(
    weights=st.lists(st.sampled_from([0.25, 0.5, 1.0, 1.5, 2.0, 3.0, 7.0]), min_size=1, max_size=9),
    budget=st.integers(1, 200),
)
def test_turns_come_in_the_order_of_their_times(weights, budget):
    found = turns(np.array(weights), budget)
    assert found.tolist() == plain_turns(weights, budget)
    shares = budget * np.array(weights) / sum(weights)
    counts = np.bincount(found, minlength=len(weights))
    assert (np.abs(counts - shares) < len(weights)).all()


def test_a_query_of_twice_the_weight_takes_twice_the_turns():
    assert turns(np.array([1.0, 2.0]), 9).tolist() == [1, 0, 1, 1, 0, 1, 1, 0, 1]
    assert turns(np.array([1.0, 1.0, 1.0]), 5).tolist() == [0, 1, 2, 0, 1]
    assert np.bincount(turns(np.array([1e-3, 1.0]), 10_000)).tolist() == [9, 9991]


@SETTINGS
@given(case=tied_scores(), seed=st.integers(0, 2**32))
def test_weighted_round_robin_equals_the_plain_game(case, seed):
    scores_MN, _, budget = case
    weights = np.random.default_rng(seed).choice([0.5, 1.0, 3.0, 10.0], len(scores_MN))
    ordering = select(scores_MN, "round_robin", budget, weights=weights)
    used = np.zeros(scores_MN.shape[1], dtype=bool)
    for turn, query in enumerate(plain_turns(weights.tolist(), budget)):
        pick = int(np.argmax(np.where(used, -np.inf, scores_MN[query])))
        assert (ordering.queries[turn], ordering.indices[turn]) == (query, pick)
        assert ordering.scores[turn] == scores_MN[query, pick]
        used[pick] = True


@pytest.mark.parametrize("marginals", [(math.inf, 1e-4), (math.inf, math.inf), (1.0, 1.0)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_weights_are_the_marginal_of_the_reference_solver(marginals, dtype):
    ot = pytest.importorskip("ot")
    rng = np.random.default_rng(3)
    scores_MN = rng.uniform(-0.3, 0.5, (7, 150)).astype(dtype)
    weights = rng.uniform(0.2, 5, 7)
    plan = ot.unbalanced.sinkhorn_unbalanced(
        weights / weights.sum(),
        np.full(150, 1 / 150),
        (1 - scores_MN.astype(np.float64)) / 2,
        0.02,
        marginals,
        reg_type="kl",
    )
    params = {"reg": 0.02, "reg_m1": marginals[0], "reg_m2": marginals[1], "weights": weights}
    ordering = select(scores_MN, "uot", 150, **params)
    tolerance = 1e-9 if dtype == np.float64 else 1e-5
    np.testing.assert_allclose(by_index(ordering), plan.sum(axis=0), rtol=tolerance)
    sent = plan[ordering.queries, ordering.indices]
    np.testing.assert_allclose(sent, plan.max(axis=0)[ordering.indices], rtol=tolerance)


def repeated(scores_MN: np.ndarray, times: list[int]) -> np.ndarray:
    return np.repeat(scores_MN, times, axis=0)


@pytest.mark.parametrize("selector", ["uot", "knn_uniform", "knn_kde"])
def test_a_query_of_weight_three_is_three_queries(selector):
    rng = np.random.default_rng(5)
    scores_MN, times = rng.uniform(-0.3, 0.6, (4, 90)), [1, 3, 2, 1]
    params = needed(selector, scores_MN) | ({} if selector == "uot" else {"alpha": 0.6})
    weighted = select(scores_MN, selector, 90, weights=times, **params)
    copied = select(repeated(scores_MN, times), selector, 90, **params)
    np.testing.assert_allclose(by_index(weighted), by_index(copied), rtol=1e-9)


def test_subtasks_rank_by_weighted_means():
    rng = np.random.default_rng(6)
    scores_MN, weights = rng.standard_normal((6, 80)), rng.uniform(0.1, 3, 6)
    groups = ["a", "b", "a", "b", "b", "c"]
    means = [
        np.average(scores_MN[rows], axis=0, weights=weights[rows])
        for rows in ([0, 2], [1, 3, 4], [5])
    ]
    ordering = select(scores_MN, "subtask", 80, groups=groups, weights=weights)
    np.testing.assert_allclose(by_index(ordering), np.max(means, axis=0), rtol=1e-12)


def test_tied_neighbours_go_by_weighted_mean():
    """Two candidates, each nearest to one of two equally near queries, and a third query's view."""
    scores_MN = np.array([[0.9, 0.1, 0.0], [0.2, 0.9, 0.0], [0.1, 0.5, 0.0]])
    one = select(scores_MN, "knn_uniform", 2, neighbours=2, alpha=0.0)
    assert one.indices.tolist() == [1, 0]
    other = select(scores_MN, "knn_uniform", 2, neighbours=2, alpha=0.0, weights=[9, 1, 1])
    assert other.indices.tolist() == [0, 1]
    assert one.scores[0] == one.scores[1]
    assert other.scores[0] == other.scores[1]


def test_relative_weights_are_of_mean_one():
    assert relative(np.array([3.7, 3.7, 3.7])).tolist() == [1, 1, 1]
    np.testing.assert_allclose(relative(np.array([1.0, 3.0])), [0.5, 1.5])


@pytest.mark.parametrize("selector", WEIGHTED)
@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ([1, 2], "weights: 2 for 3 queries; give one for each"),
        (2.0, r"weights: shape \(\) for 3 queries; give one for each"),
        ([1, 0, 2], "the weight of query 1 is 0; weights must be positive numbers"),
        ([1, 2, -1], "the weight of query 2 is -1; weights must be positive"),
        ([math.nan, 1, 1], "the weight of query 0 is nan; weights must"),
        ([1, math.inf, 1], "the weight of query 1 is inf; weights must"),
        (["a", 1, 1], "weights must be a list of numbers"),
        ([1e-9, 1, 1e9], "too far apart"),
    ],
)
def test_weights_without_meaning_are_refused(selector, weights, message):
    scores_MN = np.zeros((3, 12))
    with pytest.raises(InputError, match=f"{selector}: .*{message}"):
        select(scores_MN, selector, 2, weights=weights, **needed(selector, scores_MN))


@pytest.mark.parametrize("selector", ["doubly_greedy", "length_matched", "random"])
def test_selectors_without_weights_say_so(selector):
    with pytest.raises(InputError, match=f"{selector}: parameter 'weights' is unknown"):
        select(np.zeros((3, 12)), selector, 2, weights=[1, 1, 1])

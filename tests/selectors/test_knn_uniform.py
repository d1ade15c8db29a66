from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.properties import tries
from tests.selectors.strategies import tied_cosines, tied_scores
from tis_ray.errors import InputError
from tis_ray.selectors import select
from tis_ray.selectors.neighbours import distinct


def plain_probabilities(scores_MN, neighbours, alpha, C) -> np.ndarray:
    """The definition, with the gaps added up again for every K."""
    queries, candidates = scores_MN.shape
    lists = np.argsort(-scores_MN, axis=1, kind="stable")[:, :neighbours]
    distances = 1 - np.take_along_axis(scores_MN, lists, axis=1)
    count = 1
    while count < lists.shape[1]:
        gaps = (distances[:, count, None] - distances[:, :count]).sum(dtype=np.float64)
        if alpha / C * gaps >= (1 - alpha) * queries:
            break
        count += 1
    votes = np.bincount(lists[:, :count].ravel(), minlength=candidates)
    return votes / (count * queries)


def probabilities(ordering) -> np.ndarray:
    found = np.empty(len(ordering))
    found[ordering.indices] = ordering.scores
    return found


def test_full_ordering_equals_the_reference(golden):
    scores_MN = golden["scores"]
    ordering = select(scores_MN, "knn_uniform", scores_MN.shape[1], ties="paper")
    np.testing.assert_array_equal(ordering.indices, golden["knn_uniform"])


@pytest.mark.parametrize("neighbours", [1, 2, 30, 150])
@pytest.mark.parametrize("alpha", [0.01, 0.5, 0.9])
def test_probabilities_equal_the_definition(golden, neighbours, alpha):
    scores_MN = golden["scores"].astype(np.float64)
    candidates = scores_MN.shape[1]
    params = {"neighbours": neighbours, "alpha": alpha, "C": 2.0}
    expected = plain_probabilities(scores_MN, **params)
    paper = select(scores_MN, "knn_uniform", candidates, ties="paper", **params)
    np.testing.assert_array_equal(paper.indices, np.lexsort((np.arange(candidates), -expected)))
    np.testing.assert_array_equal(paper.scores, expected[paper.indices])

    ours = select(scores_MN, "knn_uniform", candidates, **params)
    np.testing.assert_array_equal(probabilities(ours), expected)
    keys = np.where(expected > 0, scores_MN.mean(axis=0), scores_MN.max(axis=0))[ours.indices]
    level = np.diff(ours.scores) == 0
    assert (np.diff(keys)[level] <= 1e-15).all()


def test_the_stop_rule_is_met_somewhere_between_the_bounds():
    """Two clusters: neighbours are taken up to the gap between them."""
    scores_MN = np.full((4, 100), 0.1)
    scores_MN[:, :30] = 0.9
    ordering = select(scores_MN, "knn_uniform", 100, alpha=0.3)
    assert np.count_nonzero(ordering.scores) == 30
    np.testing.assert_array_equal(ordering.indices, np.arange(100))


def test_default_ties_go_by_mean_score_and_the_tail_by_best_score():
    scores_MN = np.array(
        [
            [0.9, 0.8, 0.1, 0.0, 0.3, 0.5],
            [0.0, 0.2, 0.7, 0.6, 0.4, 0.3],
        ]
    )
    ordering = select(scores_MN, "knn_uniform", 6, neighbours=2)
    # Each of 0..3 has one vote; means .45, .5, .4, .3. Then 5 (best .5) before 4 (.4).
    assert ordering.indices.tolist() == [1, 0, 2, 3, 5, 4]
    assert ordering.scores.tolist() == [0.25] * 4 + [0.0] * 2
    assert ordering.queries.tolist() == [0, 0, 1, 1, 0, 1]
    paper = select(scores_MN, "knn_uniform", 6, neighbours=2, ties="paper")
    assert paper.indices.tolist() == [0, 1, 2, 3, 4, 5]
    assert paper.queries.tolist() == [0, 0, 1, 1, -1, -1]


@tries(200)
@given(
    case=tied_cosines(),
    neighbours=st.integers(1, 70),
    alpha=st.sampled_from([0.01, 0.5, 0.9, 1.0]),
    ties=st.sampled_from(["scores", "paper"]),
)
def test_any_shards_equal_one_and_budgets_nest(case, neighbours, alpha, ties, select_sharded, same):
    scores_MN, cuts, budget = case
    params = {"neighbours": neighbours, "alpha": alpha, "ties": ties}
    full = select(scores_MN, "knn_uniform", scores_MN.shape[1], **params)
    same(select(scores_MN, "knn_uniform", budget, **params), full.prefix(budget))
    same(select_sharded(scores_MN, cuts, "knn_uniform", budget, **params), full.prefix(budget))
    np.testing.assert_allclose(full.scores.sum(), 1)


@tries(50)
@given(seed=st.integers(0, 2**32), neighbours=st.integers(1, 40))
def test_permuting_the_pool_permutes_the_ordering(seed, neighbours):
    rng = np.random.default_rng(seed)
    scores_MN = rng.uniform(-1, 1, (5, 60))
    order = rng.permutation(60)
    before = select(scores_MN, "knn_uniform", 60, neighbours=neighbours)
    after = select(scores_MN[:, order], "knn_uniform", 60, neighbours=neighbours)
    np.testing.assert_array_equal(order[after.indices], before.indices)


@tries(50)
@given(case=tied_scores(), neighbours=st.integers(1, 20))
def test_the_query_is_the_nearest_of_those_that_vote(case, neighbours):
    scores_MN, _, budget = case
    # alpha 1 takes the first neighbour only, whatever the distances.
    ordering = select(scores_MN, "knn_uniform", budget, neighbours=neighbours, alpha=1.0)
    voted = ordering.scores > 0
    nearest = np.argsort(-scores_MN, axis=1, kind="stable")[:, 0]
    for index, query in zip(ordering.indices[voted], ordering.queries[voted], strict=True):
        voters = np.flatnonzero(nearest == index)
        assert query == voters[scores_MN[voters, index].argmax()]


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"ties": "index"}, "ties 'index' is not one of scores, paper"),
        ({"alpha": 1.5}, "alpha 1.5 must be between 0 and 1"),
        ({"C": 0.0}, "C 0.0 must be a positive number"),
        ({"neighbours": 0}, "neighbours 0 must be at least 1"),
    ],
)
def test_parameters_without_meaning_are_refused(params, message):
    with pytest.raises(InputError, match=message):
        select(np.zeros((2, 5)), "knn_uniform", 2, **params)


@given(
    spread=st.sampled_from([1, 7, 10**6]),
    shape=st.tuples(st.integers(1, 5), st.integers(0, 9)),
    seed=st.integers(0, 2**32),
)
def test_distinct_candidates_and_their_places(spread, shape, seed):
    indices_MK = spread * np.random.default_rng(seed).integers(0, 20, shape)
    candidates, places_MK = distinct(indices_MK)
    np.testing.assert_array_equal(candidates, sorted(set(indices_MK.ravel().tolist())))
    np.testing.assert_array_equal(candidates[places_MK], indices_MK)

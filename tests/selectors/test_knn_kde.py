from __future__ import annotations

import heapq

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.properties import tries
from tis_ray.errors import InputError
from tis_ray.selectors import select
from tis_ray.selectors.neighbours import Shard


def plain_probabilities(
    scores_MN, features, neighbours=5000, density_neighbours=1000, sigma=0.75, alpha=0.01, C=5.0
) -> np.ndarray:
    """The algorithm of TSDS as it is written down: dense similarities, and a heap."""
    queries, candidates = scores_MN.shape
    cap = min(neighbours, max(1, candidates // 10))
    distances = np.maximum(1 - scores_MN, 0)
    lists = np.argsort(distances, axis=1, kind="stable")[:, : max(2, cap)]
    union = np.unique(lists)
    similar = features[union].astype(np.float64) @ features[union].T.astype(np.float64)
    np.fill_diagonal(similar, 1)
    kernel = np.maximum(0, 1 - 2 * np.maximum(1 - similar, 0) / sigma**2)
    most = min(density_neighbours, max(1, candidates // 10))
    density = dict(zip(union, -np.sort(-kernel, axis=1)[:, :most].sum(axis=1), strict=True))
    share = np.array([[1 / density[j] for j in row] for row in lists])
    distance = np.take_along_axis(distances, lists, axis=1).astype(np.float64)

    last, cost = np.zeros(queries, dtype=int), np.zeros(queries)
    spent = distance[:, 0] * share[:, 0]
    heap = [(share[i, 0], 0, i) for i in range(queries)]
    heapq.heapify(heap)
    total = 0.0
    while heap:
        total, k, i = heapq.heappop(heap)
        cost[i] = distance[i, k + 1] * total - spent[i]
        if alpha / C * cost.sum() >= (1 - alpha) * queries:
            break
        last[i] = k
        if k < cap - 2:
            heapq.heappush(heap, (total + share[i, k + 1], k + 1, i))
            spent[i] += distance[i, k + 1] * share[i, k + 1]

    found = np.zeros(candidates)
    for i in range(queries):
        given = share[i, : last[i] + 1] / (queries * total)
        found[lists[i, : last[i] + 1]] += given
        found[lists[i, last[i] + 1]] += max(1 / queries - given.sum(), 0)
    return found


def probabilities(ordering) -> np.ndarray:
    found = np.empty(len(ordering))
    found[ordering.indices] = ordering.scores
    return found


def pool(seed: int, queries: int, candidates: int, noise: float, duplicates: int = 1):
    """Unit features around a few centres, and their cosines with queries."""
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((4, 12))
    made = -(-candidates // duplicates)
    features = centres[rng.integers(0, 4, made)] + noise * rng.standard_normal((made, 12))
    features = np.tile(features, (duplicates, 1))[:candidates]
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    questions = centres[rng.integers(0, 4, queries)] + 0.3 * rng.standard_normal((queries, 12))
    questions /= np.linalg.norm(questions, axis=1, keepdims=True)
    return (questions @ features.T).astype(np.float32), features.astype(np.float32)


def test_full_ordering_equals_the_reference_up_to_ties(golden):
    """Candidates without near-duplicates tie; the reference breaks those ties by rounding noise."""
    scores_MN, expected = golden["scores"], golden["knn_kde"]
    ordering = select(
        scores_MN, "knn_kde", len(expected), features=golden["features"], ties="paper"
    )
    along = probabilities(ordering)[expected]
    assert (np.diff(along) <= 1e-6 * along.max()).all()


@pytest.mark.parametrize("golden", ["clustered", "tight"], indirect=True)
def test_candidates_without_probability_follow_as_in_the_reference(golden):
    scores_MN, expected = golden["scores"], golden["knn_kde"]
    ordering = select(
        scores_MN, "knn_kde", len(expected), features=golden["features"], ties="paper"
    )
    some = np.count_nonzero(ordering.scores)
    assert some < len(expected)
    np.testing.assert_array_equal(ordering.indices[some:], expected[some:])
    assert np.mean(ordering.indices[:some] == expected[:some]) > 0.9


@pytest.mark.parametrize("alpha", [0.01, 0.3, 0.6, 0.95])
@pytest.mark.parametrize("duplicates", [1, 20])
@pytest.mark.parametrize("caps", [(5000, 1000), (40, 5), (1, 1)])
@pytest.mark.parametrize("noise", [0.02, 0.4])
def test_probabilities_equal_the_algorithm(alpha, duplicates, caps, noise):
    scores_MN, features = pool(3, 6, 600, noise, duplicates)
    params = {"alpha": alpha, "neighbours": caps[0], "density_neighbours": caps[1]}
    expected = plain_probabilities(scores_MN, features, **params)
    ordering = select(scores_MN, "knn_kde", 600, features=features, **params)
    np.testing.assert_allclose(probabilities(ordering), expected, rtol=1e-4, atol=1e-6 / 6)


@pytest.mark.parametrize("alpha", [0.5, 0.75, 0.8, 0.9])
def test_equal_shares_are_given_by_rank_then_query(alpha):
    """Without near-duplicates every step ties with those of the other queries."""
    scores_MN = np.random.default_rng(0).uniform(-1, 0.5, (40, 300)).astype(np.float32)
    features = np.eye(300, dtype=np.float32)
    expected = plain_probabilities(scores_MN, features, alpha=alpha)
    ordering = select(scores_MN, "knn_kde", 300, features=features, alpha=alpha)
    np.testing.assert_allclose(probabilities(ordering), expected, rtol=1e-9, atol=1e-15)


def test_neighbours_go_by_distance_in_the_scores_own_type():
    """1 - score is coarser than the score: what it cannot tell apart goes by index."""
    close = np.float32(0.1) + np.float32(2.0**-27) * np.arange(8, dtype=np.float32)
    above = np.float32(1) + np.float32(2.0**-23) * np.arange(4, dtype=np.float32)
    scores_Mn = np.concatenate([close, above])[None]
    assert len(set((1 - close).tolist())) == 1 < len(set(close.tolist()))
    lists = Shard(scores_Mn, 5).nearest(np.array([0]), np.array([12]), np.empty(0, dtype=int))
    assert lists.indices.tolist() == [13, 14, 15, 16, 5, 6, 7, 8, 9, 10, 11, 12]


@pytest.mark.parametrize("candidates", [1, 2, 3, 9, 19, 20, 29])
def test_tiny_pools_work(candidates):
    scores_MN, features = pool(0, 3, candidates, 0.2)
    ordering = select(scores_MN, "knn_kde", candidates, features=features)
    assert sorted(ordering.indices) == list(range(candidates))
    if candidates > 1:
        expected = plain_probabilities(scores_MN, features)
        np.testing.assert_allclose(probabilities(ordering), expected, rtol=1e-5, atol=1e-9)


@tries(60)
@given(
    seed=st.integers(0, 2**32),
    queries=st.integers(1, 30),
    candidates=st.integers(1, 120),
    duplicates=st.sampled_from([1, 3, 50]),
    cuts=st.lists(st.integers(0, 120), max_size=6),
    alpha=st.sampled_from([0.01, 0.6]),
    ties=st.sampled_from(["scores", "paper"]),
    data=st.data(),
)
def test_any_shards_equal_one_and_budgets_nest(
    seed, queries, candidates, duplicates, cuts, alpha, ties, data, select_sharded, same
):
    scores_MN, features = pool(seed, queries, candidates, 0.1, duplicates)
    params = {"features": features, "alpha": alpha, "ties": ties}
    budget = data.draw(st.one_of(st.integers(1, candidates), st.just(candidates)))
    full = select(scores_MN, "knn_kde", candidates, **params)
    same(select(scores_MN, "knn_kde", budget, **params), full.prefix(budget))
    cuts = [cut for cut in cuts if cut <= candidates]
    same(select_sharded(scores_MN, cuts, "knn_kde", budget, **params), full.prefix(budget))


def test_a_duplicated_candidate_shares_its_probability():
    scores_MN, features = pool(1, 1, 100, 0.5)
    scores_MN, features = np.sort(scores_MN)[:, ::-1], features[np.argsort(-scores_MN[0])]
    once = select(scores_MN, "knn_kde", 100, features=features, sigma=0.05, neighbours=6)
    again = np.repeat([0, *range(1, 100)], [3] + [1] * 99)
    thrice = select(
        scores_MN[:, again], "knn_kde", 102, features=features[again], sigma=0.05, neighbours=8
    )
    together = probabilities(thrice)[:3]
    assert together.sum() == pytest.approx(probabilities(once)[0], rel=1e-3)
    assert np.ptp(together) < 1e-3 * together.min()


class Ledger:
    """Features that remember which of them were fetched."""

    def __init__(self, features: np.ndarray) -> None:
        self.features = features
        self.fetched: set[int] = set()

    def rows(self, indices: np.ndarray) -> np.ndarray:
        self.fetched |= set(indices.tolist())
        return self.features[indices]


def test_only_neighbours_are_fetched(same):
    scores_MN, features = pool(2, 3, 400, 0.3)
    ledger = Ledger(features)
    ordering = select(scores_MN, "knn_kde", 400, features=ledger)
    union = np.unique(np.argsort(-scores_MN, axis=1, kind="stable")[:, :40])
    assert ledger.fetched == set(union.tolist())
    same(ordering, select(scores_MN, "knn_kde", 400, features=features))


@pytest.mark.parametrize("copies", [np.float16, np.float64])
def test_features_of_another_type_are_taken(copies):
    scores_MN, features = pool(2, 3, 200, 0.3)
    one = select(scores_MN, "knn_kde", 200, features=features)
    other = select(scores_MN, "knn_kde", 200, features=features.astype(copies))
    np.testing.assert_allclose(probabilities(other), probabilities(one), rtol=0.02)


def test_features_that_do_not_fit_are_refused():
    scores_MN, features = pool(2, 3, 200, 0.3)
    best = int(scores_MN.argmax(axis=1)[0])
    broken = features.copy()
    broken[best] = np.nan
    for given_features, message in (
        (features[:-1], "199 features for 200 candidates; give one for each"),
        (3 * features, "has squared length 9; give unit vectors"),
        (broken, f"candidate {best} has squared length nan"),
        (Ledger(features[:, 0]), "give one row for each"),
    ):
        with pytest.raises(InputError, match=message):
            select(scores_MN, "knn_kde", 5, features=given_features)
    with pytest.raises(InputError, match="knn_kde: parameter 'features' is missing"):
        select(scores_MN, "knn_kde", 5)
    with pytest.raises(InputError, match="sigma 0 must be a positive number"):
        select(scores_MN, "knn_kde", 5, features=features, sigma=0)

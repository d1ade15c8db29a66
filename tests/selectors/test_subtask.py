from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.properties import tries
from tests.selectors.strategies import tied_scores
from tis_ray.errors import InputError
from tis_ray.selectors import select


def best_means(scores_MN: np.ndarray, groups: list) -> np.ndarray:
    members = [
        [i for i, group in enumerate(groups) if group == name] for name in dict.fromkeys(groups)
    ]
    return np.max([scores_MN[rows].mean(axis=0, dtype=np.float64) for rows in members], axis=0)


def test_mean_within_and_maximum_over_subtasks():
    scores_MN = np.array([[1.0, 0.0, 0.3], [0.0, 0.0, 0.3], [0.4, 0.6, 0.0], [0.4, 0.2, 0.0]])
    ordering = select(scores_MN, "subtask", 3, groups=["a", "a", "b", "b"])
    assert ordering.indices.tolist() == [0, 1, 2]
    np.testing.assert_allclose(ordering.scores, [0.5, 0.4, 0.3])
    # Candidate 0 is pulled by the best query of subtask a, candidate 1 by that of b.
    assert ordering.queries.tolist() == [0, 2, 0]


def test_one_subtask_is_the_mean_and_one_for_each_query_is_doubly_greedy(golden):
    scores_MN = golden["scores"].astype(np.float64)
    queries, candidates = scores_MN.shape
    together = select(scores_MN, "subtask", candidates, groups=["all"] * queries)
    np.testing.assert_allclose(together.scores, np.sort(scores_MN.mean(axis=0))[::-1], rtol=1e-12)
    apart = select(scores_MN, "subtask", candidates, groups=range(queries))
    greedy = select(scores_MN, "doubly_greedy", candidates)
    np.testing.assert_array_equal(apart.indices, greedy.indices)
    np.testing.assert_array_equal(apart.queries, greedy.queries)


@tries(200)
@given(case=tied_scores(), data=st.data())
def test_any_shards_equal_the_definition_and_budgets_nest(case, data, select_sharded, same):
    scores_MN, cuts, budget = case
    queries, candidates = scores_MN.shape
    groups = data.draw(st.lists(st.sampled_from("abc"), min_size=queries, max_size=queries))
    full = select(scores_MN, "subtask", candidates, groups=groups)
    same(select_sharded(scores_MN, cuts, "subtask", budget, groups=groups), full.prefix(budget))
    same(select(scores_MN, "subtask", budget, groups=groups), full.prefix(budget))

    expected = best_means(scores_MN, groups)
    np.testing.assert_allclose(full.scores, expected[full.indices], rtol=1e-12)
    level = np.diff(full.scores) == 0
    assert (np.diff(full.scores) <= 0).all()
    assert (np.diff(full.indices)[level] > 0).all()


@tries(50)
@given(seed=st.integers(0, 2**32))
def test_permuting_pool_or_query_set_permutes_the_ordering(seed):
    rng = np.random.default_rng(seed)
    scores_MN = rng.standard_normal((7, 50))
    groups = rng.integers(0, 3, 7)
    before = select(scores_MN, "subtask", 50, groups=groups)
    order = rng.permutation(50)
    after = select(scores_MN[:, order], "subtask", 50, groups=groups)
    np.testing.assert_array_equal(order[after.indices], before.indices)
    order = rng.permutation(7)
    after = select(scores_MN[order], "subtask", 50, groups=groups[order])
    np.testing.assert_array_equal(after.indices, before.indices)
    np.testing.assert_array_equal(order[after.queries], before.queries)


@pytest.mark.parametrize("groups", [np.array([1, 0, 1]), (1, 0, 1), ["x", None, "x"], "aba"])
def test_groups_are_names_or_numbers_in_any_container(groups, same):
    scores_MN = np.random.default_rng(0).standard_normal((3, 20))
    same(
        select(scores_MN, "subtask", 20, groups=groups),
        select(scores_MN, "subtask", 20, groups=[0, 1, 0]),
    )


def test_a_group_for_each_query_is_needed():
    with pytest.raises(InputError, match="groups has 2 entries for 3 queries; give one for each"):
        select(np.zeros((3, 5)), "subtask", 2, groups=["a", "b"])
    with pytest.raises(InputError, match="subtask: parameter 'groups' is missing"):
        select(np.zeros((3, 5)), "subtask", 2)

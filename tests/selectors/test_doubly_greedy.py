from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.properties import tries
from tis_ray.selectors import select


def test_full_ordering_equals_the_reference_up_to_exact_ties(golden):
    """The reference sorts unstably, so order inside equal keys is free; the keys are not."""
    scores_MN, expected = golden["scores"], golden["doubly_greedy"]
    best = scores_MN.max(axis=0)
    ordering = select(scores_MN, "doubly_greedy", len(best))
    np.testing.assert_array_equal(ordering.scores, best[expected])
    for key in np.unique(best):
        assert set(ordering.indices[ordering.scores == key]) == set(expected[best[expected] == key])


@tries(200)
@given(
    seed=st.integers(0, 2**32),
    shape=st.tuples(st.integers(1, 9), st.integers(1, 70)),
    levels=st.sampled_from([1, 2, 5, 1000]),
    cut_seed=st.integers(0, 2**32),
    shards=st.integers(1, 7),
    data=st.data(),
)
def test_any_shards_equal_the_definition(
    seed, shape, levels, cut_seed, shards, data, select_sharded, same
):
    scores_MN = np.random.default_rng(seed).integers(-levels, levels, shape).astype(np.float32)
    budget = data.draw(st.integers(1, shape[1]))
    best = scores_MN.max(axis=0)
    expected = np.lexsort((np.arange(shape[1]), -best))[:budget]

    whole = select(scores_MN, "doubly_greedy", budget)
    np.testing.assert_array_equal(whole.indices, expected)
    np.testing.assert_array_equal(whole.scores, best[expected])
    np.testing.assert_array_equal(whole.queries, scores_MN.argmax(axis=0)[expected])

    cuts = np.random.default_rng(cut_seed).integers(0, shape[1] + 1, shards - 1).tolist()
    same(select_sharded(scores_MN, cuts, "doubly_greedy", budget), whole)


@pytest.mark.parametrize("budget", [1, 7, 40])
def test_smaller_budget_is_a_prefix(budget, same):
    scores_MN = np.random.default_rng(1).integers(0, 5, (3, 40)).astype(float)
    full = select(scores_MN, "doubly_greedy", 40)
    same(select(scores_MN, "doubly_greedy", budget), full.prefix(budget))


def test_signed_zeros_do_not_depend_on_the_shards(select_sharded, same):
    """0.0 and -0.0 tie: any split must report the same one."""
    scores_MN = np.zeros((3, 50))
    scores_MN[np.random.default_rng(0).random((3, 50)) < 0.5] = -0.0
    whole = select(scores_MN, "doubly_greedy", 50)
    for cuts in ([], [1], [7, 8, 30], [3, 13, 26, 39]):
        same(select_sharded(scores_MN, cuts, "doubly_greedy", 50), whole)

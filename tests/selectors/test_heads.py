from __future__ import annotations

from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tests.properties import tries
from tests.selectors.strategies import tied_scores
from tis_ray.selectors.heads import merged_heads
from tis_ray.selectors.protocol import Layout, TopShard, answer_locally, drive


def heads(scores_MN, cuts, length, used=()):
    """Return the merged heads and how many entries were shipped."""
    bounds = [0, *sorted(cuts), scores_MN.shape[1]]
    layout = Layout(len(scores_MN), tuple(np.diff(bounds).tolist()))
    shards = [TopShard(scores_MN[:, start:stop], start) for start, stop in pairwise(bounds)]
    shipped = 0

    def answer(calls):
        nonlocal shipped
        replies = answer_locally(shards)(calls)
        shipped += sum(int(reply.lengths.sum()) for reply in replies)
        return replies

    used = np.array(used, dtype=np.int64)
    return *drive(merged_heads(layout, length, used=used), answer), shipped


@tries(300)
@given(case=tied_scores(), data=st.data())
def test_heads_of_any_shards_equal_a_sort(case, data):
    scores_MN, cuts, length = case
    candidates = scores_MN.shape[1]
    used = data.draw(st.sets(st.integers(0, candidates - 1)))
    free = np.setdiff1d(np.arange(candidates), list(used))
    indices, scores, _ = heads(scores_MN, cuts, length, sorted(used))
    for query, row in enumerate(scores_MN):
        expected = free[np.lexsort((free, -row[free]))][:length]
        np.testing.assert_array_equal(indices[query], expected)
        np.testing.assert_array_equal(scores[query], row[expected])


def test_shards_ship_a_few_times_the_head_when_candidates_are_spread():
    scores_MN = np.random.default_rng(0).standard_normal((3, 20_000))
    cuts = list(range(500, 20_000, 500))
    _, _, shipped = heads(scores_MN, cuts, 1000)
    assert shipped < 3 * 1000 * 4
    # All of the best in one shard, the next best in another, and so on.
    _, _, shipped = heads(np.sort(scores_MN, axis=1), cuts, 400)
    assert shipped < 3 * (2 * 400 + 8 * 40 + 4 * 2 * 400)

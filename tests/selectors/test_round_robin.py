from __future__ import annotations

from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.properties import tries
from tests.selectors.strategies import tied_scores
from tis_ray.selectors import select
from tis_ray.selectors.protocol import Layout, TopShard, answer_locally, best_positions, drive
from tis_ray.selectors.round_robin import coordinate

SETTINGS = tries(300)


def test_full_ordering_equals_the_reference(golden):
    ordering = select(golden["scores"], "round_robin", golden["scores"].shape[1])
    np.testing.assert_array_equal(ordering.indices, golden["round_robin"])


@pytest.mark.parametrize("shards", range(1, 8))
def test_sharded_ordering_equals_the_reference(golden, shards, select_sharded, same):
    scores_MN = golden["scores"]
    candidates = scores_MN.shape[1]
    cuts = np.random.default_rng(shards).integers(0, candidates, shards - 1).tolist()
    ordering = select_sharded(scores_MN, cuts, "round_robin", candidates)
    np.testing.assert_array_equal(ordering.indices, golden["round_robin"])
    same(ordering, select(scores_MN, "round_robin", candidates))


@SETTINGS
@given(case=tied_scores())
def test_any_shards_equal_the_plain_game_under_ties(case, masked_argmax, select_sharded, same):
    scores_MN, cuts, budget = case
    whole = select(scores_MN, "round_robin", budget)
    np.testing.assert_array_equal(whole.indices, masked_argmax(scores_MN, budget))
    same(select_sharded(scores_MN, cuts, "round_robin", budget), whole)


@pytest.mark.parametrize(
    ("queries", "candidates", "cuts"),
    [
        (300, 700, [1, 2, 3, 350]),  # two turns a query, tiny shards
        (3, 5000, [1000, 2500]),  # long lists
        (40, 20, []),  # more queries than candidates
    ],
)
@pytest.mark.parametrize("noise", [0.0, 0.05, 5.0])
def test_refills_stay_exact(queries, candidates, cuts, noise, masked_argmax, select_sharded):
    """From equal queries, whose lists empty at once, to unrelated ones."""
    rng = np.random.default_rng(0)
    shared = rng.standard_normal(candidates)
    scores_MN = shared + noise * rng.standard_normal((queries, candidates))
    ordering = select_sharded(scores_MN, cuts, "round_robin", candidates)
    np.testing.assert_array_equal(ordering.indices, masked_argmax(scores_MN, candidates))


@SETTINGS
@given(case=tied_scores())
def test_smaller_budget_is_a_prefix(case, same):
    scores_MN, _, budget = case
    full = select(scores_MN, "round_robin", scores_MN.shape[1])
    same(select(scores_MN, "round_robin", budget), full.prefix(budget))


@tries(50)
@given(seed=st.integers(0, 2**32), queries=st.integers(1, 8), candidates=st.integers(1, 80))
def test_permuting_the_pool_permutes_the_ordering(seed, queries, candidates):
    rng = np.random.default_rng(seed)
    scores_MN = rng.permutation(queries * candidates).reshape(queries, candidates).astype(float)
    order = rng.permutation(candidates)
    before = select(scores_MN, "round_robin", candidates)
    after = select(scores_MN[:, order], "round_robin", candidates)
    np.testing.assert_array_equal(order[after.indices], before.indices)


@given(case=tied_scores())
def test_scores_and_queries_tell_who_pulled(case):
    scores_MN, _, budget = case
    ordering = select(scores_MN, "round_robin", budget)
    np.testing.assert_array_equal(ordering.queries, np.arange(budget) % len(scores_MN))
    np.testing.assert_array_equal(ordering.scores, scores_MN[ordering.queries, ordering.indices])
    assert ordering.scores.dtype == scores_MN.dtype


@tries(60)
@given(case=tied_scores())
def test_shards_ship_little_more_than_their_own_game_walks(case):
    """The coreset bound: shard s needs to ship at most d[i, s] entries of query i's list."""
    scores_MN, cuts, budget = case
    queries, candidates = scores_MN.shape
    bounds = [0, *sorted(cuts), candidates]
    sizes = tuple(np.diff(bounds).tolist())
    parts = [scores_MN[:, a:b] for a, b in pairwise(bounds)]
    shards = [TopShard(part, start) for part, start in zip(parts, bounds[:-1], strict=True)]
    shipped: Counter[tuple[int, int]] = Counter()

    def answer(calls):
        replies = answer_locally(shards)(calls)
        for call, reply in zip(calls, replies, strict=True):
            for query, length in zip(call.arguments[0], reply.lengths, strict=True):
                shipped[int(query), call.shard] += int(length)
        return replies

    drive(coordinate(Layout(queries, sizes), budget), answer)
    first = max(8, -(-4 * -(-budget // queries) // len(sizes)))
    for (query, shard), count in shipped.items():
        assert count <= 2 * first + 8 * _walked(parts[shard], budget)[query]


def _walked(scores_Mn: np.ndarray, turns: int) -> np.ndarray:
    """d: how far each query walks down its list when the shard plays the game alone."""
    queries, candidates = scores_Mn.shape
    lists = np.argsort(-scores_Mn, axis=1, kind="stable")
    used = np.zeros(candidates, dtype=bool)
    depth = np.zeros(queries, dtype=int)
    for turn in range(turns):
        free = np.flatnonzero(~used[lists[turn % queries]])
        depth[turn % queries] = free[0] + 1 if free.size else candidates
        if free.size:
            used[lists[turn % queries, free[0]]] = True
    return depth


@pytest.mark.parametrize("count", [1, 10, 500, 5000, 40_000])
@pytest.mark.parametrize("kind", ["normal", "tied", "constant", "periodic", "ascending"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, ">f4"])
def test_best_positions_of_long_rows_equal_a_stable_sort(kind, count, dtype):
    """Long rows are cut with a threshold guessed from a sample, which may mislead, never err."""
    size, rng = 40_000, np.random.default_rng(0)
    values = {
        "normal": rng.standard_normal(size),
        "tied": rng.integers(0, 4, size).astype(float),
        "constant": np.zeros(size),
        # High exactly where a strided sample looks: it takes the row to be all high.
        "periodic": np.where(np.arange(size) % (size // 4096) == 0, np.arange(size), -1.0),
        "ascending": np.arange(size, dtype=float),
    }[kind]
    values = values.astype(dtype)
    expected = np.argsort(-values, kind="stable")[:count]
    np.testing.assert_array_equal(best_positions(values, count), expected)


def test_floats_that_are_close_small_or_zero_keep_their_order():
    """The integers that float32 values are sorted by."""
    tiny = np.finfo(np.float32).smallest_subnormal
    near = np.nextafter(np.float32(0.3), np.float32(1))
    steps = [-np.inf, -3e38, -1, -near, -0.3, -tiny, -0.0, 0.0, tiny, 0.3, near, 1, 3e38, np.inf]
    values = np.array([*steps, *steps, *steps[::-1]], dtype=np.float32)
    expected = sorted(range(len(values)), key=lambda i: (-values[i], i))
    assert best_positions(values, len(values)).tolist() == expected
    assert best_positions(values, 20).tolist() == expected[:20]

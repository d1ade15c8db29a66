from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.properties import tries
from tis_ray.errors import InputError
from tis_ray.selectors import Ordering, select

RNG = np.random.default_rng(0)
LENGTHS = np.exp(RNG.normal(4, 1, 4000)).astype(int)
SCORES = np.zeros((2, 4000), dtype=np.float32)


def draw(budget: int, **params) -> Ordering:
    return select(SCORES, "length_matched", budget, lengths=LENGTHS, **params)


def reference(short: bool = True) -> Ordering:
    """An ordering that prefers short examples, as gradients do."""
    noisy = np.log(LENGTHS) + RNG.normal(0, 1, 4000)
    indices = np.argsort(noisy if short else -noisy)[:1000]
    return Ordering(indices, np.zeros(1000), np.zeros(1000, dtype=np.int32), "round_robin")


@pytest.mark.parametrize("short", [True, False])
def test_every_prefix_has_the_lengths_of_the_target(short):
    target = reference(short)
    ordering = draw(1000, target=target)
    edges = np.unique(np.quantile(LENGTHS, np.arange(1, 50) / 50, method="inverted_cdf"))
    for budget in (1, 50, 200, 1000):
        wanted, found = (LENGTHS[one.indices[:budget]] for one in (target, ordering))
        bins = [np.bincount(np.searchsorted(edges, x, side="right")) for x in (wanted, found)]
        np.testing.assert_array_equal(*bins)
    assert found.mean() == pytest.approx(wanted.mean(), rel=0.1)
    # And not those of the pool, nor the candidates of the target.
    assert abs(np.log(LENGTHS).mean() - np.log(LENGTHS[ordering.indices]).mean()) > 0.3
    assert len(np.intersect1d(ordering.indices, target.indices)) < 600


@tries(100)
@given(
    seed=st.integers(0, 2**32),
    candidates=st.integers(1, 80),
    levels=st.sampled_from([1, 2, 5, 1000]),
    bins=st.sampled_from([1, 3, 50]),
    cuts=st.lists(st.integers(0, 80), max_size=4),
    data=st.data(),
)
def test_each_pick_is_from_the_bin_of_the_target_or_the_nearest_left(
    seed, candidates, levels, bins, cuts, data, select_sharded, same
):
    rng = np.random.default_rng(seed)
    lengths = rng.integers(0, levels, candidates)
    target = rng.integers(-2, levels + 2, candidates)
    budget = data.draw(st.integers(1, candidates))
    params = {"lengths": lengths, "target": target, "seed": seed, "bins": bins}
    scores_MN = np.zeros((2, candidates))
    full = select(scores_MN, "length_matched", candidates, **params)
    same(select(scores_MN, "length_matched", budget, **params), full.prefix(budget))
    cuts = [cut for cut in cuts if cut <= candidates]
    same(select_sharded(scores_MN, cuts, "length_matched", budget, **params), full.prefix(budget))

    if levels <= 5 and bins == 50:  # every length has a bin of its own
        known = np.unique(lengths)
        place = np.searchsorted(known[1:], [lengths, target], side="right")
        left = np.bincount(place[0], minlength=len(known))
        for pick, wanted in zip(place[0][full.indices], place[1], strict=True):
            assert abs(pick - wanted) == np.abs(np.flatnonzero(left) - wanted).min()
            left[pick] -= 1


def test_the_seed_decides(same):
    target = reference()
    same(draw(300, target=target, seed=5), draw(300, target=target, seed=5))
    same(draw(300, target=target), draw(300, target=target, seed=0))
    one, other = (draw(300, target=target, seed=seed).indices for seed in (0, 1))
    assert len(np.intersect1d(one, other)) < 100


def test_target_may_be_an_ordering_or_its_lengths(same):
    target = reference()
    same(draw(500, target=target), draw(500, target=LENGTHS[target.indices]))
    same(draw(500, target=target), draw(500, target=LENGTHS[target.indices].tolist()))


def test_no_query_pulled_and_scores_are_zero():
    ordering = draw(10, target=reference())
    assert set(ordering.queries) == {-1}
    assert set(ordering.scores) == {0.0}


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"target": LENGTHS[:9]}, "budget 10 exceeds the target's length of 9"),
        ({"target": LENGTHS, "lengths": LENGTHS[:-1]}, "3999 lengths for 4000 candidates"),
        ({"target": LENGTHS, "seed": -1}, "seed -1 is not a whole number"),
        ({"target": LENGTHS, "bins": 0}, "bins 0 must be at least 1"),
        ({"target": ["long"] * 10}, "target must be a list of numbers"),
        ({"target": np.zeros((10, 1))}, "expected one dimension"),
        ({"target": [1.0] * 9 + [np.nan]}, r"target\[9\] is nan"),
        (
            {"target": Ordering(np.arange(9, 19) * 1000, np.zeros(10), np.zeros(10), "uot")},
            "the target contains candidate 18000, but the pool has only 4000",
        ),
    ],
)
def test_what_does_not_fit_is_refused(params, message):
    with pytest.raises(InputError, match=message):
        select(SCORES, "length_matched", 10, **{"lengths": LENGTHS, **params})

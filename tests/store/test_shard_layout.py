"""Where shards begin: each row in one, whatever the rule, and none too large."""

from __future__ import annotations

import numpy as np
import pytest

from tis_ray.store.shard_layout import SIZES, ShardLayout, places_by


@pytest.mark.parametrize("shard_rows", [None, 1, 7, 256])
def test_every_row_lies_in_the_shard_that_begins_last_before_it(shard_rows: int | None) -> None:
    layout = ShardLayout(shard_rows)
    begins = [layout.begin(shard) for shard in range(600)]
    assert begins[0] == 0
    assert begins == sorted(set(begins))
    rows = np.arange(begins[-1])
    expected = np.repeat(np.arange(599), np.diff(begins))
    np.testing.assert_array_equal(layout.shards_of(rows), expected)
    for total in (0, 1, *begins[1:50], *(begin + 1 for begin in begins), 9_999):
        if total < begins[-1]:
            assert layout.count(total) == sum(begin < total for begin in begins)


def test_shards_of_a_size_that_is_asked_for() -> None:
    assert [ShardLayout(40).begin(shard) for shard in (0, 1, 2, 999)] == [0, 40, 80, 39_960]


def test_small_pools_have_small_shards_and_large_ones_few() -> None:
    layout = ShardLayout(None)
    sizes = np.diff([layout.begin(shard) for shard in range(2000)])
    assert (np.diff(sizes) >= 0).all()
    assert set(sizes) == set(SIZES)
    assert layout.count(20_000) == 79  # 256 rows each
    assert layout.count(10**6) == 443
    assert layout.count(10**9) == 122_391
    # Of no size more than a 64th of the rows so far, so that some 64 actors have work to the end.
    begins = np.cumsum(sizes)
    assert (sizes[128:] <= begins[127:-1] / 64).all()


@pytest.mark.parametrize("count", [0, 1, 1000])
def test_places_by_owner(count: int) -> None:
    owners = np.random.default_rng(0).integers(0, 7, count)
    found = places_by(owners)
    assert list(found) == sorted(set(owners.tolist()))
    for owner, places in found.items():
        np.testing.assert_array_equal(places, np.flatnonzero(owners == owner))

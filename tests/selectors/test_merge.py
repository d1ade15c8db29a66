"""Merged orderings: every prefix holds each task's share, and each task its own best."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tis_ray.errors import InputError
from tis_ray.selectors import Ordering
from tis_ray.selectors.merge import merge_orderings


def ordering(indices: list[int], query: int = 0) -> Ordering:
    count = len(indices)
    return Ordering(
        np.array(indices), np.arange(count, 0, -1.0), np.full(count, query, np.int32), "round_robin"
    )


@given(st.integers(1, 4), st.integers(1, 30), st.data())
def test_every_prefix_holds_each_share_within_a_row_a_task(
    tasks: int, candidates: int, data: st.DataObject
) -> None:
    shares = [data.draw(st.sampled_from([0.1, 0.25, 0.5, 1.0, 2.0, 3.0])) for _ in range(tasks)]
    lists = [data.draw(st.permutations(range(candidates))) for _ in range(tasks)]
    budget = data.draw(st.integers(1, candidates))
    orderings = [ordering(list(indices), t) for t, indices in enumerate(lists)]
    found = merge_orderings(orderings, shares, budget)
    for length in range(1, budget + 1):
        for task, share in enumerate(shares):
            had = int((found.queries[:length] == task).sum())
            assert abs(had - length * share / sum(shares)) <= tasks
    # Each task took, in its turn, its best candidate that nobody had.
    taken: set[int] = set()
    for index, task in zip(found.indices.tolist(), found.queries.tolist(), strict=True):
        assert index == next(i for i in lists[task] if i not in taken)
        taken.add(index)
    shorter = merge_orderings(orderings, shares, max(1, budget // 2))
    assert np.array_equal(shorter.indices, found.indices[: len(shorter)])


def test_turns_of_two_to_one_by_hand() -> None:
    found = merge_orderings([ordering([0, 1, 2, 3, 4]), ordering([0, 4, 3, 2, 1], 1)], [2, 1], 5)
    # Times 1/2, 1, 3/2, ... and 1, 2, ...; ties go to the first task.
    assert found.indices.tolist() == [0, 1, 4, 2, 3]
    assert found.queries.tolist() == [0, 0, 1, 0, 0]


def test_equal_shares_of_one_ordering_change_nothing() -> None:
    only = ordering([3, 1, 2, 0])
    assert merge_orderings([only, only], [1, 1], 4).indices.tolist() == [3, 1, 2, 0]


@pytest.mark.parametrize(
    ("shares", "budget", "message"),
    [([1.0], 2, "2 orderings for 1 shares"), ([1, 0], 2, "above 0"), ([1, 1], 5, "shorter")],
)
def test_bad_arguments_are_refused(shares: list[float], budget: int, message: str) -> None:
    with pytest.raises(InputError, match=message):
        merge_orderings([ordering([0, 1, 2]), ordering([2, 1, 0])], shares, budget)

"""Merging the orderings of several target tasks, so that each task has its share.

Tasks take turns, a task with twice the share twice as often (stride scheduling: a task's k-th turn
falls at time k / share, and ties go to the first task). In its turn a task takes its best candidate
that no task has taken. So every prefix holds each task's share to within one row per task, which is
what makes smaller budgets prefixes here too.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tis_ray.errors import InputError
from tis_ray.selectors.ordering import Ordering


def merge_orderings(
    orderings: Sequence[Ordering], shares: Sequence[float], budget: int
) -> Ordering:
    """Return the candidates of the first `budget` turns.

    orderings: one for each task, of the same candidates and by the same selector, each of at least
        `budget` candidates (so that none runs out).
    shares: one for each task, above 0; only their proportions count.
    """
    if len(orderings) != len(shares) or not orderings:
        raise InputError(
            f"merge: {len(orderings)} orderings for {len(shares)} shares; give one of each per task"
        )
    if not all(share > 0 for share in shares):
        raise InputError(f"merge: shares are {list(shares)}; all must be above 0")
    if short := [len(ordering) for ordering in orderings if len(ordering) < budget]:
        raise InputError(
            f"merge: an ordering of {short[0]} is shorter than the budget {budget}; give longer ones"
        )
    lists = [ordering.indices.tolist() for ordering in orderings]
    place, turns = [0] * len(lists), [0] * len(lists)
    taken: set[int] = set()
    picks: list[tuple[int, int]] = []
    while len(picks) < budget:
        task = min(range(len(lists)), key=lambda t: ((turns[t] + 1) / shares[t], t))
        while lists[task][place[task]] in taken:
            place[task] += 1
        taken.add(lists[task][place[task]])
        picks.append((task, place[task]))
        turns[task] += 1
    return Ordering(
        np.array([orderings[t].indices[p] for t, p in picks], dtype=np.int64),
        np.array([orderings[t].scores[p] for t, p in picks]),
        np.array([orderings[t].queries[p] for t, p in picks], dtype=np.int32),
        orderings[0].selector,
    )

"""Doubly greedy: rank each candidate by its best score over the queries.

score_j = max_i scores[i, j]; the query that pulled candidate j is the lowest i that attains it.
Over shards this is round robin with a single row of those maxima, so it shares that protocol; the
queries of the chosen candidates are looked up in one more round.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from tis_ray.selectors.ordering import Indices, Ordering, Scores
from tis_ray.selectors.protocol import Layout, Rounds, TopLists, TopShard, ask_about
from tis_ray.selectors.round_robin import take_turns
from tis_ray.selectors.spec import Selector

# Columns gathered at once when looking up queries: bounds the copy of a memory-mapped matrix.
BLOCK = 8192


def coordinate(layout: Layout, budget: int) -> Rounds:
    """Return the `budget` candidates with the highest maxima, by (score down, index up)."""
    one_row = Layout(1, layout.sizes)
    indices, scores = yield from take_turns(one_row, np.zeros(budget, dtype=np.int32))
    queries = yield from ask_about(layout, indices, "pulled_by")
    return Ordering(indices, scores, queries, "doubly_greedy")


class Shard:
    """Columns `offset`, `offset + 1`, ... of `scores_MN`, each ranked by its maximum."""

    def __init__(self, scores_Mn: Scores, offset: int) -> None:
        self.scores_Mn = np.asarray(scores_Mn)
        self.offset = offset

    @cached_property
    def _maxima(self) -> TopShard:
        return TopShard(self.scores_Mn.max(axis=0, keepdims=True), self.offset)

    def top(self, queries: Indices, counts: Indices, used: Indices) -> TopLists:
        """As `TopShard.top`, for the single row of column maxima."""
        return self._maxima.top(queries, counts, used)

    def pulled_by(self, indices: Indices) -> NDArray[np.int32]:
        """Return the lowest query that attains each candidate's maximum."""
        columns = indices - self.offset
        blocks = np.split(columns, range(BLOCK, len(columns), BLOCK))
        queries = [self.scores_Mn[:, block].argmax(axis=0) for block in blocks]
        return np.concatenate(queries).astype(np.int32)


SELECTOR = Selector(
    name="doubly_greedy",
    summary="candidates by their best score over the queries",
    coordinate=coordinate,
    shard=Shard,
)

"""Subtask: the rule of LESS, the best mean score over the subtasks of the query set.

LESS (Xia et al., 2024, arXiv 2402.04333) averages a candidate's scores over the queries of each
subtask and ranks it by the highest of these means, so that a small subtask counts as much as a large
one. With a single subtask that is the mean score; with a subtask for each query it is doubly greedy.
The original requires queries sorted by subtask and subtasks of equal size; here each query names its
own. If queries have weights the means are weighted, so that the ratios of weights within a subtask
count.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tis_ray.errors import InputError
from tis_ray.selectors.heads import merged_heads
from tis_ray.selectors.ordering import Indices, Ordering, Scores
from tis_ray.selectors.protocol import Layout, Rounds, TopLists, TopShard, ask_about
from tis_ray.selectors.query_weights import checked_weights, relative
from tis_ray.selectors.spec import Selector
from tis_ray.selectors.sums import Doubles, column_sums

# Entries of a block in float64.
BLOCK_ENTRIES = 2**18


def coordinate(
    layout: Layout,
    budget: int,
    *,
    groups: Sequence[Hashable],
    weights: ArrayLike | None = None,
) -> Rounds:
    """Return the `budget` candidates with the highest means, by (mean down, index up).

    The ordering's scores are those means, in float64. Its queries are those with the highest score
    (the lowest among equals) in the subtask that has the mean (the one named first among equals).

    groups: (M,) name or number of each query's subtask, in any order. Raises InputError for any other
        length.
    weights: (M,) positive, how much each query counts in its subtask; equal if not given.
    """
    codes_M = subtask_codes(groups, layout.queries)
    weights_M = checked_weights("subtask", weights, layout.queries)
    for code in range(codes_M.max() + 1):
        members = codes_M == code
        weights_M[members] = relative(weights_M[members])
    subtasks = (codes_M, weights_M)
    heads = merged_heads(Layout(1, layout.sizes), budget, "top_means", subtasks)
    (indices,), (means,) = yield from heads
    queries = yield from ask_about(layout, indices, "pulled_by", *subtasks)
    return Ordering(indices, means, queries, "subtask")


def subtask_codes(groups: Iterable[Hashable], queries: int) -> Indices:
    """Return (M,) 0, 1, 2, ... for the subtasks in the order in which they are first named."""
    names = groups.tolist() if isinstance(groups, np.ndarray) else list(groups)
    if len(names) != queries:
        raise InputError(
            f"subtask: groups has {len(names)} entries for {queries} queries; give one for each"
        )
    codes: dict[Hashable, int] = {}
    return np.array([codes.setdefault(name, len(codes)) for name in names], dtype=np.int64)


class Shard:
    """Columns `offset`, `offset + 1`, ... of `scores_MN`, each ranked by its best mean.

    codes_M, weights_M: the queries' subtasks, and their weights, which have mean 1 in each subtask.
    """

    def __init__(self, scores_Mn: Scores, offset: int) -> None:
        self.scores_Mn = np.asarray(scores_Mn)
        self.offset = offset
        self._best: tuple[bytes, TopShard] | None = None

    def top_means(
        self,
        codes_M: Indices,
        weights_M: Doubles,
        queries: Indices,
        counts: Indices,
        used: Indices,
    ) -> TopLists:
        """Like `TopShard.top`, but for the single row of best means over subtasks."""
        key = codes_M.tobytes() + weights_M.tobytes()
        if self._best is None or self._best[0] != key:
            columns = np.arange(self.scores_Mn.shape[1])
            blocks = self._blocks(codes_M, weights_M, columns)
            best_n = np.concatenate([*(means_Gb.max(axis=0) for means_Gb, _ in blocks), []])
            self._best = key, TopShard(best_n[None], self.offset)
        return self._best[1].top(queries, counts, used)

    def pulled_by(
        self, codes_M: Indices, weights_M: Doubles, indices: Indices
    ) -> NDArray[np.int32]:
        """Return the query with the highest score in each candidate's best subtask."""
        queries = []
        for means_Gb, scores_Mb in self._blocks(codes_M, weights_M, indices - self.offset):
            member_Mb = codes_M[:, None] == means_Gb.argmax(axis=0)
            queries.append(np.where(member_Mb, scores_Mb, -np.inf).argmax(axis=0))
        return np.concatenate(queries).astype(np.int32)

    def _blocks(
        self, codes_M: Indices, weights_M: Doubles, columns: Indices
    ) -> Iterable[tuple[Doubles, Doubles]]:
        """Yield the means by subtask, (G, b), and the scores, (M, b), of the columns in turn."""
        width = max(1, BLOCK_ENTRIES // len(codes_M))
        members = [np.flatnonzero(codes_M == code) for code in range(codes_M.max() + 1)]
        for start in range(0, len(columns), width):
            block = columns[start : start + width]
            scores_Mb = self.scores_Mn[:, block].astype(np.float64)
            yield (
                np.stack(
                    [column_sums(scores_Mb[rows], weights_M[rows]) / len(rows) for rows in members]
                ),
                scores_Mb,
            )


SELECTOR = Selector(
    name="subtask",
    summary="candidates by their best mean score over a source's queries (LESS's own rule)",
    coordinate=coordinate,
    shard=Shard,
)

"""Ranking by probabilities from nearest neighbours: what KNN-Uniform and KNN-KDE share.

Both give the candidates near some query a probability and the rest none. The probability takes few
distinct values (with M queries, KNN-Uniform's takes at most M), so how ties are broken decides most
of a small budget:

    "scores": the higher (weighted) mean score over the queries goes first, then the lower index;
        candidates without probability follow by their best score, then index;
    "paper": the lower index goes first, as in the paper's released code, which biases a budget
        towards the head of the pool file; candidates without probability follow by index.
"""

from __future__ import annotations

from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tis_ray.errors import InputError
from tis_ray.selectors import doubly_greedy
from tis_ray.selectors.heads import merged_heads
from tis_ray.selectors.ordering import Indices, Ordering, Scores
from tis_ray.selectors.protocol import Exchange, Layout, Rounds, TopLists, TopShard, ask_about
from tis_ray.selectors.sums import Doubles, column_sums

# Entries gathered at once: bounds the copy of a memory-mapped matrix.
BLOCK_ENTRIES = 2**20


class Ranked(NamedTuple):
    """The candidates with a probability, in the order of their indices, and who pulled them."""

    candidates: Indices
    probabilities: Doubles
    queries: NDArray[np.int32]


def ranked(
    layout: Layout, budget: int, rows: Ranked, weights_M: Doubles, ties: str, selector: str
) -> Rounds:
    """Return the ordering by probability.

    weights_M: of the queries, with mean 1.
    """
    candidates, probabilities, queries = rows
    if candidates.size > budget:
        # Only these can be in the budget; the others need not be ranked.
        cut = np.partition(probabilities, candidates.size - budget)[candidates.size - budget]
        likely = probabilities >= cut
        candidates, queries = candidates[likely], queries[likely]
        probabilities = probabilities[likely]
    if ties == "scores":
        means = yield from ask_about(layout, candidates, "means", weights_M)
        order = np.lexsort((candidates, -means, -probabilities))[:budget]
    else:
        order = np.lexsort((candidates, -probabilities))[:budget]

    left = max(0, budget - order.size)
    tail, pulled = yield from _tail(layout, left, candidates, ties)
    return Ordering(
        np.concatenate([candidates[order], tail]),
        np.concatenate([probabilities[order], np.zeros(left)]),
        np.concatenate([queries[order], pulled]),
        selector,
    )


def _tail(
    layout: Layout, count: int, used: Indices, ties: str
) -> Exchange[tuple[Indices, NDArray[np.int32]]]:
    """Return the first `count` unused candidates, and the queries that pulled them."""
    if count == 0 or ties == "paper":
        first = np.setdiff1d(np.arange(count + used.size), used)[:count]
        return first, np.full(count, -1, dtype=np.int32)
    one_row = Layout(1, layout.sizes)
    (indices,), _ = yield from merged_heads(one_row, count, "best", used=used)
    queries = yield from ask_about(layout, indices, "pulled_by")
    return indices, queries


def distinct(indices_MK: Indices) -> tuple[Indices, Indices]:
    """Return the candidates, ascending, and for each entry its candidate's place among them.

    Like `np.unique`, but without sorting, unless a table of all candidates would be more than 8 times
    as large as the entries.
    """
    size = int(indices_MK.max(initial=-1)) + 1
    if size > 8 * indices_MK.size:
        candidates, places = np.unique(indices_MK, return_inverse=True)
        return candidates, places.reshape(indices_MK.shape)
    listed = np.zeros(size, dtype=bool)
    listed[indices_MK] = True
    candidates = np.flatnonzero(listed)
    table = np.empty(size, dtype=np.int64)
    table[candidates] = np.arange(candidates.size)
    return candidates, table[indices_MK]


def nearest_queries(places_MK: Indices, scores_MK: Scores, count: int) -> NDArray[np.int32]:
    """Return, for each of `count` candidates, the nearest query that lists it (the lowest of several).

    places_MK: which candidate each entry is; scores_MK: its score, -inf if it does not count.
    """
    best_n = np.full(count, -np.inf)
    queries_n = np.full(count, -1, dtype=np.int32)
    for query, (places, scores) in enumerate(zip(places_MK, scores_MK, strict=True)):
        nearer = scores > best_n[places]
        best_n[places[nearer]] = scores[nearer]
        queries_n[places[nearer]] = query
    return queries_n


def checked_ties(ties: str, selector: str) -> str:
    """Return `ties`, or raise InputError unless it is one of the two."""
    if ties not in ("scores", "paper"):
        raise InputError(f"{selector}: ties {ties!r} is not one of scores, paper")
    return ties


class Shard(TopShard):
    """Columns `offset`, `offset + 1`, ... of `scores_MN`: lists of neighbours, maxima and means."""

    @cached_property
    def _greedy(self) -> doubly_greedy.Shard:
        return doubly_greedy.Shard(self.scores_Mn, self.offset)

    def nearest(self, queries: Indices, counts: Indices, used: Indices) -> TopLists:
        """Like `top`, but by cosine distance and then index: see `Distances`."""
        return Distances(self.scores_Mn, self.offset).top(queries, counts, used)

    def best(self, queries: Indices, counts: Indices, used: Indices) -> TopLists:
        """Like `top`, but for the single row of column maxima."""
        return self._greedy.top(queries, counts, used)

    def pulled_by(self, indices: Indices) -> NDArray[np.int32]:
        """Return the lowest query that attains each candidate's maximum."""
        return self._greedy.pulled_by(indices)

    def means(self, weights_M: Doubles, indices: Indices) -> Doubles:
        """Return each candidate's mean score; the weights must have mean 1."""
        rows = len(self.scores_Mn)
        columns, width = indices - self.offset, max(1, BLOCK_ENTRIES // rows)
        blocks = np.split(columns, range(width, len(columns), width))
        sums = [
            column_sums(self.scores_Mn[:, block].astype(np.float64), weights_M) for block in blocks
        ]
        means: Doubles = np.concatenate(sums) / rows
        return means


class Distances(TopShard):
    """Ranks by max(1 - score, 0) in the scores' own type, which is coarser than the scores."""

    def row(self, query: int) -> Scores:
        """Return the negative distances."""
        row: Scores = -np.maximum(1 - self.scores_Mn[query], 0)
        return row

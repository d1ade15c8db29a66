"""The best candidates of each query over all shards.

Each shard ships the head of its own ranked lists. What it holds back ranks below the last entry it
shipped, so the first L entries of the merged list are final once no such last entry stands among
them; a shard whose last entry does is asked for a list twice as long. The first round ships about
2 L + 8 S entries a query. In a later one, all that the blocking shards have shipped stands among
the first L, so it ships less than 2 L; there are at most log2 S of them, and none or one when
candidates are spread over the shards at random. All of every list would be S L.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import numpy as np

from tis_ray.selectors.ordering import Indices, Scores
from tis_ray.selectors.protocol import Call, Layout, TopLists, best_positions

NONE_USED = np.empty(0, dtype=np.int64)


def merged_heads(
    layout: Layout,
    length: int,
    method: str = "top",
    arguments: tuple[Any, ...] = (),
    used: Indices = NONE_USED,
) -> Generator[list[Call], list[TopLists], tuple[Indices, Scores]]:
    """Return indices and scores (Q, L) of each query's best, by (score down, index up).

    layout: its `queries` is Q, the number of lists.
    length: L; less is returned where fewer candidates are free.
    method: what shards answer as `TopShard.top` does, after `arguments`.
    used: candidates to leave out.
    """
    length = min(length, layout.candidates - used.size)
    used_by_shard = layout.split(used)
    free = [size - mine.size for size, mine in zip(layout.sizes, used_by_shard, strict=True)]
    shards = [shard for shard, count in enumerate(free) if count]
    first = length if len(shards) < 2 else min(length, 8 + -(-2 * length // len(shards)))
    lists = [_Head(length, free) for _ in range(layout.queries)]
    asking = [(shard, list(range(layout.queries)), first) for shard in shards] if length else []
    while asking:
        calls = [
            Call(
                shard,
                method,
                (*arguments, np.array(queries), np.full(len(queries), count), used_by_shard[shard]),
            )
            for shard, queries, count in asking
        ]
        replies = yield calls
        for (shard, queries, _), reply in zip(asking, replies, strict=True):
            ends = np.cumsum(reply.lengths)
            starts = (ends - reply.lengths).tolist()
            for query, start, end in zip(queries, starts, ends.tolist(), strict=True):
                lists[query].put(shard, reply.indices[start:end], reply.scores[start:end])
        asked = {query for _, queries, _ in asking for query in queries}
        asking = _refills({query: lists[query] for query in sorted(asked)}, length)
    return np.stack([ranked.indices for ranked in lists]), np.stack([r.scores for r in lists])


class _Head:
    """One query's lists, by shard, and the head of what they give together."""

    def __init__(self, length: int, free: list[int]) -> None:
        self.length = length
        self.free = free
        self.parts: dict[int, tuple[Indices, Scores]] = {}
        self.indices = NONE_USED
        self.scores: Scores = np.empty(0)

    def put(self, shard: int, indices: Indices, scores: Scores) -> None:
        """Take a shard's list in the place of its shorter one."""
        self.parts[shard] = (indices, scores)

    def merge(self) -> list[int]:
        """Set the head; return the shards that may hold back what belongs into it."""
        parts = self.parts.values()
        indices = np.concatenate([indices for indices, _ in parts])
        scores = np.concatenate([scores for _, scores in parts])
        # Shards were put in order, so equal scores stand in the order of their indices.
        order = best_positions(scores, scores.size)
        self.indices, self.scores = indices[order[: self.length]], scores[order[: self.length]]

        place = np.empty(len(order), dtype=np.int64)
        place[order] = np.arange(len(order))
        last = place[np.cumsum([len(indices) for indices, _ in parts]) - 1]
        return [
            shard
            for shard, position in zip(self.parts, last.tolist(), strict=True)
            if position < self.length - 1 and len(self.parts[shard][0]) < self.free[shard]
        ]


def _refills(lists: dict[int, _Head], length: int) -> list[tuple[int, list[int], int]]:
    """Merge the lists that have changed; return (shard, queries, how many) to ask next."""
    asking: dict[tuple[int, int], list[int]] = {}
    for query, ranked in lists.items():
        for shard in ranked.merge():
            count = min(length, 2 * len(ranked.parts[shard][0]))
            asking.setdefault((shard, count), []).append(query)
    return [(shard, queries, count) for (shard, count), queries in asking.items()]

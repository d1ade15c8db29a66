"""Merging of the shards' ranked lists: the best candidates of each query over all shards.

Each shard ships the head of its own ranked lists. What it holds back ranks below the last entry it
shipped, so the first L entries of the merged list are final once no such last entry is among them; a
shard whose last entry is among them has to send a list twice as long. The first round ships about
2 L + 8 S entries per query. In a later round, everything that the blocking shards have shipped is
among the first L, so it ships less than 2 L; there are at most log2 S such rounds, and none or one if
candidates are spread over the shards at random. Whole lists would be S L entries.
"""

from __future__ import annotations

from collections.abc import Generator

import numpy as np

from tis_ray.selectors.ordering import Indices, Scores
from tis_ray.selectors.protocol import Call, Layout, TopLists, best_positions

NONE_USED = np.empty(0, dtype=np.int64)


def merged_heads(
    layout: Layout,
    length: int,
    method: str = "top",
    arguments: tuple[object, ...] = (),
    used: Indices = NONE_USED,
) -> Generator[list[Call], list[TopLists], tuple[Indices, Scores]]:
    """Return indices and scores (Q, L) of each query's best, by (score down, index up).

    layout: its `queries` is Q, the number of lists.
    length: L; fewer are returned if fewer candidates are free.
    method: the shards' method, which takes `arguments` and then the same as `TopShard.top`.
    used: candidates to leave out.
    """
    length = min(length, layout.candidates - used.size)
    used_by_shard = layout.split(used)
    free = [size - mine.size for size, mine in zip(layout.sizes, used_by_shard, strict=True)]
    shards = [shard for shard, count in enumerate(free) if count]
    first = length if len(shards) < 2 else min(length, 8 + -(-2 * length // len(shards)))
    lists = [_Head(length, free) for _ in range(layout.queries)]
    requests = [(shard, list(range(layout.queries)), first) for shard in shards] if length else []
    while requests:
        calls = [
            Call(
                shard,
                method,
                (*arguments, np.array(queries), np.full(len(queries), count), used_by_shard[shard]),
            )
            for shard, queries, count in requests
        ]
        replies = yield calls
        for (shard, queries, _), reply in zip(requests, replies, strict=True):
            ends = np.cumsum(reply.lengths)
            starts = (ends - reply.lengths).tolist()
            for query, start, end in zip(queries, starts, ends.tolist(), strict=True):
                lists[query].put(shard, reply.indices[start:end], reply.scores[start:end])
        changed = {query for _, queries, _ in requests for query in queries}
        requests = _refills({query: lists[query] for query in sorted(changed)}, length)
    return np.stack([ranked.indices for ranked in lists]), np.stack([r.scores for r in lists])


class _Head:
    """One query's lists, by shard, and the head of the list that they make together."""

    def __init__(self, length: int, free: list[int]) -> None:
        self.length = length
        self.free = free
        self.parts: dict[int, tuple[Indices, Scores]] = {}
        self.indices = NONE_USED
        self.scores: Scores = np.empty(0)

    def put(self, shard: int, indices: Indices, scores: Scores) -> None:
        """Store a shard's list in place of its earlier, shorter one."""
        self.parts[shard] = (indices, scores)

    def merge(self) -> list[int]:
        """Set the head; return the shards that may hold back entries that belong in it."""
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
    """Merge the lists that have changed; return the next requests: (shard, queries, how many)."""
    requests: dict[tuple[int, int], list[int]] = {}
    for query, ranked in lists.items():
        for shard in ranked.merge():
            count = min(length, 2 * len(ranked.parts[shard][0]))
            requests.setdefault((shard, count), []).append(query)
    return [(shard, queries, count) for (shard, count), queries in requests.items()]

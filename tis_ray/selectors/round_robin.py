"""Round robin: the queries take turns, each taking its best candidate that is still free.

Turn t belongs to query t mod M, which takes the free candidate with the highest score, and among
equals the one with the lowest index. That is the ordering of the paper's LESS-RR, made there by a
masked argmax over the whole row at each turn, B * N steps in all.

Queries may have weights. The turns of query i then fall at the times 1/w_i, 2/w_i, 3/w_i, ..., so that
it has had floor(w_i t) turns by time t, and turns at equal times are taken in the order of the
queries (stride scheduling). With equal weights, turn t again belongs to query t mod M.

Here each query holds a short ranked list and a pointer, and the lists are merged from any number
of column shards. Why the result is exact: a shard has shipped, for query i, the best of its free
candidates, so whatever it holds back ranks below the last entry it shipped. Entries of the merged
list at or above the *highest* such last entry (over shards that hold something back) are therefore
the true head of the full list, and only those are ever taken. When a pointer runs past them, the
blocking shards are called again, for the best of what is free *by then*.

How much is shipped: let d be how far query i walks down shard s when the game is played on that
shard alone. The pointer never passes the d-th entry of the shard's own list (induction on turns:
used candidates of the shard are always also used in the shard's own game), and lists double, so a
shard ships O(first list + d) entries per query.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, filterfalse, islice

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tis_ray.selectors.ordering import Indices, Ordering, Scores
from tis_ray.selectors.protocol import Call, Exchange, Layout, Rounds, TopLists, best_positions
from tis_ray.selectors.query_weights import checked_weights
from tis_ray.selectors.spec import Selector
from tis_ray.selectors.sums import Doubles

# Entries of a list that are converted to Python numbers at once.
BLOCK = 1024


def coordinate(layout: Layout, budget: int, *, weights: ArrayLike | None = None) -> Rounds:
    """Return the first `budget` picks; see the module docstring.

    weights: (M,) positive, a query's share of the turns; equal if not given.
    """
    weights_M = checked_weights("round_robin", weights, layout.queries)
    queries = turns(weights_M, budget)
    indices, scores = yield from take_turns(layout, queries)
    return Ordering(indices, scores, queries, "round_robin")


def turns(weights_M: Doubles, budget: int) -> NDArray[np.int32]:
    """Return whose turn it is, (B,)."""
    if (weights_M == weights_M[0]).all():
        return (np.arange(budget) % len(weights_M)).astype(np.int32)
    # Exact, and safe from overflow.
    weights_M = np.ldexp(weights_M, -np.frexp(weights_M.max())[1])
    # Up to this time, rounding included, the queries have at least B turns together.
    until = (budget + 2 * len(weights_M)) / weights_M.sum()
    counts = (until * weights_M).astype(np.int64) + 1
    queries = np.repeat(np.arange(len(weights_M), dtype=np.int32), counts)
    first = np.repeat(np.cumsum(counts) - counts, counts)
    times = (np.arange(1, len(queries) + 1) - first) / weights_M[queries]
    return queries[np.lexsort((queries, times))[:budget]]


def take_turns(layout: Layout, queries: NDArray[np.int32]) -> Exchange[tuple[Indices, Scores]]:
    """Let the queries (B,) take their turns over shards that answer `top`.

    Returns the picks and their scores, (B,).
    """
    budget, schedule = len(queries), queries.tolist()
    counts = np.bincount(queries, minlength=layout.queries).tolist()
    lists = [_RankedList(layout, count) for count in counts]
    # Pages of zeros that are never written take no memory, so this costs O(B), not O(N).
    taken = np.zeros(layout.candidates, dtype=np.uint8)
    used = taken.data
    walks = [ranked.walk(used) for ranked in lists]
    picks = [ranked.picks for ranked in lists]

    turn = 0
    while turn < budget:
        for query in islice(schedule, turn, None):
            item = next(walks[query], None)
            if item is None:
                break
            used[item] = 1
            picks[query].append(item)
            turn += 1
        if turn == budget:
            break
        for ranked in lists:
            ranked.settle(taken)
        lists[query].position = lists[query].certain
        # All queries walk at about the same pace, so refilling every one that runs low saves a
        # round trip a few turns later. Those with no turn before the last pick need nothing.
        due = dict.fromkeys(schedule[turn : turn + layout.queries])
        low = {query: lists[query] for query in due if lists[query].runs_low(taken)}
        picked = np.fromiter(chain.from_iterable(picks), dtype=np.int64, count=turn)
        calls = _refill_calls(low, layout, picked, budget - turn)
        replies: list[TopLists] = yield calls
        _merge(lists, calls, replies)
        for query, ranked in low.items():
            walks[query] = ranked.walk(used)

    for ranked in lists:
        ranked.settle(taken)
    turns_of = np.argsort(queries, kind="stable")
    indices = np.empty(budget, dtype=np.int64)
    indices[turns_of] = np.concatenate(picks)
    scores = np.concatenate([part for ranked in lists for part in ranked.scores])
    ordered = np.empty_like(scores)
    ordered[turns_of] = scores
    return indices, ordered


class _RankedList:
    """One query's merged list: what it may take next, and what each shard still holds back.

    items, values: indices and scores by (score down, index up); `position` is the pointer.
    certain: entries before it are the true head of the query's full list.
    picks, scores: what the query has taken, and the scores of those that `settle` has seen.
    last: (S,) the place of each shard's last shipped entry in the list.
    open: (S,) whether the shard may be holding back free candidates.
    counts: (S,) how many entries to request from each shard next time.
    """

    def __init__(self, layout: Layout, turns: int) -> None:
        shards = len(layout.sizes)
        # Four times the picks this query will make, since others take some of its best.
        first = max(8, -(-4 * turns // shards))
        self.items = np.empty(0, dtype=np.int64)
        self.values: Scores = np.empty(0)
        self.position = self.certain = 0
        self.picks: list[int] = []
        self.scores: list[Scores] = []
        self.settled = 0
        self.last = np.full(shards, -1)
        self.open = np.ones(shards, dtype=bool)
        self.counts = np.full(shards, first)
        self.starts = layout.starts

    def walk(self, used: memoryview) -> Iterator[int]:
        """Yield the certain candidates ahead that are still free when their turn comes."""
        ahead = self.items[self.position : self.certain]
        blocks = (ahead[start : start + BLOCK].tolist() for start in range(0, len(ahead), BLOCK))
        return filterfalse(used.__getitem__, chain.from_iterable(blocks))

    def settle(self, taken: NDArray[np.uint8]) -> None:
        """Record the scores of the picks since the last call, and move the pointer past them."""
        fresh = self.picks[self.settled :]
        if fresh:
            taken[fresh] = 2  # for a moment: by this query, now
            ahead = self.items[self.position : self.certain]
            places = self.position + np.flatnonzero(taken[ahead] == 2)
            taken[fresh] = 1
            self.scores.append(self.values[places])
            self.position, self.settled = int(places[-1]) + 1, len(self.picks)

    def runs_low(self, taken: NDArray[np.uint8]) -> bool:
        """Return whether at most a quarter of the certain entries is ahead and free."""
        ahead = self.items[self.position : self.certain]
        return 4 * (len(ahead) - int(np.count_nonzero(taken[ahead]))) <= self.certain

    def blocking(self) -> Indices:
        """Return the shards to call: those that bound the certain entries, or nearly do."""
        return np.flatnonzero(self.open & (self.last < self.certain + self.certain // 4))

    def extend(self, shards: Indices, replies: list[tuple[Indices, Scores]]) -> None:
        """Replace what is left of those shards' old lists by new ones."""
        indices, scores = self.items[self.position :], self.values[self.position :]
        stays = ~np.isin(self._owners(indices), shards)
        indices = np.concatenate([indices[stays], *(indices for indices, _ in replies)])
        # The empty list of the start has no type of its own.
        kept = [scores[stays]] if stays.any() else []
        scores = np.concatenate([*kept, *(scores for _, scores in replies)])
        if kept:
            order = np.lexsort((indices, -scores))
            indices, scores = indices[order], scores[order]
        elif len(replies) > 1:
            # Shards come in order, so equal scores stand in the order of their indices.
            order = best_positions(scores, scores.size)
            indices, scores = indices[order], scores[order]

        lengths = np.array([len(indices) for indices, _ in replies])
        self.open[shards] = lengths == self.counts[shards]
        self.last[:] = -1
        self.last[self._owners(indices)] = np.arange(len(indices))
        self.certain = int(self.last[self.open].min()) + 1 if self.open.any() else len(indices)
        self.counts[shards] *= 2
        self.items, self.values, self.position = indices, scores, 0

    def _owners(self, indices: Indices) -> Indices:
        return np.searchsorted(self.starts, indices, side="right") - 1


def _refill_calls(
    low: dict[int, _RankedList], layout: Layout, picked: Indices, remaining: int
) -> list[Call]:
    """Return one call to each shard that bounds one of these queries' certain entries."""
    by_shard: list[list[int]] = [[] for _ in layout.sizes]
    for query, ranked in low.items():
        np.minimum(ranked.counts, remaining, out=ranked.counts)
        for shard in ranked.blocking().tolist():
            by_shard[shard].append(query)
    used = layout.split(picked)
    calls = []
    for shard, queries in enumerate(by_shard):
        if queries:
            counts = np.array([low[query].counts[shard] for query in queries])
            calls.append(Call(shard, "top", (np.array(queries), counts, used[shard])))
    return calls


def _merge(lists: list[_RankedList], calls: list[Call], replies: list[TopLists]) -> None:
    """Hand the replies of one round to the queries that they are for."""
    fresh: dict[int, list[tuple[int, Indices, Scores]]] = {}
    for call, reply in zip(calls, replies, strict=True):
        ends = np.cumsum(reply.lengths).tolist()
        starts = [0, *ends[:-1]]
        for query, start, end in zip(call.arguments[0].tolist(), starts, ends, strict=True):
            entry = (call.shard, reply.indices[start:end], reply.scores[start:end])
            fresh.setdefault(query, []).append(entry)
    for query, entries in fresh.items():
        shards = np.array([shard for shard, _, _ in entries])
        lists[query].extend(shards, [(indices, scores) for _, indices, scores in entries])


SELECTOR = Selector(
    name="round_robin",
    summary="the queries take turns, each taking its best free candidate",
    coordinate=coordinate,
    prior=(0, 3),
)

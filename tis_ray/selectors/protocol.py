"""The protocol between a selector and the column shards of `scores_MN`, whoever holds them.

A selector has two parts. A *shard* holds the scores of some candidates and answers calls; it keeps
no state that does not follow from the scores, so it can be rebuilt at any time. A *coordinator* is a
generator: it yields rounds of calls, is sent the replies in the same order, and returns the
ordering. `drive` joins the two; whoever answers the calls (this process, or remote actors) cannot
change the result.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from tis_ray.selectors.ordering import Extent, Indices, Ordering, Scores


class Call(NamedTuple):
    """A request to shard number `shard` to run its `method`."""

    shard: int
    method: str
    arguments: tuple[Any, ...]


Replies = list[Any]
"""The replies to one round of calls, in order; each is what the called method returns."""

T = TypeVar("T")
Exchange = Generator[list[Call], Replies, T]
"""A generator that yields rounds of calls, is sent their replies, and returns a T."""

Rounds = Exchange[Ordering]


@dataclass(frozen=True)
class Layout:
    """How the N candidates of M queries are cut: shard s holds `sizes[s]` columns, in order.

    extent: of the scores, for selectors that must know it before they begin.
    """

    queries: int
    sizes: tuple[int, ...]
    extent: Extent | None = None

    @property
    def candidates(self) -> int:
        """N, the number of columns in all shards."""
        return sum(self.sizes)

    @property
    def starts(self) -> Indices:
        """(S,) the first candidate of each shard."""
        return np.cumsum((0, *self.sizes[:-1]), dtype=np.int64)

    def of(self, queries: Sequence[int]) -> Layout:
        """Return the layout of these rows alone."""
        extent = None if self.extent is None else self.extent.rows(queries)
        return Layout(len(queries), self.sizes, extent)

    def split(self, indices: Indices) -> list[Indices]:
        """Return, for each shard, the candidates among these that it holds, ascending."""
        ordered = np.sort(indices)
        return np.split(ordered, np.searchsorted(ordered, self.starts[1:]))


def drive(rounds: Rounds, answer: Callable[[list[Call]], Replies]) -> Ordering:
    """Run a coordinator; `answer` must return the replies to one round, in order."""
    try:
        calls = next(rounds)
        while True:
            calls = rounds.send(answer(calls))
    except StopIteration as finished:
        ordering: Ordering = finished.value
        return ordering


def answer_locally(shards: Sequence[object]) -> Callable[[list[Call]], Replies]:
    """Return the `answer` of `drive` for shards in this process."""
    return lambda calls: [
        getattr(shards[call.shard], call.method)(*call.arguments) for call in calls
    ]


def ask_about(
    layout: Layout, indices: Indices, method: str, *arguments: object
) -> Exchange[NDArray[Any]]:
    """Call a method of the shards that hold these candidates; return an answer for each, in order.

    method: is called with `arguments` and the shard's part of the candidates, ascending.
    """
    parts = layout.split(indices)
    replies = yield [
        Call(s, method, (*arguments, part)) for s, part in enumerate(parts) if part.size
    ]
    # Together, the replies are about the candidates in ascending order.
    answers = np.concatenate(replies)
    ordered = np.empty_like(answers)
    ordered[np.argsort(indices)] = answers
    return ordered


class TopLists(NamedTuple):
    """Best candidates of several queries, one list after the other.

    lengths: (Q,) entries of each list; indices, scores: (sum of lengths,).
    """

    lengths: Indices
    indices: Indices
    scores: Scores


class TopShard:
    """Columns `offset`, `offset + 1`, ... of `scores_MN`, ranked on demand.

    The matrix may be memory-mapped: a call reads only the rows it needs.
    """

    def __init__(self, scores_Mn: Scores, offset: int) -> None:
        self.scores_Mn = np.asarray(scores_Mn)
        self.offset = offset

    def row(self, query: int) -> Scores:
        """Return the values that candidates are ranked by for one query, (n,)."""
        return self.scores_Mn[query]

    def top(self, queries: Indices, counts: Indices, used: Indices) -> TopLists:
        """Return the best `counts[k]` candidates of row `queries[k]` that are not in `used`.

        A list shorter than requested holds every candidate that is left.
        """
        free = None
        if used.size:
            free = np.delete(np.arange(self.scores_Mn.shape[1]), used - self.offset)
        lists = []
        for query, count in zip(queries.tolist(), counts.tolist(), strict=True):
            row = self.row(query) if free is None else self.row(query)[free]
            best = best_positions(row, count)
            lists.append(((best if free is None else free[best]) + self.offset, row[best]))
        return TopLists(
            np.array([len(indices) for indices, _ in lists], dtype=np.int64),
            np.concatenate([indices for indices, _ in lists]),
            np.concatenate([scores for _, scores in lists]),
        )


def best_positions(values: Scores, count: int) -> NDArray[np.intp]:
    """Return the positions of the `count` largest values, by value down, then position up.

    Takes time linear in the number of values, plus a sort of the result, however many are equal.
    """
    if count >= values.size:
        return _descending(values)
    likely = _likely_positions(values, count)
    if likely is not None:
        return likely[best_positions(values[likely], count)]
    cut = np.partition(values, values.size - count)[values.size - count]
    above = np.flatnonzero(values > cut)
    above = above[_descending(values[above])]
    level = np.flatnonzero(values == cut)
    return np.concatenate([above, level[: count - above.size]])


def _descending(values: Scores) -> NDArray[np.intp]:
    """Return all positions, by value down, then position up."""
    if values.dtype != np.float32:
        return np.argsort(-values, kind="stable")
    # Value and position in one integer: sorting those has no branches, and is six times as fast.
    bits = (values + np.float32(0)).view(np.int32)  # + 0 makes -0 equal to 0
    ascending = bits ^ ((bits >> 31) & np.int32(0x7FFFFFFF))
    keys = (~ascending).astype(np.int64) << 32
    keys |= np.arange(keys.size)
    keys.sort()
    keys &= 0xFFFFFFFF
    return keys


def _likely_positions(values: Scores, count: int) -> NDArray[np.intp] | None:
    """Return a few positions that are sure to hold the `count` largest values and their ties.

    One comparison with a threshold guessed from a sample is much cheaper than a partition of a
    long row. Any threshold with `count` values at or above it is exact; None if the guess fails.
    """
    if values.size < 8192:
        return None
    sample = values[:: values.size // 4096]
    rank = 2 * count * sample.size // values.size + 8
    if 4 * rank > sample.size:
        return None
    threshold = np.partition(sample, sample.size - rank)[sample.size - rank]
    likely = np.flatnonzero(values >= threshold)
    return likely if count <= likely.size <= values.size // 2 else None

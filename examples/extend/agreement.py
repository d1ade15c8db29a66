"""A selector as a distributed class: rows that no query is against, for pools of any size."""

import numpy as np

from tis_ray.selectors import Ordering
from tis_ray.selectors.protocol import Call, Layout, Rounds, best_positions


class Agreement:
    """Best worst score first: a row is worth what the query that likes it least gives it.

    An instance is a shard: it holds some columns of `scores_MN`, whose first is `offset`. It may be
    rebuilt at any time, so it keeps nothing that the scores do not give.
    """

    name = "agreement"
    version = 1

    def __init__(self, scores_Mn: np.ndarray, offset: int) -> None:
        self.scores_Mn, self.offset = scores_Mn, offset

    def best(self, count: int, dissenters: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the indices, values and queries of the shard's best rows, (count,) or fewer each."""
        order_Mn = np.argsort(self.scores_Mn, axis=0, kind="stable")
        queries_n = order_Mn[min(dissenters, len(order_Mn) - 1)]
        values_n = np.take_along_axis(np.asarray(self.scores_Mn), queries_n[None], axis=0)[0]
        best = best_positions(values_n, count)
        return best + self.offset, values_n[best], queries_n[best].astype(np.int32)

    @staticmethod
    def coordinate(layout: Layout, budget: int, *, dissenters: int = 0) -> Rounds:
        """Ask every shard once, and merge. `dissenters`: so many of the lowest scores do not count."""
        replies = yield [
            Call(shard, "best", (budget, dissenters)) for shard in range(len(layout.sizes))
        ]
        indices, values, queries = (np.concatenate(parts) for parts in zip(*replies, strict=True))
        # Shards come in the order of their columns, so ties go to the lowest index.
        best = best_positions(values, budget)
        return Ordering(indices[best], values[best], queries[best], Agreement.name)

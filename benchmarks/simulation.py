"""10^9 candidates in 1,000 shards, simulated: what reaches the coordinator, and what it does with it.

The coordinators and the protocol are the real ones; no actors, and no scores: a shard makes up its
ranked lists as they are asked for. The scores of one query in one shard are the order statistics of
as many normal numbers, from a hash, so a longer list begins with the shorter one; queries come in
groups that want the same candidates, so that they take them from each other. For UOT each shard's
part of the sums comes from a few real columns: what is sent, M numbers a round, does not depend on
how many there are.

Time at the coordinator is CPU time without the making of replies and the counting of bytes.
"""

from __future__ import annotations

import os
import time
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from scipy.special import ndtri

from benchmarks.score_shards import Traffic, megabytes, size
from tis_ray.log import peak_mb
from tis_ray.selectors import SELECTORS
from tis_ray.selectors.ordering import Extent, Ordering
from tis_ray.selectors.protocol import Call, Layout, TopLists, drive
from tis_ray.selectors.transport import Shard

QUERIES, SHARDS, SIZE = 5000, 1000, 1_000_003  # a prime, so that multiples of a number visit all
GROUPS = 50
BUDGET = 100_000
COLUMNS = 32
SPREAD = 0.06


class MadeUp:
    """A shard that answers what round robin, doubly greedy and UOT ask."""

    def __init__(self, shard: int, offset: int) -> None:
        self.shard, self.offset = shard, offset

    def top(self, queries: np.ndarray, counts: np.ndarray, used: np.ndarray) -> TopLists:
        counts = np.minimum(counts, SIZE - used.size)
        ranks_L = np.arange(min(int(counts.max()) + used.size, SIZE))
        groups_Q = (queries % GROUPS)[:, None]
        first, step = (self._hash(groups_Q, kind) % (SIZE - 1) + 1 for kind in (-1, -2))
        indices_QL = (first + step * ranks_L.astype(np.uint64)) % SIZE
        # Gaps between order statistics of uniform numbers are exponential.
        gaps_QL = -np.log((self._hash(queries[:, None], ranks_L) + 0.5) * 2.0**-64)
        rare_QL = np.cumsum(gaps_QL, axis=1) / (SIZE + 10 * np.sqrt(SIZE))
        scores_QL = (-SPREAD * ndtri(np.minimum(rare_QL, 1 - 1e-9))).astype(np.float32)
        free_QL = ~np.isin(indices_QL, used - self.offset)
        free_QL &= np.cumsum(free_QL, axis=1) <= counts[:, None]
        indices = indices_QL[free_QL].astype(np.int64) + self.offset
        return TopLists(counts, indices, scores_QL[free_QL])

    def heaviest(self, *arguments: Any) -> TopLists:
        return self.top(*arguments[-3:])

    def pulled_by(self, *arguments: Any) -> np.ndarray:
        return np.zeros(len(arguments[-1]), dtype=np.int32)

    def sweep(self, *arguments: Any) -> Any:
        return self._columns().sweep(*arguments)

    def row_sums(self, *arguments: Any) -> Any:
        return self._columns().row_sums(*arguments)

    def _hash(self, queries: np.ndarray, ranks: Any) -> np.ndarray:
        """Return 64 random bits for each query and rank (the finaliser of SplitMix64)."""
        bits = np.uint64(self.shard * 2**44) + (queries.astype(np.uint64) << np.uint64(24))
        bits = (bits + np.asarray(ranks).astype(np.uint64)) * np.uint64(0x9E3779B97F4A7C15)
        bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return bits ^ (bits >> np.uint64(31))

    def _columns(self) -> Shard:
        rng = np.random.default_rng(self.shard)
        scores_Mn = SPREAD * rng.standard_normal((QUERIES, COLUMNS), dtype=np.float32)
        return Shard(scores_Mn, self.offset)


def simulate(selector: str, layout: Layout) -> Ordering:
    """Run the coordinator of a selector; print its rounds, bytes and seconds."""
    shards = [MadeUp(s, int(start)) for s, start in enumerate(layout.starts)]
    traffic, others = Traffic(), 0.0

    def answer(calls: list[Call]) -> list[Any]:
        nonlocal others
        start = time.process_time()
        replies = [getattr(shards[call.shard], call.method)(*call.arguments) for call in calls]
        traffic.rounds += 1
        traffic.sent += size(calls)
        traffic.received += size(replies)
        others += time.process_time() - start
        return replies

    start = time.process_time()
    ordering = drive(SELECTORS.own[selector].rounds(layout, BUDGET, {}), answer)
    spent = time.process_time() - start - others
    print(
        f"  {selector}: {traffic}; {spent:.1f} s at the coordinator; peak memory so far, with the "
        f"replies of all shards, {peak_mb() / 1000:.1f} GB",
        flush=True,
    )
    return ordering


def main() -> None:
    extent = Extent(np.full(QUERIES, -0.3, np.float32), np.full(QUERIES, 0.3, np.float32))
    layout = Layout(QUERIES, (SIZE,) * SHARDS, extent)
    print(
        f"  {QUERIES:,} queries x {layout.candidates:,} candidates in {SHARDS:,} shards, budget "
        f"{BUDGET:,}; naive: every shard's best {BUDGET:,} of each query, "
        f"{megabytes(12 * QUERIES * SHARDS * BUDGET)}"
    )
    for selector in ("round_robin", "doubly_greedy", "uot"):
        ordering = simulate(selector, layout)
        assert len(set(ordering.indices.tolist())) == BUDGET


if __name__ == "__main__":
    main()

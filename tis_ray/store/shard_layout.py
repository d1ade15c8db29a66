"""Where the shards of a side begin: a rule of row numbers alone, so that it holds while rows are still read.

A shard costs the driver some milliseconds, whatever is in it: a large pool wants large shards, and a small one
small shards, so that every actor has some. The first shards are small, and the more rows lie before a shard the
larger it is, up to a bound. A pool that grows keeps the shards that it had.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

SIZES = (256, 512, 1024, 2048, 4096, 8192)
"""Rows of a shard: what is stored of the largest ones, with LESS's features, is half a gigabyte."""
OF_EACH = 64
"""Shards of a size before the next: as many rows as lie before them, if the sizes double."""


@dataclass(frozen=True)
class ShardLayout:
    """Shards of so many rows each or, if that is None, of sizes that grow."""

    shard_rows: int | None

    @cached_property
    def _levels(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the sizes of shards, the first shard of each size and the first row of that: (L,) each."""
        if self.shard_rows is not None:
            return np.array([self.shard_rows]), np.array([0]), np.array([0])
        sizes_L = np.array(SIZES)
        # Of the first size twice as many: of each other one as many rows as lie before it.
        counts_L = np.where(np.arange(len(sizes_L)) == 0, 2 * OF_EACH, OF_EACH)
        shards_L = np.cumsum([0, *counts_L[:-1]])
        rows_L = np.cumsum([0, *(sizes_L * counts_L)[:-1]])
        return sizes_L, shards_L, rows_L

    def begin(self, shard: int) -> int:
        """Return the number of a shard's first row."""
        sizes_L, shards_L, rows_L = self._levels
        level = int(np.searchsorted(shards_L, shard, side="right")) - 1
        return int(rows_L[level] + (shard - shards_L[level]) * sizes_L[level])

    def shards_of(self, rows: np.ndarray) -> np.ndarray:
        """Return the shards that rows lie in, by their numbers."""
        sizes_L, shards_L, rows_L = self._levels
        levels = np.searchsorted(rows_L, rows, side="right") - 1
        return shards_L[levels] + (rows - rows_L[levels]) // sizes_L[levels]

    def places_by_shard(self, rows: np.ndarray) -> dict[int, np.ndarray]:
        """Return the shards that hold some of these rows, and which places in `rows` those of each have."""
        return places_by(self.shards_of(rows))

    def count(self, rows: int) -> int:
        """Return how many shards so many rows have."""
        return int(self.shards_of(np.array(rows - 1))) + 1 if rows else 0


def places_by(owners: np.ndarray) -> dict[int, np.ndarray]:
    """Return the places at which each owner stands, ascending; owners ascending."""
    order = np.argsort(owners, kind="stable")
    found, begins = np.unique(owners[order], return_index=True)
    places = np.split(order, begins[1:]) if len(found) else []
    return dict(zip(found.tolist(), places, strict=True))

"""Transport from queries to candidates, as seen by one column shard.

Everything is in terms of the kernel with its row maxima divided out,

    kernel[i, j] = exp((scores[i, j] - highest[i]) / width),    width = 2 reg,

and of a potential g, (M,): the mass from query i to candidate j is exp(g_i) kernel[i, j] v_j, with
v_j = ((1/N) / sum_i exp(g_i) kernel[i, j])^damping. A shard can work out v from g alone, so calls
carry g, and all that a shard remembers between calls is what it would otherwise compute again.

Scores are read in blocks of columns; memory is O(block) beside a few numbers for each candidate.
No result depends on how the columns are cut, to the last bit: see `sums`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tis_ray.selectors.ordering import Indices, Scores
from tis_ray.selectors.protocol import TopLists, TopShard
from tis_ray.selectors.sums import Doubles, FixedPoint, column_sums

# Entries in one block of columns: a few arrays of it stay in the second-level cache.
BLOCK_ENTRIES = 2**17


class Kernel(NamedTuple):
    """The kernel of one run.

    highest_M: maxima of the rows; width: 2 reg; dtype: what its exponential is computed in.
    damping: reg_m2 / (reg_m2 + reg); candidates: N, of all shards.
    """

    highest_M: Scores
    width: float
    dtype: str
    damping: float
    candidates: int

    def exponents(self, scores_Mb: Scores) -> Scores:
        """Return (scores - row maximum) / width, at most 0, as a new array."""
        highest_M = self.highest_M.astype(self.dtype)
        shifted_Mb = np.subtract(scores_Mb, highest_M[:, None], dtype=self.dtype, order="C")
        shifted_Mb *= shifted_Mb.dtype.type(1 / self.width)
        return shifted_Mb

    def values(self, scores_Mb: Scores) -> Doubles:
        """Return the kernel of a block in float64."""
        exponents_Mb = self.exponents(scores_Mb)
        return np.exp(exponents_Mb, out=exponents_Mb).astype(np.float64, copy=False)

    def key(self, potential_M: Doubles) -> tuple[Any, ...]:
        """Return what column sums depend on, beside the scores."""
        return self.width, self.dtype, potential_M.tobytes()

    def scalings(self, sums_n: Doubles) -> Doubles:
        """Return v from the column sums of exp(g) * kernel."""
        scalings_n: Doubles = ((1 / self.candidates) / sums_n) ** self.damping
        return scalings_n

    def log_scalings(self, log_sums_n: Doubles) -> Doubles:
        """Return log v from the logarithms of the column sums."""
        return self.damping * (-np.log(self.candidates) - log_sums_n)


class Sweep(NamedTuple):
    """What one pass over a shard found.

    totals: by row, counts of sum_j kernel v; or, in logarithms, the maxima of kernel v.
    log_change, log_largest: logarithms of the largest change of v and of the largest v.
    """

    totals: NDArray[Any]
    log_change: float
    log_largest: float


Extent = tuple[Scores, Scores]


class Shard:
    """Columns `offset`, `offset + 1`, ... of `scores_MN`."""

    def __init__(self, scores_Mn: Scores, offset: int) -> None:
        self.scores_Mn = np.asarray(scores_Mn)
        self.offset = offset
        self._remembered: dict[tuple[Any, ...], Doubles] = {}

    def extent(self) -> Extent:
        """Return the smallest and the largest score of each row."""
        lowest = [row.min(initial=np.inf) for row in self.scores_Mn]
        highest = [row.max(initial=-np.inf) for row in self.scores_Mn]
        return np.array(lowest), np.array(highest)

    def row_sums(self, kernel: Kernel, grid: FixedPoint) -> NDArray[np.int64]:
        """Return the counts of sum_j kernel: v = 1."""
        counts = grid.nothing()
        for part in self._parts():
            counts += grid.counts(kernel.values(self.scores_Mn[:, part]))
        return counts

    def sweep(
        self, kernel: Kernel, potential_M: Doubles, before_M: Doubles | None, grid: FixedPoint
    ) -> Sweep:
        """Return the sums that potential_M leads to, and how v differs from that of before_M."""
        weights_M = np.exp(potential_M)[:, None]
        sums_n, scalings_n = np.empty((2, self.scores_Mn.shape[1]))
        counts = grid.nothing()
        for part in self._parts():
            kernel_Mb = kernel.values(self.scores_Mn[:, part])
            sums_n[part] = column_sums(kernel_Mb * weights_M)
            scalings_n[part] = kernel.scalings(sums_n[part])
            kernel_Mb *= scalings_n[part]
            counts += grid.counts(kernel_Mb)
        self._remember(("sums", *kernel.key(potential_M)), sums_n)
        before_n: Doubles | float = 1.0
        if before_M is not None:
            before_n = kernel.scalings(self._column_sums(kernel, before_M))
        change = np.abs(scalings_n - before_n).max(initial=0.0)
        return Sweep(counts, _log(change), _log(scalings_n.max(initial=0.0)))

    def log_sweep(self, kernel: Kernel, potential_M: Doubles, before_M: Doubles | None) -> Sweep:
        """Return the maxima of kernel v instead, and the same about v."""
        scalings_n = kernel.log_scalings(self._log_column_sums(kernel, potential_M))
        highest_M = np.full(len(self.scores_Mn), -np.inf)
        for part in self._parts():
            terms_Mb = kernel.exponents(self.scores_Mn[:, part]) + scalings_n[part]
            np.maximum(highest_M, terms_Mb.max(axis=1), out=highest_M)
        before_n: Doubles | float = 0.0
        if before_M is not None:
            before_n = kernel.log_scalings(self._log_column_sums(kernel, before_M))
        with np.errstate(divide="ignore"):  # a candidate whose v does not change
            gap_n = np.log(-np.expm1(-np.abs(scalings_n - before_n)))
        change = (np.maximum(scalings_n, before_n) + gap_n).max(initial=-np.inf)
        return Sweep(highest_M, float(change), float(scalings_n.max(initial=-np.inf)))

    def log_row_sums(
        self, kernel: Kernel, potential_M: Doubles, highest_M: Doubles, grid: FixedPoint
    ) -> NDArray[np.int64]:
        """Return the counts of sum_j kernel v / exp(highest)."""
        scalings_n = kernel.log_scalings(self._log_column_sums(kernel, potential_M))
        counts = grid.nothing()
        for part in self._parts():
            terms_Mb = kernel.exponents(self.scores_Mn[:, part]) + scalings_n[part]
            terms_Mb -= highest_M[:, None]
            counts += grid.counts(np.exp(terms_Mb, out=terms_Mb))
        return counts

    def heaviest(
        self,
        kernel: Kernel,
        potential_M: Doubles,
        logarithms: bool,
        queries: Indices,
        counts: Indices,
        used: Indices,
    ) -> TopLists:
        """As `TopShard.top` for the single row of column masses, or of their logarithms."""
        if logarithms:
            sums_n = self._log_column_sums(kernel, potential_M)
            masses_n = kernel.log_scalings(sums_n) + sums_n
        else:
            sums_n = self._column_sums(kernel, potential_M)
            masses_n = kernel.scalings(sums_n) * sums_n
        return TopShard(masses_n[None], self.offset).top(queries, counts, used)

    def pulled_by(
        self, kernel: Kernel, potential_M: Doubles, indices: Indices
    ) -> NDArray[np.int32]:
        """Return the lowest query that sends each candidate the largest mass."""
        columns = indices - self.offset
        found = [
            (kernel.exponents(self.scores_Mn[:, columns[part]]) + potential_M[:, None]).argmax(0)
            for part in self._parts(len(columns))
        ]
        return np.concatenate(found).astype(np.int32)

    def _parts(self, columns: int | None = None) -> Iterator[slice]:
        queries, held = self.scores_Mn.shape
        columns = held if columns is None else columns
        width = min(65536, max(256, BLOCK_ENTRIES // queries))
        return (slice(start, start + width) for start in range(0, columns, width))

    def _column_sums(self, kernel: Kernel, potential_M: Doubles) -> Doubles:
        """Return sum_i exp(g_i) kernel, as `sweep` found it or again."""
        key = ("sums", *kernel.key(potential_M))
        if key not in self._remembered:
            weights_M = np.exp(potential_M)[:, None]
            sums_n = np.empty(self.scores_Mn.shape[1])
            for part in self._parts():
                kernel_Mb = kernel.values(self.scores_Mn[:, part])
                sums_n[part] = column_sums(np.multiply(kernel_Mb, weights_M, out=kernel_Mb))
            self._remember(key, sums_n)
        return self._remembered[key]

    def _log_column_sums(self, kernel: Kernel, potential_M: Doubles) -> Doubles:
        """Return log sum_i exp(g_i) kernel."""
        key = ("log sums", *kernel.key(potential_M))
        if key not in self._remembered:
            log_sums_n = np.empty(self.scores_Mn.shape[1])
            for part in self._parts():
                terms_Mb = kernel.exponents(self.scores_Mn[:, part]) + potential_M[:, None]
                highest_b = terms_Mb.max(axis=0)
                terms_Mb -= highest_b
                sums_b = column_sums(np.exp(terms_Mb, out=terms_Mb))
                log_sums_n[part] = highest_b + np.log(sums_b)
            self._remember(key, log_sums_n)
        return self._remembered[key]

    def _remember(self, key: tuple[Any, ...], sums_n: Doubles) -> None:
        """Keep what the last two potentials gave."""
        self._remembered[key] = sums_n
        while len(self._remembered) > 2:
            del self._remembered[next(iter(self._remembered))]


def _log(value: float) -> float:
    return math.log(value) if value > 0 else -math.inf

"""Transport from queries to candidates, as seen by one column shard.

Everything is in terms of the kernel with a factor of each row divided out,

    kernel[i, j] = exp((scores[i, j] - shift[i]) / width) <= 1,    width = 2 reg,

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
from tis_ray.selectors.sums import Counts, Doubles, FixedPoint, column_sums

# Entries in one block of columns: 3 MiB in float64, all that is held of the scores.
BLOCK_ENTRIES = 3 * 2**17


class Kernel(NamedTuple):
    """The kernel of one run.

    shift_M: at least the maxima of the rows, in the type that the exponential is computed in.
    width: 2 reg.
    damping: reg_m2 / (reg_m2 + reg); candidates: N, of all shards.
    """

    shift_M: Scores
    width: float
    damping: float
    candidates: int

    def key(self, potential_M: Doubles) -> tuple[Any, ...]:
        """Return what column sums depend on, beside the scores."""
        return self.width, self.shift_M.tobytes(), potential_M.tobytes()

    def scalings(self, sums_n: Doubles) -> Doubles:
        """Return v from the column sums of exp(g) * kernel."""
        scalings_n: Doubles = ((1 / self.candidates) / sums_n) ** self.damping
        return scalings_n

    def log_scalings(self, log_sums_n: Doubles) -> Doubles:
        """Return log v from the logarithms of the column sums."""
        return self.damping * (-np.log(self.candidates) - log_sums_n)


class Sweep(NamedTuple):
    """What one pass over a shard found.

    totals: counts of sum_j kernel v, (levels, M); or, in logarithms, the maxima of kernel v, (M,).
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

    def row_sums(self, kernel: Kernel, grid: FixedPoint) -> Counts:
        """Return the counts of sum_j kernel: v = 1."""
        counts = grid.nothing(len(self.scores_Mn))
        for _, kernel_Mb in self._kernel(kernel):
            counts += grid.counts(kernel_Mb)
        return counts

    def sweep(
        self, kernel: Kernel, potential_M: Doubles, before_M: Doubles | None, grid: FixedPoint
    ) -> Sweep:
        """Return the sums that potential_M leads to, and how v differs from that of before_M."""
        weights_M = np.exp(potential_M)
        sums_n, scalings_n = np.empty((2, self.scores_Mn.shape[1]))
        counts = grid.nothing(len(self.scores_Mn))
        for part, kernel_Mb in self._kernel(kernel):
            sums_n[part] = column_sums(kernel_Mb, weights_M)
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
        for part, terms_Mb in self._exponents(kernel):
            terms_Mb += scalings_n[part]
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
    ) -> Counts:
        """Return the counts of sum_j kernel v / exp(highest)."""
        scalings_n = kernel.log_scalings(self._log_column_sums(kernel, potential_M))
        counts = grid.nothing(len(self.scores_Mn))
        for part, terms_Mb in self._exponents(kernel):
            terms_Mb += scalings_n[part]
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
        queries = np.empty(len(columns), dtype=np.int32)
        for part, terms_Mb in self._exponents(kernel, columns):
            queries[part] = (terms_Mb + potential_M[:, None]).argmax(axis=0)
        return queries

    def _exponents(
        self, kernel: Kernel, columns: Indices | None = None
    ) -> Iterator[tuple[slice, Scores]]:
        """Yield (scores - shift) / width, at most 0, block by block, in the same memory.

        columns: which, instead of all in turn.
        """
        rows, count = self.scores_Mn.shape
        count = count if columns is None else len(columns)
        width = min(count, 65536, max(256, BLOCK_ENTRIES // rows))
        dtype = kernel.shift_M.dtype
        memory = np.empty(rows * width, dtype=dtype)
        for start in range(0, count, max(width, 1)):
            part = slice(start, min(start + width, count))
            scores_Mb = self.scores_Mn[:, part if columns is None else columns[part]]
            block_Mb = memory[: scores_Mb.size].reshape(scores_Mb.shape)
            np.subtract(scores_Mb, kernel.shift_M[:, None], dtype=dtype, out=block_Mb)
            block_Mb *= dtype.type(1 / kernel.width)
            yield part, block_Mb

    def _kernel(self, kernel: Kernel) -> Iterator[tuple[slice, Doubles]]:
        """Yield the kernel block by block, in the same memory."""
        memory = np.empty(0)
        for part, block_Mb in self._exponents(kernel):
            np.exp(block_Mb, out=block_Mb)
            if block_Mb.dtype == np.float64:
                yield part, block_Mb.astype(np.float64, copy=False)
                continue
            memory = memory if memory.size else np.empty(block_Mb.size)
            double_Mb = memory[: block_Mb.size].reshape(block_Mb.shape)
            double_Mb[:] = block_Mb
            yield part, double_Mb

    def _column_sums(self, kernel: Kernel, potential_M: Doubles) -> Doubles:
        """Return sum_i exp(g_i) kernel, as `sweep` found it or again."""
        key = ("sums", *kernel.key(potential_M))
        if key not in self._remembered:
            weights_M = np.exp(potential_M)
            sums_n = np.empty(self.scores_Mn.shape[1])
            for part, kernel_Mb in self._kernel(kernel):
                sums_n[part] = column_sums(kernel_Mb, weights_M)
            self._remember(key, sums_n)
        return self._remembered[key]

    def _log_column_sums(self, kernel: Kernel, potential_M: Doubles) -> Doubles:
        """Return log sum_i exp(g_i) kernel."""
        key = ("log sums", *kernel.key(potential_M))
        if key not in self._remembered:
            log_sums_n = np.empty(self.scores_Mn.shape[1])
            for part, terms_Mb in self._exponents(kernel):
                terms_Mb += potential_M[:, None]
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

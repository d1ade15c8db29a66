"""Optimal transport from queries to candidates, as computed by one column shard.

Everything is in terms of a kernel that has a factor of each row divided out (see `kernel`),
and of a potential g, (M,): the mass from query i to candidate j is exp(g_i) kernel[i, j] v_j, with
v_j = ((1/N) / sum_i exp(g_i) kernel[i, j])^damping. A shard can compute v from g alone, so calls
carry g, and a shard remembers between calls only what it would otherwise compute again.

Memory is O(block), plus a few numbers for each candidate, plus the kernel if it is kept. No bit of a
result depends on how the columns are cut: see `sums`.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tis_ray.selectors.kernel import Blocks, Kernel, KernelKey, Totals
from tis_ray.selectors.ordering import Indices, Scores
from tis_ray.selectors.protocol import TopLists, TopShard
from tis_ray.selectors.sums import (
    SINGLE_TERMS,
    Counts,
    Doubles,
    FixedPoint,
    Floating,
    column_sums,
)

# Masses are computed only for the likely columns if these are no larger a share of all columns.
FEW = 0.2


class Sweep(NamedTuple):
    """The result of one pass over a shard.

    totals: counts or floating sums of kernel v, if wanted.
    log_change, log_largest: logarithms of the largest change of v and of the largest v.
    """

    totals: Counts | Floating | None
    log_change: float
    log_largest: float


class LogSweep(NamedTuple):
    """The result of one pass over a shard in logarithms: as `Sweep`, with maxima, (M,), for totals."""

    highest_M: Doubles
    log_change: float
    log_largest: float


class Scaled(NamedTuple):
    """The column sums of exp(g) * kernel that a potential leads to, and v, (n,)."""

    sums_n: Doubles
    scalings_n: Doubles

    @property
    def masses_n(self) -> Doubles:
        """The mass that the queries send each candidate."""
        return self.scalings_n * self.sums_n


class Near(NamedTuple):
    """A potential at which no logarithm of a mass is further than `distance` from its final value."""

    potential_M: Doubles
    distance: float


class Shard:
    """Columns `offset`, `offset + 1`, ... of `scores_MN`."""

    def __init__(self, scores_Mn: Scores, offset: int) -> None:
        self.scores_Mn = np.asarray(scores_Mn)
        self.offset = offset
        self.blocks = Blocks(self.scores_Mn)
        self._remembered: dict[tuple[str, KernelKey, bytes], Scaled | Doubles] = {}

    def sweep(
        self,
        kernel: Kernel,
        potential_M: Doubles,
        before_M: Doubles | None,
        grid: FixedPoint | None,
        wanted: bool,
    ) -> Sweep:
        """Return how v of potential_M differs from that of before_M, and the totals if wanted."""
        before_n = None if before_M is None else self._scaled(kernel, before_M).scalings_n
        totals = Totals(len(self.scores_Mn), grid) if wanted else None
        scaled, change = self._pass(kernel, potential_M, before_n, totals)
        largest = float(scaled.scalings_n.max(initial=0.0))
        return Sweep(totals.value if totals else None, _log(change), _log(largest))

    def row_sums(
        self,
        kernel: Kernel,
        potential_M: Doubles | None,
        grid: FixedPoint | None,
        rows: Indices | None = None,
    ) -> Counts | Floating:
        """Return sum_j kernel v, where v is 1 without a potential; only for `rows` if given.

        grid: what the sums are counted on; without one they are floating sums.
        """
        scalings_n = None if potential_M is None else self._scaled(kernel, potential_M).scalings_n
        blocks = self.blocks
        if rows is not None:
            blocks = blocks.rows(rows)
            kernel = kernel._replace(shift_M=kernel.shift_M[rows], kept=False)
        totals = Totals(len(blocks.scores_Mn), grid)
        for part, kernel_Mb in blocks.of(kernel):
            totals.add(kernel_Mb, None if scalings_n is None else scalings_n[part])
        return totals.value

    def log_sweep(self, kernel: Kernel, potential_M: Doubles, before_M: Doubles | None) -> LogSweep:
        """Return the maxima of log kernel v, and how v differs, as in `sweep`."""
        scalings_n = kernel.log_scalings(self._log_column_sums(kernel, potential_M))
        highest_M = np.full(len(self.scores_Mn), -np.inf)
        for part, terms_Mb in self.blocks.exponents(kernel):
            terms_Mb += scalings_n[part]
            np.maximum(highest_M, terms_Mb.max(axis=1), out=highest_M)
        before_n: Doubles | float = 0.0
        if before_M is not None:
            before_n = kernel.log_scalings(self._log_column_sums(kernel, before_M))
        with np.errstate(divide="ignore"):  # a candidate whose v does not change
            gap_n = np.log(-np.expm1(-np.abs(scalings_n - before_n)))
        change = (np.maximum(scalings_n, before_n) + gap_n).max(initial=-np.inf)
        return LogSweep(highest_M, float(change), float(scalings_n.max(initial=-np.inf)))

    def log_row_sums(
        self, kernel: Kernel, potential_M: Doubles, highest_M: Doubles, grid: FixedPoint
    ) -> Counts:
        """Return the counts of sum_j kernel v / exp(highest)."""
        scalings_n = kernel.log_scalings(self._log_column_sums(kernel, potential_M))
        counts = grid.nothing(len(self.scores_Mn))
        for part, terms_Mb in self.blocks.exponents(kernel):
            terms_Mb += scalings_n[part]
            terms_Mb -= highest_M[:, None]
            counts += grid.counts(np.exp(terms_Mb, out=terms_Mb))
        return counts

    def heaviest(
        self,
        kernel: Kernel,
        potential_M: Doubles,
        logarithms: bool,
        near: Near | None,
        queries: Indices,
        counts: Indices,
        used: Indices,
    ) -> TopLists:
        """Like `TopShard.top`, but for the single row of column masses, or of their logarithms.

        near: rules out columns whose masses then need not be computed, if kernels are not kept.
        """
        if near is not None and not kernel.kept:
            likely = self._likely(kernel, near, int(counts.max()) + used.size)
            if likely is not None:
                likely = np.setdiff1d(likely, used - self.offset, assume_unique=True)
                few = Shard(self.scores_Mn.take(likely, axis=1), 0)
                lists = few.heaviest(kernel, potential_M, False, None, queries, counts, used[:0])
                return lists._replace(indices=likely[lists.indices] + self.offset)
        if logarithms:
            sums_n = self._log_column_sums(kernel, potential_M)
            masses_n = kernel.log_scalings(sums_n) + sums_n
        else:
            masses_n = self._scaled(kernel, potential_M).masses_n
        return TopShard(masses_n[None], self.offset).top(queries, counts, used)

    def pulled_by(
        self, kernel: Kernel, potential_M: Doubles, indices: Indices
    ) -> NDArray[np.int32]:
        """Return the lowest query that sends each candidate the largest mass."""
        columns = indices - self.offset
        queries = np.empty(len(columns), dtype=np.int32)
        for part, terms_Mb in self.blocks.exponents(kernel, columns):
            terms_Mb += potential_M[:, None].astype(terms_Mb.dtype)
            queries[part] = terms_Mb.argmax(axis=0)
        return queries

    def _likely(self, kernel: Kernel, near: Near, count: int) -> Indices | None:
        """Return columns that include the heaviest `count`; None if those would be many."""
        few = FEW * self.scores_Mn.shape[1]
        if count > few:
            return None
        masses_n = self._scaled(kernel, near.potential_M).masses_n
        least = np.partition(masses_n, masses_n.size - count)[masses_n.size - count]
        # Either mass may move by the distance, and sums of M terms in float32 are not exact.
        slack = 2 * (near.distance + 2.0**-22 * (4 + min(len(self.scores_Mn), SINGLE_TERMS)))
        likely = np.flatnonzero(masses_n >= least * math.exp(-slack))
        return likely if likely.size <= few else None

    def _scaled(self, kernel: Kernel, potential_M: Doubles) -> Scaled:
        """Return what a potential leads to, from memory if it is there."""
        known = self._remembered.get(("sums", kernel.key, potential_M.tobytes()))
        return known if isinstance(known, Scaled) else self._pass(kernel, potential_M)[0]

    def _pass(
        self,
        kernel: Kernel,
        potential_M: Doubles,
        before_n: Doubles | None = None,
        totals: Totals | None = None,
    ) -> tuple[Scaled, float]:
        """Return what a potential leads to and the largest change of v; add kernel v to totals."""
        # The largest weight is 1, so that none is too small in float32.
        highest = float(potential_M.max())
        weights_M = np.exp(potential_M - highest).astype(kernel.shift_M.dtype)
        scaled, change = Scaled(*np.empty((2, self.scores_Mn.shape[1]))), 0.0
        for part, kernel_Mb in self.blocks.of(kernel):
            sums_b = math.exp(highest) * column_sums(kernel_Mb, weights_M)
            scalings_b = kernel.scalings(sums_b)
            scaled.sums_n[part], scaled.scalings_n[part] = sums_b, scalings_b
            if totals is not None:
                totals.add(kernel_Mb, scalings_b)
            scalings_b -= 1.0 if before_n is None else before_n[part]
            change = max(change, float(np.abs(scalings_b, out=scalings_b).max()))
        self._remember(("sums", kernel.key, potential_M.tobytes()), scaled)
        return scaled, change

    def _log_column_sums(self, kernel: Kernel, potential_M: Doubles) -> Doubles:
        """Return log sum_i exp(g_i) kernel."""
        key = ("log sums", kernel.key, potential_M.tobytes())
        known = self._remembered.get(key)
        if isinstance(known, np.ndarray):
            return known
        log_sums_n = np.empty(self.scores_Mn.shape[1])
        for part, terms_Mb in self.blocks.exponents(kernel):
            terms_Mb += potential_M[:, None]
            highest_b = terms_Mb.max(axis=0)
            terms_Mb -= highest_b
            sums_b = column_sums(np.exp(terms_Mb, out=terms_Mb))
            log_sums_n[part] = highest_b + np.log(sums_b)
        self._remember(key, log_sums_n)
        return log_sums_n

    def _remember(self, key: tuple[str, KernelKey, bytes], result: Scaled | Doubles) -> None:
        """Keep the results of the last two potentials."""
        self._remembered[key] = result
        while len(self._remembered) > 2:
            del self._remembered[next(iter(self._remembered))]


def _log(value: float) -> float:
    return math.log(value) if value > 0 else -math.inf

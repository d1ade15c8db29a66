"""The kernel of a transport problem, block by block, and sums over its columns.

    kernel[i, j] = exp((scores[i, j] - shift[i]) / width) <= 1,    width = 2 reg.

Scores are read in blocks of columns. If the kernels of all shards together are small, they are kept:
a pass then costs a read and no exponentials. That does not change a bit of the result.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from tis_ray.selectors.ordering import Indices, Scores
from tis_ray.selectors.sums import Counts, Doubles, FixedPoint, Floating

# Entries in one block of columns: 2 MiB in float64, all that is held of the scores.
BLOCK_ENTRIES = 2**18

KernelKey = tuple[float, np.dtype[np.floating], bytes]


class Kernel(NamedTuple):
    """The kernel of one run.

    shift_M: roughly the maxima of the rows, in the type that the kernel is computed in: float32 or
        float64.
    width: 2 reg.
    damping: reg_m2 / (reg_m2 + reg); candidates: N, over all shards.
    kept: whether shards keep the kernel, because all of it is small.
    """

    shift_M: Scores
    width: float
    damping: float
    candidates: int
    kept: bool

    @property
    def key(self) -> KernelKey:
        """What the kernel depends on besides the scores."""
        return self.width, self.shift_M.dtype, self.shift_M.tobytes()

    def scalings(self, sums_n: Doubles) -> Doubles:
        """Return v from the column sums of exp(g) * kernel."""
        scalings_n: Doubles = ((1 / self.candidates) / sums_n) ** self.damping
        return scalings_n

    def log_scalings(self, log_sums_n: Doubles) -> Doubles:
        """Return log v from the logarithms of the column sums."""
        return self.damping * (-np.log(self.candidates) - log_sums_n)


class Blocks:
    """The kernel of some columns of `scores_MN`."""

    def __init__(self, scores_Mn: Scores) -> None:
        self.scores_Mn = scores_Mn
        self._kept: tuple[KernelKey, list[tuple[slice, Scores]]] | None = None

    def rows(self, rows: Indices) -> Blocks:
        """Return the blocks of these rows alone."""
        return Blocks(self.scores_Mn[rows])

    def exponents(
        self, kernel: Kernel, columns: Indices | None = None, keep: bool = False
    ) -> Iterator[tuple[slice, Scores]]:
        """Yield (scores - shift) / width block by block, in the same memory unless `keep` is set.

        columns: which ones, instead of all in turn.
        """
        rows, count = self.scores_Mn.shape
        count = count if columns is None else len(columns)
        width = min(count, 65536, max(256, BLOCK_ENTRIES // rows))
        dtype = kernel.shift_M.dtype
        memory = np.empty(rows * (count if keep else width), dtype=dtype)
        for start in range(0, count, max(width, 1)):
            part = slice(start, min(start + width, count))
            if columns is None:
                scores_Mb = self.scores_Mn[:, part]
            else:
                scores_Mb = self.scores_Mn.take(columns[part], axis=1)
            begin = rows * start if keep else 0
            block_Mb = memory[begin : begin + scores_Mb.size].reshape(scores_Mb.shape)
            np.subtract(scores_Mb, kernel.shift_M[:, None], dtype=dtype, out=block_Mb)
            block_Mb *= dtype.type(1 / kernel.width)
            yield part, block_Mb

    def of(self, kernel: Kernel) -> Iterator[tuple[slice, Scores]]:
        """Yield the kernel block by block; blocks may be kept, so callers must not change them."""
        if self._kept is not None and self._kept[0] == kernel.key:
            yield from self._kept[1]
            return
        self._kept, blocks = None, []
        for part, block_Mb in self.exponents(kernel, keep=kernel.kept):
            np.exp(block_Mb, out=block_Mb)
            blocks.append((part, block_Mb))
            yield part, block_Mb
        if kernel.kept:
            self._kept = kernel.key, blocks


class Totals:
    """Sums over candidates of kernel v, added up block by block.

    grid: what they are counted on; without one they are floating sums. With a kernel in float32, v is
    rounded to float32 too, so that products are exact.
    """

    def __init__(self, rows: int, grid: FixedPoint | None) -> None:
        self.grid = grid
        self.counts = np.zeros((0, rows), np.int64) if grid is None else grid.nothing(rows)
        self.sums_M = np.zeros(rows)
        self.steps = 0
        self.memory = np.empty(0)

    @property
    def value(self) -> Counts | Floating:
        """The sums so far."""
        return Floating(self.sums_M, self.steps) if self.grid is None else self.counts

    def add(self, kernel_Mb: Scores, scalings_b: Doubles | None) -> None:
        """Add a block; v is 1 if it is not given."""
        weights_b = np.ones(kernel_Mb.shape[1]) if scalings_b is None else scalings_b
        weights_b = weights_b.astype(kernel_Mb.dtype).astype(np.float64)
        if self.memory.size < kernel_Mb.size:
            self.memory = np.empty(kernel_Mb.size)
        terms_Mb = self.memory[: kernel_Mb.size].reshape(kernel_Mb.shape)
        if self.grid is None:
            terms_Mb[:] = kernel_Mb
            self.sums_M += terms_Mb @ weights_b
            self.steps = max(self.steps, len(weights_b)) + 1
        else:
            np.multiply(kernel_Mb, weights_b, out=terms_Mb)
            self.counts += self.grid.counts(terms_Mb)

"""Sums that are equal to the last bit however their terms are cut into shards and blocks.

Floating addition is not associative, so a sum over column shards would depend on where the cuts
are, and two candidates whose keys differ in the last digit would change places with the number of
machines. Three remedies:

Along columns (`column_sums`) the M terms of one candidate are added row after row, wherever the
candidate stands in its block.

Along rows (`FixedPoint`) the terms are put on a grid of fixed spacing first: adding an anchor of
1.5 * 2^k to a term rounds it to a multiple of 2^(k-52), and the bits of the result, read as an
integer, count those multiples. Integer addition is associative, so the shards' totals are exact
sums of the rounded terms. k is chosen such that 63 bits hold the sum: ten bits more than a floating
sum keeps. A second level does the same with what the rounding left over, and so on. (Pre-rounding
is the idea of Demmel and Nguyen, "Fast reproducible floating-point summation", 2013.)

Where fewer digits will do (`settled`), the exact sum is rounded to 28 bits, and a floating sum in
any order determines the result, unless it is within its own error of the border between two such
numbers. That happens to about one sum in ten thousand, which is then made on the grid. (Libraries of
correctly rounded functions do the same: Ziv, "Fast evaluation of elementary mathematical functions
with correctly rounded last bit", 1991.)
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Doubles = NDArray[np.float64]
Counts = NDArray[np.int64]

# Bits of a settled sum.
BITS = 28
# How many float32 terms are added in float32 before the sum continues in float64.
SINGLE_TERMS = 128


class FixedPoint(NamedTuple):
    """A grid for sums of non-negative terms, with one anchor per level."""

    anchors: tuple[float, ...]

    @classmethod
    def bounded(cls, largest: float, total: float, terms: int, levels: int = 1) -> FixedPoint:
        """Return a grid for sums of `terms` terms, each at most `largest`, together at most `total`.

        The error of a sum is below terms * max(largest * 2^-50, total * 2^-61), and with a second
        level below that times terms * 2^-50.
        """
        # Terms stay below 2^(k-1), so that the anchored ones keep the exponent of their anchor.
        k = max(math.ceil(math.log2(largest)) + 1, math.ceil(math.log2(total)) - 10)
        anchors = [1.5 * 2.0**k]
        for _ in range(levels - 1):
            # What is left of a term is at most half a multiple, 2^(k-53), of either sign.
            k += max(1, math.ceil(math.log2(terms)) - 10) - 52
            anchors.append(1.5 * 2.0**k)
        return cls(tuple(anchors))

    def counts(self, terms_Mb: Doubles) -> Counts:
        """Return the sums over columns in multiples of the grid, (levels, M); changes the terms."""
        counts = []
        for anchor in self.anchors[:-1]:
            anchored_Mb = terms_Mb + anchor
            counts.append(_multiples(anchored_Mb, anchor))
            anchored_Mb -= anchor
            terms_Mb -= anchored_Mb
        terms_Mb += self.anchors[-1]
        counts.append(_multiples(terms_Mb, self.anchors[-1]))
        return np.stack(counts)

    def nothing(self, rows: int) -> Counts:
        """Return the counts of no terms."""
        return np.zeros((len(self.anchors), rows), dtype=np.int64)

    def value(self, counts_LM: Counts) -> Doubles:
        """Return the (M,) sums that the counts stand for."""
        total: Doubles = np.spacing(self.anchors) @ counts_LM
        return total


def _multiples(anchored_Mb: Doubles, anchor: float) -> Counts:
    """Return how much the rows' bits exceed the anchor's; overflow on the way cancels out."""
    bits = np.array([anchor]).view(np.int64)
    total_M: Counts = anchored_Mb.view(np.int64).sum(axis=1) - anchored_Mb.shape[1] * bits
    return total_M


class Floating(NamedTuple):
    """(M,) floating sums of non-negative terms; none took part in more than `steps` additions."""

    sums_M: Doubles
    steps: int


def settled(parts: list[Floating]) -> tuple[Doubles, NDArray[np.bool_]]:
    """Return the sums of all parts, rounded to 28 bits, and which of them are certain.

    A certain one is what any other parts of the same terms give, and what `rounded` makes of the
    same sum from three levels of a grid.
    """
    sums_M: Doubles = np.sum([part.sums_M for part in parts], axis=0)
    steps = max(part.steps for part in parts) + len(parts)
    # Each addition errs by at most 2^-53 of a partial sum. The rest is the grid's error.
    slack_M = sums_M * ((steps + 8) * 2.0**-52)
    low_M = rounded(sums_M - slack_M)
    return low_M, low_M == rounded(sums_M + slack_M)


def rounded(sums_M: Doubles) -> Doubles:
    """Return the nearest numbers of 28 bits."""
    mantissas_M, exponents_M = np.frexp(sums_M)
    nearest_M: Doubles = np.ldexp(np.rint(np.ldexp(mantissas_M, BITS)), exponents_M - BITS)
    return nearest_M


def column_sums(
    terms_Mb: NDArray[np.floating], weights_M: NDArray[np.floating] | None = None
) -> Doubles:
    """Return the (b,) sums over rows, weighted if weights are given, in the order of the rows.

    For terms in float32, the sums of each 128 rows are in float32 too, weights included.
    """
    single = terms_Mb.dtype == np.float32
    dtype, size = (np.float32, SINGLE_TERMS) if single else (np.float64, max(1, len(terms_Mb)))
    weights_M = np.ones(len(terms_Mb)) if weights_M is None else weights_M
    weights_M = np.asarray(weights_M, dtype=dtype)
    # einsum adds whole rows to each other, except that it treats a single column as a row.
    lone = terms_Mb.shape[1] == 1
    terms_Mb = np.ascontiguousarray(np.repeat(terms_Mb, 2, axis=1) if lone else terms_Mb, dtype)
    sums_b = np.zeros(terms_Mb.shape[1])
    for start in range(0, len(terms_Mb), size):
        rows = slice(start, start + size)
        sums_b += np.einsum("i,ij->j", weights_M[rows], terms_Mb[rows])
    return sums_b[:1] if lone else sums_b

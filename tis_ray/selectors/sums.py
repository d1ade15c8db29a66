"""Sums that are equal to the last bit however their terms are cut into shards and blocks.

Floating addition is not associative, so a sum over column shards would depend on where the cuts
are, and two candidates whose keys differ in the last digit would change places with the number of
machines. Two remedies:

Along columns (`column_sums`) the M terms of one candidate are added row after row, wherever the
candidate stands in its block.

Along rows (`FixedPoint`) the terms are put on a grid of fixed spacing first: adding 1.5 * 2^k to a
term rounds it to a multiple of 2^(k-52), and the bits of the result, read as an integer, count
those multiples. Integer addition is associative, so the shards' totals are exact sums of the
rounded terms. k is chosen from a bound on the sum such that 63 bits hold it: ten bits more than a
floating sum keeps. A second level does the same with what the rounding left over. (The idea of
pre-rounding is that of Demmel and Nguyen, "Fast reproducible floating-point summation", 2013.)
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Doubles = NDArray[np.float64]


class FixedPoint(NamedTuple):
    """The grids of M sums: (levels, M), each entry 1.5 * 2^k."""

    anchors_LM: Doubles

    @classmethod
    def bounded(cls, largest: float, totals_M: Doubles, terms: int, levels: int = 1) -> FixedPoint:
        """Return grids for M sums of at most `terms` terms in [0, largest], each below its total.

        The error of a sum is below terms * max(largest * 2^-51, total * 2^-62), and with a second
        level below that times terms * 2^-50.
        """
        # Terms stay below 2^(k-1), so that the anchored ones keep the exponent of their anchor.
        k_M = np.ceil(np.maximum(np.log2(largest) + 1, np.log2(totals_M) - 10))
        anchors = [1.5 * 2.0**k_M]
        for _ in range(levels - 1):
            # What is left of a term is at most half a multiple, 2^(k-53), of either sign.
            k_M = k_M - 53 + max(1, np.ceil(np.log2(terms)) - 10) + 1
            anchors.append(1.5 * 2.0**k_M)
        return cls(np.stack(anchors))

    def counts(self, terms_Mb: Doubles) -> NDArray[np.int64]:
        """Return the sums over columns in multiples of the grids, (levels, M); alters the terms."""
        counts = []
        for anchor_M in self.anchors_LM:
            anchored_Mb = terms_Mb + anchor_M[:, None]
            # Wraps around on the way, and back again: the sum itself fits.
            total_M = anchored_Mb.view(np.int64).sum(axis=1)
            counts.append(total_M - terms_Mb.shape[1] * anchor_M.view(np.int64))
            if len(counts) < len(self.anchors_LM):
                anchored_Mb -= anchor_M[:, None]
                terms_Mb -= anchored_Mb
        return np.stack(counts)

    def nothing(self) -> NDArray[np.int64]:
        """Return the counts of no terms."""
        return np.zeros(self.anchors_LM.shape, dtype=np.int64)

    def value(self, counts_LM: NDArray[np.int64]) -> Doubles:
        """Return the (M,) sums that the counts stand for."""
        total: Doubles = (counts_LM * np.spacing(self.anchors_LM)).sum(axis=0)
        return total


def column_sums(terms_Mb: NDArray[np.floating[Any]]) -> NDArray[Any]:
    """Return the (b,) sums over rows, each added up in the order of the rows.

    numpy adds whole rows to each other, unless there is one column: then it takes that for a row
    and sums in pairs.
    """
    if terms_Mb.shape[1] == 1:
        return np.add.reduce(np.repeat(terms_Mb, 2, axis=1), axis=0)[:1]
    return np.add.reduce(np.ascontiguousarray(terms_Mb), axis=0)

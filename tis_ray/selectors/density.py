"""The kernel density of candidates: how crowded each one is, from candidate-candidate similarities.

The density of candidate i among a set of candidates is

    rho_i = sum of the `neighbours` largest k(i, j),    k(i, j) = max(0, 1 - 2 (1 - s_ij) / sigma^2),

with s the cosine and so 2 (1 - s) the squared distance of unit vectors; j = i is counted. The
kernel vanishes below s = 1 - sigma^2 / 2 (0.72 for sigma 0.75), so unless a candidate has more
near-duplicates than `neighbours`, rho_i is the sum over all j and needs no sorting: the similarities
are computed tile by tile, each pair once, and only the rare crowded rows are computed again and
sorted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from tis_ray.errors import InputError
from tis_ray.selectors.ordering import Indices
from tis_ray.selectors.sums import Doubles

# Rows of a tile: 2 * TILE operations for each feature fetched hide the fetching.
TILE = 1024
# How far from 1 the squared length of a feature may be: coarsely stored ones vary.
LENGTH_TOLERANCE = 0.05

Vectors = NDArray[np.floating]
Rows = Callable[[Indices], Vectors]


class Features(Protocol):
    """Unit vectors of the pool whose dot products are the candidates' similarities.

    With several checkpoints: their blocks side by side, each multiplied by the root of its weight,
    where the weights add up to 1.
    """

    def rows(self, indices: Indices, /) -> NDArray[np.float32]:
        """Return the features (n, D) of these candidates."""


def densities(
    features: Features | Vectors, candidates: Indices, sigma: float, neighbours: int
) -> Doubles:
    """Return rho, (P,), of the given candidates among themselves.

    Fetches TILE features at a time, each about P / (2 TILE) times; memory is O(TILE D).
    Raises InputError if a feature is not finite or not of unit length.
    """
    fetch = _fetcher(features)
    sums, counts = np.zeros(len(candidates)), np.zeros(len(candidates), dtype=np.int64)
    for across in _parts(len(candidates)):
        rows_aD = _checked(fetch(candidates[across]), candidates[across])
        for down in _parts(len(candidates), across.start):
            same = down == across
            others_bD = rows_aD if same else fetch(candidates[down])
            kernel_ab = _kernel(rows_aD, others_bD, sigma)
            if same:
                # 1 by definition; float32 would say 1 - 1e-7 and break ties at random.
                np.fill_diagonal(kernel_ab, 1)
            sums[across] += kernel_ab.sum(axis=1, dtype=np.float64)
            counts[across] += np.count_nonzero(kernel_ab, axis=1)
            if not same:
                sums[down] += kernel_ab.sum(axis=0, dtype=np.float64)
                counts[down] += np.count_nonzero(kernel_ab, axis=0)

    crowded = np.flatnonzero(counts > neighbours)
    for part in _parts(len(crowded)):
        sums[crowded[part]] = _largest(fetch, candidates, crowded[part], sigma, neighbours)
    return sums


def _largest(
    fetch: Rows, candidates: Indices, positions: Indices, sigma: float, neighbours: int
) -> Doubles:
    """Return the sums of the `neighbours` largest kernel values of a few rows."""
    rows_aD = fetch(candidates[positions])
    best_aK = np.empty((len(positions), 0), dtype=np.float32)
    for down in _parts(len(candidates)):
        kernel_ab = _kernel(rows_aD, fetch(candidates[down]), sigma)
        inside = (positions >= down.start) & (positions < down.stop)
        kernel_ab[inside, positions[inside] - down.start] = 1
        best_aK = np.concatenate([best_aK, kernel_ab], axis=1)
        cut = best_aK.shape[1] - neighbours
        if cut > 0:
            best_aK = np.partition(best_aK, cut, axis=1)[:, cut:]
    # In order, so that rows with the same values have the same sum.
    best_aK.sort(axis=1)
    total: Doubles = best_aK.sum(axis=1, dtype=np.float64)
    return total


def _kernel(rows_aD: Vectors, others_bD: Vectors, sigma: float) -> Vectors:
    kernel_ab: Vectors = rows_aD @ others_bD.T
    kernel_ab -= 1
    kernel_ab *= kernel_ab.dtype.type(2 / sigma**2)
    kernel_ab += 1
    return np.clip(kernel_ab, 0, 1, out=kernel_ab)


def _parts(count: int, start: int = 0) -> Iterator[slice]:
    return (slice(at, min(at + TILE, count)) for at in range(start, count, TILE))


def _fetcher(features: Features | Vectors) -> Rows:
    rows = features.__getitem__ if isinstance(features, np.ndarray) else features.rows

    def fetch(indices: Indices) -> Vectors:
        rows_nD = np.asarray(rows(indices))
        return rows_nD.astype(np.result_type(rows_nD, np.float32), copy=False)

    return fetch


def _checked(rows_aD: Vectors, candidates: Indices) -> Vectors:
    """Return the features, or raise InputError unless they are one unit vector per candidate."""
    if rows_aD.ndim != 2 or len(rows_aD) != len(candidates):
        raise InputError(
            f"features: {len(candidates)} candidates have features of shape {rows_aD.shape}; give one "
            "row for each"
        )
    squared = np.einsum("ad,ad->a", rows_aD, rows_aD)
    bad = np.flatnonzero(~(np.abs(squared - 1) <= LENGTH_TOLERANCE))
    if bad.size:
        raise InputError(
            f"features: candidate {candidates[bad[0]]} has squared length {squared[bad[0]]:.3g}; "
            "give unit vectors, whose dot products are the candidates' similarities"
        )
    return rows_aD

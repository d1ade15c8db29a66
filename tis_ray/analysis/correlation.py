"""Rank correlation with p-values that hold for the ten points of a quantile curve.

Spearman's ρ is the Pearson correlation of average ranks: ties share the mean of their ranks, as in
pandas (which the paper's plotting script calls) and in scipy.

**p.** The usual p-value treats ρ √((n-2)/(1-ρ²)) as Student's t, which at n = 10 is an
approximation: it calls |ρ| >= 0.632 significant, where the permutation distribution asks for 0.648.
So `p_value` counts permutations: all n! of them up to `EXACT_POINTS`, by dynamic programming over
the set of ranks already given out and the sum of products so far, which also holds with ties (where
tables end); beyond it, a fixed number of random ones. `p_t` is the usual value.

Two points always correlate perfectly: no test can say anything of fewer than `FEWEST`, and they have
no p.

**Interval.** Fisher's z with the variance (1 + ρ²/2) / (n - 3) of Bonett & Wright (2000), about 95%
from n = 10 on. A perfect correlation and fewer than 4 points have none.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import scipy

from tis_ray.analysis.intervals import CONFIDENCE

FEWEST = 3
"""Points from which on there are p-values."""
EXACT_POINTS = 12
"""Points up to which every permutation counts."""
DRAWS = 9999
"""Random permutations beyond."""


@dataclass(frozen=True)
class RankCorrelation:
    """Spearman's ρ of n pairs; None where one side is constant or n is below 2."""

    rho: float | None
    n: int
    ties: bool = False
    p_value: float | None = None
    """Two-sided, by permutations; None below `FEWEST` points, as is `p_t`."""
    p_t: float | None = None
    """Two-sided, by Student's t (scipy's `spearmanr`)."""
    low: float | None = None
    high: float | None = None


def spearman(x: Sequence[float], y: Sequence[float], *, seed: int = 0) -> RankCorrelation:
    """Return Spearman's ρ of two sequences of finite numbers with its p-values and 95% interval.

    `seed` draws the permutations beyond `EXACT_POINTS`. Raises ValueError where the lengths differ
    or a number is not finite.
    """
    left, right = np.asarray(x, np.float64), np.asarray(y, np.float64)
    if left.shape != right.shape or left.ndim != 1:
        raise ValueError(f"spearman needs two sequences of one length, found {len(x)} and {len(y)}")
    if not (np.isfinite(left).all() and np.isfinite(right).all()):
        raise ValueError("spearman needs finite numbers")
    n = len(left)
    left_n, right_n = scipy.stats.rankdata(left), scipy.stats.rankdata(right)
    ties = min(len(np.unique(left_n)), len(np.unique(right_n))) < n
    if n < 2 or np.ptp(left_n) == 0 or np.ptp(right_n) == 0:
        return RankCorrelation(None, n, ties)
    rho = float(np.corrcoef(left_n, right_n)[0, 1])
    perfect = 1 - abs(rho) < 1e-12
    low = high = p_t = p_value = None
    if n >= FEWEST:
        p_value = _permutation_p(left_n, right_n, seed)
        # scipy's spearmanr: t with n - 2 degrees of freedom, infinite for a perfect correlation.
        t = math.inf if perfect else abs(rho) * math.sqrt((n - 2) / (1 - rho**2))
        p_t = float(2 * scipy.stats.t.sf(t, n - 2))
    if n > 3 and not perfect:
        half = scipy.stats.norm.ppf((1 + CONFIDENCE) / 2) * math.sqrt((1 + rho**2 / 2) / (n - 3))
        low, high = (float(np.tanh(np.arctanh(rho) + side * half)) for side in (-1, 1))
    return RankCorrelation(rho, n, ties, p_value, p_t, low, high)


def critical_rho(n: int, alpha: float = 1 - CONFIDENCE) -> float | None:
    """Return the smallest |ρ| of n pairs (at most `EXACT_POINTS`) without ties whose exact p < alpha.

    None where no arrangement reaches it, as for n = 4 at 5%.
    """
    doubled = tuple(range(2, 2 * n + 1, 2))
    counts = _products(doubled, doubled)
    total = counts.sum()
    centred = np.abs(n * np.arange(len(counts)) - sum(doubled) ** 2)
    for distance in np.unique(centred[counts > 0]):
        if counts[centred >= distance].sum() < alpha * total:
            variance = n * sum(d * d for d in doubled) - sum(doubled) ** 2
            return float(distance / variance)
    return None


def _permutation_p(left: np.ndarray, right: np.ndarray, seed: int) -> float:
    """Return the share of permutations whose |ρ| is at least the one found."""
    # Average ranks are halves at worst, so doubled they are integers and sums compare exactly.
    left_n, right_n = ((2 * side).astype(np.int64) for side in (left, right))
    n, expected = len(left_n), int(left_n.sum() * right_n.sum())
    found = abs(n * int(left_n @ right_n) - expected)
    if n <= EXACT_POINTS:
        counts = _products(tuple(sorted(left_n.tolist())), tuple(sorted(right_n.tolist())))
        as_far = np.abs(n * np.arange(len(counts)) - expected) >= found
        return float(counts[as_far].sum() / counts.sum())
    rng = np.random.default_rng(seed)
    order_Dn = rng.permuted(np.tile(np.arange(n), (DRAWS, 1)), axis=1)
    as_far = np.abs(n * (right_n[order_Dn] @ left_n) - expected) >= found
    return float((1 + as_far.sum()) / (1 + DRAWS))  # the arrangement found is one of them


@lru_cache(maxsize=64)
def _products(left: tuple[int, ...], right: tuple[int, ...]) -> np.ndarray:
    """Return how many permutations of `right` give each value of the sum of products with `left`.

    Step k pairs left[k] with each rank of `right` that is still free: of the sets of k ranks used
    so far it keeps the number of ways to each sum.
    """
    n = len(left)
    size = 1 + sum(a * b for a, b in zip(left, right, strict=True))  # both sorted: the largest sum
    ways = {0: np.zeros(size, np.int64)}
    ways[0][0] = 1
    for value in left:
        longer: dict[int, np.ndarray] = {}
        for used, counts in ways.items():
            for k in range(n):
                if used >> k & 1:
                    continue
                shift = value * right[k]
                target = longer.setdefault(used | 1 << k, np.zeros(size, np.int64))
                target[shift:] += counts[: size - shift]
        ways = longer
    return ways[2**n - 1]

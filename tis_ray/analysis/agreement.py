"""How much two orderings agree: as sets, and as rankings in which the top counts most.

Jaccard's index of two subsets is |A ∩ B| / |A ∪ B|. Rank-biased overlap (Webber, Moffat & Zobel
2010, "A similarity measure for indefinite rankings") looks at every depth d: with X_d the number of
items that the first d of both lists share,

    RBO = (1 - p) / p · sum over all d of p^d · X_d / d,

where p is the chance that a reader who has come to one rank goes on to the next. Of lists that end
at depth k it takes the agreement X_k / k for all that follows (their equation 23):

    RBO_ext = X_k / k · p^k + (1 - p) / p · sum over d <= k of p^d · X_d / d.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import combinations

import numpy as np

from tis_ray.analysis.recorded import Agreement
from tis_ray.analysis.study_values import Method

PERSISTENCE = 0.99
"""The p used where none is given: the first 100 ranks have 85% of the weight."""


def jaccard(left: np.ndarray, right: np.ndarray) -> float:
    """Return |A ∩ B| / |A ∪ B| of two lists of distinct candidates, of any lengths but two zeros.

    Raises ValueError where a candidate is there twice, or both lists are empty.
    """
    _require_distinct(left, right)
    shared = len(np.intersect1d(left, right, assume_unique=True))
    union = len(left) + len(right) - shared
    if not union:
        raise ValueError("two empty lists neither agree nor disagree")
    return shared / union


def random_jaccard(budget: int, candidates: int) -> float:
    """Return about the Jaccard index of two random subsets of `budget` of N candidates: B / (2N - B).

    It is that of the expected intersection, B² / N.
    """
    if not 1 <= budget <= candidates:
        raise ValueError(f"budget {budget} is not within 1 and {candidates} candidates")
    return budget / (2 * candidates - budget)


def rank_biased_overlap(left: np.ndarray, right: np.ndarray, p: float = PERSISTENCE) -> float:
    """Return RBO_ext of two equally long rankings of distinct candidates, in [0, 1].

    Raises ValueError where lengths differ or are 0, a candidate is there twice, or p is not in (0, 1).
    """
    _require_persistence(p)
    if len(left) != len(right) or not len(left):
        raise ValueError(f"rankings of {len(left)} and {len(right)} candidates; give equal lengths")
    _require_distinct(left, right)
    _, at_left, at_right = np.intersect1d(left, right, assume_unique=True, return_indices=True)
    # A candidate is shared from the depth at which the second list has it too.
    depths = np.arange(1, len(left) + 1)
    shared = np.cumsum(np.bincount(np.maximum(at_left, at_right), minlength=len(left)))
    agreement, weights = shared / depths, p**depths
    return float(agreement[-1] * weights[-1] + (1 - p) / p * (agreement @ weights))


def weight_of_top(depth: int, p: float = PERSISTENCE) -> float:
    """Return the share of RBO's weight that the first `depth` ranks have (their equation 21)."""
    _require_persistence(p)
    if depth < 1:
        raise ValueError(f"depth is {depth}; it must be at least 1")
    ranks = np.arange(1, depth)
    rest = math.log(1 / (1 - p)) - float((p**ranks / ranks).sum())
    return 1 - p ** (depth - 1) + (1 - p) / p * depth * rest


def pairwise_agreement(rankings: Mapping[Method, np.ndarray], candidates: int) -> Agreement | None:
    """Compare rankings of `candidates` candidates, each pair once; None if there is no pair.

    All are cut to the rows of the shortest. `random` is `random_jaccard`.
    """
    if len(rankings) < 2:
        return None
    rows = min(map(len, rankings.values()))
    cut = [ranking[:rows] for ranking in rankings.values()]
    return {
        "names": list(rankings),
        "pairs": [
            {
                "left": left,
                "right": right,
                "jaccard": jaccard(cut[left], cut[right]),
                "rank_biased": rank_biased_overlap(cut[left], cut[right]),
            }
            for left, right in combinations(range(len(cut)), 2)
        ],
        "rows": rows,
        "candidates": candidates,
        "random": random_jaccard(rows, candidates),
        "p": PERSISTENCE,
    }


def _require_distinct(*rankings: np.ndarray) -> None:
    if any(len(np.unique(ranking)) != len(ranking) for ranking in rankings):
        raise ValueError("a candidate is in a ranking twice")


def _require_persistence(p: float) -> None:
    if not 0 < p < 1:
        raise ValueError(f"p is {p}; it must be above 0 and below 1")

"""Query weights: how much each query of the query set counts.

Only ratios of weights matter. The selector decides what they do: give a share of the turns, of the
mass, or of a mean. Equal weights give the same result as none, to the last bit, and multiplying all
weights by the same power of two changes nothing.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from tis_ray.errors import InputError
from tis_ray.selectors.sums import Doubles

# The largest weight may be this many times the smallest.
WIDEST = 1e12


def checked_weights(selector: str, weights: ArrayLike | None, queries: int) -> Doubles:
    """Return (M,) weights, all 1 if none are given; InputError unless each is positive and finite."""
    if weights is None:
        return np.ones(queries)
    try:
        weights_M = np.array(weights, dtype=np.float64)
    except (TypeError, ValueError):
        raise InputError(f"{selector}: weights must be a list of numbers") from None
    if weights_M.shape != (queries,):
        size = weights_M.size if weights_M.ndim == 1 else f"shape {weights_M.shape}"
        raise InputError(f"{selector}: weights: {size} for {queries} queries; give one for each")
    wrong = ~((weights_M > 0) & np.isfinite(weights_M))
    if wrong.any():
        query = int(wrong.argmax())
        raise InputError(
            f"{selector}: the weight of query {query} is {weights_M[query]:g}; weights must be "
            "positive numbers (to give a query no weight, leave it out of the query set)"
        )
    if weights_M.max() / WIDEST > weights_M.min():
        raise InputError(
            f"{selector}: weights from {weights_M.min():g} to {weights_M.max():g} are too far "
            f"apart; the largest may be {WIDEST:g} times the smallest"
        )
    return weights_M


def relative(weights_M: Doubles) -> Doubles:
    """Return the weights divided by their mean; exactly 1 where all are equal."""
    if (weights_M == weights_M[0]).all():
        return np.ones_like(weights_M)
    weights_M = weights_M / weights_M.max()
    scaled_M: Doubles = weights_M / weights_M.mean()
    return scaled_M

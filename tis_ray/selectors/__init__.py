"""From scores to an ordering of the pool: pure functions of arrays.

`select` is the way in. A selector is a coordinator and a shard class (see `protocol`), and the spec
that its module holds (see `spec`); with that it also runs over column shards on a cluster, with the
same result. A plain function of all scores will do as well.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tis_ray.selectors.ordering import (
    Extent,
    Ordering,
    Scores,
    checked_shape,
    first_non_finite,
    require_finite,
)
from tis_ray.selectors.protocol import Layout, answer_locally, drive
from tis_ray.selectors.spec import SELECTORS, Selector, find_selector

BASELINE = "round_robin"
"""The rule by which pools are cut and quantiles are made, as in the paper."""

__all__ = ["BASELINE", "SELECTORS", "Ordering", "Selector", "find_selector", "select"]


def select(
    scores_MN: Scores,
    selector: str | Selector | Callable[..., Any],
    budget: int,
    **params: Any,
) -> Ordering:
    """Rank the pool and return its best `budget` candidates.

    scores_MN: (M, N) float32 or float64, similarity of query i to candidate j, all finite; may be
        memory-mapped.
    selector: a name (`tis-ray methods` lists them), `module:attribute`, or a rule of your own: a
        function (scores_MN, budget) -> indices, best first.
    budget: B examples, 1 <= B <= N. A smaller budget gives a prefix of the same ordering.
    params: the selector's own parameters: the keyword-only arguments of its `coordinate`, or of
        the function.

    Equal scores are taken in the order of their index. Raises InputError on a bad argument, naming
    the (query, candidate) of the first score that is not finite.
    """
    rule = find_selector(selector)
    scores_MN = np.asarray(scores_MN)
    queries, candidates = checked_shape(scores_MN.shape, scores_MN.dtype)
    extent = Extent.of(scores_MN)
    rounds = rule.rounds(Layout(queries, (candidates,), extent), budget, params)
    if not extent.finite:
        require_finite(first_non_finite(scores_MN))
    return drive(rounds, answer_locally([rule.shard(scores_MN, 0)]))

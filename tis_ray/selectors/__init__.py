"""Selectors, which turn scores into an ordering of the pool: pure functions of arrays.

`select` is the entry point. A selector is a coordinator and a shard class (see `protocol`), with the
spec in its module (see `spec`); these also let it run over column shards on a cluster, with the same
result. A plain function of all scores will do as well.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import replace

from numpy.typing import ArrayLike

from tis_ray.errors import InputError
from tis_ray.selectors.any_scores import BY_CANDIDATE, as_scores, as_vectors
from tis_ray.selectors.ordering import (
    Extent,
    Ordering,
    first_non_finite,
    require_finite,
)
from tis_ray.selectors.protocol import Layout, answer_locally, drive
from tis_ray.selectors.spec import SELECTORS, Selector, find_selector

BASELINE = "round_robin"
"""The selector that cuts pools down and makes quantiles, as in the paper."""

__all__ = ["BASELINE", "SELECTORS", "Ordering", "Selector", "find_selector", "select"]


def select(
    scores_MN: ArrayLike,
    selector: str | Selector | Callable[..., object],
    budget: int,
    **params: object,
) -> Ordering:
    """Rank the pool and return its best `budget` candidates.

    scores_MN: (M, N), similarity of query i to candidate j, all finite: an array (it may be
        memory-mapped), lists, a DataFrame, or a torch tensor. Of a masked array, candidates that the mask
        hides for any query are left out; indices are columns of the whole matrix all the same.
    selector: a name (`tis-ray methods` lists them), `module:attribute`, or a function of your own:
        (scores_MN, budget) -> indices, best first.
    budget: B examples, 1 <= B <= N. A smaller budget gives a prefix of the same ordering.
    params: the selector's own parameters: the keyword-only arguments of its `coordinate`, or of
        the function.

    Equal scores are taken in the order of their indices. Warns where there are more queries than
    candidates. Raises InputError for a bad argument,
    naming the query and candidate of the first score that is not finite.
    """
    rule = find_selector(selector)
    matrix_MN, known = as_scores(scores_MN)
    if known is not None and (given := [name for name in BY_CANDIDATE if name in params]):
        raise InputError(
            f"scores: some candidates are masked, and `{given[0]}` has an entry for each of all; take "
            "them out of both"
        )
    queries, candidates = matrix_MN.shape
    if queries > candidates:
        warnings.warn(
            f"{candidates:,} candidates, {queries:,} queries: the matrix may be transposed; its rows are "
            "queries, its columns candidates",
            stacklevel=2,
        )
    if "features" in params:
        params["features"] = as_vectors(params["features"])
    extent = Extent.of(matrix_MN)
    rounds = rule.rounds(Layout(queries, (candidates,), extent), budget, params)
    if not extent.finite:
        require_finite(first_non_finite(matrix_MN))
    ordering = drive(rounds, answer_locally([rule.shard(matrix_MN, 0)]))
    return ordering if known is None else replace(ordering, indices=known[ordering.indices])

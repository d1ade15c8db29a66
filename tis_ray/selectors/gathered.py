"""Plain functions as selectors: all scores are gathered, and the function ranks them.

This is the easy way to write a selector: `(scores_MN, budget) -> indices`, best first. It needs memory
for the whole matrix, so more than `LIMIT` scores are refused; a selector for those answers by shards,
see `tis_ray.selectors.protocol`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps

import numpy as np

from tis_ray.errors import InputError
from tis_ray.selectors.ordering import Indices, Ordering, Scores
from tis_ray.selectors.protocol import Call, Layout, Rounds

LIMIT = 2**28
"""The largest number of scores (M x N) that are gathered: 1 GiB of float32."""


class WholeShard:
    """Columns of `scores_MN`, handed out as they are."""

    def __init__(self, scores_Mn: Scores, offset: int) -> None:
        self.scores_Mn, self.offset = scores_Mn, offset

    def columns(self) -> Scores:
        """Return all scores of the shard, (M, n)."""
        return np.asarray(self.scores_Mn)


def gathering(
    function: Callable[..., object], name: str
) -> tuple[Callable[..., Rounds], type[WholeShard]]:
    """Return coordinator and shard of a function (scores_MN, budget, **params) -> indices."""

    @wraps(function)
    def coordinate(layout: Layout, budget: int, **params: object) -> Rounds:
        size = layout.queries * layout.candidates
        if size > LIMIT:
            raise InputError(
                f"{name}: a plain function needs all {layout.queries:,} x {layout.candidates:,} scores "
                f"in memory, {4e-9 * size:.1f} GB, and at most {4e-9 * LIMIT:.1f} GB are gathered; "
                "write it as a class that answers by shards (docs/extend.md)"
            )
        parts = yield [Call(shard, "columns", ()) for shard in range(len(layout.sizes))]
        scores_MN = np.concatenate(parts, axis=1)
        scores_MN.setflags(write=False)
        ranking = function(scores_MN, budget, **params)
        if isinstance(ranking, Ordering):
            return ranking.prefix(budget)
        indices = _checked(ranking, name, budget, layout.candidates)
        return Ordering(
            indices,
            scores_MN[:, indices].max(axis=0),
            scores_MN[:, indices].argmax(axis=0).astype(np.int32),
            name,
        )

    return coordinate, WholeShard


def _checked(ranking: object, name: str, budget: int, candidates: int) -> Indices:
    """Return the first `budget` indices, or raise InputError for anything that is not a ranking."""
    try:
        indices = np.asarray(ranking)
    except ValueError:  # lists of different lengths, such as indices and scores
        raise InputError(
            f"{name}: returned a {type(ranking).__name__} with parts of unequal lengths; return only a "
            "list of candidate indices, best first"
        ) from None
    if indices.ndim != 1 or not np.issubdtype(indices.dtype, np.integer):
        raise InputError(
            f"{name}: returned {indices.dtype} of shape {indices.shape}; return a list of "
            "candidate indices, best first"
        )
    if len(indices) < budget:
        raise InputError(f"{name}: returned {len(indices)} indices for a budget of {budget}")
    indices = indices[:budget].astype(np.int64)
    outside = indices[(indices < 0) | (indices >= candidates)]
    if len(outside):
        raise InputError(f"{name}: returned index {outside[0]}; there are {candidates} candidates")
    if len(np.unique(indices)) < len(indices):
        raise InputError(f"{name}: returned a candidate more than once; return each at most once")
    return indices

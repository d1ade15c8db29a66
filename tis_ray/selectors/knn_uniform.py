"""KNN-Uniform: the K nearest candidates of every query share one probability.

From TSDS (Liu, Karbasi, Rekatsinas, NeurIPS 2024, arXiv 2410.11303), as the paper (arXiv
2602.14696, appendix F) applies it to cosine distances d = 1 - score. With d_(i,k) the distance of
query i to its k-th nearest candidate, K is the first number of neighbours for which spreading the
mass further costs more than it gains,

    (alpha / C) sum_i sum_{k <= K} (d_(i,K+1) - d_(i,k)) >= (1 - alpha) M,

or the cap, `neighbours`. The inner sum is K d_(i,K+1) minus a prefix sum of distances, so all K
are tried in O(M K). A candidate's probability is the share of the M K votes that it gets. A query of
weight w (the mean weight being 1) counts w times, in its gaps and in its votes.

Few distinct probabilities arise, so `ties` matters: see `neighbours`.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike
from pydantic import Field

from tis_ray.errors import InputError
from tis_ray.section import Section
from tis_ray.selectors import neighbours as neighbour_shards
from tis_ray.selectors.heads import merged_heads
from tis_ray.selectors.neighbours import (
    Ranked,
    checked_ties,
    distinct,
    nearest_queries,
    ranked,
)
from tis_ray.selectors.ordering import Scores
from tis_ray.selectors.protocol import Layout, Rounds
from tis_ray.selectors.query_weights import checked_weights, relative
from tis_ray.selectors.spec import Selector
from tis_ray.selectors.sums import Doubles


def coordinate(
    layout: Layout,
    budget: int,
    *,
    neighbours: int = 5000,
    alpha: float = 0.01,
    C: float = 5.0,
    ties: str = "scores",
    weights: ArrayLike | None = None,
) -> Rounds:
    """Return the `budget` most probable candidates.

    The ordering's scores are the probabilities; its queries are the nearest of those that count a
    candidate among their neighbours. Candidates without probability follow, see `ties`.

    neighbours: the most neighbours of a query. alpha: weight of spreading against distance, in
        [0, 1]. C: scale of the distances, > 0. ties: "scores" or "paper".
    weights: (M,) positive, how much each query counts; equal if not given.
    """
    weights_M = relative(checked_weights("knn_uniform", weights, layout.queries))
    checked_ties(ties, "knn_uniform")
    checked_trade_off("knn_uniform", alpha, C, neighbours)
    indices_ML, scores_ML = yield from merged_heads(layout, neighbours)
    count = neighbourhood_size(1 - scores_ML, alpha, C, weights_M)
    candidates, places_MK = distinct(indices_ML[:, :count])
    votes = np.bincount(places_MK.ravel(), weights=np.repeat(weights_M, count))
    probabilities = votes / (count * layout.queries)
    pulled_by = nearest_queries(places_MK, scores_ML[:, :count], candidates.size)
    rows = Ranked(candidates, probabilities, pulled_by)
    return (yield from ranked(layout, budget, rows, weights_M, ties, "knn_uniform"))


def neighbourhood_size(distances_ML: Scores, alpha: float, C: float, weights_M: Doubles) -> int:
    """Return K for distances in ascending order; L if no smaller K is enough."""
    queries, length = distances_ML.shape
    distances_ML = distances_ML.astype(np.float64, copy=False)
    sizes = np.arange(1, length)
    spent_ML = np.cumsum(distances_ML, axis=1)
    gaps = (weights_M[:, None] * (sizes * distances_ML[:, 1:] - spent_ML[:, :-1])).sum(axis=0)
    enough = (alpha / C) * gaps >= (1 - alpha) * queries
    return int(np.argmax(enough)) + 1 if enough.any() else length


def checked_trade_off(selector: str, alpha: float, C: float, neighbours: int) -> None:
    """Raise InputError for parameters outside their range."""
    if not 0 <= alpha <= 1:
        raise InputError(f"{selector}: alpha {alpha} must be between 0 and 1")
    if not C > 0:
        raise InputError(f"{selector}: C {C} must be a positive number")
    if neighbours < 1:
        raise InputError(f"{selector}: neighbours {neighbours} must be at least 1")


class KnnSettings(Section):
    """KNN-Uniform (TSDS, Liu et al. 2024; paper section 3)."""

    neighbours: int = Field(5000, ge=1)
    """The most candidates that share a query's mass."""
    alpha: float = Field(0.01, ge=0, le=1)
    """Weight of spreading the mass, against keeping it near."""
    scale: float = Field(5.0, gt=0)
    """Scale C of the distances."""
    ties: Literal["scores", "paper"] = "scores"
    """Order of equally probable candidates: by mean score, or as in the pool, like the paper."""


def knn_parameters(settings: KnnSettings) -> dict[str, object]:
    """Return the settings by the names of the parameters: `scale` becomes C."""
    values = {name: getattr(settings, name) for name in type(settings).model_fields}
    return {"C" if name == "scale" else name: value for name, value in values.items()}


SELECTOR = Selector(
    name="knn_uniform",
    label="KNN uniform",
    summary="each query spreads its mass over its nearest candidates",
    Settings=KnnSettings,
    section="knn",
    coordinate=coordinate,
    shard=neighbour_shards.Shard,
    arguments=knn_parameters,
    prior=(None, 2),
)

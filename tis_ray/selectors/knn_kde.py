"""KNN-KDE: like KNN-Uniform, but near-duplicates share the probability of one candidate.

From TSDS (Liu, Karbasi, Rekatsinas, NeurIPS 2024, arXiv 2410.11303), with the cosine distances of
the paper (arXiv 2602.14696, appendix F): d_(i,k) = max(1 - score, 0) to the k-th nearest candidate
of query i, whose density among all neighbours is rho_(i,k) (see `density`).

Query i puts mass 1 / (M s rho) on each of its first neighbours until its 1/M is spent; what is left
goes to the next one. So a larger s spreads the mass over more candidates. With the running sums
c_(i,k) = sum_{l <= k} 1 / rho_(i,l), query i gives its k-th neighbour a full share once
s >= c_(i,k); the values c_(i,k) of all queries are tried in ascending order, and the first at which
spreading costs more than it gains becomes s:

    (alpha / C) sum_i cost_i(s) >= (1 - alpha) M,
    cost_i = d_(i,k+1) c_(i,k) - sum_{l <= k} d_(i,l) / rho_(i,l),    k the last with c_(i,k) <= s.

TSDS does this with a heap; here one sort of the c_(i,k) and a prefix sum of the costs' increments,
(d_(i,k+1) - d_(i,k)) c_(i,k) >= 0, give the same s. TSDS then samples; the paper and this module take
the most probable candidates. A query of weight w (the mean weight being 1) has the mass w / M to
give, and its cost counts w times.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from pydantic import Field

from tis_ray.errors import InputError
from tis_ray.selectors import neighbours as neighbour_shards
from tis_ray.selectors.density import Features, Vectors, densities
from tis_ray.selectors.heads import merged_heads
from tis_ray.selectors.knn_uniform import KnnSettings, checked_trade_off, knn_parameters
from tis_ray.selectors.neighbours import (
    Ranked,
    checked_ties,
    distinct,
    nearest_queries,
    ranked,
)
from tis_ray.selectors.protocol import Layout, Rounds
from tis_ray.selectors.query_weights import checked_weights, relative
from tis_ray.selectors.spec import Selector
from tis_ray.selectors.sums import Doubles


def coordinate(
    layout: Layout,
    budget: int,
    *,
    features: Features | Vectors,
    neighbours: int = 5000,
    density_neighbours: int = 1000,
    sigma: float = 0.75,
    alpha: float = 0.01,
    C: float = 5.0,
    ties: str = "scores",
    weights: ArrayLike | None = None,
) -> Rounds:
    """Return the `budget` most probable candidates.

    The ordering's scores are the probabilities; its queries are the nearest of those that give a
    candidate mass. Candidates without probability follow, see `ties`.

    features: unit vectors of the pool, (N, D), or an object that returns some of their rows, see
        `density.Features`; only those of candidates near some query are fetched.
    neighbours: the most neighbours of a query; density_neighbours: the most that count for a density.
        Both are also limited to a tenth of the pool.
    sigma: width of the kernel, > 0. alpha: weight of spreading against distance, in [0, 1]. C:
        scale of the distances, > 0. ties: "scores" or "paper".
    weights: (M,) positive, how much each query counts; equal if not given.
    """
    weights_M = relative(checked_weights("knn_kde", weights, layout.queries))
    checked_ties(ties, "knn_kde")
    checked_trade_off("knn_kde", alpha, C, min(neighbours, density_neighbours))
    if not sigma > 0:
        raise InputError(f"knn_kde: sigma {sigma} must be a positive number")
    if isinstance(features, np.ndarray) and len(features) != layout.candidates:
        raise InputError(
            f"knn_kde: {len(features)} features for {layout.candidates} candidates; give one for each"
        )
    tenth = max(1, layout.candidates // 10)
    # Even with a cap of 1, the rest of the mass goes to a second neighbour.
    length = max(2, min(neighbours, tenth))
    indices_MK, closeness_MK = yield from merged_heads(layout, length, "nearest")

    candidates, places_MK = distinct(indices_MK)
    density_n = densities(features, candidates, sigma, min(density_neighbours, tenth))
    distances_MK = -closeness_MK.astype(np.float64)
    masses_MK, total = spread(distances_MK, 1 / density_n[places_MK], weights_M, alpha, C)

    mass_n = np.bincount(places_MK.ravel(), weights=masses_MK.ravel())
    counted_MK = np.where(masses_MK > 0, closeness_MK, -np.inf)
    pulled_by = nearest_queries(places_MK, counted_MK, candidates.size)
    given = mass_n > 0
    candidates, pulled_by = candidates[given], pulled_by[given]
    probabilities: Doubles = mass_n[given] / (layout.queries * total)
    rows = Ranked(candidates, probabilities, pulled_by)
    return (yield from ranked(layout, budget, rows, weights_M, ties, "knn_kde"))


def spread(
    distances_MK: Doubles, shares_MK: Doubles, weights_M: Doubles, alpha: float, C: float
) -> tuple[Doubles, float]:
    """Return the mass that each neighbour gets, in units of 1 / (M s), and s.

    distances_MK: ascending along rows; shares_MK: 1 / rho; weights_M: of mean 1.
    """
    queries, length = distances_MK.shape
    if length == 1:
        return weights_M[:, None], 1.0
    # Step (k, i) gives the k-th neighbour of query i a full share; k-major, so that a stable sort
    # takes equal sums by k, then i.
    sums_KM = np.cumsum(shares_MK[:, :-1], axis=1).T
    increments_KM = np.diff(distances_MK, axis=1).T * sums_KM * weights_M
    order = np.argsort(sums_KM, axis=None, kind="stable")
    costs = np.cumsum(increments_KM.ravel()[order])
    enough = alpha / C * costs >= (1 - alpha) * queries
    steps = int(np.argmax(enough)) if enough.any() else len(order)
    total = float(sums_KM.ravel()[order[min(steps, len(order) - 1)]])

    # The first neighbour always gets its share, even if the steps ended earlier.
    taken = np.maximum(np.bincount(order[:steps] % queries, minlength=queries), 1)
    spent_M = sums_KM[taken - 1, np.arange(queries)]
    mass_MK = np.where(np.arange(length) < taken[:, None], shares_MK, 0)
    mass_MK[np.arange(queries), taken] = np.maximum(total - spent_M, 0)
    return mass_MK * weights_M[:, None], total


class KnnKdeSettings(KnnSettings):
    """KNN-Uniform and KNN-KDE (TSDS, Liu et al. 2024; paper section 3)."""

    density_neighbours: int = Field(1000, ge=1)
    """KNN-KDE: the most near-duplicates that count for a density."""
    sigma: float = Field(0.75, gt=0)
    """KNN-KDE: width of the kernel."""


SELECTOR = Selector(
    name="knn_kde",
    label="KNN KDE",
    summary="as KNN uniform, but near-duplicates share the mass of one candidate",
    Settings=KnnKdeSettings,
    section="knn",
    coordinate=coordinate,
    shard=neighbour_shards.Shard,
    arguments=knn_parameters,
    prior=(2, 1),
)

"""The terms of the paper's bound on what selection can gain over random (theorem 6.2).

With probability 1 - 2δ the target loss after training on B random draws of the pool exceeds that
after training on the best subset by at most a constant times

    C_d Δ B^(-1/d)  +  Δ √(log(1/δ) / 2B)  +  W1(pool, queries)  +  W1(subset, queries).
    `sampling`         `deviation`            `pool_query`          `subset_query`

It is the triangle random → pool → queries → subset, with the speed at which B draws come near what
they are drawn from. Only the first two terms shrink with B: what a budget cannot cure is a pool far
from the queries. It holds for strongly convex losses, up to constants nobody knows. So its terms
compare budgets, pools and representations; their sum predicts no loss.

**Distance.** The triangle needs a metric, which 1 - cosine is not; `chord_cost` is one, and Δ = 2
is then the diameter of the unit sphere.

**Dimension.** The paper wants d >= 3 and leaves open how to find it. The number of features will
not do: the rate is set by the dimension of the set that the data lie on, as seen at the scale of
the distances between B draws (Weed & Bach 2019, "Sharp asymptotic and finite-sample rates of
convergence of empirical measures in Wasserstein distance"). So d is the intrinsic dimension that
Levina & Bickel (2004) estimate from neighbours, with the average of MacKay & Ghahramani (2005); two
neighbours make it the two-NN estimate of Facco et al. (2017). The participation ratio is given
beside it: how many directions share the variance. It sees no curvature, and no scale.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

import numpy as np
import scipy

from tis_ray.analysis.distances import Wasserstein, cosine_cost

CHORD_DIAMETER = 2.0
"""The largest chord: between opposite unit vectors."""


@dataclass(frozen=True)
class EffectiveDimension:
    """How many dimensions features take up, by neighbours and by variance."""

    intrinsic: float | None
    """Levina & Bickel's estimate, the d of `sampling_term`; None where all neighbours are as far."""
    participation: float
    """(sum of eigenvalues)² / (sum of their squares), of the covariance; 0 without variance."""
    neighbours: int
    """Neighbours k that the intrinsic dimension looks at."""
    rows: int
    """Distinct rows looked at."""


@dataclass(frozen=True)
class BoundTerms:
    """The terms of theorem 6.2, in units of the cost; constants are left out."""

    budget: int
    dimension: float
    diameter: float
    delta: float
    sampling: float
    """Δ B^(-1/d): how far B random draws are from the pool, on average."""
    deviation: float
    """Δ √(log(1/δ) / 2B): how much farther they are with probability δ at most."""
    pool_query: Wasserstein
    subset_query: Wasserstein

    def total(self, constant: float = 1.0) -> float:
        """Return the bracket of the theorem with this C_d; transport counts by its upper end."""
        fixed = self.pool_query.upper + self.subset_query.upper
        return constant * self.sampling + self.deviation + fixed

    def to_dict(self) -> dict[str, object]:
        """Return the fields as plain JSON values."""
        return asdict(self)


def chord_cost(scores_MB: np.ndarray) -> np.ndarray:
    """Return √(2 (1 - scores)) (M, B), the distance of unit vectors with these cosines: a metric.

    Raises ValueError unless scores are cosines up to rounding.
    """
    return np.sqrt(2 * cosine_cost(scores_MB))


def effective_dimension(
    features_ED: np.ndarray, *, neighbours: int = 10, rows: int = 2000, seed: int = 0
) -> EffectiveDimension:
    """Return the effective dimension of at most `rows` of the features, drawn without replacement.

    Features are taken as they are: normalise them where cosines compare them. `rows` sets the
    scale, so take it near the budget. Equal rows count once. Estimates are low where points are few
    for the dimension d: about 2^d are needed. Raises ValueError where there are not more distinct
    rows than neighbours, or fewer than 2 neighbours.
    """
    features_ED = np.asarray(features_ED)
    if len(features_ED) > rows:
        chosen = np.random.default_rng(seed).choice(len(features_ED), rows, replace=False)
        features_ED = features_ED[np.sort(chosen)]
    distinct_ED = np.unique(features_ED.astype(np.float64), axis=0)
    count = len(distinct_ED)
    if not np.isfinite(distinct_ED).all():
        raise ValueError("features are not finite")
    if not 2 <= neighbours < count:
        raise ValueError(f"{neighbours} neighbours of {count} distinct rows: give 2 to {count - 1}")
    distances_EE = scipy.spatial.distance.squareform(scipy.spatial.distance.pdist(distinct_ED))
    # What a partition puts before its place is in no order, and in another one on other processors.
    nearest_Ek = np.sort(np.partition(distances_EE, neighbours, axis=1)[:, : neighbours + 1])[:, 1:]
    spread = float(np.log(nearest_Ek[:, -1:] / nearest_Ek[:, :-1]).mean())
    return EffectiveDimension(
        intrinsic=1 / spread if spread > 0 else None,
        participation=participation_ratio(features_ED),
        neighbours=neighbours,
        rows=count,
    )


def participation_ratio(features_ED: np.ndarray) -> float:
    """Return (tr C)² / tr C² of the covariance C of the rows; 0 where all rows are equal."""
    centred_ED = np.asarray(features_ED, np.float64)
    centred_ED = centred_ED - centred_ED[0]  # equal rows then leave no rounding behind
    centred_ED -= centred_ED.mean(axis=0)
    wide = centred_ED.shape[0] < centred_ED.shape[1]
    gram = centred_ED @ centred_ED.T if wide else centred_ED.T @ centred_ED
    squares = float((gram**2).sum())
    return float(np.trace(gram)) ** 2 / squares if squares > 0 else 0.0


def sampling_term(budget: int, dimension: float) -> float:
    """Return B^(-1/d), the rate at which B draws come near their source.

    Below two dimensions the rate stays that of a mean, B^(-1/2) (Fournier & Guillin 2015); at two,
    a logarithm is left out. Raises ValueError unless both are above 0.
    """
    if budget < 1 or not dimension > 0:
        raise ValueError(f"budget {budget} and dimension {dimension} must be above 0")
    return float(budget ** (-1 / max(dimension, 2.0)))


def bound_terms(
    pool_query: Wasserstein,
    subset_query: Wasserstein,
    *,
    budget: int,
    dimension: float,
    diameter: float = CHORD_DIAMETER,
    delta: float = 0.05,
) -> BoundTerms:
    """Return the terms of the bound for one subset of `budget` candidates.

    Both distances are those of `wasserstein` over one metric cost, such as `chord_cost`: the
    pool's is the same for all budgets, so it is computed once. Raises ValueError where a number
    is out of its range.
    """
    if not 0 < delta < 1 or not diameter > 0:
        raise ValueError(f"delta {delta} must be in (0, 1), diameter {diameter} above 0")
    return BoundTerms(
        budget=budget,
        dimension=dimension,
        diameter=diameter,
        delta=delta,
        sampling=diameter * sampling_term(budget, dimension),
        deviation=diameter * math.sqrt(math.log(1 / delta) / (2 * budget)),
        pool_query=pool_query,
        subset_query=subset_query,
    )

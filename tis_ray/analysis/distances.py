"""How far a subset is from a query (or test) set: what every selector approximately minimises.

The paper (arXiv 2602.14696, section 6) reads selectors as minimisers of a distance between two
uniform measures: the queries, 1/M each, and the subset, 1/B each (a candidate may be repeated).
c_ij is the cost between query i and candidate j, T a plan with these marginals. Which selector
goes with which quantity is spelled out here, not quoted.

| quantity | definition | minimised by, about |
|---|---|---|
| `w1` | min over T of sum_ij T_ij c_ij (theorem 6.1) | UOT (appendix F.2) |
| `assignment` | the same, each candidate whole to one query, B/M to a query | round robin |
| `query_to_subset` | (1/M) sum_i min_j c_ij, a query's mean nearest neighbour | KNN-Uniform, KNN-KDE |
| `subset_to_query` | (1/B) sum_j min_i c_ij, a candidate's mean nearest query | doubly greedy, exactly |
| `chamfer` | the sum of these two one-way terms | |
| `mmd` | distance of the means of a kernel (Gretton et al. 2012, equation 5) | |

A one-way term drops one marginal of W1, so it is never above it. Where M divides B, `assignment`
is `w1`: plans with whole masses are the vertices (Birkhoff). The paper's cost is 1 - cosine, half
the squared distance of unit vectors. It is no metric: `tis_ray.analysis.bounds` has one.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Literal

import numpy as np

EXACT_LIMIT = 1_000_000
"""Costs M·B up to which transport is solved exactly: about a second at 81 queries."""
REG = 0.02
"""Weight of the entropy beyond it, in standard deviations of the cost."""

_ROUNDING = 1e-3  # of cosines, in half precision
_MARGIN = 1e-3  # total error of the queries' masses at which Sinkhorn's iteration ends
_PASSES = 2000
_BLOCK = 1024  # rows or columns worked on at once
_PAIRED = 1000  # rows of each side that the median heuristic looks at


@dataclass(frozen=True)
class Wasserstein:
    """Wasserstein-1: the truth lies in [value, upper], one number where it is exact."""

    value: float
    """Exact, or the value of feasible dual potentials: the end that is by far closer."""
    upper: float
    """Exact, or the cost of a feasible plan."""
    method: Literal["network simplex", "sinkhorn"]
    reg: float | None = None
    """Weight of the entropy, in units of the cost; None where the value is exact."""


@dataclass(frozen=True)
class Mmd:
    """Maximum mean discrepancy (not squared) by its biased estimator: 0 for equal multisets."""

    linear: float
    """Kernel x·y, the cosine of unit rows: the distance of the two means."""
    rbf: float
    """Kernel exp(-|x - y|² / (2 bandwidth²))."""
    bandwidth: float


@dataclass(frozen=True)
class Distances:
    """The distances of the module's table, in units of the cost."""

    queries: int
    candidates: int
    w1: Wasserstein
    assignment: float | None
    """None beyond the exact limit."""
    query_to_subset: float
    subset_to_query: float
    chamfer: float
    mmd: Mmd | None
    """None without features: scores do not tell distances within a side."""

    def to_dict(self) -> dict[str, object]:
        """Return the fields as plain JSON values."""
        return asdict(self)


def cosine_cost(scores_MB: np.ndarray) -> np.ndarray:
    """Return 1 - scores (M, B), in [0, 2]; ValueError unless they are cosines up to rounding."""
    scores_MB = np.asarray(scores_MB, np.float64)
    if not (np.abs(scores_MB) <= 1 + _ROUNDING).all():
        raise ValueError("scores must be cosines: finite and within [-1, 1]")
    return 1 - np.clip(scores_MB, -1, 1)


def subset_distances(
    cost_MB: np.ndarray,
    query_MD: np.ndarray | None = None,
    subset_BD: np.ndarray | None = None,
    *,
    bandwidth: float | None = None,
    exact_limit: int = EXACT_LIMIT,
    reg: float | None = None,
) -> Distances:
    """Return the distances of a subset of B candidates to M queries.

    `exact_limit` and `reg` are those of `wasserstein`. The MMD needs the features of both sides;
    `bandwidth` is that of `mmd`. Raises ValueError where costs are not finite and >= 0, or where
    features do not fit them.
    """
    cost_MB = _checked(cost_MB)
    there, back = float(cost_MB.min(axis=1).mean()), float(cost_MB.min(axis=0).mean())
    discrepancy = None
    if query_MD is not None and subset_BD is not None:
        if (rows := (len(query_MD), len(subset_BD))) != cost_MB.shape:
            raise ValueError(f"features of {rows} rows do not fit costs {cost_MB.shape}")
        discrepancy = mmd(query_MD, subset_BD, bandwidth)
    return Distances(
        queries=cost_MB.shape[0],
        candidates=cost_MB.shape[1],
        w1=wasserstein(cost_MB, exact_limit=exact_limit, reg=reg),
        assignment=balanced_assignment(cost_MB) if cost_MB.size <= exact_limit else None,
        query_to_subset=there,
        subset_to_query=back,
        chamfer=there + back,
        mmd=discrepancy,
    )


def wasserstein(
    cost_MB: np.ndarray, *, exact_limit: int = EXACT_LIMIT, reg: float | None = None
) -> Wasserstein:
    """Return W1 of M and B uniform masses, by network simplex up to `exact_limit` costs.

    Beyond it, by Sinkhorn's iteration (Cuturi 2013) in logarithms, with `reg` (> 0) times the
    entropy; by default, REG standard deviations of the cost.
    """
    cost_MB = _checked(cost_MB)
    if cost_MB.size > exact_limit:
        reg = (REG * float(cost_MB.std()) or 1.0) if reg is None else reg
        if reg <= 0:
            raise ValueError(f"reg is {reg}; it must be above 0")
        return _sinkhorn(cost_MB, reg)
    give_M, take_B = (np.full(size, 1 / size) for size in cost_MB.shape)
    value = _simplex(give_M, take_B, cost_MB)
    return Wasserstein(value, value, "network simplex")


def balanced_assignment(cost_MB: np.ndarray) -> float:
    """Return the least mean cost of giving each candidate to one query, in equal shares, exactly.

    Each query gets B // M candidates, and B % M of them, whichever is best, one more (in round
    robin it is the first). Masses are whole, and so is the plan the network simplex ends with.
    """
    cost_MB = _checked(cost_MB)
    queries, candidates = cost_MB.shape
    share, extra = divmod(candidates, queries)
    give_m, take_b = np.full(queries, float(share)), np.ones(candidates)
    if extra:
        # A second row of each query takes its one more, or sends it to a column of no one. What a
        # first row sends there costs more than any exchange of candidates could win.
        void_m = np.repeat([float(cost_MB.max()) + 1, 0.0], queries)
        cost_MB = np.column_stack([np.vstack([cost_MB, cost_MB]), void_m])
        give_m = np.append(give_m, np.ones(queries))
        take_b = np.append(take_b, queries - extra)
    return _simplex(give_m[give_m > 0], take_b, cost_MB[give_m > 0]) / candidates


def mmd(query_MD: np.ndarray, subset_BD: np.ndarray, bandwidth: float | None = None) -> Mmd:
    """Return the MMD of two sets of features, in (M + B)² D multiplications.

    By default the bandwidth is the median distance within both sets together, of 1,000 rows of
    each. To compare subsets give them one bandwidth: with another, it is another kernel.
    """
    query, subset = np.asarray(query_MD, np.float64), np.asarray(subset_BD, np.float64)
    if bandwidth is None:
        few = np.vstack([side[:: -(-len(side) // _PAIRED)] for side in (query, subset)])
        squares = _squares(few, few)[np.triu_indices(len(few), 1)]
        bandwidth = float(np.sqrt(np.median(squares))) or 1.0
    square = _mean_rbf(query, query, bandwidth) + _mean_rbf(subset, subset, bandwidth)
    square -= 2 * _mean_rbf(query, subset, bandwidth)
    linear = float(np.linalg.norm(query.mean(axis=0) - subset.mean(axis=0)))
    return Mmd(linear, max(square, 0.0) ** 0.5, bandwidth)


def _mean_rbf(left_ED: np.ndarray, right_FD: np.ndarray, bandwidth: float) -> float:
    blocks = (left_ED[start : start + _BLOCK] for start in range(0, len(left_ED), _BLOCK))
    total = sum(np.exp(_squares(block, right_FD) / (-2 * bandwidth**2)).sum() for block in blocks)
    return float(total) / (len(left_ED) * len(right_FD))


def _squares(left_ED: np.ndarray, right_FD: np.ndarray) -> np.ndarray:
    """Return squared distances (E, F)."""
    norms_E1, norms_F = (left_ED**2).sum(axis=1, keepdims=True), (right_FD**2).sum(axis=1)
    return np.maximum(norms_E1 + norms_F - 2 * left_ED @ right_FD.T, 0)


def _simplex(give_m: np.ndarray, take_b: np.ndarray, cost_mb: np.ndarray) -> float:
    import ot  # only here: it loads torch

    value, log = ot.emd2(give_m, take_b, cost_mb, numItermax=10**9, log=True)
    if log["warning"] is not None:
        raise RuntimeError(f"network simplex: {log['warning']}")
    return float(value)


def _sinkhorn(cost_MB: np.ndarray, reg: float) -> Wasserstein:
    """Find potentials of the queries, while the entropy's weight falls by halves to `reg`.

    A pass makes the plan that is exact for candidates and corrects the potentials by what queries
    get too much or too little. At the end c-transforms make the potentials feasible, and rounding
    the plan (Altschuler, Weed & Rigollet 2017, algorithm 2): both ends hold, converged or not.
    """
    queries, candidates = cost_MB.shape
    blocks = [cost_MB[:, start : start + _BLOCK] for start in range(0, candidates, _BLOCK)]
    potential_M1 = np.zeros((queries, 1))
    level = max(float(cost_MB.std()), reg)
    for _ in range(_PASSES):
        ratio_M1 = _received(blocks, potential_M1, level)
        error = float(np.abs(ratio_M1 - 1).mean())
        if error < _MARGIN and level == reg:
            break
        potential_M1 -= level * np.log(np.maximum(ratio_M1, 1e-300))
        if error < 10 * _MARGIN:
            level = max(level / 2, reg)
    ratio_M1 = _received(blocks, potential_M1, level)
    kept_M1 = np.minimum(1, 1 / np.maximum(ratio_M1, 1e-300))
    lacks_M = np.maximum(1 - kept_M1 * ratio_M1, 0)[:, 0] / queries
    upper, lower, best_M = 0.0, 0.0, np.full(queries, np.inf)
    for cost_Mb in blocks:
        plan_Mb = kept_M1 * _plan(cost_Mb, potential_M1, level) / candidates
        left_b = np.maximum(1 / candidates - plan_Mb.sum(axis=0), 0)
        upper += float((plan_Mb * cost_Mb).sum())
        upper += float(lacks_M @ (cost_Mb @ left_b)) / max(float(lacks_M.sum()), 1e-300)
        duals_b = (cost_Mb - potential_M1).min(axis=0)
        best_M = np.minimum(best_M, (cost_Mb - duals_b).min(axis=1))
        lower += float(duals_b.sum()) / candidates
    nearest = max(cost_MB.min(axis=1).mean(), cost_MB.min(axis=0).mean())
    value = max(lower + float(best_M.mean()), float(nearest))
    return Wasserstein(value, max(upper, value), "sinkhorn", reg)


def _received(blocks: list[np.ndarray], potential_M1: np.ndarray, reg: float) -> np.ndarray:
    """Return what each query gets, in fair shares (M, 1)."""
    got_MJ = np.stack([_plan(block, potential_M1, reg).sum(axis=1) for block in blocks], axis=1)
    return got_MJ.sum(axis=1, keepdims=True) * (len(got_MJ) / sum(b.shape[1] for b in blocks))


def _plan(cost_Mb: np.ndarray, potential_M1: np.ndarray, reg: float) -> np.ndarray:
    """Return how each candidate's mass, here 1, is shared among the queries."""
    plan_Mb = (potential_M1 - cost_Mb) / reg
    plan_Mb -= plan_Mb.max(axis=0)
    np.exp(plan_Mb, out=plan_Mb)
    plan_Mb /= plan_Mb.sum(axis=0)
    return plan_Mb


def _checked(cost_MB: np.ndarray) -> np.ndarray:
    cost_MB = np.asarray(cost_MB, np.float64)
    if cost_MB.ndim != 2 or cost_MB.size == 0:
        raise ValueError(f"costs must be queries × candidates, not {cost_MB.shape}")
    broken_M = ~(np.isfinite(cost_MB) & (cost_MB >= 0)).all(axis=1)
    if broken_M.any():
        raise ValueError(f"costs of query {int(broken_M.argmax())} are not finite and >= 0")
    return cost_MB

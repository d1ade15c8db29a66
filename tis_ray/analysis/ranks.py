"""Which selector, and which representation, comes first: mean ranks over seeds or cells.

**Ranks.** Methods are ranked where they are alike in all else: selectors within one representation,
budget and block; representations within one selector, budget and block. The blocks of one study are
its seeds, those of several studies their cells (one model and task each). 1 is best, ties share
their mean rank. Only methods that meet everywhere are ranked together: each set of selectors that
some representation has makes a table, over all representations that have the whole set (and the
other way round). Comparisons in which one of the set has no result are left out.

**Interval.** Runs of one block at several budgets share their initial weights, and their subsets are
nested, so blocks count and budgets do not: a block's mean rank is one value, and the interval is
that of the mean over blocks (Student), cut to the ranks that there are.

**Test.** Friedman's statistic, Σ (mean rank - (A+1)/2)² over A methods, against all ways to exchange
the methods' names block by block. It holds for few blocks, where chi-square does not. S blocks of
two methods reach p = 2^(1-S), so that two methods cannot be told apart with fewer than six.
Blocks must be independent: cells are, the seeds of one study are not, since its subsets are the same in
all of them (`analysis.comparison`). Over seeds there is neither interval nor p: the ranks say which of
these subsets was better, and `analysis.study_pairs` what may be said of the methods.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import permutations
from typing import Literal

import numpy as np
import scipy

from tis_ray.analysis.intervals import CONFIDENCE, Interval, mean_interval
from tis_ray.analysis.study_values import Cell
from tis_ray.metrics.description import MetricDescription

Axis = Literal["selector", "representation"]

_AXES: dict[Axis, int] = {"selector": 1, "representation": 0}
"""Where a competitor's name stands in that of a method; the other place has what it met under."""

EXACT_WAYS = 100_000
"""Ways to exchange the names up to which every one counts."""
DRAWS = 9999
"""Random ways beyond."""


@dataclass(frozen=True)
class MeanRank:
    """One competitor: its mean rank with the interval over blocks, and in how many comparisons it is best."""

    name: str
    rank: Interval
    best: int


@dataclass(frozen=True)
class RankTable:
    """Competitors that met under equal conditions, best first."""

    of: Axis
    ranks: tuple[MeanRank, ...]
    within: tuple[str, ...]
    """The representations (selectors) under which these selectors (representations) met."""
    comparisons: int
    """Rankings of all competitors: those of `within`, budgets and blocks that are complete."""
    blocks: int
    p_value: float | None
    """Of ranks as far apart as these, if the names meant nothing; None where blocks share subsets."""

    @property
    def differ(self) -> bool:
        """Whether the ranks differ by more than noise."""
        return self.p_value is not None and self.p_value < 1 - CONFIDENCE

    @property
    def lowest_p(self) -> float:
        """The p of equal rankings in all blocks, below which none can be."""
        return float(math.factorial(len(self.ranks)) ** (1 - self.blocks))


Run = tuple[str, str, int, int]
"""Representation, selector, budget and block."""


def rank_tables(
    values: Mapping[Run, float], *, lower_is_better: bool, independent: bool = True
) -> list[RankTable]:
    """Return the tables of selectors, then of representations, by one metric's values (NaN: missing).

    independent: whether the blocks are; if not, there are neither intervals nor p-values. With one representation and one selector there is no table.
    """
    tables = (
        _table(values, lower_is_better, of, competitors, within, independent)
        for of in _AXES
        for competitors, within in _meetings(values, _AXES[of])
    )
    return [table for table in tables if table]


def ranked_runs(cells: Iterable[Cell], metric: MetricDescription) -> dict[Run, float]:
    """Return what `rank_tables` ranks of one study: the blocks are seeds, baselines are left out."""
    values: dict[Run, float] = {}
    for cell in cells:
        method, value = cell.method, cell.metrics.get(metric.name)
        if (
            cell.seed is None
            or cell.draw is not None
            or method.is_baseline
            or method.selector is None
        ):
            continue
        key = (method.representation, method.selector, cell.budget, cell.seed)
        values[key] = math.nan if value is None else float(value)
    return values


def _meetings(runs: Iterable[Run], axis: int) -> list[tuple[list[str], list[str]]]:
    """Return each set of at least two competitors, with all under which the whole set met."""
    sets: dict[str, dict[str, None]] = {}
    for representation, selector, *_ in runs:
        method = (representation, selector)
        sets.setdefault(method[1 - axis], {})[method[axis]] = None
    distinct = {frozenset(found): list(found) for found in sets.values() if len(found) > 1}
    return [
        (names, [other for other, found in sets.items() if whole <= set(found)])
        for whole, names in distinct.items()
    ]


def _table(
    values: Mapping[Run, float],
    lower: bool,
    of: Axis,
    competitors: Sequence[str],
    within: Sequence[str],
    independent: bool,
) -> RankTable | None:
    budgets = sorted({key[2] for key in values})

    def value(name: str, other: str, budget: int, block: int) -> float:
        method = (other, name) if of == "selector" else (name, other)
        return values.get((*method, budget, block), math.nan)

    rows_SA, complete = [], []
    for block in sorted({key[3] for key in values}):
        values_CA = np.array(
            [
                [value(name, other, budget, block) for name in competitors]
                for other in within
                for budget in budgets
            ]
        )
        whole_CA = values_CA[np.isfinite(values_CA).all(axis=1)]
        if len(whole_CA):
            rows_SA.append(mean_ranks(whole_CA, lower_is_better=lower))
            complete.append(whole_CA)
    if not rows_SA:
        return None
    ranks_SA, values_CA = np.array(rows_SA), np.concatenate(complete)
    best_A = wins(values_CA, lower_is_better=lower)
    ranks = [
        MeanRank(name, _interval(ranks_SA[:, a], len(competitors), independent), int(best_A[a]))
        for a, name in enumerate(competitors)
    ]
    ranks.sort(key=lambda found: found.rank.mean)
    p_value = exchange_p(ranks_SA) if independent else None
    return RankTable(of, tuple(ranks), tuple(within), len(values_CA), len(ranks_SA), p_value)


def _interval(ranks_S: np.ndarray, most: int, independent: bool) -> Interval:
    """Return the mean rank; its interval is cut to the ranks 1 to `most`."""
    interval = mean_interval(ranks_S.tolist())
    if not independent:
        return replace(interval, low=None, high=None, note="seeds share subsets: no interval")
    if interval.low is None or interval.high is None:
        return interval
    return replace(interval, low=max(1.0, interval.low), high=min(float(most), interval.high))


def exchange_p(ranks_SA: np.ndarray, *, seed: int = 0) -> float:
    """Return the p of Friedman's statistic over S rankings of A methods, by exchanging names.

    All ways count up to `EXACT_WAYS`; beyond, `seed` draws some.
    """
    blocks, methods = ranks_SA.shape
    # Only how the rankings lie to each other matters, so the first keeps its names.
    if math.factorial(methods) ** (blocks - 1) <= EXACT_WAYS:
        sums_WA = ranks_SA[:1]
        for row in ranks_SA[1:]:
            orders_OA = row[list(permutations(range(methods)))]
            sums_WA = (sums_WA[:, None] + orders_OA).reshape(-1, methods)
        known = 0
    else:
        rng = np.random.default_rng(seed)
        sums_WA = rng.permuted(np.tile(ranks_SA, (DRAWS, 1, 1)), axis=2).sum(axis=1)
        known = 1  # what was found is one of the ways
    here = _spread(ranks_SA.sum(axis=0))
    as_far = _spread(sums_WA) >= here - 1e-9 * (1 + here)  # sums of thirds are not exact
    return float((known + as_far.sum()) / (known + len(sums_WA)))


def _spread(sums: np.ndarray) -> np.ndarray:
    """Return Σ (sum - mean sum)² over the last axis."""
    spread: np.ndarray = ((sums - sums.mean(axis=-1, keepdims=True)) ** 2).sum(axis=-1)
    return spread


def mean_ranks(values_CA: np.ndarray, *, lower_is_better: bool) -> np.ndarray:
    """Return the mean rank (A,) of A methods over C cells: 1 is best, ties share their mean rank.

    Cells without a finite value of every method are left out; NaN where none is left.
    """
    ranks_CA = scipy.stats.rankdata(_costs(values_CA, lower_is_better), axis=1)
    return ranks_CA.mean(axis=0) if len(ranks_CA) else np.full(values_CA.shape[1], np.nan)


def wins(values_CA: np.ndarray, *, lower_is_better: bool) -> np.ndarray:
    """Return in how many cells each of A methods is best (A,); a tie counts for all who share it."""
    costs_CA = _costs(values_CA, lower_is_better)
    return (costs_CA == costs_CA.min(axis=1, keepdims=True)).sum(axis=0)


def _costs(values_CA: np.ndarray, lower_is_better: bool) -> np.ndarray:
    """Return the complete cells, turned so that lower is better."""
    whole_CA = values_CA[np.isfinite(values_CA).all(axis=1)]
    return whole_CA if lower_is_better else -whole_CA

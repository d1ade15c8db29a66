"""From a small pilot to the method to use at the budget that is meant.

**Gain.** Of each run of a method, its metric minus that of random at the same budget and seed (and
task), turned so that positive is better. A straight line in log2(budget) through all of a method's
gains, by least squares, gives the mean gain at the asked budget and its 95% Student interval. With
one budget there is no slope, and the gain is their mean.

**Choice.** The method with the largest expected gain, unless others cannot be told from it (the
interval of the difference of gains, paired run by run, holds zero). Among those the prior decides,
which is the paper's finding (arXiv 2602.14696, section 7 and its discussion): gradients with round
robin for small budgets, gradients with optimal transport as budgets grow. "Large" is LARGE_SHARE of
the pool and more: on the paper's Tulu pool transport overtook round robin in query loss between 500
and 2,500 of 197,000 rows and significantly from 5,000. Random is as good where the gain's interval
holds zero; then nothing should be paid for selection.

What the interval covers is the noise of training, and of tasks where the pilot has several. It does
not cover that a larger pool holds better candidates than the pilot's (which makes the expected gain
too small), nor another model.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

from tis_ray.analysis.intervals import CONFIDENCE
from tis_ray.analysis.metrics import describe
from tis_ray.analysis.statistics import RANDOM
from tis_ray.errors import InputError

LARGE_SHARE = 0.025
"""Share of the pool from which a budget is large: 5,000 of the paper's 197,000."""
_SMALL = (("less", "round_robin"), ("less", "uot"), ("less", "knn_kde"))
_LARGE = (("less", "uot"), ("less", "knn_kde"), ("less", "knn_uniform"), ("less", "round_robin"))

Method = tuple[str, str]
Run = tuple[str, int, int]
"""Task, budget and seed."""


@dataclass(frozen=True)
class Gain:
    """What a method is expected to gain over random at the asked budget; positive is better."""

    method: Method
    expected: float
    low: float | None
    high: float | None
    runs: int

    @property
    def proven(self) -> bool:
        """Whether the interval lies above zero."""
        return self.low is not None and self.low > 0


@dataclass(frozen=True)
class Recommendation:
    """The advice, with all that it rests on.

    choice: None where random is as good. alike: methods that cannot be told from the best.
    """

    metric: str
    budget: int
    choice: Gain | None
    best: Gain
    gains: tuple[Gain, ...]
    alike: tuple[Method, ...]
    by_prior: bool
    extrapolated: bool
    """Whether the budget lies outside the pilot's."""
    budgets: tuple[int, ...]
    seeds: int
    tasks: int


def recommend(
    pilots: Mapping[str, Sequence[Mapping[str, Any]]],
    budget: int,
    *,
    pool_rows: int,
    metric: str = "test_loss",
) -> Recommendation:
    """Return the method to use at `budget` of `pool_rows` rows.

    pilots: the cells of a pilot study of each task, with random at each of its budgets.
    metric: one that the cells have. Raises InputError where no method shares a run with random.
    """
    gains = _gains(pilots, metric)
    if not gains:
        raise InputError(
            f"recommend: no cell has {metric} beside random at the same budget and seed; run the "
            "pilot to its end, or name a metric that it measured"
        )
    found = [Gain(method, *_at(runs, budget), len(runs)) for method, runs in gains.items()]
    found.sort(key=lambda gain: -gain.expected)
    best = found[0]
    alike = [
        gain.method
        for gain in found[1:]
        if _cannot_tell(gains[best.method], gains[gain.method], budget)
    ]
    preferred = _LARGE if budget >= LARGE_SHARE * pool_rows else _SMALL
    by_prior = False
    choice: Gain | None = best
    for method in preferred:
        if method == best.method:
            break
        if method in alike:
            choice = next(gain for gain in found if gain.method == method)
            by_prior = True
            break
    assert choice is not None
    runs = [run for each in gains.values() for run in each]
    budgets = tuple(sorted({b for _, b, _ in runs}))
    return Recommendation(
        metric=metric,
        budget=budget,
        choice=choice if choice.proven else best if best.proven else None,
        best=best,
        gains=tuple(found),
        alike=tuple(alike),
        by_prior=by_prior and choice.proven,
        extrapolated=not budgets[0] <= budget <= budgets[-1],
        budgets=budgets,
        seeds=len({seed for *_, seed in runs}),
        tasks=len(pilots),
    )


def _gains(
    pilots: Mapping[str, Sequence[Mapping[str, Any]]], metric: str
) -> dict[Method, dict[Run, float]]:
    """Return the gain over random of each method's runs."""
    sign = -1.0 if describe(metric).lower_is_better else 1.0
    values: dict[Method, dict[Run, float]] = {}
    for task, cells in pilots.items():
        for cell in cells:
            value = cell.get(metric)
            if cell.get("seed") is None or value is None or not math.isfinite(value):
                continue
            run = (task, int(cell["budget"]), int(cell["seed"]))
            values.setdefault((cell["representation"], cell["selector"]), {})[run] = sign * value
    random = values.pop((RANDOM, RANDOM), {})
    found = {
        method: {run: value - random[run] for run, value in runs.items() if run in random}
        for method, runs in values.items()
    }
    return {method: runs for method, runs in found.items() if runs}


def _at(runs: Mapping[Run, float], budget: int) -> tuple[float, float | None, float | None]:
    """Return the line's mean at a budget, with its 95% interval where there is one."""
    x = np.log2([run[1] for run in runs]) - math.log2(budget)
    y = np.array(list(runs.values()))
    columns = np.stack([np.ones_like(x), x], axis=1) if np.ptp(x) > 0 else np.ones((len(x), 1))
    weights, *_ = np.linalg.lstsq(columns, y, rcond=None)
    free = len(y) - columns.shape[1]
    expected = float(weights[0])
    if free < 1:
        return expected, None, None
    variance = float(((y - columns @ weights) ** 2).sum()) / free
    # The asked budget is x = 0, so the mean there is the first weight.
    error = math.sqrt(variance * float(np.linalg.inv(columns.T @ columns)[0, 0]))
    half = float(stats.t.ppf((1 + CONFIDENCE) / 2, free)) * error
    return expected, expected - half, expected + half


def _cannot_tell(best: Mapping[Run, float], other: Mapping[Run, float], budget: int) -> bool:
    """Whether the difference of two methods' gains, run by run, may be zero at a budget."""
    shared = {run: best[run] - other[run] for run in best if run in other}
    if not shared:
        return True
    _, low, _ = _at(shared, budget)
    return low is None or low <= 0

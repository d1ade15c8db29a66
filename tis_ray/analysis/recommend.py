"""The method to use at a budget that no pilot has tried, read off a pilot at smaller ones.

`tis_ray.report.recommendation` puts it in words; `tis_ray.study.price` says what a study will cost.

**Gain.** Of each run of a method, its metric beside that of random at the same budget and seed (and
task). Both follow straight lines in log2(budget), by least squares, on a scale without ends: the
logarithm of a loss, the log odds of a share. (On the metric's own scale a line leads beyond what is
possible: a loss below 0, a gain larger than all of random's loss.) At the asked budget the lines are
turned back; the gain is their difference, positive where the method is better. Its 95% Student
interval is by the delta method with the covariance of the paired residuals. With one budget there is
no slope, and the lines are means.

**Choice.** The method with the largest expected gain, unless others cannot be told from it (the
interval of their difference on that scale, paired run by run, holds zero). Among those the prior decides.
It is given, from the specs of the methods, which hold the paper's finding (arXiv 2602.14696, section
7 and its discussion): gradients with round robin for small budgets, gradients with optimal transport
as budgets grow. "Large" is LARGE_SHARE of
the pool and more: on the paper's Tulu pool transport overtook round robin in query loss between 500
and 2,500 of 197,000 rows and significantly from 5,000. Random is as good where the gain's interval
holds zero; then nothing should be paid for selection.

What the interval covers is the noise of training, and of tasks where the pilot has several. It does
not cover that a larger pool holds better candidates than the pilot's (which makes the expected gain
too small), nor another model.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import scipy

from tis_ray.analysis.intervals import CONFIDENCE
from tis_ray.analysis.study_values import RANDOM_METHOD, Cell, Method
from tis_ray.errors import InputError
from tis_ray.metrics.description import MetricDescription

LARGE_SHARE = 0.025
"""Share of the pool from which a budget is large: 5,000 of the paper's 197,000."""
Run = tuple[str, int, int]
"""Task, budget and seed."""
Runs = dict[Run, tuple[float, float]]
"""Of each run, random's metric and the method's, on the scale of the lines."""

_LEAST_SHARE = 0.005
"""Shares are kept this far from 0 and 1, where log odds are infinite."""


@dataclass(frozen=True)
class Preferred:
    """Which methods decide where a pilot cannot tell, the first of them first."""

    small: Sequence[Method] = ()
    large: Sequence[Method] = ()


@dataclass(frozen=True)
class Scale:
    """A scale without ends for a metric: there, back, and the derivative of the way back."""

    there: Callable[[float], float]
    back: Callable[[float], float]
    slope: Callable[[float], float]


_PLAIN = Scale(lambda x: x, lambda y: y, lambda y: 1.0)
_LOG = Scale(math.log, math.exp, math.exp)
_ODDS = Scale(
    lambda x: float(scipy.special.logit(min(max(x, _LEAST_SHARE), 1 - _LEAST_SHARE))),
    lambda y: float(scipy.special.expit(y)),
    lambda y: float(scipy.special.expit(y) * scipy.special.expit(-y)),
)


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

    metric: MetricDescription
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
    pilots: Mapping[str, Sequence[Cell]],
    budget: int,
    *,
    pool_rows: int,
    metric: MetricDescription,
    preferred: Preferred,
) -> Recommendation:
    """Return the method to use at `budget` of `pool_rows` rows.

    pilots: the cells of a pilot study of each task, with random at each of its budgets.
    metric: one that the cells have. Raises InputError where no method shares a run with random.
    """
    sign = -1.0 if metric.lower_is_better else 1.0
    scale, gains = _gains(pilots, metric)
    if not gains:
        raise InputError(
            f"recommend: no cell has {metric.name} beside random at the same budget and seed; run the "
            "pilot to its end, or name a metric that it measured"
        )
    found = [
        Gain(method, *_gain(runs, budget, scale, sign), len(runs)) for method, runs in gains.items()
    ]
    found.sort(key=lambda gain: -gain.expected)
    best = found[0]
    alike = [
        gain.method
        for gain in found[1:]
        if _cannot_tell(gains[best.method], gains[gain.method], budget, sign)
    ]
    large = budget >= LARGE_SHARE * pool_rows
    by_prior = False
    choice: Gain | None = best
    for method in preferred.large if large else preferred.small:
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
    pilots: Mapping[str, Sequence[Cell]], metric: MetricDescription
) -> tuple[Scale, dict[Method, Runs]]:
    """Return the scale, and each method's runs beside random's on it."""
    values: dict[Method, dict[Run, float]] = {}
    for task, cells in pilots.items():
        for cell in cells:
            value = cell.metrics.get(metric.name)
            if cell.seed is None or value is None or not math.isfinite(value):
                continue
            run = (task, cell.budget, cell.seed)
            values.setdefault(cell.method, {})[run] = float(value)
    positive = all(value > 0 for runs in values.values() for value in runs.values())
    scale = _ODDS if metric.share else _LOG if metric.lower_is_better and positive else _PLAIN
    random = values.pop(RANDOM_METHOD, {})
    found = {
        method: {
            run: (scale.there(random[run]), scale.there(value))
            for run, value in runs.items()
            if run in random
        }
        for method, runs in values.items()
    }
    return scale, {method: runs for method, runs in found.items() if runs}


def _gain(
    runs: Runs, budget: int, scale: Scale, sign: float
) -> tuple[float, float | None, float | None]:
    """Return the expected gain at a budget, with its 95% interval where there is one."""
    (random, method), covariance = _at(runs, np.array(list(runs.values())), budget)
    expected = sign * (scale.back(method) - scale.back(random))
    if covariance is None:
        return expected, None, None
    gradient = np.array([-scale.slope(random), scale.slope(method)])
    half = _student(runs) * math.sqrt(float(gradient @ covariance @ gradient))
    return expected, expected - half, expected + half


def _at(
    runs: Iterable[Run], values_XC: np.ndarray, budget: int
) -> tuple[np.ndarray, np.ndarray | None]:
    """Return the (C,) means of the lines at a budget and their covariance, if it can be known.

    values_XC: a column for each line, a row for each run.
    """
    design = _design(runs, budget)
    weights, *_ = np.linalg.lstsq(design, values_XC, rcond=None)
    free = len(design) - design.shape[1]
    if free < 1:
        return weights[0], None
    residuals_XC = values_XC - design @ weights
    # The asked budget is x = 0, so the means there are the first weights.
    spread = float(np.linalg.inv(design.T @ design)[0, 0])
    return weights[0], spread * (residuals_XC.T @ residuals_XC) / free


def _design(runs: Iterable[Run], budget: int) -> np.ndarray:
    x = np.log2([run[1] for run in runs]) - math.log2(budget)
    return np.stack([np.ones_like(x), x], axis=1) if np.ptp(x) > 0 else np.ones((len(x), 1))


def _student(runs: Iterable[Run]) -> float:
    """Return how many standard errors the interval reaches."""
    rows, columns = _design(runs, 1).shape
    return float(scipy.stats.t.ppf((1 + CONFIDENCE) / 2, rows - columns))


def _cannot_tell(best: Runs, other: Runs, budget: int, sign: float) -> bool:
    """Whether the difference of two methods, run by run, may be zero at a budget."""
    shared = {run: sign * (best[run][1] - other[run][1]) for run in best if run in other}
    if not shared:
        return True
    (difference,), covariance = _at(shared, np.array([[d] for d in shared.values()]), budget)
    if covariance is None:
        return True
    return bool(difference <= _student(shared) * math.sqrt(float(covariance[0, 0])))

"""Confidence intervals of means (the 95% level is set here), and Holm's correction of many tests.

**Seeds.** Over the n seeds of a row (one representation, selector and budget) the mean has a 95%
Student interval, mean ± t(0.975, n-1) · sd / √n. The paper draws mean ± one standard error
instead (`plot_quantile_budget.py`); with 3 seeds the Student interval is 4.3 times as wide, and
is the one that holds the true mean in 95 of 100 studies. One value, or equal values, hold no
information on the spread: then no interval is given and `note` says why.

**Cells.** Over cells (one model and task each) it is a studentised bootstrap: cells are drawn with
replacement, and the quantiles of (mean* - mean) / se* take the place of Student's. Plain percentiles
of mean* are too short for so few cells (with 5 normal ones they hold the true mean in 82 of 100
studies, with 25 in 94; studentised ones in 95 and 94), and Student's interval is off for skewed
differences (5 exponential ones: 89, studentised 94). Below `FEWEST` values resampling has too little
to draw from, and the interval is Student's.

None of this covers the choice of query and test rows: the seeds vary the training alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import scipy

CONFIDENCE = 0.95
FEWEST = 5
"""Values from which on an interval is a bootstrap's."""
DRAWS = 2000


@dataclass(frozen=True)
class Interval:
    """A mean over n seeds with its interval; `low` and `high` are None where none can be given."""

    mean: float
    low: float | None
    high: float | None
    n: int
    sd: float | None = None
    note: str = ""


def mean_interval(values: Sequence[float]) -> Interval:
    """Return the mean of finite `values` (one a seed) with its 95% Student interval.

    Raises ValueError when there are no values or one is not finite.
    """
    array = np.asarray(values, dtype=np.float64)
    if array.size == 0 or not np.isfinite(array).all():
        raise ValueError(f"mean_interval needs finite values, found {list(values)}")
    n, mean = int(array.size), float(array.mean())
    if n == 1:
        return Interval(mean, None, None, n, note="one seed: no interval")
    sd = float(array.std(ddof=1))
    if is_zero(sd, array):
        return Interval(mean, None, None, n, 0.0, note=f"the same in all {n} seeds: no interval")
    half = float(scipy.stats.t.ppf((1 + CONFIDENCE) / 2, n - 1)) * sd / math.sqrt(n)
    return Interval(mean, mean - half, mean + half, n, sd)


def bootstrap_interval(values: Sequence[float] | np.ndarray, *, seed: int = 0) -> Interval:
    """Return the mean of finite `values` with its 95% interval, studentised.

    Below `FEWEST` values, and where they are equal, this is `mean_interval`. Raises ValueError as
    that does.
    """
    array = np.asarray(values, np.float64)
    plain = mean_interval(array.tolist())
    if plain.low is None or plain.sd is None or plain.n < FEWEST:
        return plain
    rng = np.random.default_rng(seed)
    drawn_Dn = array[rng.integers(0, plain.n, (DRAWS, plain.n))]
    errors_D = drawn_Dn.std(axis=1, ddof=1) / math.sqrt(plain.n)
    spread_D = errors_D > 1e-12 * np.abs(array).max()  # a resample of one value has no error
    t_D = (drawn_Dn.mean(axis=1)[spread_D] - plain.mean) / errors_D[spread_D]
    tail = (1 - CONFIDENCE) / 2
    low_t, high_t = np.quantile(t_D, [tail, 1 - tail])
    error = plain.sd / math.sqrt(plain.n)
    # The upper quantile of t sets the lower end: the error of the mean is turned around.
    ends = plain.mean - high_t * error, plain.mean - low_t * error
    return replace(plain, low=float(ends[0]), high=float(ends[1]))


def wilson_interval(successes: int, trials: int) -> tuple[float, float]:
    """Return the 95% Wilson score interval of a share of `trials` (at least 1) independent draws."""
    found = scipy.stats.binomtest(successes, trials).proportion_ci(CONFIDENCE, method="wilson")
    return float(found.low), float(found.high)


def holm(p_values: Sequence[float]) -> list[float]:
    """Return Holm's adjusted p-values (Holm 1979), in the order given."""
    order = np.argsort(p_values, kind="stable")
    adjusted, running = [0.0] * len(p_values), 0.0
    for rank, position in enumerate(order):
        running = max(running, min(1.0, (len(p_values) - rank) * p_values[position]))
        adjusted[position] = running
    return adjusted


def is_zero(value: float, scale: np.ndarray) -> bool:
    """Whether a spread or difference is nothing but the rounding of numbers of this size."""
    return abs(value) <= 1e-12 * float(np.abs(scale).max(initial=0.0))

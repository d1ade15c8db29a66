"""What a study may claim: means with intervals, and paired comparisons to random and zero-shot.

**Mean.** Over the n seeds of a row (one representation, selector and budget) the mean has a 95%
Student interval, mean ± t(0.975, n-1) · sd / √n. The paper draws mean ± one standard error
instead (`plot_quantile_budget.py`); with 3 seeds the Student interval is 4.3 times as wide, and
is the one that holds the true mean in 95 of 100 studies.

**Comparison.** A row and random at the same budget ran with the same seeds, so each seed gives one
difference (row minus random), and the interval and the p-value (paired t-test) are those of the
mean of these differences. Zero-shot is one number without a seed; it is subtracted as a constant.
The verdict is "better" or "worse" only when p < 0.05, which is when the interval leaves out zero.

**No spread.** One value, or equal values, hold no information on the spread. Then no interval is
given and `note` says why. Equal non-zero differences would send t to infinity; they are judged by
the exact sign test instead (p = 2^(1-n)), which needs at least 6 seeds to reach p < 0.05. Coarse
metrics (exact match on 20 rows) make such coincidences common.

**Many comparisons.** Of 20 methods that are no better than random, one is expected to reach
p < 0.05. `p_holm` is the p-value after Holm's step-down correction over all comparisons with
random of one metric, and a verdict that does not survive it is flagged.

None of this covers the choice of query and test rows: the seeds vary the training alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import stats

Verdict = Literal["better", "worse", "cannot tell"]

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Interval:
    """A mean over n seeds with its interval; `low` and `high` are None where none can be given."""

    mean: float
    low: float | None
    high: float | None
    n: int
    sd: float | None = None
    note: str = ""


@dataclass(frozen=True)
class Comparison:
    """The mean difference (row minus baseline) over n pairs, and what may be said about it."""

    difference: float
    low: float | None
    high: float | None
    n: int
    p_value: float | None
    verdict: Verdict
    note: str = ""
    p_holm: float | None = None

    @property
    def survives_holm(self) -> bool:
        """Whether a verdict other than "cannot tell" holds after the correction for many."""
        return self.p_holm is not None and self.p_holm < 1 - CONFIDENCE


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
    if _is_zero(sd, array):
        return Interval(mean, None, None, n, 0.0, note=f"the same in all {n} seeds: no interval")
    half = float(stats.t.ppf((1 + CONFIDENCE) / 2, n - 1)) * sd / math.sqrt(n)
    return Interval(mean, mean - half, mean + half, n, sd)


def paired_comparison(
    values: Sequence[float],
    baseline: Sequence[float] | float,
    *,
    lower_is_better: bool,
) -> Comparison:
    """Compare `values` with `baseline`, pair by pair (position = seed), or with one constant.

    Returns the mean difference values - baseline, its 95% Student interval, the two-sided p-value
    of the paired t-test, and the verdict on `values`. See the module docstring for the case
    without spread. Raises ValueError when the lengths differ or a value is not finite.
    """
    left = np.asarray(values, dtype=np.float64)
    right = np.broadcast_to(np.asarray(baseline, np.float64), left.shape)
    if np.ndim(baseline) and np.size(baseline) != left.size:
        raise ValueError(f"{left.size} values cannot pair with {np.size(baseline)} of the baseline")
    differences = left - right
    size = np.concatenate([left, right])
    interval = mean_interval([float(d) for d in differences])
    mean, n = interval.mean, interval.n
    if n == 1:
        return Comparison(mean, None, None, n, None, "cannot tell", "one seed: no interval")
    if not _is_zero(float(differences.std(ddof=1)), size):
        p_value = float(stats.ttest_1samp(differences, 0.0).pvalue)
        verdict = _verdict(mean, p_value, lower_is_better)
        return Comparison(mean, interval.low, interval.high, n, p_value, verdict)
    if _is_zero(mean, size):
        note = f"no difference in any of {n} seeds: no interval"
        return Comparison(0.0, None, None, n, 1.0, "cannot tell", note)
    p_value = 2.0 ** (1 - n)
    note = f"the same difference in all {n} seeds: sign test, no interval"
    verdict = _verdict(mean, p_value, lower_is_better)
    return Comparison(mean, None, None, n, p_value, verdict, note)


def wilson_interval(successes: int, trials: int) -> tuple[float, float]:
    """Return the 95% Wilson score interval of a share of `trials` (at least 1) independent draws."""
    found = stats.binomtest(successes, trials).proportion_ci(CONFIDENCE, method="wilson")
    return float(found.low), float(found.high)


def holm(p_values: Sequence[float]) -> list[float]:
    """Return Holm's adjusted p-values (Holm 1979), in the order given."""
    order = np.argsort(p_values, kind="stable")
    adjusted, running = [0.0] * len(p_values), 0.0
    for rank, position in enumerate(order):
        running = max(running, min(1.0, (len(p_values) - rank) * p_values[position]))
        adjusted[position] = running
    return adjusted


def _verdict(difference: float, p_value: float, lower_is_better: bool) -> Verdict:
    if p_value >= 1 - CONFIDENCE:
        return "cannot tell"
    return "better" if (difference < 0) == lower_is_better else "worse"


def _is_zero(value: float, scale: np.ndarray) -> bool:
    """Whether a spread or difference is nothing but the rounding of numbers of this size."""
    return abs(value) <= 1e-12 * float(np.abs(scale).max(initial=0.0))

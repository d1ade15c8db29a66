"""Whether a method is better or worse than its baseline, or the data cannot tell: paired tests.

**Pairs of seeds.** A row and random at the same budget ran with the same seeds, so each seed gives one
difference (row minus random), and the interval and the p-value (paired t-test) are those of the
mean of these differences. Zero-shot is one number without a seed; it is subtracted as a constant.
Equal non-zero differences would send t to infinity; they are judged by the exact sign test instead
(p = 2^(1-n)), which needs at least 6 seeds to reach p < 0.05. Coarse metrics (exact match on 20
rows) make such coincidences common.

**Pairs of cells** (one model and task each, a cell counts by its mean over seeds). The interval is the
bootstrap of `analysis.intervals`, the test Wilcoxon's signed-rank test, two-sided, as scipy does it by
default: zero differences are left out (Wilcoxon 1945); the distribution is exact up to 50
differences, or up to 13 where some tie or are zero, and Gaussian beyond. With 5 cells p cannot go
below 0.0625. Cells that share a model or a task are not independent. Interval and test treat them
as if they were, so they are too sure of what another model or task would show.

**Verdict.** "better" or "worse" only where the test has p < 0.05 *and* the interval, if there is one,
leaves out zero: over cells the two ask about different centres of the differences, and a claim should
survive both; over seeds they agree.

**Many comparisons.** Of 20 methods that are no better than random, one is expected to reach
p < 0.05. `p_holm` is the p-value after Holm's step-down correction over all comparisons that are
made together, and a verdict that does not survive it is flagged.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeVar

import numpy as np
import scipy

from tis_ray.analysis.intervals import (
    CONFIDENCE,
    Interval,
    bootstrap_interval,
    holm,
    is_zero,
    mean_interval,
)

Verdict = Literal["better", "worse", "cannot tell"]
Pairs = Literal["seeds", "cells"]
Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True)
class Comparison:
    """The differences values - baseline over n pairs, and what may be said about their mean."""

    difference: float
    """The mean."""
    low: float | None
    high: float | None
    median: float
    n: int
    better: int
    """Pairs in which the value is better than the baseline; equal pairs count nowhere."""
    worse: int
    p_value: float | None
    verdict: Verdict
    pairs: Pairs = "seeds"
    note: str = ""
    p_holm: float | None = None

    @property
    def survives_holm(self) -> bool:
        """Whether a verdict other than "cannot tell" holds after the correction for many."""
        return self.p_holm is not None and self.p_holm < 1 - CONFIDENCE


def paired_comparison(
    values: Sequence[float] | np.ndarray,
    baseline: Sequence[float] | np.ndarray | float,
    *,
    lower_is_better: bool,
    pairs: Pairs = "seeds",
) -> Comparison:
    """Compare `values` with `baseline`, pair by pair, or with one constant.

    `pairs` says what they are, which decides interval and test. Raises ValueError when the lengths
    differ, there is no pair, or a value is not finite.
    """
    left, right = np.asarray(values, np.float64), np.asarray(baseline, np.float64)
    if left.ndim != 1 or (right.ndim and right.shape != left.shape):
        raise ValueError(f"{left.size} values cannot pair with {right.size} of the baseline")
    right = np.broadcast_to(right, left.shape)
    differences = left - right
    if pairs == "seeds":
        found, p_value = _over_seeds(differences, np.concatenate([left, right]))
    else:
        found, p_value = bootstrap_interval(differences), wilcoxon_p(differences)
    gains = -differences if lower_is_better else differences
    apart = found.low is not None and found.high is not None and found.low * found.high > 0
    verdict: Verdict = "cannot tell"
    if p_value is not None and p_value < 1 - CONFIDENCE and (apart or pairs == "seeds"):
        verdict = "better" if (found.mean < 0) == lower_is_better else "worse"
    return Comparison(
        difference=found.mean,
        low=found.low,
        high=found.high,
        median=float(np.median(differences)),
        n=found.n,
        better=int((gains > 0).sum()),
        worse=int((gains < 0).sum()),
        p_value=p_value,
        verdict=verdict,
        pairs=pairs,
        note=found.note.replace("seed", pairs[:-1]),
    )


def compare_complete(
    values: np.ndarray, baseline: np.ndarray, *, lower_is_better: bool, pairs: Pairs = "cells"
) -> Comparison | None:
    """Compare the pairs that are complete (NaN is a missing value); None where none is.

    Raises ValueError where lengths differ.
    """
    left, right = np.asarray(values, np.float64), np.asarray(baseline, np.float64)
    if left.shape != right.shape:
        raise ValueError(f"{left.shape} values cannot pair with {right.shape} of the baseline")
    whole = np.isfinite(left) & np.isfinite(right)
    if not whole.any():
        return None
    return paired_comparison(
        left[whole], right[whole], lower_is_better=lower_is_better, pairs=pairs
    )


def _over_seeds(differences: np.ndarray, numbers: np.ndarray) -> tuple[Interval, float | None]:
    """Return Student's interval and the t-test's p, or the sign test's where there is no spread.

    numbers: what the differences are of; their size says what is rounding.
    """
    found = mean_interval(differences.tolist())
    if found.n == 1:
        return found, None
    if not is_zero(float(differences.std(ddof=1)), numbers):
        return found, float(scipy.stats.ttest_1samp(differences, 0.0).pvalue)
    flat = replace(found, low=None, high=None)
    if is_zero(found.mean, numbers):
        note = f"no difference in any of {found.n} seeds: no interval"
        return replace(flat, mean=0.0, note=note), 1.0
    note = f"the same difference in all {found.n} seeds: sign test, no interval"
    return replace(flat, note=note), 2.0 ** (1 - found.n)


def with_holm(found: Mapping[Key, Comparison]) -> dict[Key, Comparison]:
    """Fill `p_holm` over all comparisons given: they are one family."""
    tested = {key: c.p_value for key, c in found.items() if c.p_value is not None}
    adjusted = dict(zip(tested, holm(list(tested.values())), strict=True))
    return {key: replace(c, p_holm=adjusted.get(key)) for key, c in found.items()}


def wilcoxon_p(differences: Sequence[float] | np.ndarray) -> float | None:
    """Return the two-sided p of Wilcoxon's signed-rank test; None where all differences are zero."""
    array = np.asarray(differences, np.float64)
    return float(scipy.stats.wilcoxon(array).pvalue) if (array != 0).any() else None

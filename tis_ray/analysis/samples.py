"""The runs of one method at one budget, and how far an estimate made of them may be off.

A run is a fine-tuning and its measurement: a value, and where the metric is a mean over rows (of the
test set, or of the queries for `query_loss`), a value a row. S runs, R rows: `rows_SR`.

**Spread.** What an estimate may be off by is a sum of independent parts, each a variance with the
degrees of freedom that it was estimated with. Its 95% half-width is √(Σ (t(0.975, df)² · variance)),
which is Student's for one part, and for several a little too wide rather than too narrow
(`tests/analysis/test_coverage.py` says by how much).

**A mean over runs and rows** (`Sample.mean`) has two parts: the runs', s_S² / S, less what of it the
rows explain (the interaction's mean square / (S·R), as both parts hold it), and the rows', s_R² / R. So
its interval is about the models that other seeds would give *and* about other rows of the same kind.
Where the rows' values were not kept, it is about the seeds alone, and says so.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import scipy

from tis_ray.analysis.intervals import CONFIDENCE, Interval, is_zero, wilson_interval

Run = int | None
"""What names a run among those of its method and budget: its seed, or its draw."""


@dataclass(frozen=True)
class Part:
    """One reason why an estimate may be off: a variance, and the degrees of freedom behind it."""

    name: str
    variance: float
    df: int


@dataclass(frozen=True)
class Spread:
    """The variance of an estimate in its parts."""

    parts: tuple[Part, ...]

    def half(self, confidence: float = CONFIDENCE) -> float:
        """Return half the width of the interval."""
        return self._half((1 - confidence) / 2)

    def _half(self, tail: float) -> float:
        return math.sqrt(sum(quantile(p.df, tail) ** 2 * p.variance for p in self.parts))

    def p_value(self, difference: float) -> float:
        """Return the p of a difference this far from zero: of the widest interval that leaves zero out."""
        size = abs(difference)
        if len(self.parts) == 1 and self.parts[0].variance > 0:
            (part,) = self.parts
            return 2 * float(scipy.special.stdtr(part.df, -size / math.sqrt(part.variance)))
        if size <= self._half(0.5):
            return 1.0
        if size >= self._half(LEAST_P / 2):
            return LEAST_P
        found = scipy.optimize.brentq(
            lambda power: self._half(math.exp(power) / 2) - size, math.log(LEAST_P), 0.0
        )
        return float(math.exp(found))


LEAST_P = 1e-100


def quantile(df: int, tail: float) -> float:
    """Return the value above which Student's t lies with probability `tail`."""
    return -float(scipy.special.stdtrit(df, tail))


UNKNOWN = Spread(())
"""Of what was run once."""


@dataclass(frozen=True)
class Sample:
    """Runs of one method at one budget by one metric.

    rows_SR: each run's values by row, in the order of `values`; None where they were not kept.
    share: whether these are shares of rows, 0 to 1.
    """

    values: Mapping[Run, float]
    rows_SR: np.ndarray | None = None
    share: bool = False

    def __post_init__(self) -> None:
        array = self.array
        if not array.size or not np.isfinite(array).all():
            raise ValueError(f"a sample needs finite values, found {list(self.values.values())}")
        if self.rows_SR is not None and self.rows_SR.shape[0] != array.size:
            raise ValueError(f"{self.rows_SR.shape[0]} runs have rows, {array.size} a value")

    @property
    def array(self) -> np.ndarray:
        """(S,) the values."""
        return np.array(list(self.values.values()), np.float64)

    @property
    def n(self) -> int:
        """S."""
        return len(self.values)

    @property
    def mean_value(self) -> float:
        """The mean over runs."""
        return float(self.array.mean())

    @property
    def variance(self) -> float:
        """The variance over runs (n - 1); 0 where it is nothing but rounding, or there is one run."""
        array = self.array
        if array.size < 2 or is_zero(float(array.std(ddof=1)), array):
            return 0.0
        return float(array.var(ddof=1))

    @property
    def row_means(self) -> np.ndarray | None:
        """(R,) each row's mean over the runs."""
        return None if self.rows_SR is None else self.rows_SR.mean(axis=0)

    def only(self, runs: list[Run]) -> Sample:
        """Return some of the runs, in the order given."""
        places = [list(self.values).index(run) for run in runs]
        rows_SR = None if self.rows_SR is None else self.rows_SR[places]
        return replace(self, values={run: self.values[run] for run in runs}, rows_SR=rows_SR)

    def minus(self, rows_R: np.ndarray | None, value: float) -> Sample:
        """Return the runs less one constant for each row; no rows where either side has none."""
        rows_SR = self.rows_SR
        if rows_SR is not None:
            fits = rows_R is not None and rows_SR.shape[1] == rows_R.size
            rows_SR = rows_SR - rows_R if fits else None
        return Sample({run: v - value for run, v in self.values.items()}, rows_SR)

    def spread(self) -> Spread:
        """Return that of the mean over runs and rows (one run: of the rows alone)."""
        parts, n = [], self.n
        rows_R = self.row_means
        if n > 1:
            own = self.variance / n
            if self.rows_SR is not None and self.rows_SR.shape[1] > 1:
                own = max(0.0, own - interaction(self.rows_SR) / (n * self.rows_SR.shape[1]))
            parts.append(Part("training", own, n - 1))
        if rows_R is not None and rows_R.size > 1:
            parts.append(Part("rows", float(rows_R.var(ddof=1)) / rows_R.size, rows_R.size - 1))
        return Spread(tuple(parts))

    def mean(self) -> Interval:
        """Return the mean with its 95% interval; `note` says why there is none, or what it leaves out."""
        n, mean = self.n, self.mean_value
        sd = math.sqrt(self.variance) if n > 1 else None
        if n == 1:
            return Interval(mean, None, None, n, note="one seed: no interval")
        half = self.spread().half()
        if half > 0:
            low, high = mean - half, mean + half
            if self.share:
                low, high = max(0.0, low), min(1.0, high)
            return Interval(mean, low, high, n, sd)
        if self.share and self.row_means is not None and mean in (0.0, 1.0):
            low, high = wilson_interval(round(mean * self.row_means.size), self.row_means.size)
            return Interval(mean, low, high, n, sd)
        return Interval(mean, None, None, n, 0.0, note=f"the same in all {n} seeds: no interval")


def interaction(rows_SR: np.ndarray) -> float:
    """Return the mean square of what neither the run nor the row explains, (S - 1)(R - 1) free."""
    runs, rows = rows_SR.shape
    rest_SR = rows_SR - rows_SR.mean(axis=1, keepdims=True) - rows_SR.mean(axis=0) + rows_SR.mean()
    return float((rest_SR**2).sum() / ((runs - 1) * (rows - 1)))


def rows_part(left: Sample, right: Sample) -> Part | None:
    """Return the rows' part of the difference of two means, if both kept the same rows.

    Each row is a pair: the variance of its mean differences, over R. A share's is that of two more
    half-rows, one that either side alone has right (Agresti and Min 2005): of few rows that all agree
    it does not follow that the next one will.
    """
    left_R, right_R = left.row_means, right.row_means
    if left_R is None or right_R is None or left_R.shape != right_R.shape or left_R.size < 2:
        return None
    size = left_R.size
    variance = float((left_R - right_R).var(ddof=1)) / size
    return Part("rows", variance + (1 / size**2 if left.share else 0.0), size - 1)

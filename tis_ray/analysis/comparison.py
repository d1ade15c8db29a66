"""Whether one method is better than another, or luck explains it: one function a question.

**The luck of a subset.** A selector that draws nothing gives every seed the same subset, so its seeds
say how much *training* varies and nothing of how lucky the subset is. Random has a new subset for each
seed: its spread s holds both. Testing the paired differences by their own spread, as the field does,
calls random subsets "better" or "worse" than random in 10% of cases with 3 seeds, 20% with 5 and 40%
with 10, instead of 5% (docs/statistics.md has the simulation). So there are two questions.

**"subset": is this subset better than random ones?** If it were one of them, its mean would differ from
the mean of random's n runs by less than t(0.975, n-1) · s · √(1 + 1/n) in 95 of 100 studies: random's
prediction interval. More training seeds cannot make it narrower than 1.96 · s.

**"method": would the method's next subset be better too?** Its subset must be drawn as well: in each of n
draws it selects from a part of the pool, and of the queries drawn with replacement. Two halves of a
pool share half of their rows, so the draws' variance is not divided by n: the variance of the mean over
draws is s_m² · (1 + 1/n) + s² / n for the method's s_m and random's s. (So it is for bootstrapped
queries; the halves are a delete-half jackknife, Shao and Wu 1989.) Parts that share no row, `folds`, are
independent: (s_m² + s²) / n.

**Two methods** are compared in the same two ways. "subset": each subset has the luck of a random one,
2 · s². "method": by their differences draw for draw.

**"models": is training on this subset better than not training?** The seeds' spread and the rows'.

**Test rows.** Where the values of each row are known, the spread has a second part: other rows of the
same kind (`samples.rows_part`).

**"cells"** (one model and task each, a cell counts by its mean over seeds): every cell has a subset of
its own, so this too asks about the method. The interval is the bootstrap of `analysis.intervals`, the
test Wilcoxon's signed-rank test, two-sided: zero differences are left out (Wilcoxon 1945); the
distribution is exact up to 50 differences, or up to 13 where some tie or are zero, and Gaussian beyond.
With 5 cells p cannot go below 0.0625. Cells that share a model or a task are not independent. Interval and
test treat them as if they were, so they are too sure of what another model or task would show.

**Verdict.** "better" or "worse" where p < 0.05 and the interval leaves out zero; "alike" where neither
holds and the 90% interval lies within the metric's margin on both sides of zero (two one-sided tests,
Schuirmann 1987); "cannot tell" otherwise, which is not the same.

**Many comparisons.** Of 20 methods that are no better than random, one is expected to reach
p < 0.05. `p_holm` is the p-value after Holm's step-down correction over all comparisons that are
made together; only verdicts that survive it make a winner (`analysis.winners`).
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeVar

import numpy as np
import scipy

from tis_ray.analysis.intervals import CONFIDENCE, bootstrap_interval, holm
from tis_ray.analysis.samples import UNKNOWN, Part, Sample, Spread, rows_part
from tis_ray.metrics.description import MetricDescription

Verdict = Literal["better", "worse", "alike", "cannot tell"]
Question = Literal["subset", "method", "models", "cells"]
Pairs = Literal["seeds", "draws", "cells"]
Key = TypeVar("Key", bound=Hashable)

_PAIRS: dict[Question, Pairs] = {
    "subset": "seeds",
    "method": "draws",
    "models": "seeds",
    "cells": "cells",
}


@dataclass(frozen=True)
class Comparison:
    """The difference value - baseline over n pairs, and what may be said about it."""

    difference: float
    """Of the means."""
    low: float | None
    high: float | None
    median: float
    n: int
    better: int
    """Pairs in which the value is better than the baseline; equal pairs count nowhere."""
    worse: int
    p_value: float | None
    verdict: Verdict
    question: Question = "cells"
    note: str = ""
    p_holm: float | None = None
    spread: Spread = UNKNOWN

    @property
    def pairs(self) -> Pairs:
        """What `n` counts."""
        return _PAIRS[self.question]

    def to_json(self) -> dict[str, object]:
        """Return plain values, without the spread's parts."""
        return {k: v for k, v in vars(self).items() if k != "spread"} | {"pairs": self.pairs}

    @property
    def decided(self) -> bool:
        """Whether it is better or worse."""
        return self.verdict in ("better", "worse")

    @property
    def survives_holm(self) -> bool:
        """Whether that holds after the correction for many."""
        return self.p_holm is not None and self.p_holm < 1 - CONFIDENCE


def subset_against_random(
    sample: Sample, random: Sample, *, metric: MetricDescription
) -> Comparison:
    """Ask whether a subset is better than random ones: its runs against random's, new for each seed."""
    luck = Part("luck of the subset", random.variance * (1 + 1 / random.n), random.n - 1)
    return _judged(sample, random, [luck], random.n, "subset", metric)


def method_against_random(
    sample: Sample,
    random: Sample,
    *,
    metric: MetricDescription,
    apart: bool = False,
) -> Comparison:
    """Ask whether a method is: its draws against random's. apart: no two draws share pool rows or queries."""
    n = sample.n
    own = sample.variance * (1 / n if apart else 1 + 1 / n)
    parts = [Part("luck of the draw", own + random.variance / random.n, min(n, random.n) - 1)]
    return _judged(sample, random, parts, min(n, random.n), "method", metric)


def subset_against_subset(
    sample: Sample,
    other: Sample,
    random: Sample,
    *,
    metric: MetricDescription,
) -> Comparison:
    """Ask whether one of two methods is better, from a subset of each: both have a random one's luck."""
    luck = Part("luck of both subsets", 2 * random.variance, random.n - 1)
    return _judged(sample, other, [luck], random.n, "subset", metric)


def method_against_method(
    sample: Sample,
    other: Sample,
    *,
    metric: MetricDescription,
    apart: bool = False,
) -> Comparison:
    """Ask the same, from draws: by the differences in the draws that both have (at least one)."""
    shared = [run for run in sample.values if run in other.values]
    sample, other = sample.only(shared), other.only(shared)
    n = len(shared)
    own = Sample({run: sample.values[run] - other.values[run] for run in shared}).variance
    parts = [Part("luck of the draw", own * (1 / n if apart else 1 + 1 / n), n - 1)]
    return _judged(sample, other, parts, n, "method", metric)


def models_against_one(sample: Sample, one: Sample, *, metric: MetricDescription) -> Comparison:
    """Ask whether trained models are better than the untrained one (a sample of one run)."""
    less = sample.minus(one.row_means, one.mean_value)
    parts = list(less.spread().parts) if sample.n > 1 else []
    if sample.share and (rows := rows_part(sample, one)) is not None:
        parts = [part for part in parts if part.name != "rows"] + [rows]
    return _judged(sample, one, parts, sample.n, "models", metric, with_rows=False)


def _judged(
    left: Sample,
    right: Sample,
    parts: list[Part],
    n: int,
    question: Question,
    metric: MetricDescription,
    *,
    with_rows: bool = True,
) -> Comparison:
    difference = left.mean_value - right.mean_value
    numbers = np.concatenate([left.array, right.array])
    if abs(difference) <= 1e-12 * float(np.abs(numbers).max(initial=0.0)):
        difference = 0.0
    shared = [run for run in left.values if run in right.values] if right.n > 1 else []
    gains = np.array([left.values[run] - right.values[run] for run in shared])
    if right.n == 1:
        gains = left.array - right.mean_value
    gains = -gains if metric.lower_is_better else gains
    found = Comparison(
        difference=difference,
        low=None,
        high=None,
        median=float(np.median(-gains if metric.lower_is_better else gains))
        if gains.size
        else difference,
        n=n,
        better=int((gains > 0).sum()),
        worse=int((gains < 0).sum()),
        p_value=None,
        verdict="cannot tell",
        question=question,
    )
    pair = found.pairs[:-1]
    if n < 2:
        return replace(found, note=f"one {pair}: no interval")
    if with_rows and (rows := rows_part(left, right)) is not None:
        parts = [*parts, rows]
    spread = Spread(tuple(parts))
    unknown = bool(parts) and parts[0].variance == 0 and question != "models"
    half = spread.half()
    if unknown or half == 0:
        return _without_spread(found, spread, n, pair, metric)
    p_value = spread.p_value(difference)
    verdict = _verdict(difference, p_value, spread, metric)
    low, high = difference - half, difference + half
    if left.share:
        low, high = max(low, -1.0), min(high, 1.0)
    return replace(found, low=low, high=high, p_value=p_value, verdict=verdict, spread=spread)


def _without_spread(
    found: Comparison, spread: Spread, n: int, pair: str, metric: MetricDescription
) -> Comparison:
    """Judge where the runs that say what luck is are all equal: by how rare that is.

    Of n + 1 values that are alike in kind, each is the odd one equally often: p = 1 / (n + 1).
    """
    if found.difference == 0:
        note = f"no difference in any of {n} {pair}s: no interval"
        return replace(found, p_value=1.0, note=note, spread=spread)
    p_value = max(1 / (n + 1), spread.p_value(found.difference))
    note = f"no spread over {n} {pair}s: p = 1/{n + 1}, no interval"
    verdict: Verdict = "cannot tell"
    if p_value < 1 - CONFIDENCE:
        verdict = "better" if (found.difference < 0) == metric.lower_is_better else "worse"
    return replace(found, p_value=p_value, note=note, verdict=verdict, spread=spread)


def _verdict(
    difference: float,
    p_value: float,
    spread: Spread,
    metric: MetricDescription,
) -> Verdict:
    if p_value < 1 - CONFIDENCE:
        return "better" if (difference < 0) == metric.lower_is_better else "worse"
    # Two one-sided tests at 5%: the interval of 90%.
    widest = abs(difference) + spread.half(2 * CONFIDENCE - 1)
    alike = metric.margin is not None and widest < metric.margin
    return "alike" if alike else "cannot tell"


def turned(found: Comparison) -> Comparison:
    """Return the comparison of the baseline with the value."""
    swapped: dict[Verdict, Verdict] = {"better": "worse", "worse": "better"}
    return replace(
        found,
        difference=-found.difference,
        low=None if found.high is None else -found.high,
        high=None if found.low is None else -found.low,
        median=-found.median,
        better=found.worse,
        worse=found.better,
        verdict=swapped.get(found.verdict, found.verdict),
    )


def compare_cells(
    values: Sequence[float] | np.ndarray,
    baseline: Sequence[float] | np.ndarray,
    *,
    metric: MetricDescription,
) -> Comparison | None:
    """Compare cell by cell those that are complete (NaN is a missing value); None where none is.

    Raises ValueError where lengths differ.
    """
    left, right = np.asarray(values, np.float64), np.asarray(baseline, np.float64)
    if left.shape != right.shape or left.ndim != 1:
        raise ValueError(f"{left.shape} values cannot pair with {right.shape} of the baseline")
    differences = (left - right)[np.isfinite(left) & np.isfinite(right)]
    if not differences.size:
        return None
    found, p_value = bootstrap_interval(differences), wilcoxon_p(differences)
    gains = -differences if metric.lower_is_better else differences
    apart = found.low is not None and found.high is not None and found.low * found.high > 0
    spread = Spread((Part("cells", (found.sd or 0.0) ** 2 / found.n, max(1, found.n - 1)),))
    verdict: Verdict = "cannot tell"
    if p_value is not None and (apart or p_value >= 1 - CONFIDENCE) and found.low is not None:
        verdict = _verdict(found.mean, p_value, spread, metric)
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
        note=found.note.replace("seed", "cell"),
        spread=spread,
    )


def with_holm(found: Mapping[Key, Comparison]) -> dict[Key, Comparison]:
    """Fill `p_holm` over all comparisons given: they are one family."""
    tested = {key: c.p_value for key, c in found.items() if c.p_value is not None}
    adjusted = dict(zip(tested, holm(list(tested.values())), strict=True))
    return {key: replace(c, p_holm=adjusted.get(key)) for key, c in found.items()}


def wilcoxon_p(differences: Sequence[float] | np.ndarray) -> float | None:
    """Return the two-sided p of Wilcoxon's signed-rank test; None where all differences are zero."""
    array = np.asarray(differences, np.float64)
    return float(scipy.stats.wilcoxon(array).pvalue) if (array != 0).any() else None

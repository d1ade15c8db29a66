"""Differences to random as lines in log2(budget), on a scale without ends: what `analysis.recommend` reads."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import scipy

from tis_ray.analysis.intervals import CONFIDENCE
from tis_ray.analysis.samples import Part, Sample, Spread
from tis_ray.analysis.study_runs import StudyRuns
from tis_ray.analysis.study_values import RANDOM_METHOD, Method
from tis_ray.metrics.description import MetricDescription

_LEAST_SHARE = 0.005
"""Shares are kept this far from 0 and 1, where log odds are infinite."""


@dataclass(frozen=True)
class Scale:
    """A scale without ends for a metric: there and back."""

    there: Callable[[float], float]
    back: Callable[[float], float]


_PLAIN = Scale(lambda x: x, lambda y: y)
_LOG = Scale(math.log, math.exp)
_ODDS = Scale(
    lambda x: float(scipy.special.logit(min(max(x, _LEAST_SHARE), 1 - _LEAST_SHARE))),
    lambda y: float(scipy.special.expit(y)),
)


def scale_of(metric: MetricDescription, pilots: Sequence[StudyRuns]) -> Scale:
    """Return log odds for shares, logarithms for losses, the metric's own scale for what can be negative."""
    if metric.share:
        return _ODDS
    samples = (runs.sample(place, metric) for runs in pilots for place in runs.runs)
    positive = all(min(sample.values.values()) > 0 for sample in samples if sample)
    return _LOG if metric.lower_is_better and positive else _PLAIN


@dataclass(frozen=True)
class Line:
    """A method less random at the asked budget, on the scale.

    error: its standard error, by the luck of the subsets; None where random ran once, or came to the same
    in all seeds, which says nothing of luck.
    """

    difference: float
    error: float | None
    df: int
    runs: int

    @property
    def spread(self) -> Spread:
        """The error as a spread."""
        return Spread((Part("luck", (self.error or 0.0) ** 2, max(1, self.df)),))

    def half(self, confidence: float = CONFIDENCE) -> float | None:
        """Return half the width of the interval; None where there is none."""
        return None if self.error is None else self.spread.half(confidence)

    def p_value(self) -> float:
        """Return the p of no difference; 1 where it is not known."""
        known = self.error is not None and self.error > 0
        return self.spread.p_value(self.difference) if known else 1.0


@dataclass(frozen=True)
class Lines:
    """Every method's line at one budget."""

    methods: dict[Method, Line]
    bases: dict[Method, float]
    budgets: tuple[int, ...]
    seeds: int
    tasks: int

    @classmethod
    def of(
        cls, pilots: Sequence[StudyRuns], metric: MetricDescription, scale: Scale, budget: int
    ) -> Lines:
        """Read the lines off the pilots, a task each, with their methods that random met."""
        methods = list(
            dict.fromkeys(m for runs in pilots for m, _ in runs.runs if not m.is_baseline)
        )
        lines, bases, budgets, seeds = {}, {}, set(), set()
        for method in methods:
            tasks = [_task(runs, method, metric, scale, budget) for runs in pilots]
            found = [task for task in tasks if task is not None]
            if found:
                lines[method] = _together([task.line for task in found])
                bases[method] = float(np.mean([task.random for task in found]))
                budgets |= {b for task in found for b in task.budgets}
                seeds |= {task.line.df + 1 for task in found}
        return cls(lines, bases, tuple(sorted(budgets)), min(seeds, default=0), len(pilots))

    def random(self, method: Method) -> float:
        """Return random's line where it met this method."""
        return self.bases[method]

    def apart(self, one: Method, other: Method) -> bool:
        """Whether two methods can be told from each other: both subsets have a random one's luck."""
        left, right = self.methods[one], self.methods[other]
        if left.error is None or right.error is None:
            return False
        shrunk = (self.seeds + 1) / self.seeds  # of random's own mean, which both are compared with
        variance = (left.error**2 + right.error**2) / shrunk
        spread = Spread((Part("luck", variance, max(1, min(left.df, right.df))),))
        return abs(left.difference - right.difference) > spread.half()


@dataclass(frozen=True)
class _Task:
    line: Line
    random: float
    budgets: tuple[int, ...]


def _task(
    runs: StudyRuns, method: Method, metric: MetricDescription, scale: Scale, budget: int
) -> _Task | None:
    """Return one task's line of a method at a budget."""
    met = []
    for own, place in sorted((b, (m, b)) for m, b in runs.runs if m == method):
        sample, random = runs.sample(place, metric), runs.sample((RANDOM_METHOD, own), metric)
        if sample is not None and random is not None:
            met.append((own, _on(sample, scale), _on(random, scale)))
    if not met:
        return None
    weights_B = _weights([own for own, _, _ in met], budget)
    means = np.array([[sample.mean_value, random.mean_value] for _, sample, random in met])
    at_budget, random_there = weights_B @ means
    errors = [math.sqrt(random.variance * (1 + 1 / random.n)) for *_, random in met]
    n = min(random.n for *_, random in met)
    error = float(np.abs(weights_B) @ errors) if n > 1 and min(errors) > 0 else None
    line = Line(float(at_budget - random_there), error, n - 1, sum(s.n for _, s, _ in met))
    return _Task(line, float(random_there), tuple(own for own, _, _ in met))


def _on(sample: Sample, scale: Scale) -> Sample:
    return Sample({run: scale.there(value) for run, value in sample.values.items()})


def _weights(budgets: Sequence[int], budget: int) -> np.ndarray:
    """Return (B,) how much each budget's value counts in the line's at `budget`; they sum to 1."""
    x_B = np.log2(budgets) - math.log2(budget)
    design = np.stack([np.ones_like(x_B), x_B], axis=1) if np.ptp(x_B) else np.ones((len(x_B), 1))
    weights_B: np.ndarray = np.linalg.pinv(design)[0]
    return weights_B


def _together(lines: Sequence[Line]) -> Line:
    """Return the mean of several tasks' lines: by their errors or their spread, whichever says less."""
    differences = np.array([line.difference for line in lines])
    runs, tasks = sum(line.runs for line in lines), len(lines)
    known = [line.error for line in lines if line.error is not None]
    mean = float(differences.mean())
    if len(known) < tasks:
        return Line(mean, None, 0, runs)
    fewest = min(line.df for line in lines)
    own = Line(mean, math.sqrt(float(np.square(known).sum())) / tasks, fewest, runs)
    if tasks == 1:
        return own
    spread = Line(mean, float(differences.std(ddof=1)) / math.sqrt(tasks), tasks - 1, runs)
    return max(own, spread, key=lambda line: line.half() or 0.0)

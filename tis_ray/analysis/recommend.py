"""The method to use at a budget, read off a pilot; and what would tell where the pilot cannot.

`tis_ray.report.recommendation` puts it in words; `tis_ray.study.price` says what a study will cost.

**A budget of the pilot.** With one task these are the study's own verdicts (`analysis.winners`, and
`analysis.study_pairs` of two methods), so that page, terminal, tracker and advice agree.

**Another budget, or several tasks.** On a scale without ends (the logarithm of a loss, the log odds of a share:
on the metric's own a line leads beyond what is possible) each method's mean over seeds less random's, and
random's mean, follow straight lines in log2(budget), by least squares; with one budget there is no slope.
At the asked budget the lines are turned back; the gain is positive where the method is better. Each budget's
difference may be off by the luck of its subset, s² · (1 + 1/n) on that scale (`analysis.comparison`); the
subsets of one method are prefixes of one ordering, so these errors are taken to be the same one: the
line's is Σ |weight · error|. Tasks are averaged; the error is the larger of that of their own errors and that
of their spread.

**Choice.** The method with the largest expected gain that is proven after Holm's correction over the
methods, unless others cannot be told from it. Among those the prior decides. It is given, from the specs of
the methods, which hold the paper's finding (arXiv 2602.14696, section 7 and its discussion): gradients with
round robin for small budgets, gradients with optimal transport as budgets grow. "Large" is LARGE_SHARE of
the pool and more: on the paper's Tulu pool transport overtook round robin in query loss between 500
and 2,500 of 197,000 rows and significantly from 5,000. Random is as good only where that is shown: where
the 90% interval of every gain lies within the metric's margin. Else the pilot cannot tell.

What the interval does not cover: that a larger pool holds better candidates than the pilot's (which makes
the expected gain too small), and another model.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from tis_ray.analysis.intervals import CONFIDENCE, holm
from tis_ray.analysis.legend import Legend
from tis_ray.analysis.pilot_lines import Lines, Scale, scale_of
from tis_ray.analysis.samples import quantile
from tis_ray.analysis.study_pairs import compare_methods
from tis_ray.analysis.study_runs import StudyRuns
from tis_ray.analysis.study_table import summarise
from tis_ray.analysis.study_values import Cell, Method
from tis_ray.analysis.winners import gain as row_gain
from tis_ray.analysis.winners import wins
from tis_ray.errors import InputError
from tis_ray.metrics.description import MetricDescription

LARGE_SHARE = 0.025
"""Share of the pool from which a budget is large: 5,000 of the paper's 197,000."""
MOST_SEEDS, MOST_TASKS = 30, 20
"""Larger pilots than these are not asked for."""

Says = Literal["use", "random is as good", "cannot tell", "worse"]


@dataclass(frozen=True)
class Preferred:
    """Which methods decide where a pilot cannot tell, the first of them first."""

    small: Sequence[Method] = ()
    large: Sequence[Method] = ()


@dataclass(frozen=True)
class Gain:
    """What a method is expected to gain over random at the asked budget; positive is better."""

    method: Method
    expected: float
    low: float | None
    high: float | None
    runs: int
    proven: bool = False
    """Whether it is better than random, after the correction for many."""
    alike: bool = False
    """Whether it is as good as random within the metric's margin."""


@dataclass(frozen=True)
class WouldTell:
    """What would show a gain of the size that the pilot expects; None where nothing so small would."""

    seeds: int | None = None
    tasks: int | None = None
    luck: Literal["known", "one seed", "no spread"] = "known"
    """Why nothing is known of the luck of a subset, if nothing is: then `seeds` would say how large it is."""


@dataclass(frozen=True)
class Recommendation:
    """The advice, with all that it rests on.

    choice: None unless one is to be used. alike: methods that cannot be told from the best.
    """

    metric: MetricDescription
    budget: int
    says: Says
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
    would_tell: WouldTell | None = None
    """Where the pilot cannot tell."""


def recommend(
    pilots: Mapping[str, Sequence[Cell]],
    budget: int,
    *,
    pool_rows: int,
    metric: MetricDescription,
    preferred: Preferred,
    legend: Legend | None = None,
    apart: bool = False,
) -> Recommendation:
    """Return the method to use at `budget` of `pool_rows` rows.

    pilots: the cells of a pilot study of each task, with random at each of its budgets.
    metric: one that the cells have. apart: whether no two draws share rows. Raises InputError where no method shares a budget with random.
    """
    legend = legend or Legend()
    runs = [StudyRuns.of(cells, legend) for cells in pilots.values()]
    scale = scale_of(metric, runs)
    lines = Lines.of(runs, metric, scale, budget)
    if not lines.methods:
        raise InputError(
            f"recommend: no cell has {metric.name} beside random at the same budget and seed; run the "
            "pilot to its end, or name a metric that it measured"
        )
    gains = _by_lines(lines, metric, scale)
    of_table = len(runs) == 1 and budget in lines.budgets
    if of_table:
        gains = _by_table(next(iter(pilots.values())), legend, metric, budget, gains)

    def told_apart(one: Method, other: Method) -> bool:
        if not of_table:
            return lines.apart(one, other)
        found = compare_methods(runs[0], one, other, budget, metric, apart)
        return found is not None and found.decided

    gains.sort(key=lambda gain: -gain.expected)
    proven = [gain for gain in gains if gain.proven]
    best = (proven or gains)[0]
    alike = [
        gain.method
        for gain in gains
        if gain.method != best.method and not told_apart(best.method, gain.method)
    ]
    choice, by_prior = best, False
    for method in preferred.large if budget >= LARGE_SHARE * pool_rows else preferred.small:
        if method == best.method:
            break
        found = next((gain for gain in gains if gain.method == method), None)
        if found is not None and method in alike and found.proven:
            choice, by_prior = found, True
            break
    says = _says(gains, best)
    return Recommendation(
        metric=metric,
        budget=budget,
        says=says,
        choice=choice if says == "use" else None,
        best=best,
        gains=tuple(gains),
        alike=tuple(alike),
        by_prior=by_prior and says == "use",
        extrapolated=not lines.budgets[0] <= budget <= lines.budgets[-1],
        budgets=lines.budgets,
        seeds=lines.seeds,
        tasks=len(pilots),
        would_tell=_would_tell(lines, best) if says == "cannot tell" else None,
    )


def _says(gains: Sequence[Gain], best: Gain) -> Says:
    if best.proven:
        return "use"
    if all(gain.alike for gain in gains):
        return "random is as good"
    if all(gain.high is not None and gain.high < 0 for gain in gains):
        return "worse"
    return "cannot tell"


def _by_lines(lines: Lines, metric: MetricDescription, scale: Scale) -> list[Gain]:
    """Return every method's gain off its line, and whether it is proven."""
    sign = -1.0 if metric.lower_is_better else 1.0
    found, p_values = [], []
    for method, line in lines.methods.items():
        random = lines.random(method)

        def back(difference: float, base: float = random) -> float:
            return sign * (scale.back(base + difference) - scale.back(base))

        expected = back(line.difference)
        half = line.half()
        if half is None:
            found.append(Gain(method, expected, None, None, line.runs))
            p_values.append(1.0)
            continue
        low, high = sorted((back(line.difference - half), back(line.difference + half)))
        narrow = line.half(2 * CONFIDENCE - 1)
        assert narrow is not None
        ends = [abs(back(line.difference + side * narrow)) for side in (-1, 1)]
        alike = metric.margin is not None and max(ends) < metric.margin
        found.append(Gain(method, expected, low, high, line.runs, alike=alike))
        p_values.append(line.p_value())
    return [
        replace(gain, proven=p_value < 1 - CONFIDENCE and gain.expected > 0)
        for gain, p_value in zip(found, holm(p_values), strict=True)
    ]


def _by_table(
    cells: Sequence[Cell],
    legend: Legend,
    metric: MetricDescription,
    budget: int,
    gains: Sequence[Gain],
) -> list[Gain]:
    """Return the gains at one of the pilot's budgets as the study's own table has them."""
    runs = {gain.method: gain.runs for gain in gains}
    found = []
    for row in summarise(cells, legend):
        summary = row.metrics.get(metric.name)
        versus = summary.vs_random if summary else None
        if row.budget != budget or versus is None:
            continue
        low, high = versus.low, versus.high
        if metric.lower_is_better and low is not None and high is not None:
            low, high = -high, -low
        alike, won = versus.verdict == "alike", wins(row, metric)
        number = runs.get(row.method, 0)
        found.append(Gain(row.method, row_gain(row, metric), low, high, number, won, alike))
    return found


def _would_tell(lines: Lines, best: Gain) -> WouldTell:
    """Return how many seeds, or tasks, would show the best method's gain if it is what it seems."""
    line = lines.methods[best.method]
    size, error = abs(line.difference), line.error
    if lines.seeds < 2:
        return WouldTell(seeds=3, luck="one seed")
    if error is None or error == 0:
        return WouldTell(luck="no spread")
    luck, tail = error / math.sqrt(1 + 1 / lines.seeds), (1 - CONFIDENCE) / 2
    seeds = (
        n
        for n in range(lines.seeds + 1, MOST_SEEDS + 1)
        if quantile(n - 1, tail) * luck * math.sqrt(1 + 1 / n) < size
    )
    tasks = (
        t
        for t in range(lines.tasks + 1, MOST_TASKS + 1)
        if quantile(max(lines.seeds, t) - 1, tail) * error * math.sqrt(lines.tasks / t) < size
    )
    return WouldTell(next(seeds, None), next(tasks, None))

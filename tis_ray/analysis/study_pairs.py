"""The methods of a study against each other: every two at each budget, by each metric.

Where both selected anew in at least two draws, the question is about the methods, draw for draw;
otherwise about their subsets (`analysis.comparison`). Holm's correction is over all pairs and budgets
of a metric.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import combinations

from tis_ray.analysis.comparison import (
    Comparison,
    method_against_method,
    models_against_one,
    subset_against_random,
    subset_against_subset,
    turned,
    with_holm,
)
from tis_ray.analysis.legend import Legend
from tis_ray.analysis.study_runs import StudyRuns
from tis_ray.analysis.study_values import Cell, Method
from tis_ray.metrics.description import MetricDescription


@dataclass(frozen=True)
class MethodPair:
    """Two methods at a budget by one metric: left minus right."""

    left: Method
    right: Method
    left_label: str
    right_label: str
    budget: int
    metric: MetricDescription
    comparison: Comparison


def method_pairs(
    cells: Iterable[Cell], legend: Legend | None = None, *, apart: bool = False
) -> list[MethodPair]:
    """Return every pair that both have a value of a metric at a budget where random has one too.

    apart: whether no two draws share rows.
    """
    legend = legend or Legend()
    runs = StudyRuns.of(cells, legend)
    trained = [place for place in runs.runs if not place[0].is_baseline]
    methods = list(dict.fromkeys(method for method, _ in trained))
    budgets = sorted({budget for _, budget in trained})
    found = []
    for metric in runs.metrics:
        pairs: dict[tuple[Method, Method, int], Comparison] = {}
        for budget in budgets:
            for left, right in combinations(methods, 2):
                if (
                    compared := compare_methods(runs, left, right, budget, metric, apart)
                ) is not None:
                    pairs[left, right, budget] = compared
        found += [
            MethodPair(left, right, legend.method(left), legend.method(right), budget, metric, each)
            for (left, right, budget), each in with_holm(pairs).items()
        ]
    return found


def compare_methods(
    runs: StudyRuns,
    left: Method,
    right: Method,
    budget: int,
    metric: MetricDescription,
    apart: bool = False,
) -> Comparison | None:
    """Return left minus right at a budget; either may be a baseline. None where runs are missing."""
    if left.is_zero_shot or (left.is_random and not right.is_zero_shot):
        other = compare_methods(runs, right, left, budget, metric, apart)
        return None if other is None else turned(other)
    samples = [runs.sample((method, budget), metric) for method in (left, right)]
    drawn = [runs.drawn((method, budget), metric) for method in (left, right)]
    random = runs.random(budget, metric)
    if right.is_zero_shot:
        one = runs.sample((right, 0), metric)
        if one is None or samples[0] is None:
            return None
        return models_against_one(samples[0], one, metric=metric)
    if random is not None and right.is_random and samples[0] is not None:
        return subset_against_random(samples[0], random, metric=metric)
    ours, theirs = drawn
    if ours and theirs and len(ours.values.keys() & theirs.values.keys()) > 1:
        return method_against_method(ours, theirs, metric=metric, apart=apart)
    if random is None or samples[0] is None or samples[1] is None:
        return None
    return subset_against_subset(samples[0], samples[1], random, metric=metric)

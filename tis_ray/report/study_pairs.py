"""Direct comparisons between the methods of one study, at each budget and by each metric.

It stands in for `StudyRecord.pairs()`: the same objects, made from the cells by seed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from tis_ray.analysis import Comparison, Method
from tis_ray.analysis.comparison import paired_comparison, with_holm
from tis_ray.metrics.description import MetricDescription, measured
from tis_ray.report.record import StudyRecord


@dataclass(frozen=True)
class Pair:
    """One method against another: `comparison` is left minus right."""

    left: Method
    right: Method
    left_label: str
    right_label: str
    budget: int
    metric: MetricDescription
    comparison: Comparison


def study_pairs(record: StudyRecord) -> list[Pair]:
    """Return all pairs of methods that trained with the same seeds; Holm's correction is by metric."""
    pairs = []
    for name in measured(cell.metrics for cell in record.cells):
        metric = record.legend.metric(name)
        found = {(p.left, p.right, p.budget): p for p in _pairs(record, metric)}
        corrected = with_holm({key: pair.comparison for key, pair in found.items()})
        pairs += [
            Pair(p.left, p.right, p.left_label, p.right_label, p.budget, metric, corrected[key])
            for key, p in found.items()
        ]
    return pairs


def _pairs(record: StudyRecord, metric: MetricDescription) -> Iterator[Pair]:
    runs: dict[int, dict[Method, dict[int | None, float]]] = {}
    for cell in record.cells:
        value = cell.metrics.get(metric.name)
        if not cell.method.is_baseline and value is not None and np.isfinite(value):
            by_method = runs.setdefault(cell.budget, {})
            by_method.setdefault(cell.method, {})[cell.seed] = float(value)
    for budget in sorted(runs):
        for left, right in combinations(runs[budget], 2):
            ours, theirs = runs[budget][left], runs[budget][right]
            if seeds := [seed for seed in ours if seed in theirs]:
                yield Pair(
                    left,
                    right,
                    record.legend.method(left),
                    record.legend.method(right),
                    budget,
                    metric,
                    paired_comparison(
                        [ours[seed] for seed in seeds],
                        [theirs[seed] for seed in seeds],
                        lower_is_better=metric.lower_is_better,
                    ),
                )

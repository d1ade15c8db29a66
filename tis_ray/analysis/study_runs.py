"""The cells of a study, grouped: by method and budget, its seeds apart from its draws.

The untrained model is measured twice: with the study's template around its prompts, and without any
(it may never have seen the template). On each metric the better of the two is what counts as zero-shot.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from tis_ray.analysis.legend import Legend
from tis_ray.analysis.samples import Sample
from tis_ray.analysis.study_values import RANDOM_METHOD, ZERO_SHOT, Cell, Method
from tis_ray.errors import InputError
from tis_ray.metrics.description import MetricDescription, measured

Runs = Mapping[int | None, Cell]
"""The cells of one row by seed, or by draw."""
Place = tuple[Method, int]
"""Method and budget of a row."""


@dataclass(frozen=True)
class StudyRuns:
    """The cells of a study by method and budget, and what is measured."""

    metrics: list[MetricDescription]
    runs: dict[Place, dict[int | None, Cell]]
    """By seed."""
    draws: dict[Place, dict[int | None, Cell]]
    """By draw: the runs on subsets that the method selected anew."""

    @classmethod
    def of(cls, cells: Iterable[Cell], legend: Legend) -> StudyRuns:
        """Group the cells. Raises InputError when one appears twice."""
        cells = list(cells)
        found = cls([legend.metric(n) for n in measured(c.metrics for c in cells)], {}, {})
        for cell in cells:
            drawn = cell.draw is not None
            runs = (found.draws if drawn else found.runs).setdefault((cell.method, cell.budget), {})
            key = cell.draw if drawn else cell.seed
            if key in runs:
                raise InputError(
                    f"cells: {legend.method(cell.method)} at budget {cell.budget} has "
                    f"{'draw' if drawn else 'seed'} {key} twice; keep one"
                )
            runs[key] = cell
        return found

    def sample(self, place: Place, metric: MetricDescription) -> Sample | None:
        """Return the runs of a method and budget that have a metric, if any has."""
        return _sample(self.runs.get(place, {}), metric)

    def drawn(self, place: Place, metric: MetricDescription) -> Sample | None:
        """Return those of its draws."""
        return _sample(self.draws.get(place, {}), metric)

    def random(self, budget: int, metric: MetricDescription) -> Sample | None:
        """Return random's at a budget."""
        return self.sample((RANDOM_METHOD, budget), metric)

    def zero_shot(self, metric: MetricDescription) -> tuple[Method, Sample, int] | None:
        """Return the better zero-shot, its one value, and how many there are."""
        samples = {
            place[0]: sample
            for place in self.runs
            if place[0].is_zero_shot and (sample := self.sample(place, metric)) is not None
        }
        means = {method: sample.mean_value for method, sample in samples.items()}
        best = best_zero_shot(means, metric.lower_is_better)
        return (best, samples[best], len(samples)) if best else None


def _sample(runs: Runs, metric: MetricDescription) -> Sample | None:
    """Return the finite values of a metric, with those of its rows where every run kept as many."""
    values = finite_by_seed(runs, metric.name)
    if not values:
        return None
    rows = [runs[key].rows.get(metric.name) for key in values]
    kept = [row for row in rows if row]
    whole = len(kept) == len(rows) and len({len(row) for row in kept}) == 1
    return Sample(values, np.array(kept) if whole else None, metric.share)


def best_zero_shot(values: Mapping[Method, float], lower_is_better: bool) -> Method | None:
    """Return which zero-shot (by its value of one metric) is better, if there is one."""
    sign = 1 if lower_is_better else -1
    return min(
        values, key=lambda m: (sign * values[m], m.representation != ZERO_SHOT), default=None
    )


def best_of_zero_shots(
    cells: Iterable[Cell], metric: MetricDescription
) -> tuple[Method, float] | None:
    """Return the better zero-shot of a study on one metric with its value, if it was measured."""
    values = {
        cell.method: float(value)
        for cell in cells
        if cell.method.is_zero_shot
        and (value := cell.metrics.get(metric.name)) is not None
        and math.isfinite(value)
    }
    best = best_zero_shot(values, metric.lower_is_better)
    return (best, values[best]) if best else None


def finite_by_seed(runs: Runs, name: str) -> dict[int | None, float]:
    """Return seed -> value of the runs that have a finite value of the metric."""
    found = {seed: cell.metrics.get(name) for seed, cell in runs.items()}
    return {s: float(v) for s, v in found.items() if v is not None and math.isfinite(v)}

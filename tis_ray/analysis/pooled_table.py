"""The table of several studies: one row per method and budget, over the cells of some models.

A cell is one model and task; it counts by its mean over seeds. Where there is one cell only, its seeds
are compared as those of a study are: the page over one study says what its own page says.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from tis_ray.analysis.comparison import (
    Comparison,
    compare_cells,
    models_against_one,
    subset_against_random,
    subset_against_subset,
    with_holm,
)
from tis_ray.analysis.intervals import Interval
from tis_ray.analysis.ranks import Run
from tis_ray.analysis.result_arrays import Results
from tis_ray.analysis.study_table import MetricSummary, TableRow, summary_flags
from tis_ray.analysis.study_values import ZERO_SHOT, Method
from tis_ray.metrics.description import MetricDescription

Place = tuple[int, int]
"""Positions of a method and a budget."""


def comparisons(
    results: Results,
    metric: str,
    models: Sequence[int],
    methods: Sequence[int],
    baseline: int | None,
) -> dict[Place, Comparison]:
    """Return (method, budget) → difference to a baseline method; None is zero-shot.

    Holm's correction is over all that is returned. A difference without a complete pair is left out.
    """
    if is_one_cell(results, models):
        return with_holm(_of_one_cell(results, metric, models[0], methods, baseline))
    cells_CAB = paired_values(results, metric, models)
    about = results.about(metric)
    found: dict[Place, Comparison] = {}
    for b in range(len(results.budgets)):
        for a in methods:
            if baseline is None:
                other_C = results.zero_shot[metric][list(models)].ravel()
            else:
                other_C = cells_CAB[:, baseline, b]
            versus = compare_cells(
                cells_CAB[:, a, b],
                other_C,
                metric=about,
            )
            if versus is not None:
                found[a, b] = versus
    return with_holm(found)


def _of_one_cell(
    results: Results, metric: str, model: int, methods: Sequence[int], baseline: int | None
) -> dict[Place, Comparison]:
    """Return the same where there is one model and task: by its seeds."""
    about, cell = results.about(metric), (model, 0)
    zero = results.untrained(metric, cell)
    found: dict[Place, Comparison] = {}
    for b in range(len(results.budgets)):
        random = results.sample(metric, cell, 0, b)
        for a in methods:
            sample = results.sample(metric, cell, a, b)
            if sample is None:
                continue
            if baseline is None:
                if zero is not None:
                    found[a, b] = models_against_one(sample, zero, metric=about)
            elif random is not None and baseline == 0:
                found[a, b] = subset_against_random(sample, random, metric=about)
            elif random is not None:
                other = results.sample(metric, cell, baseline, b)
                if other is not None:
                    found[a, b] = subset_against_subset(sample, other, random, metric=about)
    return found


def pooled_rows(results: Results, models: Sequence[int]) -> list[TableRow]:
    """Return zero-shot, random and each method at each budget, with the metrics that pages show."""
    rows = [_zero_shot_row(results, models)]
    by_metric = {metric.name: _summaries(results, metric, models) for metric in results.shown}
    for a, labelled in enumerate(results.methods):
        for b, budget in enumerate(results.budgets):
            metrics = {name: found[a, b] for name, found in by_metric.items() if (a, b) in found}
            if metrics:
                own = results.flags.get((a, b), ())
                rows.append(
                    TableRow(labelled.method, labelled.name, budget, results.seeds, metrics, own)
                )
    return [
        replace(
            row,
            flags=(*row.flags, *(f for m in results.shown for f in summary_flags(m, row, rows))),
        )
        for row in rows
    ]


def pooled_runs(results: Results, metric: str, models: Sequence[int]) -> dict[Run, float]:
    """Return what `analysis.ranks` ranks: the blocks are the pairs, random is left out."""
    values_PAB = paired_values(results, metric, models)
    return {
        (labelled.method.representation, labelled.method.selector, budget, p): values_PAB[p, a, b]
        for a, labelled in enumerate(results.methods)
        if not labelled.method.is_baseline and labelled.method.selector is not None
        for b, budget in enumerate(results.budgets)
        for p in range(len(values_PAB))
    }


def is_one_cell(results: Results, models: Sequence[int]) -> bool:
    """Whether these models have one cell in all, so that its seeds are the pairs."""
    return len(models) * len(results.tasks) == 1


def paired_values(results: Results, metric: str, models: Sequence[int]) -> np.ndarray:
    """Return values_PAB of P pairs: the means of cells, or the seeds of the one cell."""
    if is_one_cell(results, models):
        return np.moveaxis(results.runs[metric][models[0], 0], -1, 0)
    cells_CAB = results.means(metric)[list(models)]
    return cells_CAB.reshape(-1, *cells_CAB.shape[2:])


def _summaries(
    results: Results, metric: MetricDescription, models: Sequence[int]
) -> dict[Place, MetricSummary]:
    """Return one metric's summary of every method and budget that has a value."""
    values_PAB = paired_values(results, metric.name, models)
    one_cell = (models[0], 0) if is_one_cell(results, models) else None
    methods = range(len(results.methods))
    vs_random = comparisons(results, metric.name, models, methods[1:], 0)
    vs_zero_shot = comparisons(results, metric.name, models, methods, None)
    found = {}
    for a, b in np.ndindex(values_PAB.shape[1:]):
        if one_cell is None:
            known_P = np.isfinite(values_PAB[:, a, b])
            value, random = _mean(values_PAB[:, a, b]), _mean(values_PAB[known_P, 0, b])
        else:
            samples = [results.sample(metric.name, one_cell, i, b) for i in (a, 0)]
            value, random = (sample.mean() if sample else None for sample in samples)
        if value is None:
            continue
        found[a, b] = MetricSummary(
            metric,
            value,
            baseline=random if a else None,
            vs_random=vs_random.get((a, b)),
            vs_zero_shot=vs_zero_shot.get((a, b)),
        )
    return found


def _zero_shot_row(results: Results, models: Sequence[int]) -> TableRow:
    metrics = {
        metric.name: MetricSummary(metric, value)
        for metric in results.shown
        if (value := _mean(results.zero_shot[metric.name][list(models)].ravel()))
    }
    return TableRow(Method(ZERO_SHOT), "Zero-shot", 0, (None,), metrics)


def _mean(values_C: np.ndarray) -> Interval | None:
    """Return the mean over the cells that are there, without an interval, as tasks differ in level."""
    known = values_C[np.isfinite(values_C)]
    return Interval(float(known.mean()), None, None, known.size) if known.size else None

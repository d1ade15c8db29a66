"""The table of several studies: one row per method and budget, over the cells of some models.

A cell is one model and task; it counts by its mean over seeds. Where there is one cell only, the
pairs are its seeds, and the rows are those that `tis_ray.analysis.study_table` makes of that study.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from tis_ray.analysis.comparison import Comparison, compare_complete, with_holm
from tis_ray.analysis.intervals import Interval, mean_interval
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
    pairs_PAB = paired_values(results, metric, models)
    one_cell = is_one_cell(results, models)
    found: dict[Place, Comparison] = {}
    for b in range(len(results.budgets)):
        for a in methods:
            if baseline is None:
                zero_C = results.zero_shot[metric][list(models)].ravel()
                other_P = np.broadcast_to(zero_C, len(pairs_PAB)) if one_cell else zero_C
            else:
                other_P = pairs_PAB[:, baseline, b]
            versus = compare_complete(
                pairs_PAB[:, a, b],
                other_P,
                lower_is_better=results.about(metric).lower_is_better,
                pairs="seeds" if one_cell else "cells",
            )
            if versus is not None:
                found[a, b] = versus
    return with_holm(found)


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
    one_cell = is_one_cell(results, models)
    methods = range(len(results.methods))
    vs_random = comparisons(results, metric.name, models, methods[1:], 0)
    vs_zero_shot = comparisons(results, metric.name, models, methods, None)
    found = {}
    for a, b in np.ndindex(values_PAB.shape[1:]):
        value = _interval(values_PAB[:, a, b], one_cell)
        if value is None:
            continue
        known_P = np.isfinite(values_PAB[:, a, b])
        found[a, b] = MetricSummary(
            metric,
            value,
            baseline=_interval(values_PAB[known_P, 0, b], one_cell) if a else None,
            vs_random=vs_random.get((a, b)),
            vs_zero_shot=vs_zero_shot.get((a, b)),
        )
    return found


def _zero_shot_row(results: Results, models: Sequence[int]) -> TableRow:
    metrics = {
        metric.name: MetricSummary(metric, value)
        for metric in results.shown
        if (value := _interval(results.zero_shot[metric.name][list(models)].ravel(), False))
    }
    return TableRow(Method(ZERO_SHOT), "Zero-shot", 0, (None,), metrics)


def _interval(values: np.ndarray, of_seeds: bool) -> Interval | None:
    """Return the mean of what is there; over cells it has no interval, as tasks differ in level."""
    known = values[np.isfinite(values)]
    if not known.size:
        return None
    if of_seeds:
        return mean_interval(known.tolist())
    return Interval(float(known.mean()), None, None, known.size)

"""The distance-quantile experiment: is nearer data better data? (paper, arXiv 2602.14696, section 4)

The whole pool is put in round-robin order, from what the queries pull first to what they pull last,
and cut into equal consecutive quantiles. A model is trained on the first rows of each. If distance
in a representation means anything for the task, loss rises from quantile to quantile; Spearman's ρ
between quantile and loss says how steadily. The first quantile may be cut again (`focus`), which
asks the same close to the queries.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tis_ray.analysis.correlation import RankCorrelation, spearman
from tis_ray.analysis.study_values import Cell, Method
from tis_ray.errors import InputError
from tis_ray.metrics.description import MetricDescription

Quantile = tuple[int, ...]
"""(3,) is the third quantile, (1, 3) the third part of the first."""


@dataclass(frozen=True)
class QuantileCurve:
    """One metric over the quantiles of one method's order, and how steadily it rises or falls.

    values, seeds: mean over the runs of each quantile, and their least number.
    """

    method: Method
    metric: MetricDescription
    focus: bool
    quantiles: tuple[Quantile, ...]
    values: tuple[float, ...]
    seeds: int
    correlation: RankCorrelation


def quantile_slices(candidates: int, bins: int, rows: int, focus: bool) -> dict[Quantile, slice]:
    """Return the places in the ordering that each quantile trains on: its first `rows`.

    Quantiles have ⌊candidates / bins⌋ rows, the last also what is left over. Raises InputError
    where one is smaller than `rows`.
    """
    found: dict[Quantile, slice] = {
        (k + 1,): part for k, part in enumerate(_cut(0, candidates, bins, rows, "a quantile"))
    }
    if focus:
        first = _cut(0, candidates // bins, bins, rows, "a part of the first quantile")
        found |= {(1, k + 1): part for k, part in enumerate(first)}
    return found


def _cut(start: int, count: int, bins: int, rows: int, what: str) -> list[slice]:
    size = count // bins
    if size < rows:
        raise InputError(
            f"quantiles: {what} of {count:,} candidates in {bins} has {size:,} rows, fewer than the "
            f"{rows:,} of quantiles.rows; lower it, or quantiles.bins"
        )
    return [slice(start + k * size, start + k * size + rows) for k in range(bins)]


def quantile_curves(
    cells: Sequence[Cell], metrics: Sequence[MetricDescription]
) -> list[QuantileCurve]:
    """Return a curve for each method, metric and kind of quantile that cells have.

    Cells without the metric are left out; a curve has at least two quantiles.
    """
    curves = []
    kinds = dict.fromkeys((cell.method, len(cell.quantile) > 1) for cell in cells)
    for method, focus in kinds:
        for metric in metrics:
            values: dict[Quantile, list[float]] = {}
            for cell in cells:
                same = (cell.method, len(cell.quantile) > 1) == (method, focus)
                if same and (value := cell.metrics.get(metric.name)) is not None:
                    values.setdefault(cell.quantile, []).append(float(value))
            if len(values) < 2:
                continue
            quantiles = tuple(sorted(values))
            means = tuple(float(np.mean(values[q])) for q in quantiles)
            curves.append(
                QuantileCurve(
                    method,
                    metric,
                    focus,
                    quantiles,
                    means,
                    min(len(runs) for runs in values.values()),
                    spearman([q[-1] for q in quantiles], means),
                )
            )
    return curves

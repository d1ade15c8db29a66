"""The figures of a study, each one a spec for the page and for files.

Means are drawn with 95% intervals (not the paper's bands of one standard error), zero-shot as a
dashed line, random in grey. No figure leaves out a method, whatever its result.
"""

from __future__ import annotations

from collections.abc import Sequence

from tis_ray.analysis import Comparison, Interval, Method, TableRow
from tis_ray.analysis.study_runs import best_zero_shot
from tis_ray.metrics.description import MetricDescription
from tis_ray.report.charts import Drawing, Spec, figure_name
from tis_ray.report.curves import RANDOM, Axes, Level, Point, curves
from tis_ray.report.distances_section import distance_figure
from tis_ray.report.dots import differences, dots
from tis_ray.report.formatting import axis_words, decimals, metrics_of, number, sentence, with_ends
from tis_ray.report.gain_figure import gain_figure
from tis_ray.report.lengths_section import length_figure
from tis_ray.report.pool_figures import composition, pool_map, score_by_rank, stage_cost
from tis_ray.report.quantiles_section import quantile_figure
from tis_ray.report.record import StudyRecord

__all__ = ["Drawing", "drawings"]


def drawings(record: StudyRecord, rows: Sequence[TableRow]) -> dict[str, Drawing]:
    """Return every figure that the record has data for, by file name."""
    found = []
    for about in metrics_of(rows):
        found += [budget_drawing(rows, about, record), difference_drawing(rows, about, about.name)]
    found += [gain_figure(record, rows, about) for about in metrics_of(rows)]
    found += [pool_map(record), composition(record), length_figure(record), score_by_rank(record)]
    found += [distance_figure(record), quantile_figure(record), stage_cost(record)]
    return {drawing.name: drawing for drawing in found if drawing.spec}


def budget_drawing(
    rows: Sequence[TableRow], metric: MetricDescription, record: StudyRecord
) -> Drawing:
    """Return mean and interval against budget, a line a method; of one budget, a dot a method."""
    better = "lower" if metric.lower_is_better else "higher"
    return Drawing(
        figure_name("budget", metric.name),
        f"{sentence(metric.words)} by budget",
        f"Mean and 95% interval over seeds; {better} is better. The dashed line is zero-shot.",
        _budget_spec(rows, metric, record),
    )


def _budget_spec(rows: Sequence[TableRow], metric: MetricDescription, record: StudyRecord) -> Spec:
    shown = [row for row in rows if metric.name in row.metrics and not row.method.is_zero_shot]
    budgets = sorted({row.budget for row in shown})
    if not shown:
        return {}
    places, scale = decimals(rows, metric), 100 if metric.share else 1
    points = []
    for row in shown:
        value = row.metrics[metric.name].value
        random = row.method.is_random
        points.append(
            Point(
                row.label,
                RANDOM if random else record.legend.representation(row.method.representation),
                "" if random else record.legend.selector(row.method.selector or ""),
                row.budget,
                scale * value.mean,
                *_ends(value, scale),
                with_ends(metric, value, places),
            )
        )
    zero = _zero_shot(rows, metric)
    level = zero and Level(zero[0], scale * zero[1], number(metric, zero[1], places))
    if len(budgets) > 1:
        return curves(points, [level] if level else [], Axes("budget", axis_words(metric), budgets))
    sign = 1 if metric.lower_is_better else -1
    points.sort(key=lambda point: sign * point.mean)
    return dots(points, level, f"{axis_words(metric)} at budget {budgets[0]:,}")


def difference_drawing(rows: Sequence[TableRow], metric: MetricDescription, name: str) -> Drawing:
    """Return each row's difference to random, sorted within its budget, with intervals."""
    sign = 1 if metric.lower_is_better else -1
    compared = [
        (row, versus)
        for row in rows
        if metric.name in row.metrics and (versus := row.metrics[metric.name].vs_random)
    ]
    compared.sort(key=lambda pair: (pair[0].budget, sign * pair[1].difference))
    places, scale = decimals(rows, metric), 100 if metric.share else 1
    over = {versus.pairs for _, versus in compared}
    lines = [
        {
            "method": f"{row.label} @ {row.budget:,}",
            "difference": scale * versus.difference,
            **dict(zip(("low", "high"), _ends(versus, scale), strict=True)),
            "verdict": versus.verdict,
            "text": with_ends(metric, versus, places, signed=True),
        }
        for row, versus in compared
    ]
    title = f"{metric.words}, points" if metric.share else metric.words
    return Drawing(
        figure_name("difference", name),
        f"Difference to random: {metric.words}",
        (
            "Each cell, one model and task, is paired with random in the same cell; bars are 95% intervals."
            if over == {"cells"}
            else "Mean less that of random; bars say what of it may be luck, in 95 of 100 studies."
        )
        + " Green is better, an orange cross worse; a hollow dot: cannot tell.",
        differences(lines, title, metric.lower_is_better) if lines else {},
    )


def _ends(value: Interval | Comparison, scale: float) -> tuple[float | None, float | None]:
    if value.low is None or value.high is None:
        return None, None
    return scale * value.low, scale * value.high


def _zero_shot(rows: Sequence[TableRow], metric: MetricDescription) -> tuple[str, float] | None:
    """Return label and value of the better zero-shot: the one that differences are taken from."""
    measured: dict[Method, TableRow] = {
        r.method: r for r in rows if r.method.is_zero_shot and metric.name in r.metrics
    }
    found = {method: r.metrics[metric.name].value.mean for method, r in measured.items()}
    best = best_zero_shot(found, metric.lower_is_better)
    return (measured[best].label, found[best]) if best else None

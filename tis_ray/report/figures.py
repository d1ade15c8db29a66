"""The figures of a study. Each function returns an SVG string, empty when there is nothing to draw.

Means are drawn with 95% intervals (not the paper's bands of one standard error), zero-shot as a
dashed line, random in grey. No figure leaves out a method, whatever its result.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator

from tis_ray.analysis import Interval, Method, TableRow
from tis_ray.analysis.study_runs import best_zero_shot
from tis_ray.metrics.description import MetricDescription
from tis_ray.report import svg
from tis_ray.report.curves import BASELINE, Curve, Labels, Look, Panel, draw_curves, method_look
from tis_ray.report.distances_section import distance_figure
from tis_ray.report.formatting import metrics_of, number, sentence
from tis_ray.report.gains_section import gain_figure
from tis_ray.report.lengths_section import length_figure
from tis_ray.report.pool_figures import (
    composition,
    map_caption,
    pool_map,
    score_by_rank,
    stage_cost,
)
from tis_ray.report.quantiles_section import quantile_figure
from tis_ray.report.record import StudyRecord
from tis_ray.store import write_bytes


@dataclass(frozen=True)
class Drawing:
    """A figure with its caption and what it says to those who do not see it."""

    name: str
    title: str
    caption: str
    svg: str


def drawings(record: StudyRecord, rows: Sequence[TableRow]) -> dict[str, Drawing]:
    """Return every figure that the record has data for, by file name."""
    found = []
    for about in metrics_of(rows):
        metric = about.name
        better = "lower" if about.lower_is_better else "higher"
        title = f"{sentence(about.words)} by budget"
        caption = (
            f"Mean and 95% interval over seeds; {better} is better. The dashed line is zero-shot."
        )
        found.append(
            Drawing(svg.figure_name("budget", metric), title, caption, budget_curve(rows, about))
        )
        found.append(difference_drawing(difference_name(metric), rows, about))
        title = f"Cost against gain: {about.words}"
        caption = (
            "Difference to random, turned so that up is better, with its 95% interval; hollow where"
            " the data cannot tell. Dots of nearly the same cost are drawn side by side."
        )
        name = svg.figure_name("gain", metric)
        found.append(Drawing(name, title, caption, gain_figure(name, record, rows, about)))
    caption = map_caption(record)
    found.append(Drawing("map", "Map of pool, queries and subsets", caption, pool_map(record)))
    caption = "Share of each source in the pool and in each subset."
    found.append(Drawing("composition", "Composition by source", caption, composition(record)))
    caption = (
        "Median, middle half, and 5% to 95% of the rows; dotted, the pool's median. Where a subset's"
        " responses have other lengths, part of its gain may be length: compare `length_matched`."
    )
    found.append(Drawing("lengths", "Length of responses", caption, length_figure(record)))
    caption = "The score of each selected example, best first. Scales differ between methods."
    found.append(Drawing("scores", "Score by rank", caption, score_by_rank(record)))
    caption = (
        "One dot a cell, larger for larger budgets. Left is closer to the queries, low is better."
    )
    title = "Distance to the queries, and test loss"
    found.append(Drawing("distances", title, caption, distance_figure(record)))
    caption = (
        "Mean over seeds of the models trained on the first rows of each quantile; low is better."
    )
    title = "Query loss by distance quantile"
    found.append(Drawing("quantiles", title, caption, quantile_figure(record)))
    caption = "Wall time by stage. Pale: an earlier run's artifact was reused, at no cost now."
    found.append(Drawing("cost", "What each stage cost", caption, stage_cost(record)))
    return {drawing.name: drawing for drawing in found if drawing.svg}


def write_figures(record: StudyRecord, folder: str | Path) -> dict[str, Path]:
    """Write every figure as `<name>.svg` into `folder`, atomically; return name → path."""
    record = StudyRecord.from_json(record.to_json())  # plain types, as when redrawn from disk
    rows = record.table()
    paths = {}
    for name, drawing in drawings(record, rows).items():
        paths[name] = Path(folder) / f"{name}.svg"
        write_bytes(paths[name], drawing.svg.encode())
    return paths


def budget_curve(rows: Sequence[TableRow], metric: MetricDescription) -> str:
    """Draw mean and interval against budget, a line a method; one budget gives a dot plot.

    Where methods are more than colours, each representation has a panel of its own.
    """
    shown = [row for row in rows if metric.name in row.metrics and not row.method.is_zero_shot]
    budgets = sorted({row.budget for row in shown})
    if not shown:
        return ""
    zero = _zero_shot(rows, metric)
    if len(budgets) == 1:
        return _dot_plot(shown, metric, zero)
    methods = list(dict.fromkeys(row.method for row in shown if not row.method.is_baseline))
    panels = [methods]
    if len(methods) > len(svg.METHOD_COLOURS):
        by_representation = defaultdict(list)
        for method in methods:
            by_representation[method.representation].append(method)
        panels = list(by_representation.values())
    baselines = list(dict.fromkeys(row.method for row in shown if row.method.is_baseline))

    def curve(method: Method, look: Look) -> Curve:
        line = [row for row in shown if row.method == method]
        values = [row.metrics[metric.name].value for row in line]
        spans = [None if v.low is None or v.high is None else (v.low, v.high) for v in values]
        return Curve(
            line[0].label, look, [row.budget for row in line], [v.mean for v in values], spans
        )

    return draw_curves(
        svg.figure_name("budget", metric.name),
        f"{metric.words} by budget",
        "; ".join(_line_words(shown, method, metric) for method in methods),
        [
            Panel(
                "",
                [
                    *(curve(method, BASELINE) for method in baselines),
                    *(curve(method, method_look(i)) for i, method in enumerate(panel)),
                ],
                zero[1] if zero else None,
            )
            for panel in panels
        ],
        Labels("budget", metric.words, budgets, zero[0] if zero else "", metric.share),
    )


def difference_name(metric: str) -> str:
    """Return the name of the figure of a metric's differences to random."""
    return svg.figure_name("difference", metric)


def difference_drawing(name: str, rows: Sequence[TableRow], metric: MetricDescription) -> Drawing:
    """Return the figure of each row's difference to random."""
    compared = (row.metrics[metric.name].vs_random for row in rows if metric.name in row.metrics)
    over = {versus.pairs for versus in compared if versus}
    caption = (
        "Each cell, one model and task, is paired with random in the same cell; bars are 95% intervals."
        if over == {"cells"}
        else "Each seed is paired with the same seed of random; bars are 95% intervals."
    )
    title = f"Difference to random: {metric.words}"
    return Drawing(name, title, caption, comparison(name, rows, metric))


def comparison(name: str, rows: Sequence[TableRow], metric: MetricDescription) -> str:
    """Draw each row's paired difference to random, sorted within its budget, with intervals."""
    sign = 1 if metric.lower_is_better else -1
    pairs = [
        (row, versus)
        for row in rows
        if metric.name in row.metrics and (versus := row.metrics[metric.name].vs_random)
    ]
    if not pairs:
        return ""
    pairs.sort(key=lambda pair: (pair[0].budget, sign * pair[1].difference))
    looks = {
        "better": (svg.BETTER, "o", svg.BETTER),
        "worse": (svg.WORSE, "X", svg.WORSE),
        "cannot tell": (svg.OPEN, "o", svg.GROUND),
    }
    scale = 100 if metric.share else 1

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        ticks, labels, y, last = [], [], 0.0, pairs[0][0].budget
        for row, versus in pairs:
            y += 1.0 if row.budget == last else 1.5  # a gap between budgets
            last = row.budget
            colour, marker, fill = looks[versus.verdict]
            if versus.low is not None and versus.high is not None:
                axes.plot(
                    [scale * versus.low, scale * versus.high], [y, y], color=colour, linewidth=2
                )
            axes.plot(
                scale * versus.difference,
                y,
                marker,
                color=colour,
                markerfacecolor=fill,
                markersize=7,
            )
            ticks.append(y)
            labels.append(f"{svg.short(row.label, 30)} @ {row.budget:,}")
        axes.axvline(0, color=svg.INK, linewidth=1)
        axes.set_yticks(ticks, labels)
        axes.set_ylim(y + 0.7, 0.3)
        axes.grid(axis="y", visible=False)
        axes.tick_params(axis="y", length=0)
        axes.xaxis.set_major_locator(MaxNLocator(5))
        unit = "points" if metric.share else metric.words
        left, right = ("better", "worse") if metric.lower_is_better else ("worse", "better")
        axes.set_xlabel(f"← {left} · {unit} · {right} →")
        handles = [
            Line2D([], [], color=c, marker=m, markerfacecolor=f, linewidth=2, label=verdict)
            for verdict, (c, m, f) in looks.items()
        ]
        figure.legend(handles=handles, loc="outside lower center", ncols=3)

    words = [f"{r.label} at {r.budget}: {v.difference:.3g}, {v.verdict}" for r, v in pairs]
    budgets = len({row.budget for row, _ in pairs})
    height = 0.9 + 0.24 * len(pairs) + 0.12 * budgets
    title = f"Difference to random in {metric.words}"
    return svg.draw(name, title, "; ".join(words), height, paint)


def _dot_plot(
    shown: Sequence[TableRow], metric: MetricDescription, zero: tuple[str, float] | None
) -> str:
    """Draw one budget: a line of dots and intervals, best on top."""
    sign = 1 if metric.lower_is_better else -1
    ranked = sorted(shown, key=lambda r: sign * r.metrics[metric.name].value.mean)

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        for y, row in enumerate(ranked):
            value = row.metrics[metric.name].value
            colour = svg.OPEN if row.method.is_baseline else svg.METHOD_COLOURS[0]
            axes.errorbar(
                value.mean,
                y,
                xerr=_arms([value]),
                color=colour,
                marker="o",
                markersize=7,
                elinewidth=2,
            )
        if zero is not None:
            label, place = zero
            axes.axvline(place, color=svg.INK, linestyle=(0, (2, 2)), linewidth=1.1, label=label)
            axes.legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), borderpad=0)
        axes.set_yticks(range(len(ranked)), [svg.short(row.label, 32) for row in ranked])
        axes.set_ylim(len(ranked) - 0.4, -0.6)
        axes.grid(axis="y", visible=False)
        axes.tick_params(axis="y", length=0)
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.set_xlabel(f"{_axis_words(metric)} at budget {ranked[0].budget:,}")
        if metric.share:
            axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.0f}%"))

    summary = "; ".join(
        f"{r.label}: {number(metric, r.metrics[metric.name].value.mean, 3)}" for r in ranked
    )
    height = 1.0 + 0.3 * len(ranked)
    return svg.draw(svg.figure_name("budget", metric.name), metric.words, summary, height, paint)


def _zero_shot(rows: Sequence[TableRow], metric: MetricDescription) -> tuple[str, float] | None:
    """Return label and value of the better zero-shot."""
    measured = {r.method: r for r in rows if r.method.is_zero_shot and metric.name in r.metrics}
    values = {method: r.metrics[metric.name].value.mean for method, r in measured.items()}
    best = best_zero_shot(values, metric.lower_is_better)
    return (measured[best].label, values[best]) if best else None


def _line_words(rows: Sequence[TableRow], method: Method, metric: MetricDescription) -> str:
    line = [r for r in rows if r.method == method]
    values = (f"{r.budget}: {number(metric, r.metrics[metric.name].value.mean, 3)}" for r in line)
    return f"{line[0].label}: {', '.join(values)}"


def _axis_words(metric: MetricDescription) -> str:
    return f"{metric.words} ({'lower' if metric.lower_is_better else 'higher'} is better)"


def _arms(values: Sequence[Interval]) -> np.ndarray:
    """Return the lengths below and above each mean (2, n); zero where there is no interval."""
    lows = [0.0 if v.low is None else v.mean - v.low for v in values]
    return np.array([lows, [0.0 if v.high is None else v.high - v.mean for v in values]])

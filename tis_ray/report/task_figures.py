"""The figures of several studies: a panel a task, as the paper's plotting script draws them.

Of each model there are the script's six: query loss and metric against budget, of representations
with round robin (with the zero-shot line) and of the selectors of LESS (without it), with the mean
and one standard error over seeds; and both against the quantile of the pool, above a heatmap of
Spearman's ρ. Where the script sets five panels side by side, they stand two in a row here, which a
phone can show, and budgets have a logarithmic axis.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import numpy as np

from tis_ray.analysis.result_arrays import Family, Results, mean_over_last, sd_over_last
from tis_ray.metrics.description import MetricDescription
from tis_ray.report.charts import PANEL, Drawing, Spec, named, printable, values
from tis_ray.report.curves import Axes, Level, Point, curves
from tis_ray.report.formatting import axis_words, decimals_of, number, plain_number, sentence

_LONGEST = 100
Rho = Mapping[str, Mapping[str, float | None]]
"""Representation → task → Spearman's ρ of quantile and value."""


def file_name(results: Results, model: str, figure: str) -> str:
    """Return the name of a model's figure, for files and ids: no two models share one.

    Other characters than letters, digits, `_.-` become `-`, and a long name is cut.
    """
    plain = [_plain(name) for name in results.models]
    own = plain[results.models.index(model)]
    if plain.count(own) > 1:
        own = f"{own}-{results.models.index(model) + 1}"
    return f"{own}-{_plain(figure)}"


def _plain(name: str) -> str:
    return re.sub(r"[^\w.-]+", "-", name)[:_LONGEST]


def budget_figure(
    results: Results, model: int, family: Family, metric: MetricDescription, caption: str
) -> Drawing:
    """Draw mean and standard error against budget, a panel a task, a line a method of the family."""
    values_JABS = results.runs[metric.name][model]
    mean_JAB, sd_JAB = mean_over_last(values_JABS), sd_over_last(values_JABS)
    error_JAB = sd_JAB / np.sqrt(np.isfinite(values_JABS).sum(axis=-1).clip(min=1))
    zero_J = results.zero_shot[metric.name][model]
    scale, places = 100 if metric.share else 1, decimals_of(metric, [])
    points, levels = [], []
    for j in range(len(results.tasks)):
        panel = _panel_title(results, j, metric)
        for a in family.methods:
            name = results.methods[a].name
            for b in np.flatnonzero(np.isfinite(mean_JAB[j, a])).tolist():
                mean, error = float(mean_JAB[j, a, b]), float(error_JAB[j, a, b])
                known = np.isfinite(error)
                low, high = (
                    (scale * (mean - error), scale * (mean + error)) if known else (None, None)
                )
                text = number(metric, mean, places)
                text += f" ± {plain_number(scale * error, places)[1:]}" if known else ""
                points.append(
                    Point(name, name, "", results.budgets[b], scale * mean, low, high, text, panel)
                )
        if family.name == "data_representation" and np.isfinite(zero_J[j]):
            zero = float(zero_J[j])
            levels.append(Level("Zero-shot", scale * zero, number(metric, zero, places), panel))
    title = f"{sentence(metric.words)} by budget, {family.title}"
    name = file_name(
        results, results.models[model], f"budget_{results.figure_names[metric.name]}_{family.name}"
    )
    spec = curves(
        points, levels, Axes("budget", axis_words(metric), results.budgets), _every(results)
    )
    return Drawing(
        name, title, f"Mean and one standard error over seeds. {caption}", spec if points else {}
    )


def quantile_figure(
    results: Results,
    model: str,
    metric: MetricDescription,
    values_JRQ: np.ndarray,
    rho: Rho,
    kind: str,
    caption: str,
) -> Drawing:
    """Draw a value against the quantile, a panel a task, above the heatmap of ρ.

    `kind` is `binning`, or `sub_bin0_focus` where the first quantile was cut again.
    """
    scale, places = 100 if metric.share else 1, decimals_of(metric, [])
    points = [
        Point(
            name,
            name,
            "",
            q,
            scale * value,
            None,
            None,
            number(metric, value, places),
            _panel_title(results, j, metric),
        )
        for j in range(len(results.tasks))
        for r, name in enumerate(results.representations)
        for q, value in enumerate(values_JRQ[j, r].tolist(), 1)
        if np.isfinite(value)
    ]
    what = "quantile of the pool" if kind == "binning" else "tenth of the first quantile"
    figure = results.quantile_figure_names[metric.name]
    name = file_name(results, model, f"{kind}_{figure}_grid_and_spearman_heatmap")
    lines = curves(points, [], Axes("quantile", axis_words(metric)), _every(results))
    spec: Spec = {"vconcat": [lines, _heatmap(results.representations, results.tasks, rho)]}
    spec["resolve"] = {"scale": {"color": "independent"}}
    runs = "One run" if results.quantile_seeds == 1 else f"Mean of {results.quantile_seeds} runs"
    return Drawing(
        name,
        f"{sentence(metric.words)} by {what}",
        f"{runs} a point, nearest rows first. Below: Spearman's ρ of quantile and value. {caption}",
        spec if points else {},
    )


def _heatmap(names: Sequence[str], tasks: Sequence[str], rho: Rho) -> Spec:
    """Return ρ in the script's colours, blue -1 to red +1, its two decimals on top."""
    rows = [
        {"name": name, "task": task, "rho": value, "text": f"{value:.2f}"}
        for name in names
        for task in tasks
        if (value := rho[name][task]) is not None
    ]

    def axis(field: str, order: Sequence[str]) -> Spec:
        bare = {"ticks": False, "domain": False, "grid": False, "labelAngle": 0, "labelLimit": 90}
        shown = [printable(text) for text in order]
        return {"field": field, "type": "nominal", "title": None, "sort": shown, "axis": bare}

    place = {"x": axis("task", tasks), "y": axis("name", names)}
    return {
        "data": values(rows),
        "width": 2 * PANEL,
        "height": 24 * len(names),
        "encoding": place,
        "layer": [
            {
                "mark": {"type": "rect", "stroke": "white"},
                "encoding": {
                    "color": {
                        "field": "rho",
                        "type": "quantitative",
                        "legend": None,
                        "scale": {"domain": [-1, 1], "scheme": "redblue", "reverse": True},
                    },
                    "tooltip": [
                        named("name", "representation"),
                        named("task", "task"),
                        named("text", "ρ"),
                    ],
                },
            },
            {
                "mark": {"type": "text", "fontSize": 11},
                "encoding": {
                    "text": {"field": "text"},
                    "color": {
                        "condition": {"test": "abs(datum.rho) > 0.75", "value": "white"},
                        "value": "#1c2025",
                    },
                },
            },
        ],
    }


def _every(results: Results) -> list[str]:
    """Return the methods of all figures, in their order."""
    return [method.name for method in results.methods]


def _panel_title(results: Results, j: int, metric: MetricDescription) -> str:
    """Return the task's name, with what its metric is where tasks differ in it."""
    task = results.tasks[j]
    words = results.metric_words.get(task, "") if metric.name == results.metric else ""
    return f"{task} · {words}" if words else task

"""The figures of several studies: a panel a task, as the paper's plotting script draws them.

Of each model there are the script's six: query loss and metric against budget, of representations
with round robin (with the zero-shot line) and of the selectors of LESS (without it), with the mean
and one standard error over seeds; and both against the quantile of the pool, above a heatmap of
Spearman's ρ. Where the script sets five panels side by side, they stand two in a row here, which a
phone can show, and budgets have a logarithmic axis.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes

from tis_ray.analysis.result_arrays import Family, Results, mean_over_last, sd_over_last
from tis_ray.metrics.description import MetricDescription
from tis_ray.report import svg
from tis_ray.report.curves import (
    BASELINE,
    Curve,
    Foot,
    Labels,
    Look,
    Panel,
    draw_curves,
    method_look,
)
from tis_ray.report.figures import Drawing
from tis_ray.report.formatting import number, sentence

_LONGEST = 100
Rho = Mapping[str, Mapping[str, float | None]]
"""Representation → task → Spearman's ρ of quantile and value."""


def looks(results: Results, drawn: Sequence[str]) -> dict[str, Look]:
    """Return the look of each method of a figure: its own over all figures if colours suffice."""
    own = [method.name for method in results.methods[1:]]
    if len(own) > len(svg.METHOD_COLOURS):
        own = [name for name in drawn if name != results.methods[0].name]
    looks = {name: method_look(i) for i, name in enumerate(own)}
    return {results.methods[0].name: BASELINE} | looks


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
    look = looks(results, [results.methods[a].name for a in family.methods])
    with_zero = family.name == "data_representation"

    def curves(j: int) -> Iterator[Curve]:
        for a in family.methods:
            drawn = np.flatnonzero(np.isfinite(mean_JAB[j, a]))
            spans = [
                (mean - error, mean + error) if np.isfinite(error) else None
                for mean, error in zip(mean_JAB[j, a, drawn], error_JAB[j, a, drawn], strict=True)
            ]
            name = results.methods[a].name
            budgets = [results.budgets[b] for b in drawn]
            yield Curve(name, look[name], budgets, mean_JAB[j, a, drawn].tolist(), spans)

    panels = [
        Panel(
            _panel_title(results, j, metric),
            list(curves(j)),
            float(zero_J[j]) if with_zero and np.isfinite(zero_J[j]) else None,
        )
        for j in range(len(results.tasks))
    ]
    title = f"{sentence(metric.words)} by budget, {family.title}"
    name = file_name(
        results, results.models[model], f"budget_{results.figure_names[metric.name]}_{family.name}"
    )
    summary = "; ".join(
        f"{results.methods[a].name}: "
        + ", ".join(
            f"{task} {number(metric, mean_JAB[j, a, -1], 3)}"
            for j, task in enumerate(results.tasks)
            if np.isfinite(mean_JAB[j, a, -1])
        )
        for a in family.methods
    )
    drawing = draw_curves(
        name,
        title,
        f"At the largest budget: {summary}",
        panels,
        Labels("budget", metric.words, results.budgets, percent=metric.share),
    )
    return Drawing(name, title, f"Mean and one standard error over seeds. {caption}", drawing)


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
    numbers = range(1, values_JRQ.shape[-1] + 1)
    names = results.representations
    look = looks(results, names)
    panels = [
        Panel(
            _panel_title(results, j, metric),
            [
                Curve(name, look.get(name, Look(svg.INK, "o")), numbers, values_JRQ[j, r].tolist())
                for r, name in enumerate(names)
            ],
        )
        for j in range(len(results.tasks))
    ]
    what = "quantile of the pool" if kind == "binning" else "tenth of the first quantile"
    title = f"{sentence(metric.words)} by {what}"
    figure_name = results.quantile_figure_names[metric.name]
    name = file_name(results, model, f"{kind}_{figure_name}_grid_and_spearman_heatmap")
    words = "; ".join(
        f"{label}: "
        + ", ".join(f"{t} {'–' if v is None else f'{v:.2f}'}" for t, v in by_task.items())
        for label, by_task in rho.items()
    )
    drawing = draw_curves(
        name,
        title,
        f"Spearman's correlation. {words}",
        panels,
        Labels("quantile", metric.words, percent=metric.share),
        Foot(0.9 + 0.28 * len(names), lambda axes: _heatmap(axes, names, results.tasks, rho)),
    )
    runs = "One run" if results.quantile_seeds == 1 else f"Mean of {results.quantile_seeds} runs"
    return Drawing(name, title, f"{runs} a point, nearest rows first. {caption}", drawing)


def _heatmap(axes: Axes, names: Sequence[str], tasks: Sequence[str], rho: Rho) -> None:
    """Draw ρ in the script's colours, blue -1 to red +1, its two decimals on top."""
    values_RJ = np.array(
        [[np.nan if (v := rho[r][t]) is None else v for t in tasks] for r in names]
    )
    axes.pcolormesh(values_RJ, cmap=matplotlib.colormaps["coolwarm"], vmin=-1, vmax=1,
                    edgecolors="#ffffff", linewidth=1.5)  # fmt: skip
    for r, j in np.ndindex(values_RJ.shape):
        value = values_RJ[r, j]
        ink = "#ffffff" if abs(value) > 0.75 else svg.INK_ON_FILL
        if np.isfinite(value):
            axes.text(j + 0.5, r + 0.5, f"{value:.2f}", ha="center", va="center", color=ink)
    axes.set_xticks(np.arange(len(tasks)) + 0.5, [svg.short(task, 12) for task in tasks])
    axes.set_yticks(np.arange(len(names)) + 0.5, [svg.short(name, 16) for name in names])
    axes.set_ylim(len(names), 0)
    axes.tick_params(length=0)
    axes.grid(False)
    axes.set_title("Spearman's ρ of quantile and value")


def _panel_title(results: Results, j: int, metric: MetricDescription) -> str:
    """Return the task's name, with what its metric is where tasks differ in it."""
    task = results.tasks[j]
    words = results.metric_words.get(task, "") if metric.name == results.metric else ""
    return f"{task} · {words}" if words else task

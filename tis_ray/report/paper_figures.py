"""The budget figures of the paper's plotting script, and differences to random, from `Results`.

The script draws six figures for each model. Four are here: loss and metric, of representations
with round robin (with the zero-shot line) and of the selectors of LESS (without it); a panel a
task, mean and one standard error over seeds on a linear budget axis. The two quantile figures are
in `quantile_figures`. Where it sets five panels side by side, they stand two in a row here, which a
phone can show. `difference_figure` is not the script's: it sums up over cells, with 95% intervals.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.gridspec import GridSpec
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator

from tis_ray.analysis.results import Family, Measure, Results, mean_over_last, sd_over_last
from tis_ray.report import svg
from tis_ray.report.figures import Drawing

PANEL = 1.75
"""Height of a row of panels in inches."""
Look = tuple[str, str, Any]
"""Colour, marker and line style."""


def looks(results: Results) -> dict[str, Look]:
    """Return each method's look: its own over all figures while there are colours enough."""
    own = [method.name for method in results.methods[1:]]
    positions = {name: i for i, name in enumerate(own)}
    if len(own) > len(svg.METHOD_COLOURS):
        for family in results.families():
            positions |= {results.methods[a].name: i for i, a in enumerate(family.methods[1:])}
    found: dict[str, Look] = {
        name: (
            svg.METHOD_COLOURS[i % len(svg.METHOD_COLOURS)],
            svg.MARKERS[i % len(svg.MARKERS)],
            "-",
        )
        for name, i in positions.items()
    }
    return {results.methods[0].name: (svg.OPEN, "o", (0, (4, 2)))} | found


def file_name(*parts: str) -> str:
    """Return a name for files and ids: other characters than letters, digits, `_.-` become `-`."""
    return "-".join(re.sub(r"[^\w.-]+", "-", part) for part in parts)


def budget_figure(
    results: Results, model: int, family: Family, measure: Measure, caption: str
) -> Drawing:
    """Draw mean and standard error against budget, a panel a task, a line a method of the family."""
    values_JABS = results.runs[measure.name][model] * measure.scale
    mean_JAB, sd_JAB = mean_over_last(values_JABS), sd_over_last(values_JABS)
    error_JAB = sd_JAB / np.sqrt(np.isfinite(values_JABS).sum(axis=-1).clip(min=1))
    zero_J = results.zero_shot[measure.name][model] * measure.scale
    style = looks(results)
    with_zero = family.name == "data_representation" and bool(np.isfinite(zero_J).any())

    def panel(axes: Axes, j: int) -> None:
        for a in family.methods:
            colour, marker, line = style[results.methods[a].name]
            drawn = np.isfinite(mean_JAB[j, a])
            budgets = np.array(results.budgets)[drawn]
            mean, error = mean_JAB[j, a][drawn], np.nan_to_num(error_JAB[j, a][drawn])
            axes.fill_between(budgets, mean - error, mean + error, color=colour, alpha=0.18, lw=0)
            axes.plot(budgets, mean, color=colour, marker=marker, ls=line, lw=1.4, ms=4)
        if with_zero and np.isfinite(zero_J[j]):
            axes.axhline(zero_J[j], color=svg.INK, ls=(0, (2, 2)), lw=1.1)
        axes.set_title(panel_title(results, j, measure))
        axes.set_xlim(0, max(results.budgets) * 1.04)
        axes.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10], integer=True))
        axes.xaxis.set_major_formatter(FuncFormatter(_thousands))
        axes.yaxis.set_major_locator(MaxNLocator(4))

    handles = [handle(results.methods[a].name, style) for a in family.methods]
    if with_zero:
        handles.append(Line2D([], [], color=svg.INK, ls=(0, (2, 2)), lw=1.1, label="Zero-shot"))
    name = f"budget_{measure.figure}_{family.name}"
    title = f"{measure.words.capitalize()} by budget, {family.title}"
    summary = "; ".join(
        f"{results.methods[a].name}: "
        + ", ".join(
            f"{task} {mean_JAB[j, a, -1]:.{measure.places}f}"
            for j, task in enumerate(results.tasks)
            if np.isfinite(mean_JAB[j, a, -1])
        )
        for a in family.methods
    )
    return drawing(
        file_name(results.models[model], name),
        title,
        f"Mean and one standard error over seeds. {caption}",
        f"At the largest budget: {summary}",
        panels_height(len(results.tasks)) + 0.25,
        lambda figure: fill_panels(figure, len(results.tasks), panel, handles, "budget"),
    )


def difference_figure(
    results: Results, measure: Measure, found: dict[str, dict[str, Any]], over: str
) -> Drawing:
    """Draw the mean difference to random by budget with 95% intervals, a panel a family.

    `found` is method → budget → the numbers of `PairedDifference`; `over` says what they are over.
    """
    style = looks(results)
    families = results.families()

    def paint(figure: Figure) -> None:
        panels = figure.subplots(len(families), 1, squeeze=False, sharex=True)[:, 0]
        for axes, family in zip(panels, families, strict=True):
            methods = [results.methods[a].name for a in family.methods[1:]]
            for k, name in enumerate(methods):
                colour, marker, _ = style[name]
                for b, budget in enumerate(results.budgets):
                    numbers = found.get(name, {}).get(str(budget))
                    if numbers is None:
                        continue
                    x = b + 0.7 * ((k + 0.5) / len(methods) - 0.5)
                    low, high = numbers["low"], numbers["high"]
                    if low is not None and high is not None:
                        ends = [measure.scale * low, measure.scale * high]
                        axes.plot([x, x], ends, color=colour, lw=1.6)
                    axes.plot(x, measure.scale * numbers["difference"], marker, color=colour, ms=5)
            axes.axhline(0, color=svg.INK, lw=1)
            axes.set_xticks(range(len(results.budgets)), [f"{b:,}" for b in results.budgets])
            axes.set_xlim(-0.5, len(results.budgets) - 0.5)
            axes.yaxis.set_major_locator(MaxNLocator(5))
            axes.set_title(family.title[0].upper() + family.title[1:])
            handles = [handle(name, style, ls="none") for name in methods]
            axes.legend(
                handles=handles,
                loc="upper left",
                bbox_to_anchor=(0, -0.16),
                ncols=2,
                borderaxespad=0,
            )
            axes.set_ylabel(f"{measure.words}, difference")
        panels[-1].tick_params(labelbottom=True)

    longest = max(len(family.methods) for family in families)
    title = f"Difference to random: {measure.words}"
    better = "below" if measure.lower_is_better else "above"
    return drawing(
        file_name(f"difference_{measure.figure}"),
        title,
        f"Mean over {over} and its 95% interval; {better} the line is better than random.",
        "; ".join(
            f"{name} " + ", ".join(f"{b}: {n['difference']:.3g}" for b, n in by_budget.items())
            for name, by_budget in found.items()
        ),
        len(families) * (2.2 + 0.2 * (longest // 2)),
        paint,
    )


def drawing(
    name: str,
    title: str,
    caption: str,
    summary: str,
    height: float,
    paint: Callable[[Figure], None],
) -> Drawing:
    """Return the figure that `paint` fills, under this file name; `svg.draw` explains the rest."""
    prefix = f"f{zlib.crc32(name.encode()):x}"  # of every id in the figure: a long one doubles it
    return Drawing(name, title, caption, svg.draw(prefix, title, summary, height, paint))


def fill_panels(
    figure: Figure,
    count: int,
    panel: Callable[[Axes, int], None],
    handles: Sequence[Line2D],
    x_label: str,
    grid: GridSpec | None = None,
) -> None:
    """Fill two columns of panels; the legend takes the place left over, or stands below."""
    columns = 2 if count > 1 or grid is not None else 1
    rows = -(-count // columns)
    grid = grid or figure.add_gridspec(rows, columns)
    for j in range(count):
        axes = figure.add_subplot(grid[divmod(j, columns)])
        panel(axes, j)
        if j >= count - columns:
            axes.set_xlabel(x_label)
    if count % columns or grid.nrows > rows + 1:
        place = figure.add_subplot(grid[divmod(count, columns)])
        svg.bare(place)
        place.legend(handles=handles, loc="center left", borderaxespad=0)
    else:
        figure.legend(handles=handles, loc="outside lower left", ncols=2)


def panel_title(results: Results, j: int, measure: Measure) -> str:
    """Return the task's name, with what its metric is where tasks differ in it."""
    task = results.tasks[j]
    words = results.metric_words.get(task, "") if measure.name == results.metric else ""
    return svg.short(f"{task} · {words}" if words else task, 27)


def handle(name: str, style: dict[str, Look], ls: Any = None) -> Line2D:
    """Return a method's line for a legend."""
    colour, marker, line = style.get(name, (svg.INK, "o", "-"))
    label = svg.short(name, 22)
    return Line2D([], [], color=colour, marker=marker, ls=ls or line, lw=1.4, ms=5, label=label)


def panels_height(panels: int) -> float:
    """Return inches for so many panels, two in a row."""
    return 0.4 + PANEL * -(-panels // 2)


def _thousands(value: float, _: Any) -> str:
    return f"{value / 1000:g}k" if value >= 1000 else f"{value:g}"

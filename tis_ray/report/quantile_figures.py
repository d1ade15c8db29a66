"""The quantile figures of the paper's plotting script: curves above a heatmap of Spearman's ρ."""

from __future__ import annotations

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from tis_ray.analysis.results import Measure, Results
from tis_ray.report import svg
from tis_ray.report.figures import Drawing
from tis_ray.report.paper_figures import (
    drawing,
    file_name,
    fill_panels,
    handle,
    looks,
    panel_title,
    panels_height,
)


def quantile_figure(
    results: Results,
    model: str,
    measure: Measure,
    values_JRQ: np.ndarray,
    rho: dict[str, dict[str, float | None]],
    kind: str,
    caption: str,
) -> Drawing:
    """Draw a value against the quantile, a panel a task, above the heatmap of ρ.

    `rho` is representation → task → Spearman's ρ. `kind` is `binning`, or `sub_bin0_focus` where the
    first quantile was cut again.
    """
    style = looks(results)
    values_JRQ = values_JRQ * measure.scale
    numbers = np.arange(1, values_JRQ.shape[-1] + 1)

    def panel(axes: Axes, j: int) -> None:
        for r, name in enumerate(results.representations):
            colour, marker, line = style.get(name, (svg.INK, "o", "-"))
            axes.plot(numbers, values_JRQ[j, r], color=colour, marker=marker, ls=line, lw=1.4, ms=4)
        axes.set_title(panel_title(results, j, measure))
        axes.set_xlim(0.5, len(numbers) + 0.5)
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        axes.yaxis.set_major_locator(MaxNLocator(4))

    def paint(figure: Figure) -> None:
        handles = [handle(name, style) for name in results.representations]
        rows = -(-(len(results.tasks) + 1) // 2)
        grid = figure.add_gridspec(
            rows + 1, 2, height_ratios=[*[1.0] * rows, 0.42 + 0.17 * len(results.representations)]
        )
        fill_panels(figure, len(results.tasks), panel, handles, "quantile", grid)
        _heatmap(figure.add_subplot(grid[rows, :]), results, rho)

    words = "; ".join(
        f"{name}: "
        + ", ".join(f"{t} {'–' if v is None else f'{v:.2f}'}" for t, v in by_task.items())
        for name, by_task in rho.items()
    )
    runs = "One run" if results.quantile_seeds == 1 else f"Mean of {results.quantile_seeds} runs"
    what = "quantile of the pool" if kind == "binning" else "tenth of the first quantile"
    return drawing(
        file_name(model, f"{kind}_{measure.quantile_figure}_grid_and_spearman_heatmap"),
        f"{measure.words.capitalize()} by {what}",
        f"{runs} a point, nearest rows first. {caption}",
        f"Spearman's correlation. {words}",
        panels_height(len(results.tasks) + 1) + 0.9 + 0.28 * len(results.representations),
        paint,
    )


def _heatmap(axes: Axes, results: Results, rho: dict[str, dict[str, float | None]]) -> None:
    """Draw ρ in the script's colours, blue -1 to red +1, its two decimals on top."""
    names = list(results.representations)
    values_RJ = np.array(
        [[np.nan if (v := rho[r][t]) is None else v for t in results.tasks] for r in names]
    )
    colours = matplotlib.colormaps["coolwarm"]
    axes.pcolormesh(values_RJ, cmap=colours, vmin=-1, vmax=1, edgecolors="#ffffff", linewidth=1.5)
    for r, j in np.ndindex(values_RJ.shape):
        value = values_RJ[r, j]
        ink = "#ffffff" if abs(value) > 0.75 else svg.INK_ON_FILL
        if np.isfinite(value):
            axes.text(j + 0.5, r + 0.5, f"{value:.2f}", ha="center", va="center", color=ink)
    axes.set_xticks(np.arange(len(results.tasks)) + 0.5, [svg.short(t, 12) for t in results.tasks])
    axes.set_yticks(np.arange(len(names)) + 0.5, [svg.short(name, 16) for name in names])
    axes.set_ylim(len(names), 0)
    axes.tick_params(length=0)
    axes.grid(False)
    axes.set_title("Spearman's ρ of quantile and value")

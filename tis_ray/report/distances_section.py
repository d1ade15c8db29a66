"""The section on distances to the queries: a table for each representation, and a figure against loss."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import fmean

from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from tis_ray.analysis import Legend, Method, TableRow
from tis_ray.analysis.recorded import RepresentationDistances, SubsetDistances
from tis_ray.analysis.study_values import RANDOM_METHOD
from tis_ray.metrics.description import describe
from tis_ray.report import svg
from tis_ray.report.formatting import decimals, number
from tis_ray.report.record import StudyRecord

_LOSS = describe("test_loss")
_PLAIN: dict[str, Callable[[SubsetDistances], float | None]] = {
    "assignment": lambda cell: cell["assignment"],
    "query_to_subset": lambda cell: cell["query_to_subset"],
    "subset_to_query": lambda cell: cell["subset_to_query"],
    "chamfer": lambda cell: cell["chamfer"],
    "mmd": lambda cell: None if (found := cell.get("mmd")) is None else found["rbf"],
    "sampling": lambda cell: cell.get("sampling"),
    "chord": lambda cell: cell["chord"]["value"],
}
"""Columns after W1: those that are one number a row."""


def distance_tables(record: StudyRecord, rows: Sequence[TableRow]) -> list[dict[str, object]]:
    """Return each representation's table as texts, or why it has none.

    A line is the mean over seeds; most selectors give them all one subset.
    """
    return [
        {"name": record.legend.representation(found["representation"]), "reason": found["reason"]}
        if found.get("reason")
        else _table(found, rows, record.legend)
        for found in record.distances
    ]


def _table(
    found: RepresentationDistances, rows: Sequence[TableRow], legend: Legend
) -> dict[str, object]:
    losses = {
        (r.method, r.budget): number(_LOSS, r.metrics[_LOSS.name].value.mean, decimals(rows, _LOSS))
        for r in rows
        if _LOSS.name in r.metrics
    }
    groups: dict[tuple[Method, int], list[SubsetDistances]] = {}
    for cell in found["subsets"]:
        groups.setdefault((Method.from_json(cell), cell["budget"]), []).append(cell)
    lines = []
    for (method, budget), cells in groups.items():
        random = groups.get((RANDOM_METHOD, budget), [])
        lines.append(
            _line(cells, [] if method.is_random else random)
            | {
                "method": legend.method(method),
                "budget": f"{budget:,}",
                "loss": losses.get((method, budget), "–"),
                "baseline": method.is_random,
            }
        )
    pool = found["pool"]
    thinned = pool["candidates"] < found["columns"]
    words = f"Pool, {pool['candidates']:,} of {found['columns']:,} rows" if thinned else "Pool"
    lines.insert(
        0, _line([pool], []) | {"method": words, "budget": "", "loss": "", "baseline": True}
    )
    methods = {part["method"] for cell in found["subsets"] for part in (cell["w1"], cell["chord"])}
    return {
        "name": legend.representation(found["representation"]),
        "reason": "",
        "rows": lines,
        "sinkhorn": "sinkhorn" in methods | {pool["w1"]["method"], pool["chord"]["method"]},
        "facts": _facts(found),
    }


def _facts(found: RepresentationDistances) -> str:
    dimension = found.get("dimension")
    if not dimension:
        return "No features are kept, so there is no MMD, no dimension and no sampling term."
    if dimension["intrinsic"] is None:
        return "All neighbours of the features are equally far: no dimension, no sampling term."
    return (
        f"Effective dimension {dimension['intrinsic']:.1f} (participation ratio "
        f"{dimension['participation']:.1f}), from {dimension['rows']:,} rows of the pool."
    )


def _line(cells: Sequence[SubsetDistances], random: Sequence[SubsetDistances]) -> dict[str, object]:
    """Return the texts of one row, each the mean over its subsets."""
    w1 = fmean(cell["w1"]["value"] for cell in cells)
    sinkhorn = any(cell["w1"]["method"] == "sinkhorn" for cell in cells)
    upper = fmean(cell["w1"]["upper"] for cell in cells)
    yardstick = fmean(cell["w1"]["value"] for cell in random) if random else 0.0
    short = min(cells, key=lambda cell: cell["candidates"])
    lost = short["candidates"] < short.get("rows", 0)
    return {
        **{name: _mean([read(cell) for cell in cells]) for name, read in _PLAIN.items()},
        "w1": f"{w1:.3f}",
        "range": f"[{w1:.3f}, {upper:.3f}]" if sinkhorn else "",
        "random": f"{w1 / yardstick:.0%} of random" if yardstick > 0 else "",
        "subsets": len({cell.get("digest") for cell in cells}),
        "short": f"{short['candidates']:,} of {short['rows']:,} rows have a score" if lost else "",
    }


def _mean(values: Sequence[float | None]) -> str:
    """Return the mean as text, a dash where one is missing."""
    known = [value for value in values if value is not None]
    return f"{fmean(known):.3f}" if known and len(known) == len(values) else "–"


def distance_figure(record: StudyRecord) -> str:
    """Draw W1 to the queries against test loss, a dot a cell, a panel a representation."""
    legend = record.legend
    own = [cell for cell in record.cells if cell.draw is None]
    losses = {(c.method, c.budget, c.seed): c.metrics.get(_LOSS.name) for c in own}
    panels = []
    for found in record.distances:
        dots = [
            (Method.from_json(cell), cell, loss)
            for cell in found.get("subsets", [])
            if (loss := losses.get((Method.from_json(cell), cell["budget"], cell["seed"])))
            is not None
        ]
        if dots:
            panels.append((legend.representation(found["representation"]), dots))
    if not panels:
        return ""
    selectors = list(
        dict.fromkeys(m.selector for _, dots in panels for m, *_ in dots if not m.is_random)
    )
    budgets = sorted({cell["budget"] for _, dots in panels for _, cell, _ in dots})
    columns = min(len(panels), 2)
    lines = -(-len(panels) // columns)

    def look(selector: str | None) -> tuple[str, str]:
        if selector is None:
            return svg.OPEN, "o"
        i = selectors.index(selector) % len(svg.METHOD_COLOURS)
        return svg.METHOD_COLOURS[i], svg.MARKERS[i]

    def paint(figure: Figure) -> None:
        grid = figure.subplots(lines, columns, squeeze=False, sharey=True).ravel()
        for axes in grid[len(panels) :]:
            axes.set_visible(False)
        for axes, (name, dots) in zip(grid, panels, strict=False):
            for method, cell, loss in dots:
                colour, marker = look(None if method.is_random else method.selector)
                axes.plot(
                    cell["w1"]["value"],
                    loss,
                    marker,
                    color=colour,
                    markerfacecolor="none" if method.is_random else colour,
                    markersize=4 + 5 * budgets.index(cell["budget"]) / max(len(budgets) - 1, 1),
                    alpha=0.8,
                )
            axes.set_title(name)
            axes.set_xlabel("W1 from subset to queries")
            axes.xaxis.set_major_locator(MaxNLocator(4))
            axes.yaxis.set_major_locator(MaxNLocator(5))
        figure.supylabel("test loss", fontsize=10.5, color=svg.SOFT)
        names = [(None, "Random"), *((s, svg.short(legend.selector(s or ""))) for s in selectors)]
        handles = [
            Line2D([], [], linestyle="none", marker=marker, color=colour, label=words,
                   markerfacecolor="none" if selector is None else colour)
            for selector, words in names for colour, marker in [look(selector)]
        ]  # fmt: skip
        figure.legend(handles=handles, loc="outside lower center", ncols=3)

    summary = "; ".join(
        f"{name}: {legend.method(method)} at {cell['budget']}: "
        f"{cell['w1']['value']:.3f}, {loss:.3f}"
        for name, dots in panels
        for method, cell, loss in dots
    )
    height = 0.6 + lines * (3.0 if columns == 1 else 2.5) + 0.22 * -(-(1 + len(selectors)) // 3)
    return svg.draw("distances", "W1 to the queries against test loss", summary, height, paint)

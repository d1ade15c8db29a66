"""The section on distances to the queries: a table for each representation, and a figure against loss."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import fmean

from tis_ray.analysis import Legend, Method, TableRow
from tis_ray.analysis.recorded import RepresentationDistances, SubsetDistances
from tis_ray.analysis.study_values import RANDOM_METHOD
from tis_ray.metrics.description import describe
from tis_ray.report.charts import (
    PANEL,
    SHAPES,
    Drawing,
    Spec,
    colours,
    cycled,
    named,
    number_axis,
    printable,
    values,
)
from tis_ray.report.formatting import decimals, number
from tis_ray.report.record import StudyRecord
from tis_ray.report.sheets import Sheet, file_part, sheet

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


def distance_sheets(record: StudyRecord, rows: Sequence[TableRow]) -> list[Sheet]:
    """Return the tables for files."""
    heads = {"method": "Method", "budget": "Budget", "loss": "Test loss", "w1": "W1"}
    heads |= {"range": "W1 between", "assignment": "Assignment", "chord": "W1, chord"}
    heads |= {"query_to_subset": "Query to subset", "subset_to_query": "Subset to query"}
    heads |= {"chamfer": "Chamfer", "mmd": "MMD", "sampling": "Sampling term"}
    return [
        sheet(
            f"distances_{file_part(str(table['name']))}",
            f"Distances to the queries, {table['name']}",
            "Of uniform measures with cost 1 − cosine; W1, chord with the chord.",
            heads,
            lines,
            [key for key in heads if key != "method"],
        )
        for table in distance_tables(record, rows)
        if isinstance(lines := table.get("rows"), list)
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


def distance_figure(record: StudyRecord) -> Drawing:
    """Draw W1 to the queries against test loss, a dot a cell, a panel a representation."""
    legend = record.legend
    losses = {(c.method, c.budget, c.seed): c.metrics.get(_LOSS.name) for c in record.own_cells}
    rows = [
        {
            "panel": legend.representation(found["representation"]),
            "method": legend.method(method),
            "selector": "Random" if method.is_random else legend.selector(method.selector or ""),
            "budget": cell["budget"],
            "w1": cell["w1"]["value"],
            "loss": loss,
        }
        for found in record.distances
        for cell in found.get("subsets", [])
        for method in [Method.from_json(cell)]
        if (loss := losses.get((method, cell["budget"], cell["seed"]))) is not None
    ]
    panels = list(dict.fromkeys(str(row["panel"]) for row in rows))
    names = sorted(dict.fromkeys(str(r["selector"]) for r in rows), key=lambda n: n != "Random")
    dot: Spec = {
        "mark": {"type": "point", "filled": True, "opacity": 0.75},
        "encoding": {
            "x": number_axis("W1 from subset to queries", field="w1", axis={"tickCount": 4}),
            "y": number_axis("test loss", field="loss"),
            "color": {
                "field": "selector",
                "type": "nominal",
                "title": None,
                "scale": colours(names, "Random"),
            },
            "shape": {
                "field": "selector",
                "type": "nominal",
                "title": None,
                "scale": cycled(names, SHAPES),
            },
            "size": {
                "field": "budget",
                "type": "ordinal",
                "title": "budget",
                "scale": {"range": [40, 160]},
            },
            "tooltip": [
                named("method", "method"),
                {"field": "budget", "type": "quantitative", "format": ",d"},
                {"field": "w1", "type": "quantitative", "title": "W1", "format": ".3f"},
                {"field": "loss", "type": "quantitative", "title": "test loss", "format": ".3f"},
            ],
        },
    }
    spec: Spec = {
        "data": values(rows),
        "facet": {"field": "panel", "type": "nominal", "sort": [printable(p) for p in panels]},
        "columns": 2,
        "spec": {"width": PANEL, "height": 190, **dot},
        "resolve": {"scale": {"x": "independent"}},
    }
    caption = (
        "One dot a cell, larger for larger budgets. Left is closer to the queries, low is better."
    )
    title = "Distance to the queries, and test loss"
    return Drawing("distances", title, caption, spec if rows else {})

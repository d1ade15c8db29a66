"""The figure of cost against gain: what each method took beyond random, and what that bought."""

from __future__ import annotations

from collections.abc import Sequence

from tis_ray.analysis import TableRow
from tis_ray.metrics.description import MetricDescription
from tis_ray.report.charts import (
    PANEL,
    SHAPES,
    Drawing,
    Spec,
    colours,
    cycled,
    figure_name,
    named,
    number_axis,
    values,
)
from tis_ray.report.formatting import decimals, with_ends
from tis_ray.report.gains_section import compared_rows, gain, method_costs
from tis_ray.report.record import StudyRecord


def gain_figure(
    record: StudyRecord, rows: Sequence[TableRow], metric: MetricDescription
) -> Drawing:
    """Draw gain over random against cost, a dot a method, a panel a budget."""
    costs = method_costs(record)
    compared = {
        place: versus
        for place, versus in compared_rows(rows, metric, costs).items()
        if costs[place[0]].seconds
    }
    budgets = sorted({budget for _, budget in compared})
    legend, scale, places = record.legend, 100 if metric.share else 1, decimals(rows, metric)
    dots = [
        {
            "panel": f"budget {budget:,}",
            "method": legend.method(method) + " (at least)" * bool(costs[method].lacking),
            "look": legend.representation(method.representation),
            "shape": legend.selector(method.selector or ""),
            "seconds": costs[method].seconds,
            "cost": costs[method].words,
            "mean": scale * found.mean,
            "low": scale * (found.mean if found.low is None else found.low),
            "high": scale * (found.mean if found.high is None else found.high),
            "text": with_ends(metric, found, places, signed=True),
            "verdict": versus.verdict,
        }
        for (method, budget), versus in compared.items()
        for found in [gain(metric, versus)]
    ]
    looks = list(dict.fromkeys(str(dot["look"]) for dot in dots))
    shapes = list(dict.fromkeys(str(dot["shape"]) for dot in dots))
    unit = f"{metric.words}, points" if metric.share else metric.words
    y = number_axis(f"gain in {unit} · better →")
    encoding: Spec = {
        "x": {
            "field": "seconds",
            "type": "quantitative",
            "title": "seconds beyond random",
            "scale": {"type": "log", "nice": True, "padding": 12},
            "axis": {"tickCount": 4, "format": "~s", "grid": False},
        },
        "color": {"field": "look", "type": "nominal", "title": None, "scale": colours(looks)},
        "tooltip": [
            named("method", "method"),
            named("cost", "time beyond random"),
            named("text", "gain"),
            named("verdict", "verdict"),
        ],
    }
    shape = {"field": "shape", "type": "nominal", "title": None, "scale": cycled(shapes, SHAPES)}
    layers: list[Spec] = [
        {"mark": "rule", "encoding": {"y": {"datum": 0, "type": "quantitative"}}},
        {
            "mark": {"type": "rule", "strokeWidth": 1.5},
            "encoding": {**encoding, "y": {"field": "low", **y}, "y2": {"field": "high"}},
        },
        {
            "mark": {"type": "point", "filled": True, "size": 70, "opacity": 1},
            "encoding": {**encoding, "y": {"field": "mean", **y}}
            | ({"shape": shape} if len(shapes) > 1 else {}),
        },
    ]
    spec: Spec = {
        "data": values(dots),
        "facet": {
            "field": "panel",
            "type": "nominal",
            "sort": [f"budget {budget:,}" for budget in budgets],
        },
        "columns": 2,
        "spec": {"width": PANEL, "height": 160, "layer": layers},
    }
    return Drawing(
        figure_name("gain", metric.name),
        f"Cost against gain: {metric.words}",
        "Difference to random, turned so that up is better, with its 95% interval.",
        spec if dots else {},
    )

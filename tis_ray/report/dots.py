"""Specs of one dot and interval a line: means at one budget, and differences to random."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tis_ray.report.charts import (
    ALIKE,
    BETTER,
    INK,
    OPEN,
    WIDTH,
    WORSE,
    Spec,
    colours,
    named,
    number_axis,
    printable,
    values,
)
from tis_ray.report.curves import RANDOM, Axes, Level, Point, level_layers


def dots(points: Sequence[Point], level: Level | None, title: str) -> Spec:
    """Return one line a method, with a dot and its span, in the order given."""
    rows: list[Spec] = [
        {
            **vars(point),
            "low": point.mean if point.low is None else point.low,
            "high": point.mean if point.high is None else point.high,
        }
        for point in points
    ]
    looks = list(dict.fromkeys(point.look for point in points))
    encoding: Spec = {
        "y": _lines([point.method for point in points]),
        "color": {
            "field": "look",
            "type": "nominal",
            "scale": colours(looks, RANDOM),
            "legend": None,
        },
        "tooltip": [named("method", "method"), named("text", title)],
    }
    x = number_axis(title)
    layers: list[Spec] = [
        {
            "mark": {"type": "rule", "strokeWidth": 2},
            "encoding": {**encoding, "x": {"field": "low", **x}, "x2": {"field": "high"}},
        },
        {
            "mark": {"type": "point", "filled": True, "size": 70, "opacity": 1},
            "encoding": {**encoding, "x": {"field": "mean", **x}},
        },
    ]
    if level:
        rows.append({"zero": level.value, "level": level.label, "text": level.text})
        layers += level_layers("x", Axes("", title))
    return {"data": values(rows), "width": WIDTH, "height": 24 * len(points), "layer": layers}


def _lines(names: Sequence[str]) -> Spec:
    """Return a nominal axis with a line for each name, in their order."""
    return {
        "field": "method",
        "type": "nominal",
        "title": None,
        "sort": [printable(name) for name in names],
        "scale": {"domain": [printable(name) for name in names]},
        "axis": {"grid": False, "ticks": False, "domain": False, "labelPadding": 8},
    }


VERDICTS = ("better", "worse", "alike", "cannot tell")


def differences(rows: Sequence[Mapping[str, object]], title: str, lower_is_better: bool) -> Spec:
    """Return a dot and interval a line, coloured by its verdict, beside zero.

    rows: method, difference, low, high, verdict, text.
    """
    order = [str(row["method"]) for row in rows]
    rows = [
        {**row, **{end: row["difference"] for end in ("low", "high") if row[end] is None}}
        for row in rows
    ]
    encoding: Spec = {
        "y": _lines(order),
        "color": {
            "field": "verdict",
            "type": "nominal",
            "title": None,
            "scale": {"domain": list(VERDICTS), "range": [BETTER, WORSE, ALIKE, OPEN]},
        },
        "tooltip": [
            named("method", "method"),
            named("text", "difference"),
            named("verdict", "verdict"),
        ],
    }
    left, right = ("better", "worse") if lower_is_better else ("worse", "better")
    x = {"type": "quantitative", "title": f"← {left} · {title} · {right} →"}
    return {
        "data": values(rows),
        "width": WIDTH,
        "height": 22 * len(rows),
        "layer": [
            {
                "mark": {"type": "rule", "color": INK},
                "encoding": {"x": {"datum": 0, "type": "quantitative"}},
            },
            {
                "mark": {"type": "rule", "strokeWidth": 2},
                "encoding": {**encoding, "x": {"field": "low", **x}, "x2": {"field": "high"}},
            },
            {
                "mark": {"type": "point", "size": 80, "strokeWidth": 2, "fillOpacity": 1},
                "encoding": {
                    **encoding,
                    "x": {"field": "difference", **x},
                    "fill": {
                        "field": "verdict",
                        "type": "nominal",
                        "legend": None,
                        "scale": {
                            "domain": list(VERDICTS),
                            "range": [BETTER, WORSE, "transparent"],
                        },
                    },
                    "shape": {
                        "field": "verdict",
                        "type": "nominal",
                        "title": None,
                        "scale": {
                            "domain": list(VERDICTS),
                            "range": ["circle", "cross", "circle"],
                        },
                    },
                },
            },
        ],
        "resolve": {"legend": {"color": "shared"}},
    }

"""Specs of means with intervals against budgets or quantiles, a line a method.

All such charts of all pages are made here; of one budget, in `dots`. A representation has a colour, a selector a shape and a
dash, random is grey and dashed; zero-shot is a dashed line with its name on it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from tis_ray.report.charts import (
    DASHES,
    PANEL,
    SHAPES,
    WIDTH,
    Spec,
    colours,
    cycled,
    named,
    number_axis,
    printable,
    values,
)

_APART, _CROWD = 1.035, 0.3
"""Methods at one budget stand side by side: a factor apart, or less where all of them would take more
than this share of the way to the next budget."""
_ROOM = 0.2
"""Share of a logarithmic axis that is left free for the name of the dashed line."""
RANDOM = "Random"


@dataclass(frozen=True)
class Point:
    """A mean with its interval (or another span), in the unit that the axis shows.

    look: what decides colour; shape: what decides the form, where there is more than one. panel: the
    title of its part of the figure. text: the numbers as they are written elsewhere.
    """

    method: str
    look: str
    shape: str
    x: float
    mean: float
    low: float | None
    high: float | None
    text: str
    panel: str = ""


@dataclass(frozen=True)
class Level:
    """A dashed line: the untrained model."""

    label: str
    value: float
    text: str
    panel: str = ""


@dataclass(frozen=True)
class Axes:
    """What the axes say. `budgets` are the ticks of a logarithmic axis; without them x counts."""

    x: str
    y: str
    budgets: Sequence[int] = ()


def curves(
    points: Sequence[Point], levels: Sequence[Level], says: Axes, every: Sequence[str] = ()
) -> Spec:
    """Return lines of means against x, with spans; a panel for each title where there are several.

    every: the looks of all figures, where this is one of many.
    """
    beside = _beside(points, says.budgets)
    rows = [
        {
            **vars(point),
            "at": point.x * beside[point.method],
            "low": point.mean if point.low is None else point.low,
            "high": point.mean if point.high is None else point.high,
        }
        for point in points
    ]
    looks = list(dict.fromkeys(point.look for point in points))
    shapes = list(dict.fromkeys(point.shape for point in points if point.shape))
    x: Spec = {"field": "at", "type": "quantitative", "title": says.x}
    if says.budgets:
        reach = [b * f for b in says.budgets for f in beside.values()]
        room = (max(reach) / min(reach)) ** _ROOM
        ends = [min(reach) / room, 1.03 * max(reach)]
        x["scale"] = {"type": "log", "domain": ends, "nice": False}
        x["axis"] = {"values": list(says.budgets), "format": "~s", "grid": False}
    else:
        x["axis"] = {"tickMinStep": 1, "format": "d", "grid": False}
        x["scale"] = {"zero": False}
    y = number_axis(says.y)
    one = len(set(looks)) == 1
    encoding: Spec = {
        "x": x,
        "color": {
            "field": "look",
            "type": "nominal",
            "scale": colours(looks, RANDOM, every),
            "title": None,
            "legend": None if one and not shapes else {"symbolType": "stroke"},
        },
        "opacity": {"condition": {"param": "picked", "value": 1}, "value": 0.15},
        "detail": {"field": "method"},
    }
    shape: Spec = {}
    dash: Spec = {}
    if len(shapes) > 1:
        shape = {"shape": _of_shape("shape", cycled(["", *shapes], SHAPES), shapes)}
        dash = {"strokeDash": _of_shape("shape", cycled(["", *shapes], DASHES), shapes)}
    tooltip = [
        named("method", "method"),
        {"field": "x", "type": "quantitative", "title": says.x, "format": ",d"},
        named("text", says.y),
    ]
    pick: Spec = {
        "name": "picked",
        "select": {"type": "point", "fields": ["look"]},
        "bind": "legend",
    }
    layers: list[Spec] = [
        {"mark": "line", "params": [pick], "encoding": {**encoding, **dash, "y": {"field": "mean", **y}}},
        {
            "mark": {"type": "rule", "strokeWidth": 1.5},
            "encoding": {
                **encoding,
                "y": {"field": "low", **y},
                "y2": {"field": "high"},
                "tooltip": tooltip,
            },
        },
        {
            "mark": {"type": "point", "filled": True, "size": 60, "opacity": 1},
            "encoding": {**encoding, **shape, "y": {"field": "mean", **y}, "tooltip": tooltip},
        },
    ]  # fmt: skip
    panels = list(dict.fromkeys(point.panel for point in points))
    if levels:
        rows += [
            {"panel": each.panel, "zero": each.value, "level": each.label, "text": each.text}
            for each in levels
        ]
        layers += level_layers("y", says)
    if len(panels) == 1:
        return {"data": values(rows), "width": WIDTH, "height": 240, "layer": layers}
    return {
        "data": values(rows),
        "facet": {"field": "panel", "type": "nominal", "sort": [printable(p) for p in panels]},
        "columns": 2,
        "spec": {"width": PANEL, "height": 150, "layer": layers},
        "resolve": {"scale": {"y": "independent"}},
    }


def _of_shape(name: str, scale: Spec, shown: Sequence[str]) -> Spec:
    legend = {"values": [printable(name) for name in shown], "columns": 3}
    return {"field": name, "type": "nominal", "scale": scale, "title": None, "legend": legend}


def level_layers(axis: str, says: Axes) -> list[Spec]:
    """Return the dashed line and its name."""
    along = {axis: {"field": "zero", "type": "quantitative"}}
    tooltip = [named("level", "untrained model"), named("text", says.y)]
    only = [{"filter": "isValid(datum.zero)"}]
    at: Spec = {"align": "left", "baseline": "bottom", "dx": 4, "dy": -2}
    place: Spec = {"x": {"value": 0}} if axis == "y" else {"y": {"value": 0}}
    return [
        {
            "transform": only,
            "mark": {"type": "rule", "strokeDash": [4, 3], "strokeWidth": 1.4},
            "encoding": {**along, "tooltip": tooltip},
        },
        {
            "transform": only,
            "mark": {"type": "text", **at},
            "encoding": {**along, **place, "text": {"field": "level"}},
        },
    ]


def _beside(points: Sequence[Point], budgets: Sequence[int]) -> Mapping[str, float]:
    """Return by which factor each method's x is moved, so that spans at one budget can be told apart."""
    methods = list(dict.fromkeys(point.method for point in points))
    if not budgets:
        return dict.fromkeys(methods, 1.0)
    apart = _APART
    for budget, following in pairwise(budgets):
        apart = min(apart, (following / budget) ** (_CROWD / len(methods)))
    middle = (len(methods) - 1) / 2
    return {method: apart ** (place - middle) for place, method in enumerate(methods)}

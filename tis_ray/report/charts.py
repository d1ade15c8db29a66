"""What all figures share: one Vega-Lite spec a figure, its colours, and its file as SVG, PDF or PNG.

A page hands the same specs to Vega in the browser, where they show their numbers on hover; `vl-convert`
draws them into files. Texts of users stand in data, titles and scale domains, never in an expression.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import vl_convert

Spec = dict[str, Any]
SCHEMA = "https://vega.github.io/schema/vega-lite/v6.json"
VEGALITE = "6.4"
WIDTH = 460
"""Width of a figure's plot in points; the page gives it the width of its place."""
PANEL = 205
"""Width of one of two panels side by side."""

INK, SOFT, RULE = "#1b1f24", "#57606a", "#d8dee4"
BETTER, WORSE, ALIKE, OPEN = "#00795a", "#c24a00", "#0b5cad", "#6e7781"
QUERY = "#c8102e"
METHOD_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#5b3fa0")
"""Okabe and Ito's colours, safe for colour-blind readers, without yellow; then a violet."""
SHAPES = ("circle", "square", "triangle-up", "diamond", "triangle-down", "cross", "triangle-left")
DASHES = ((1, 0), (6, 3), (2, 2), (8, 3, 2, 3), (4, 4), (10, 3), (1, 3))
SOURCE_COLOURS = ("#77aadd", "#ee8866", "#eedd88", "#ffaabb", "#44bb99", "#99ddff", "#bbcc33")
"""Tol's "light" scheme: calm fills."""
OTHER_COLOUR = "#c9ced4"

CONFIG: Spec = {
    "font": "Liberation Sans, Arial, sans-serif",
    "background": "white",
    "view": {"stroke": None},
    "axis": {
        "labelColor": SOFT,
        "titleColor": SOFT,
        "gridColor": RULE,
        "domainColor": RULE,
        "tickColor": RULE,
        "labelFontSize": 12,
        "titleFontSize": 12,
        "titleFontWeight": "normal",
        "labelLimit": 220,
        "tickCount": 5,
    },
    "legend": {
        "labelColor": INK,
        "titleColor": SOFT,
        "labelFontSize": 12,
        "titleFontSize": 12,
        "titleFontWeight": "normal",
        "labelLimit": 240,
        "orient": "bottom",
        "columns": 2,
        "symbolStrokeWidth": 2,
    },
    "header": {"labelColor": INK, "labelFontSize": 12, "title": None, "labelLimit": 240},
    "title": {"color": INK, "fontSize": 12, "fontWeight": "normal", "anchor": "start"},
    "text": {"color": INK, "fontSize": 12},
    "rule": {"color": INK},
}
"""How figures look in files; the page replaces the colours by its own, light or dark."""


@dataclass(frozen=True)
class Drawing:
    """A figure with its caption.

    spec: Vega-Lite without `config` and size. empty where there is nothing to draw.
    """

    name: str
    title: str
    caption: str
    spec: Spec = field(default_factory=dict)

    @cached_property
    def whole(self) -> Spec:
        """The spec as it stands for itself, for any program that reads Vega-Lite."""
        alone = {"description": f"{self.title}. {self.caption}", **self.spec}
        return {"$schema": SCHEMA, **alone, "config": CONFIG}

    @property
    def svg(self) -> str:
        """The figure as SVG."""
        return vl_convert.vegalite_to_svg(self.whole, vl_version=VEGALITE)

    def file(self, kind: str) -> bytes:
        """Return the figure's file of a kind, a key of `KINDS`."""
        return KINDS[kind](self.whole)


KINDS: Mapping[str, Callable[[Spec], bytes]] = {
    "svg": lambda spec: vl_convert.vegalite_to_svg(spec, vl_version=VEGALITE).encode(),
    "pdf": lambda spec: vl_convert.vegalite_to_pdf(spec, vl_version=VEGALITE),
    "png": lambda spec: vl_convert.vegalite_to_png(spec, vl_version=VEGALITE, scale=2),
    "vl.json": lambda spec: json.dumps(spec, ensure_ascii=False).encode(),
}
"""Kinds of files of a figure: as pictures, and as its spec."""


def figure_name(kind: str, metric: str) -> str:
    """Return a figure's name, which is also that of its file."""
    return f"{kind}_{re.sub(r'[^A-Za-z0-9_-]', '-', metric)}"


def printable(text: str) -> str:
    """Return a text without control characters: no font draws them, and SVG may not hold them."""
    return re.sub(r"[^\S ]+|[\x00-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]", " ", text)


def values(rows: Sequence[Mapping[str, object]]) -> Spec:
    """Return rows as inline data."""
    return {
        "values": [
            {key: printable(v) if isinstance(v, str) else v for key, v in row.items()}
            for row in rows
        ]
    }


def number_axis(title: str, **more: object) -> Spec:
    """Return the axis and scale of a number that need not begin at 0."""
    return {"type": "quantitative", "title": title, "scale": {"zero": False, "padding": 6}, **more}


def named(field_name: str, title: str) -> Spec:
    """Return a field of texts for a tooltip."""
    return {"field": field_name, "type": "nominal", "title": title}


def colours(names: Sequence[str], first: str = "", every: Sequence[str] = ()) -> Spec:
    """Return a scale that gives each name its colour; `first` (random) is grey.

    every: the names of all figures, so that a name has one colour in all; as long as there are enough.
    """
    own = [name for name in every if name != first]
    if not set(names) <= {first, *own} or len(own) > len(METHOD_COLOURS):
        own = [name for name in names if name != first]
    found = {name: METHOD_COLOURS[i % len(METHOD_COLOURS)] for i, name in enumerate(own)}
    return {
        "domain": [printable(name) for name in names],
        "range": [OPEN if name == first else found[name] for name in names],
    }


def cycled(names: Sequence[str], looks: Sequence[Any]) -> Spec:
    """Return a scale that gives each name the next look; they repeat where there are more names."""
    return {
        "domain": [printable(name) for name in names],
        "range": [looks[i % len(looks)] for i in range(len(names))],
    }

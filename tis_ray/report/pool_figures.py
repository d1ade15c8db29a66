"""Figures of what was selected and what it cost: map, composition, scores, stages.

Each function returns a figure whose spec is empty where there is nothing to draw.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

import numpy as np

from tis_ray.analysis import Method
from tis_ray.analysis.recorded import PoolMap
from tis_ray.report.charts import (
    INK,
    METHOD_COLOURS,
    OTHER_COLOUR,
    PANEL,
    QUERY,
    RULE,
    SOURCE_COLOURS,
    WIDTH,
    Drawing,
    Spec,
    named,
    number_axis,
    printable,
    values,
)
from tis_ray.report.formatting import duration
from tis_ray.report.record import StudyRecord

MOST_DOTS = 8_000
"""Pool rows that a map draws over all its panels; a larger pool is thinned evenly."""
MOST_RANKS = 300
"""Ranks of an ordering that the figure of its scores has."""


def pool_map(record: StudyRecord) -> Drawing:
    """Draw the pool by source (muted), the queries (stars) and each method's subset (rings)."""
    plane = record.map or {}
    if not plane.get("pool_xy"):
        return Drawing("map", "", "")
    names = _shown_sources(record)
    panels = {
        record.legend.method(method): rows for method, rows in (plane.get("selected") or {}).items()
    } or {"": []}
    sources = plane.get("pool_source") or [""] * len(plane["pool_xy"])
    pool = [
        {"x": x, "y": y, "source": names.get(source, source)}
        for (x, y), source in zip(plane["pool_xy"], sources, strict=True)
    ]
    stride = -(-len(pool) * len(panels) // MOST_DOTS)
    spec: Spec = {
        "datasets": {
            "pool": values(pool[::stride])["values"],
            "query": [{"x": x, "y": y, "what": "query"} for x, y in plane.get("query_xy") or []],
        },
        "concat": [
            _panel(f"{name} ({len(rows):,})" if name else "", [pool[row] for row in rows], names)
            for name, rows in panels.items()
        ],
        "columns": 2,
    }
    if len(panels) == 1:
        spec = {"datasets": spec["datasets"], **spec["concat"][0], "width": WIDTH, "height": 300}
    caption = _map_caption(record, plane, len(pool[::stride]))
    return Drawing("map", "Map of pool, queries and subsets", caption, spec)


def _panel(title: str, chosen: Sequence[Mapping[str, object]], names: Mapping[str, str]) -> Spec:
    bare: Spec = {"type": "quantitative", "axis": None, "scale": {"zero": False}}
    place = {"x": {"field": "x", **bare}, "y": {"field": "y", **bare}}
    shown = list(dict.fromkeys(names.values()))
    scale = {
        "domain": [printable(name) for name in shown],
        "range": [
            SOURCE_COLOURS[i] if i < len(SOURCE_COLOURS) else OTHER_COLOUR
            for i in range(len(shown))
        ],
    }
    source = {"field": "source", "type": "nominal", "title": None, "scale": scale}
    ring = 40 if len(chosen) <= 400 else 8
    return {
        "title": printable(title),
        "width": PANEL,
        "height": PANEL,
        "layer": [
            {
                "data": {"name": "pool"},
                "mark": {"type": "circle", "size": 16, "opacity": 0.7},
                "encoding": {**place, "color": source, "tooltip": [named("source", "source")]},
            },
            {
                "data": values(chosen),
                "mark": {"type": "point", "size": ring, "strokeWidth": 1.1, "color": INK},
                "encoding": {**place, "tooltip": [named("source", "selected, source")]},
            },
            {
                "data": {"name": "query"},
                "mark": {"type": "point", "shape": "cross", "filled": True, "size": 45}
                | {"color": QUERY, "opacity": 1},
                "encoding": {**place, "tooltip": [named("what", "what")]},
            },
        ],
    }


def _map_caption(record: StudyRecord, plane: PoolMap, drawn: int) -> str:
    """Say what the map shows, and what it leaves out."""
    name = record.legend.representation(plane.get("representation") or "?")
    text = (
        f"Near points have similar {name} features; a plane cannot keep every distance. Rings are"
        " selected rows, red crosses queries."
    )
    total = max(record.pool_rows, len(plane["pool_xy"]))
    return f"{text} {drawn:,} of {total:,} pool rows are shown." if total > drawn else text


def composition(record: StudyRecord) -> Drawing:
    """Draw the share of each source, one stacked bar for the pool and one for each subset."""
    bars = {
        record.legend.part(part): counts
        for part, counts in record.composition.items()
        if sum(counts.values())
    }
    names = _shown_sources(record)
    order = list(dict.fromkeys(names.values()))
    rows = []
    for bar, counts in bars.items():
        grouped = Counter[str]()
        for source, count in counts.items():
            grouped[names[source]] += count
        rows += [
            {
                "bar": bar,
                "source": source,
                "place": order.index(source),
                "share": 100 * count / sum(counts.values()),
                "text": f"{count:,} rows, {100 * count / sum(counts.values()):.1f}%",
            }
            for source, count in grouped.items()
        ]
    spec: Spec = {
        "data": values(rows),
        "width": WIDTH,
        "height": 24 * len(bars),
        "mark": {"type": "bar", "stroke": "white", "strokeWidth": 0.6},
        "encoding": {
            "y": _bars(list(bars)),
            "x": {
                "field": "share",
                "type": "quantitative",
                "title": "% of rows",
                "scale": {"domain": [0, 100]},
            },
            "order": {"field": "place"},
            "color": {
                "field": "source",
                "type": "nominal",
                "title": None,
                "scale": {
                    "domain": [printable(name) for name in order],
                    "range": [*SOURCE_COLOURS, OTHER_COLOUR][: len(order)],
                },
            },
            "tooltip": [named("bar", "rows of"), named("source", "source"), named("text", "share")],
        },
    }
    caption = "Share of each source in the pool and in each subset."
    return Drawing("composition", "Composition by source", caption, spec if rows else {})


def _bars(names: Sequence[str]) -> Spec:
    """Return an axis with a line for each name."""
    shown = [printable(name) for name in names]
    return {
        "field": "bar",
        "type": "nominal",
        "title": None,
        "sort": shown,
        "axis": {"ticks": False, "domain": False, "grid": False},
    }


def score_by_rank(record: StudyRecord) -> Drawing:
    """Draw the scores of each ordering against rank, a panel a method with its own scale."""
    rows, names = [], []
    for ordering in record.orderings:
        name = record.legend.method(Method.from_json(ordering))
        scored = [(k, r["score"]) for k, r in enumerate(ordering["rows"], 1) if _scored(r)]
        if scored:
            names.append(name)
            places = np.unique(np.linspace(0, len(scored) - 1, MOST_RANKS).round().astype(int))
            rows += [
                {"panel": name, "rank": scored[p][0], "score": scored[p][1]}
                for p in places.tolist()
            ]
    line: Spec = {
        "mark": {"type": "line", "color": METHOD_COLOURS[0], "tooltip": True},
        "encoding": {
            "x": {
                "field": "rank",
                "type": "quantitative",
                "title": "rank",
                "axis": {"tickCount": 4},
            },
            "y": number_axis("score", field="score"),
        },
    }
    spec: Spec = {
        "data": values(rows),
        "facet": {"field": "panel", "type": "nominal", "sort": [printable(n) for n in names]},
        "columns": 2,
        "spec": {"width": PANEL, "height": 110, **line},
        "resolve": {"scale": {"y": "independent"}},
    }
    caption = "The score of each selected example, best first. Scales differ between methods."
    return Drawing("scores", "Score by rank", caption, spec if rows else {})


def _scored(row: Mapping[str, object]) -> bool:
    return row.get("score") is not None


def stage_cost(record: StudyRecord) -> Drawing:
    """Draw seconds by stage, computed and reused apart."""
    totals: dict[str, dict[str, float]] = {}
    counts = Counter(stage.stage for stage in record.stages)
    for stage in record.stages:
        name = f"{stage.stage} × {counts[stage.stage]}" if counts[stage.stage] > 1 else stage.stage
        part = totals.setdefault(name, {"computed": 0.0, "reused": 0.0})
        part["reused" if stage.reused else "computed"] += stage.seconds
    rows = [
        {"bar": name, "what": what, "seconds": seconds, "text": duration(seconds)}
        for name, parts in totals.items()
        for what, seconds in parts.items()
        if seconds
    ]
    spec: Spec = {
        "data": values(rows),
        "width": WIDTH,
        "height": 22 * len(totals),
        "mark": "bar",
        "encoding": {
            "y": _bars(list(totals)),
            "x": {"field": "seconds", "type": "quantitative", "title": "seconds"},
            "color": {
                "field": "what",
                "type": "nominal",
                "title": None,
                "scale": {"domain": ["computed", "reused"], "range": [METHOD_COLOURS[0], RULE]},
            },
            "tooltip": [named("bar", "stage"), named("what", "how"), named("text", "time")],
        },
    }
    caption = "Wall time by stage. Pale: an earlier run's artifact was reused, at no cost now."
    return Drawing("cost", "What each stage cost", caption, spec if rows else {})


def _shown_sources(record: StudyRecord) -> dict[str, str]:
    """Return source → the name it has in figures; all but the heaviest share one.

    Sources are weighed by their largest share of any bar, so that a source which is small in the
    pool but fills a subset keeps its own colour.
    """
    bars = [*record.composition.values(), Counter((record.map or {}).get("pool_source") or [""])]
    shares: dict[str, float] = defaultdict(float)
    for counts in bars:
        for source, count in counts.items():
            shares[source] = max(shares[source], count / max(sum(counts.values()), 1))
    heaviest = sorted(shares, key=lambda source: (-shares[source], source))
    own = len(SOURCE_COLOURS) if len(heaviest) > len(SOURCE_COLOURS) + 1 else len(heaviest)
    rest = f"{len(heaviest) - own} other sources"
    return {
        source: (source or "no source") if place < own else rest
        for place, source in enumerate(heaviest)
    }

"""Figures of what was selected and what it cost: map, composition, scores, stages.

Each function returns an SVG string, empty when there is nothing to draw.
"""

from __future__ import annotations

from collections import Counter, defaultdict

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from tis_ray.analysis import Method
from tis_ray.report import svg
from tis_ray.report.formatting import duration
from tis_ray.report.record import StudyRecord

VECTOR_POINTS = 5000
"""Above this many drawn pool points, the map holds them as one embedded picture."""
MOST_RINGS = 400
"""A map panel with more selected rows than this draws dots in place of rings."""


def pool_map(record: StudyRecord) -> str:
    """Draw the pool by source (muted), the queries (stars) and each method's subset (rings)."""
    if not record.map or not record.map.get("pool_xy"):
        return ""
    pool = np.asarray(record.map["pool_xy"], dtype=np.float64)
    queries = np.asarray(record.map.get("query_xy") or np.empty((0, 2)), dtype=np.float64)
    sources = record.map.get("pool_source") or [""] * len(pool)
    selected = record.map.get("selected") or {}
    panels = {record.legend.method(method): rows for method, rows in selected.items()}
    panels = panels or {"Selected": []}
    colours = _colours(record)
    point_colours = [colours[source] for source in sources]
    crowded = max(map(len, panels.values())) > MOST_RINGS
    columns = min(len(panels), 2)
    lines = -(-len(panels) // columns)
    size = 14 if len(pool) <= 500 else 6 if len(pool) <= VECTOR_POINTS else 2.5

    def paint(figure: Figure) -> None:
        grid = figure.subplots(lines, columns, squeeze=False, sharex=True, sharey=True).ravel()
        for axes in grid[len(panels) :]:
            axes.set_visible(False)
        for axes, (method, positions) in zip(grid, panels.items(), strict=False):
            axes.scatter(
                pool[:, 0],
                pool[:, 1],
                s=size,
                c=point_colours,
                alpha=0.75,
                linewidths=0,
                rasterized=len(pool) * len(panels) > VECTOR_POINTS,
            )
            axes.scatter(
                *pool[np.asarray(positions, dtype=np.int64)].T,
                s=5 if crowded else 22,
                facecolors=svg.CROWD if crowded else "none",
                edgecolors="none" if crowded else svg.INK,
                linewidths=0 if crowded else 0.9,
                rasterized=crowded,
            )
            axes.scatter(
                *queries.T, s=90, marker="*", c=svg.QUERY, edgecolors=svg.GROUND, linewidths=0.6
            )
            axes.set_title(f"{svg.short(method, 24)} ({len(positions):,})")
            svg.bare(axes)
        handles = [
            _dot(svg.QUERY, f"query ({len(queries):,})", "*", 11),
            _dot(svg.CROWD if crowded else svg.INK, "selected", "o", 6, filled=crowded),
            *_source_handles(colours),
        ]
        figure.legend(handles=handles, loc="outside lower center", ncols=_columns(colours))

    summary = f"{len(pool)} pool rows and {len(queries)} queries. " + "; ".join(
        f"{method}: {len(positions)} selected" for method, positions in panels.items()
    )
    legend = -(-(2 + len(set(colours.values()))) // _columns(colours))
    height = lines * (4.0 if columns == 1 else 2.4) + 0.22 * legend
    dpi = 150 if len(panels) <= 4 else 100  # each panel holds its own picture of the pool
    return svg.draw("map", "Map of pool, queries and selected rows", summary, height, paint, dpi)


def map_caption(record: StudyRecord) -> str:
    """Say what the map shows, and what it leaves out or simplifies."""
    if not record.map or not record.map.get("pool_xy"):
        return ""
    count = len(record.map["pool_xy"])
    panels = len(record.map.get("selected") or {})
    name = record.legend.representation(record.map.get("representation") or "?")
    text = f"Near points have similar {name} features; a plane cannot keep every distance."
    total = record.pool_rows
    if total > count:
        text += f" {count:,} of {total:,} pool rows are shown."
    if count * panels > VECTOR_POINTS:
        text += f" All {count:,} points are drawn, as a picture, to keep the page small."
    return text


def composition(record: StudyRecord) -> str:
    """Draw the share of each source, one stacked bar for the pool and one for each subset."""
    bars = {
        record.legend.part(part): counts
        for part, counts in record.composition.items()
        if sum(counts.values())
    }
    if not bars:
        return ""
    colours = _colours(record)

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        for y, counts in enumerate(bars.values()):
            left, total = 0.0, sum(counts.values())
            for colour, group in _by_colour(colours):
                share = 100 * sum(counts.get(source, 0) for source in group) / total
                axes.barh(y, share, 0.78, left, color=colour, edgecolor=svg.GROUND, linewidth=0.8)
                if share >= 9:
                    axes.text(
                        left + share / 2,
                        y,
                        f"{share:.0f}",
                        color=svg.INK_ON_FILL,
                        fontsize=9.5,
                        ha="center",
                        va="center",
                    )
                left += share
        names = [svg.short(name, 34) for name in bars]
        axes.set_yticks(range(len(bars)), names)
        axes.set_ylim(len(bars) - 0.4, -0.6)
        axes.set_xlim(0, 100)
        axes.set_xlabel("% of rows")
        axes.grid(False)
        axes.tick_params(axis="y", length=0)
        figure.legend(
            handles=_source_handles(colours, marker="s"),
            loc="outside lower center",
            ncols=_columns(colours),
        )

    summary = "; ".join(
        f"{name}: " + ", ".join(f"{s} {c}" for s, c in Counter(counts).most_common(3))
        for name, counts in bars.items()
    )
    legend = -(-len(set(colours.values())) // _columns(colours))
    height = 0.75 + 0.27 * len(bars) + 0.22 * legend
    return svg.draw("composition", "Composition by source", summary, height, paint)


def score_by_rank(record: StudyRecord) -> str:
    """Draw the scores of each ordering against rank, a panel a method with its own scale."""
    shown = [o for o in record.orderings if any(r.get("score") is not None for r in o["rows"])]
    if not shown:
        return ""
    columns = min(len(shown), 2)
    lines = -(-len(shown) // columns)

    def paint(figure: Figure) -> None:
        grid = figure.subplots(lines, columns, squeeze=False).ravel()
        for axes in grid[len(shown) :]:
            axes.set_visible(False)
        for axes, ordering in zip(grid, shown, strict=False):
            scores = [row.get("score") for row in ordering["rows"]]
            values = [np.nan if s is None else s for s in scores]
            axes.plot(range(1, len(values) + 1), values, color=svg.METHOD_COLOURS[0], linewidth=1.6)
            axes.set_title(svg.short(record.legend.method(Method.from_json(ordering)), 28))
            axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
            axes.yaxis.set_major_locator(MaxNLocator(4))
        figure.supxlabel("rank", fontsize=10.5, color=svg.SOFT)
        figure.supylabel("score", fontsize=10.5, color=svg.SOFT)

    summary = f"{len(shown)} orderings, each from its first to its last recorded rank"
    height = 0.4 + lines * (2.6 if columns == 1 else 1.6)
    return svg.draw("scores", "Score by rank", summary, height, paint)


def stage_cost(record: StudyRecord) -> str:
    """Draw seconds by stage, computed and reused apart."""
    totals: dict[str, list[float]] = {}
    for stage in record.stages:
        parts = totals.setdefault(stage.stage, [0.0, 0.0, 0.0])
        parts[1 if stage.reused else 0] += stage.seconds
        parts[2] += 1
    if not totals:
        return ""

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        longest = max(max(done + reused for done, reused, _ in totals.values()), 1e-9)
        for y, (done, reused, _) in enumerate(totals.values()):
            axes.barh(y, done, 0.7, color=svg.METHOD_COLOURS[0])
            axes.barh(y, reused, 0.7, done, color=svg.RULE)
            words = [duration(done)] if done or not reused else []
            words += [f"{duration(reused)} reused"] if reused else []
            x = done + reused + 0.01 * longest
            axes.text(x, y, " + ".join(words), va="center", color=svg.SOFT, fontsize=10)
        names = [
            f"{svg.short(n)} × {t[2]:.0f}" if t[2] > 1 else svg.short(n) for n, t in totals.items()
        ]
        axes.set_yticks(range(len(totals)), names)
        axes.set_ylim(len(totals) - 0.4, -0.6)
        axes.set_xlim(0, 1.45 * longest)  # room for the words at the end of the longest bar
        axes.set_xticks([])
        axes.grid(False)
        axes.spines["bottom"].set_visible(False)
        axes.tick_params(axis="y", length=0)

    summary = "; ".join(
        f"{n}: {duration(d)} computed, {duration(r)} reused" for n, (d, r, _) in totals.items()
    )
    return svg.draw("cost", "Cost by stage", summary, 0.4 + 0.32 * len(totals), paint)


def _colours(record: StudyRecord) -> dict[str, str]:
    """Return source → colour, the same in every figure.

    Sources are weighed by their largest share of any bar, so that a source which is small in the
    pool but fills a subset has its own colour.
    """
    bars = [*record.composition.values(), Counter((record.map or {}).get("pool_source") or [""])]
    shares: dict[str, float] = defaultdict(float)
    for counts in bars:
        for source, count in counts.items():
            shares[source] = max(shares[source], count / max(sum(counts.values()), 1))
    return svg.source_colours(shares)


def _by_colour(colours: dict[str, str]) -> list[tuple[str, list[str]]]:
    """Group sources that share a colour (the small ones), in order."""
    groups: dict[str, list[str]] = defaultdict(list)
    for source, colour in colours.items():
        groups[colour].append(source)
    return list(groups.items())


def _labels(colours: dict[str, str]) -> list[str]:
    return [
        f"{len(group)} other sources"
        if colour == svg.OTHER_COLOUR and len(group) > 1
        else svg.short(group[0] or "no source", 48)
        for colour, group in _by_colour(colours)
    ]


def _columns(colours: dict[str, str]) -> int:
    """Return how many columns the legend has room for."""
    return 1 if max(map(len, _labels(colours))) > 24 else 2


def _source_handles(colours: dict[str, str], marker: str = "o") -> list[Line2D]:
    pairs = zip(_by_colour(colours), _labels(colours), strict=True)
    return [_dot(colour, label, marker) for (colour, _), label in pairs]


def _dot(
    colour: str, label: str, marker: str = "o", size: float = 7, *, filled: bool = True
) -> Line2D:
    """Return a legend entry: a marker without a line."""
    return Line2D(
        [],
        [],
        linestyle="none",
        marker=marker,
        markersize=size,
        color=colour,
        markerfacecolor=colour if filled else "none",
        label=label,
    )

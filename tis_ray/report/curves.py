"""Curves in panels: values against budgets or quantiles, a line a method, a dashed line for zero-shot.

All curves of all pages are drawn here. Where every method has a look of its own the panels stand two
in a row and share a legend; where looks are used again each panel has a legend of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import ceil

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator
from matplotlib.transforms import ScaledTranslation

from tis_ray.report import svg

DASHED = (0, (4, 2))
"""The line style of baselines."""
_APART, _CROWD = 1.035, 0.3
"""Methods at one budget stand side by side: a factor apart, or less where all of them would take more
than this share of the way to the next budget."""


@dataclass(frozen=True)
class Look:
    """How a method is drawn."""

    colour: str
    marker: str
    dashed: bool = False


BASELINE = Look(svg.OPEN, "o", dashed=True)


@dataclass(frozen=True)
class Curve:
    """One method's points; `spans` are the (low, high) of each, or None for a point without."""

    label: str
    look: Look
    x: Sequence[float]
    y: Sequence[float]
    spans: Sequence[tuple[float, float] | None] = ()


@dataclass(frozen=True)
class Panel:
    """Some curves on axes of their own; `level` is the height of the dashed line."""

    title: str
    curves: Sequence[Curve]
    level: float | None = None


@dataclass(frozen=True)
class Labels:
    """What the axes say. `budgets` are the ticks of a logarithmic axis; without them x counts."""

    x: str
    y: str
    budgets: Sequence[int] = ()
    level: str = "Zero-shot"
    """The dashed line."""
    percent: bool = False
    """Whether values are shares of 1, shown in percent."""


@dataclass(frozen=True)
class Foot:
    """What stands below the panels: `height` in inches, and what paints it."""

    height: float
    paint: Callable[[Axes], None]


def method_look(place: int) -> Look:
    """Return the look of the method at this place; looks repeat when the colours run out."""
    colours = svg.METHOD_COLOURS
    return Look(colours[place % len(colours)], svg.MARKERS[place % len(svg.MARKERS)])


def draw_curves(
    name: str,
    title: str,
    summary: str,
    panels: Sequence[Panel],
    says: Labels,
    foot: Foot | None = None,
) -> str:
    """Return the figure as SVG."""
    curves = [curve for panel in panels for curve in panel.curves]
    labels = {curve.label: curve.look for curve in curves}
    shared = len(set(labels.values())) == len(labels)
    columns = 2 if shared and len(panels) > 1 else 1
    lines = ceil(len(panels) / columns)
    height = 1.75 if columns == 2 else 2.6
    handles = [_handle(label, look) for label, look in labels.items()]
    if any(panel.level is not None for panel in panels):
        handles.append(
            Line2D([], [], color=svg.INK, ls=(0, (2, 2)), lw=1.1, label=svg.short(says.level))
        )

    def paint(figure: Figure) -> None:
        heights = [height] * lines + ([foot.height] if foot else [])
        grid = figure.add_gridspec(len(heights), columns, height_ratios=heights)
        first: Axes | None = None
        for j, panel in enumerate(panels):
            axes = figure.add_subplot(
                grid[divmod(j, columns)], sharey=first if columns == 1 else None
            )
            first = first or axes
            _paint(axes, panel, says, title=len(panels) > 1)
            if j >= len(panels) - columns or not shared:
                axes.set_xlabel(says.x)
            if columns == 1:
                axes.set_ylabel(says.y)
            if not shared:
                own = [_handle(curve.label, curve.look) for curve in panel.curves]
                _legend_below(axes, figure, [*own, *handles[len(labels) :]])
        if foot:
            foot.paint(figure.add_subplot(grid[lines, :]))
        if shared and len(panels) % columns:  # the legend takes the place left over
            place = figure.add_subplot(grid[divmod(len(panels), columns)])
            svg.bare(place)
            place.legend(handles=handles, loc="center left", borderaxespad=0)
        elif shared:
            figure.legend(handles=handles, loc="outside lower left", ncols=2)

    under = 0.22 * sum((len(p.curves) + 3) // 2 for p in panels) if not shared else 0.0
    if shared and not len(panels) % columns:
        under = 0.22 * ((len(handles) + 1) // 2)
    tall = 0.4 + height * lines + under + (foot.height + 0.3 if foot else 0.0)
    return svg.draw(name, title, summary, tall, paint)


def _paint(axes: Axes, panel: Panel, says: Labels, title: bool) -> None:
    middle, apart = (len(panel.curves) - 1) / 2, _APART
    for budget, following in pairwise(says.budgets):
        apart = min(apart, (following / budget) ** (_CROWD / len(panel.curves)))
    for position, curve in enumerate(panel.curves):
        beside = apart ** (position - middle) if says.budgets else 1.0
        x = [beside * place for place in curve.x]
        style = DASHED if curve.look.dashed else "-"
        axes.plot(x, curve.y, color=curve.look.colour, marker=curve.look.marker, ls=style, lw=1.4, ms=4)  # fmt: skip
        for place, span in zip(x, curve.spans, strict=False):
            if span:
                axes.plot([place, place], span, color=curve.look.colour, lw=1.1)
    if panel.level is not None:
        axes.axhline(panel.level, color=svg.INK, ls=(0, (2, 2)), lw=1.1)
    if title:
        axes.set_title(svg.short(panel.title, 27))
    axes.yaxis.set_major_locator(MaxNLocator(4))
    if says.percent:
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.4g}%"))
    if says.budgets:
        axes.set_xscale("log")
        axes.set_xticks(says.budgets, [_thousands(budget) for budget in says.budgets])
        axes.xaxis.set_minor_locator(NullLocator())
    else:
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))


def _handle(label: str, look: Look) -> Line2D:
    """Return a method's line for a legend."""
    style = DASHED if look.dashed else "-"
    return Line2D([], [], color=look.colour, marker=look.marker, ls=style, lw=1.4, ms=5,
                  label=svg.short(label))  # fmt: skip


def _legend_below(axes: Axes, figure: Figure, handles: Sequence[Line2D]) -> None:
    """Put the legend 40 points under the axes, below tick labels and axis label."""
    below = axes.transAxes + ScaledTranslation(0, -40 / 72, figure.dpi_scale_trans)
    axes.legend(handles=handles, loc="upper left", bbox_to_anchor=(0, 0), bbox_transform=below,
                ncols=2, borderaxespad=0)  # fmt: skip


def _thousands(budget: int) -> str:
    return f"{budget / 1000:g}k" if budget >= 10_000 else f"{budget:,}"

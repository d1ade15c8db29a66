"""The section on cost against gain: what each method took beyond random, and what that bought.

The cost is the wall time of the stages that the method cannot do without and random can: warm-up,
features, scores, ordering. Each counts as if made for this method alone, and at its first making,
also where this run reused it. Budgets are prefixes of one ordering, so all have the same cost.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, NullLocator
from scipy.optimize import isotonic_regression

from tis_ray.analysis import Comparison, Interval, Method, StageCost, TableRow
from tis_ray.metrics.description import MetricDescription
from tis_ray.report import svg
from tis_ray.report.formatting import (
    decimals,
    duration,
    interval,
    metrics_of,
    number,
    sentence,
)
from tis_ray.report.record import StudyRecord

_TICKS = tuple(
    unit * step
    for unit, steps in ((1e-3, (1, 10, 100)), (1, (1, 10)), (60, (1, 10)), (3600, (1, 10, 100, 1000)))
    for step in steps
)  # fmt: skip
"""Seconds that an axis of time may name: 1 ms to 1,000 h."""
_APART = 0.035
"""Dots of nearly the same cost are drawn this share of the axis apart."""
_MOVED = 0.25
"""No crowd of dots is drawn wider than this share of the axis, lest it tell of costs that differ."""


@dataclass(frozen=True)
class MethodCost:
    """What a method took beyond random, by stage in the order of the run.

    lacking: why it took more than that, if it did.
    """

    stages: tuple[StageCost, ...]
    lacking: tuple[str, ...] = ()

    @property
    def seconds(self) -> float:
        """The sum."""
        return sum(stage.seconds for stage in self.stages)

    @property
    def words(self) -> str:
        """The sum in words."""
        return ("at least " if self.lacking else "") + duration(self.seconds)


def method_costs(record: StudyRecord) -> dict[Method, MethodCost]:
    """Return each method's cost; a method of which no stage is known is left out."""
    stages: dict[str, StageCost] = {}
    needed_by: dict[str, set[Method]] = {}
    for stage in record.stages:
        # An artifact is logged again where a second method finds it.
        stages.setdefault(stage.artifact, stage)
        needed_by.setdefault(stage.artifact, set()).update(stage.needed_by)
    costs = {}
    for method in dict.fromkeys(cell.method for cell in record.cells):
        names = {method, Method(method.representation)}
        own = tuple(stage for artifact, stage in stages.items() if needed_by[artifact] & names)
        if own:
            costs[method] = MethodCost(own, tuple(_lacking(record, method, own)))
    return costs


def _lacking(record: StudyRecord, method: Method, stages: Sequence[StageCost]) -> list[str]:
    """Return what a method needed and these stages did not make."""
    words = []
    for stage in stages:
        rows = stage.rows + stage.quarantined
        if stage.computed is not None and stage.computed < rows:
            words.append(f"{stage.stage}: {rows - stage.computed:,} of {rows:,} rows were stored")
    settings = record.config.get(method.representation) or {}
    if settings.get("adapter") or (settings.get("warmup") or {}).get("checkpoints"):
        words.append("the warm-up was given")
    return words


def gain(metric: MetricDescription, versus: Comparison) -> Interval:
    """Return a difference to random turned so that more is better."""
    if not metric.lower_is_better:
        return Interval(versus.difference, versus.low, versus.high, versus.n)
    low, high = (None if end is None else -end for end in (versus.high, versus.low))
    return Interval(-versus.difference, low, high, versus.n)


@dataclass(frozen=True)
class Gain:
    """A difference to random turned so that more is better, as texts."""

    gain: str
    interval: str
    tone: str


@dataclass(frozen=True)
class GainLine:
    """A method's cost, and its gain at each budget."""

    method: str
    cost: str
    stages: str
    lacking: str
    gains: list[Gain | None]


@dataclass(frozen=True)
class GainTable:
    """Cost and gains by one metric, a line a method, the cheapest first.

    training: how long the training of one model took at each budget.
    """

    figure: str
    name: str
    budgets: list[str]
    training: list[str]
    rows: list[GainLine]


def gain_tables(record: StudyRecord, rows: Sequence[TableRow]) -> list[GainTable]:
    """Return cost and gains as texts, a table a metric."""
    costs = method_costs(record)
    tables = []
    for metric in metrics_of(rows):
        compared = _compared(rows, metric, costs)
        if not compared:
            continue
        budgets = sorted({budget for _, budget in compared})
        methods = dict.fromkeys(method for method, _ in compared)
        places = decimals(rows, metric)
        lines = [
            GainLine(
                method=record.legend.method(method),
                cost=costs[method].words,
                stages=", ".join(
                    f"{stage.stage} {duration(stage.seconds)}" for stage in costs[method].stages
                ),
                lacking="; ".join(costs[method].lacking),
                gains=[_gain(metric, compared.get((method, b)), places) for b in budgets],
            )
            for method in sorted(methods, key=lambda m: costs[m].seconds)
        ]
        tables.append(
            GainTable(
                svg.figure_name("gain", metric.name),
                sentence(metric.words),
                [f"{budget:,}" for budget in budgets],
                [_training(record, budget) for budget in budgets],
                lines,
            )
        )
    return tables


def _compared(
    rows: Sequence[TableRow], metric: MetricDescription, costs: dict[Method, MethodCost]
) -> dict[tuple[Method, int], Comparison]:
    """Return (method, budget) → comparison with random, of the methods whose cost is known."""
    return {
        (row.method, row.budget): versus
        for row in rows
        if row.method in costs
        and not row.method.is_baseline
        and metric.name in row.metrics
        and (versus := row.metrics[metric.name].vs_random)
    }


def _gain(metric: MetricDescription, versus: Comparison | None, places: int) -> Gain | None:
    if versus is None:
        return None
    turned = gain(metric, versus)
    return Gain(
        gain=number(metric, turned.mean, places, signed=True),
        interval=interval(metric, turned, places, signed=True),
        tone=versus.verdict.replace(" ", "-"),
    )


def _training(record: StudyRecord, budget: int) -> str:
    """Return how long the training of one model took, mean over all methods."""
    known = [
        cell.seconds_train for cell in record.cells if cell.budget == budget and cell.seconds_train
    ]
    return duration(fmean(known)) if known else "–"


def gain_figure(
    name: str, record: StudyRecord, rows: Sequence[TableRow], metric: MetricDescription
) -> str:
    """Draw gain over random against cost, a dot a method, a panel a budget."""
    costs = method_costs(record)
    compared = _compared(rows, metric, costs)
    methods = [m for m in costs if any(m == method for method, _ in compared) and costs[m].seconds]
    if not methods:
        return ""
    budgets = sorted({budget for _, budget in compared})
    looks = _looks(methods)
    places, ends = _spread_out([costs[method].seconds for method in methods])
    scale = 100 if metric.share else 1
    labels = {method: record.legend.method(method) for method in methods}

    def paint(figure: Figure) -> None:
        panels = figure.subplots(len(budgets), 1, squeeze=False, sharex=True, sharey=True)[:, 0]
        for axes, budget in zip(panels, budgets, strict=True):
            axes.axhline(0, color=svg.INK, linewidth=1)
            for method, x in zip(methods, places, strict=True):
                versus = compared.get((method, budget))
                if versus is None:
                    continue
                found = gain(metric, versus)
                colour, marker = looks[method]
                if found.low is not None and found.high is not None:
                    bar = [scale * found.low, scale * found.high]
                    axes.plot([x, x], bar, color=colour, linewidth=1.4)
                fill = svg.GROUND if versus.verdict == "cannot tell" else colour
                axes.plot(
                    x, scale * found.mean, marker, color=colour, markerfacecolor=fill, markersize=6
                )
            axes.set_title(f"budget {budget:,}")
            axes.yaxis.set_major_locator(MaxNLocator(4))
        panels[-1].set_xscale("log")
        panels[-1].set_xlim(*ends)
        ticks = _ticks(*ends)
        panels[-1].set_xticks(ticks, [_tick_words(tick) for tick in ticks])
        panels[-1].xaxis.set_minor_locator(NullLocator())
        panels[-1].set_xlabel("time that the method took, random: none")
        unit = f"{metric.words}, points" if metric.share else metric.words
        figure.supylabel(f"gain in {unit} · better →", fontsize=10.5, color=svg.SOFT)
        handles = [
            Line2D([], [], linestyle="none", marker=looks[method][1], color=looks[method][0],
                   label=svg.short(labels[method] + " (at least)" * bool(costs[method].lacking), 30))
            for method in methods
        ]  # fmt: skip
        figure.legend(handles=handles, loc="outside lower center", ncols=2)

    summary = "; ".join(
        f"{labels[method]}, {costs[method].words}: "
        + ", ".join(
            f"{number(metric, gain(metric, versus).mean, 3, signed=True)} at {budget}"
            f" ({versus.verdict})"
            for budget in budgets
            if (versus := compared.get((method, budget)))
        )
        for method in methods
    )
    height = 0.7 + 1.7 * len(budgets) + 0.2 * ((len(methods) + 1) // 2)
    return svg.draw(name, f"Gain in {metric.words} against cost", summary, height, paint)


def _looks(methods: Sequence[Method]) -> dict[Method, tuple[str, str]]:
    """Return colour (one a representation) and marker (one a selector) of each method."""
    representations = list(dict.fromkeys(method.representation for method in methods))
    selectors = list(dict.fromkeys(method.selector for method in methods))
    return {
        method: (
            svg.METHOD_COLOURS[
                representations.index(method.representation) % len(svg.METHOD_COLOURS)
            ],
            svg.MARKERS[selectors.index(method.selector) % len(svg.MARKERS)],
        )
        for method in methods
    }


def _spread_out(seconds: Sequence[float]) -> tuple[list[float], tuple[float, float]]:
    """Return where dots are drawn on the axis of time, and its ends: a factor of 10 or more.

    Dots that would hide each other are moved aside, by as little as can be (least squares).
    """
    low, high = min(seconds), max(seconds)
    room = max(1.2, (10 * low / high) ** 0.5)
    gap = np.log(room**2 * high / low) * min(_APART, _MOVED / len(seconds))
    order = np.argsort(seconds, kind="stable")
    gaps = gap * np.arange(len(order))
    places = np.empty(len(order))
    places[order] = np.exp(isotonic_regression(np.log(seconds)[order] - gaps).x + gaps)
    ends = min(low / room, places.min() / 1.2), max(high * room, places.max() * 1.2)
    return [float(place) for place in places], (float(ends[0]), float(ends[1]))


def _ticks(low: float, high: float) -> list[float]:
    """Return round times between the ends; finer ones where there would be less than three."""
    coarse = [tick for tick in _TICKS if low <= tick <= high]
    fine = [tick * step for tick in _TICKS for step in (1, 3) if low <= tick * step <= high]
    return coarse if len(coarse) > 2 else fine


def _tick_words(seconds: float) -> str:
    for unit, words in ((3600, "h"), (60, "min"), (1, "s")):
        if seconds >= unit:
            return f"{seconds / unit:,.3g} {words}"
    return f"{1000 * seconds:.3g} ms"

"""The section on cost against gain: what each method took beyond random, and what that bought.

The cost is the wall time of the stages that the method cannot do without and random can: warm-up,
features, scores, ordering. Each counts as if made for this method alone, and at its first making,
also where this run reused it. Budgets are prefixes of one ordering, so all have the same cost.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from tis_ray.analysis import Comparison, Interval, Method, StageCost, TableRow
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
    values,
)
from tis_ray.report.formatting import (
    decimals,
    duration,
    interval,
    metrics_of,
    number,
    sentence,
    with_ends,
)
from tis_ray.report.record import StudyRecord
from tis_ray.report.sheets import Sheet, file_part


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

    metric: str
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
                metric.name,
                figure_name("gain", metric.name),
                sentence(metric.words),
                [f"{budget:,}" for budget in budgets],
                [_training(record, budget) for budget in budgets],
                lines,
            )
        )
    return tables


def gain_sheets(record: StudyRecord, rows: Sequence[TableRow]) -> list[Sheet]:
    """Return the same tables for files."""
    return [
        Sheet(
            f"bill_{file_part(table.metric)}",
            f"Cost against gain: {table.name}",
            "Gain over random with its 95% interval, positive is better.",
            (
                "Method",
                "Cost beyond random",
                "Not counted",
                *(f"{words} at {b}" for b in table.budgets for words in ("Gain", "Interval")),
            ),
            [
                (
                    line.method,
                    line.cost,
                    line.lacking,
                    *(
                        text
                        for g in line.gains
                        for text in ((g.gain, g.interval) if g else ("", ""))
                    ),
                )
                for line in table.rows
            ],
        )
        for table in gain_tables(record, rows)
    ]


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
    record: StudyRecord, rows: Sequence[TableRow], metric: MetricDescription
) -> Drawing:
    """Draw gain over random against cost, a dot a method, a panel a budget."""
    costs = method_costs(record)
    compared = {
        place: versus
        for place, versus in _compared(rows, metric, costs).items()
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
    y: Spec = {"type": "quantitative", "title": f"gain in {unit} · better →"}
    encoding: Spec = {
        "x": {
            "field": "seconds",
            "type": "quantitative",
            "title": "seconds that the method took beyond random",
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

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
from tis_ray.report.charts import figure_name
from tis_ray.report.formatting import (
    decimals,
    duration,
    interval,
    metrics_of,
    number,
    sentence,
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
        compared = compared_rows(rows, metric, costs)
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


def compared_rows(
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

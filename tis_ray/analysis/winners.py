"""Who wins: the one rule by which page, terminal, tracker and `recommend` name a method.

A method wins at a budget where its subset is better than random ones by the metric in question, and
stays so after Holm's correction over all methods and budgets of the study. The best winner is the one
that is better by most. In a study whose methods are all as good as random this names one in at most 5
of 100 studies.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from tis_ray.analysis.study_table import TableRow
from tis_ray.metrics.description import MetricDescription, measured


def leading_metric(rows: Sequence[TableRow], asked: str | None = None) -> MetricDescription | None:
    """Return the metric that decides: the one asked for, or the first of the report."""
    about = {name: each.about for row in rows for name, each in row.metrics.items()}
    names = measured(row.metrics for row in rows if not row.method.is_baseline)
    return about.get(asked or "") or next((about[name] for name in names), None)


def winners(rows: Iterable[TableRow], metric: MetricDescription) -> list[TableRow]:
    """Return the rows that win, the best first."""
    found = [row for row in rows if wins(row, metric)]
    return sorted(found, key=lambda row: -gain(row, metric))


def wins(row: TableRow, metric: MetricDescription) -> bool:
    """Whether a row of a table is a winner."""
    summary = row.metrics.get(metric.name)
    versus = summary.vs_random if summary else None
    return versus is not None and versus.verdict == "better" and versus.survives_holm


def gain(row: TableRow, metric: MetricDescription) -> float:
    """Return by how much a row is better than random: positive is better."""
    versus = row.metrics[metric.name].vs_random
    if versus is None:
        return float("nan")
    return -versus.difference if metric.lower_is_better else versus.difference

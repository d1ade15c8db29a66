"""The table of one study: a row per method and budget over seeds, with flags that warn the reader.

`samples` and `comparison` say how means, intervals and verdicts are made. This module groups
cells into rows, compares each with random at the same budget (its subset, and its draws where the
study made any) and with zero-shot, and flags what a reader must know before believing a number: a model worse than no training at all, a
handful of optimizer steps, a subset shorter than its budget, runs without a result, answers that
could not be read, seeds that disagree, and verdicts that many comparisons alone would explain.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from tis_ray.analysis.comparison import (
    Comparison,
    method_against_random,
    models_against_one,
    subset_against_random,
    with_holm,
)
from tis_ray.analysis.intervals import Interval
from tis_ray.analysis.legend import Legend
from tis_ray.analysis.study_runs import Runs, StudyRuns, finite_by_seed
from tis_ray.analysis.study_values import (
    ZERO_SHOT_PLAIN,
    Cell,
    Method,
)
from tis_ray.metrics.description import PARSE_FAILURES, MetricDescription

FEW_STEPS = 16
"""Runs of at most this many optimizer steps are flagged (500 examples at batch 128 take 8)."""
WIDE_SPREAD = 5.0
"""A standard deviation over seeds this many times the table's median is flagged."""
UNREADABLE = 0.5
"""A mean share of unreadable answers from which a metric says more about form than about skill."""


@dataclass(frozen=True)
class MetricSummary:
    """One metric of one row: its mean, and its comparisons where the baselines exist."""

    about: MetricDescription
    value: Interval
    baseline: Interval | None = None
    """Random's mean: what `vs_random` subtracts."""
    vs_random: Comparison | None = None
    """This subset against random ones."""
    drawn: Interval | None = None
    """The mean over the subsets that the method selected anew."""
    method_vs_random: Comparison | None = None
    """The method against random: these subsets against random's. None where the study made no draws."""
    vs_zero_shot: Comparison | None = None
    """Against the better zero-shot."""
    zero_shot: Method | None = None
    """Which one that is, where there are two."""
    parse_failures: float | None = None
    """Mean share of answers that could not be read, for metrics that read answers."""


@dataclass(frozen=True)
class Flag:
    """A reason to distrust a row: a fixed `code`, a sentence with the numbers, the metric if one."""

    code: Literal[
        "below_zero_shot",
        "few_steps",
        "short_subset",
        "one_seed",
        "missing_metric",
        "unreadable",
        "wide_spread",
        "many_comparisons",
    ]
    message: str
    metric: str | None = None


@dataclass(frozen=True)
class TableRow:
    """One method and budget over its seeds."""

    method: Method
    label: str
    """The method as people read it."""
    budget: int
    seeds: tuple[int | None, ...]
    metrics: dict[str, MetricSummary]
    flags: tuple[Flag, ...] = field(default=())

    @property
    def n_seeds(self) -> int:
        """Number of runs behind the row."""
        return len(self.seeds)


def summarise(
    cells: Iterable[Cell],
    legend: Legend | None = None,
    *,
    budget_unit: Literal["examples", "tokens"] = "examples",
    apart: bool = False,
) -> list[TableRow]:
    """Turn the cells of a study into table rows, one for each method and budget.

    apart: whether no two draws share rows. A metric that is None or NaN counts as missing and is
    flagged. Rows keep the order of zero-shot, random, then first appearance, and rise in budget.
    Raises InputError when a cell appears twice.
    """
    legend = legend or Legend()
    found = StudyRuns.of(cells, legend)
    rows = []
    for (method, budget), runs in found.runs.items():
        row = TableRow(method, legend.method(method), budget, seeds=tuple(runs), metrics={})
        rows.append(replace(row, metrics=_summaries(found, row, apart)))
    first = {
        method: i for i, method in enumerate(dict.fromkeys(method for method, _ in found.runs))
    }
    rows.sort(
        key=lambda r: (
            not r.method.is_zero_shot,
            not r.method.is_random,
            first[r.method],
            r.budget,
        )
    )
    rows = _correct_for_many(rows, found.metrics)
    return [
        replace(
            row,
            flags=(
                *_run_flags(row, runs := found.runs[row.method, row.budget], budget_unit),
                *(f for metric in found.metrics for f in _metric_flags(metric, row, runs, rows)),
            ),
        )
        for row in rows
    ]


def _summaries(found: StudyRuns, row: TableRow, apart: bool) -> dict[str, MetricSummary]:
    """Summarise the runs of one row by each metric that it has."""
    place = row.method, row.budget
    summaries = {}
    for metric in found.metrics:
        sample = found.sample(place, metric)
        if sample is None:
            continue
        unread = finite_by_seed(found.runs[place], metric.name + PARSE_FAILURES)
        summary = MetricSummary(metric, sample.mean(), parse_failures=_mean(unread.values()))
        random = None if row.method.is_baseline else found.random(row.budget, metric)
        if random is not None:
            versus = subset_against_random(sample, random, metric=metric)
            summary = replace(summary, vs_random=versus, baseline=random.mean())
            if (drawn := found.drawn(place, metric)) is not None:
                method = method_against_random(drawn, random, metric=metric, apart=apart)
                summary = replace(summary, drawn=drawn.mean(), method_vs_random=method)
        zero_shot = None if row.method.is_zero_shot else found.zero_shot(metric)
        if zero_shot is not None:
            which, one, several = zero_shot
            versus = models_against_one(sample, one, metric=metric)
            which_one = which if several > 1 else None
            summary = replace(summary, vs_zero_shot=versus, zero_shot=which_one)
        summaries[metric.name] = summary
    return summaries


def _correct_for_many(
    rows: Sequence[TableRow], metrics: Sequence[MetricDescription]
) -> list[TableRow]:
    """Fill `p_holm` of every comparison with random, metric by metric and question by question."""
    result = [replace(row, metrics=dict(row.metrics)) for row in rows]
    for metric in metrics:
        having = [row.metrics for row in result if metric.name in row.metrics]
        held = [metrics[metric.name] for metrics in having]
        subsets = with_holm({i: s.vs_random for i, s in enumerate(held) if s.vs_random})
        methods = with_holm(
            {i: s.method_vs_random for i, s in enumerate(held) if s.method_vs_random}
        )
        for i, (of_row, summary) in enumerate(zip(having, held, strict=True)):
            of_row[metric.name] = replace(
                summary, vs_random=subsets.get(i), method_vs_random=methods.get(i)
            )
    return result


def _run_flags(row: TableRow, runs: Runs, budget_unit: str) -> Iterable[Flag]:
    """Yield what is wrong with the training behind a row."""
    if row.method.is_zero_shot:
        return
    steps = [s for cell in runs.values() if (s := cell.optimizer_steps) is not None]
    if steps and min(steps) <= FEW_STEPS:
        yield Flag("few_steps", f"only {min(steps)} optimizer steps")
    used = [r for cell in runs.values() if (r := cell.train_rows) is not None]
    if budget_unit == "examples" and used and min(used) < row.budget:
        yield Flag("short_subset", f"trained on {min(used)} of {row.budget} rows")
    if row.n_seeds == 1:
        yield Flag("one_seed", "one seed: no interval and no verdict")


def _metric_flags(
    metric: MetricDescription, row: TableRow, runs: Runs, rows: Sequence[TableRow]
) -> Iterable[Flag]:
    """Yield what is wrong with one metric of a row."""
    name = metric.name
    if (lost := len(runs) - len(finite_by_seed(runs, name))) and any(
        name in r.metrics for r in rows
    ):
        yield Flag("missing_metric", f"{metric.words} missing in {lost} of {len(runs)}", name)
    yield from summary_flags(metric, row, rows)


def summary_flags(
    metric: MetricDescription, row: TableRow, rows: Sequence[TableRow]
) -> Iterable[Flag]:
    """Yield what a reader must know before believing one metric of a row of the table `rows`."""
    name, words = metric.name, metric.words
    if name not in row.metrics:
        return
    summary = row.metrics[name]
    zero = summary.vs_zero_shot
    worse = zero and zero.difference and (zero.difference > 0) == metric.lower_is_better
    if zero and worse and zero.verdict != "alike":
        constant = summary.value.mean - zero.difference
        doubt = "" if zero.decided else " (cannot tell from noise)"
        which = " without template" if _is_plain(summary.zero_shot) else ""
        message = (
            f"{words} {summary.value.mean:.3g} is worse than zero-shot{which} {constant:.3g}{doubt}"
        )
        yield Flag("below_zero_shot", message, name)
    if summary.parse_failures is not None and summary.parse_failures >= UNREADABLE:
        share = f"{100 * summary.parse_failures:.0f}%"
        yield Flag("unreadable", f"{words}: {share} of the answers could not be read", name)
    others = [r.metrics[name].value.sd for r in rows if name in r.metrics and r.n_seeds > 2]
    spreads = [sd for sd in others if sd is not None]
    usual = float(np.median(spreads)) if len(spreads) >= 4 else math.inf
    if summary.value.sd and summary.value.sd > WIDE_SPREAD * usual > 0:
        times = summary.value.sd / usual
        yield Flag(
            "wide_spread", f"{words} differs between seeds {times:.0f}× more than usual", name
        )
    versus = summary.vs_random
    if versus and versus.decided and not versus.survives_holm:
        message = (
            f"{words} verdict does not survive Holm's correction"
            f" (p {versus.p_value:.2g}, corrected {versus.p_holm:.2g})"
        )
        yield Flag("many_comparisons", message, name)


def _is_plain(zero_shot: Method | None) -> bool:
    return zero_shot is not None and zero_shot.representation == ZERO_SHOT_PLAIN


def _mean(values: Iterable[float]) -> float | None:
    found = list(values)
    return float(np.mean(found)) if found else None

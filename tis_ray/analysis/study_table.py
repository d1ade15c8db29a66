"""The table of one study: a row per method and budget over seeds, with flags that warn the reader.

`intervals` and `comparison` say how means, intervals and verdicts are made. This module groups
cells into rows, pairs each row with random at the same budget (by seed) and with zero-shot, and
flags what a reader must know before believing a number: a model worse than no training at all, a
handful of optimizer steps, a subset shorter than its budget, runs without a result, answers that
could not be read, seeds that disagree, and verdicts that many comparisons alone would explain.

The untrained model is measured twice: with the study's template around its prompts, and without any
(it may never have seen the template). On each metric the better of the two is what counts as zero-shot.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from tis_ray.analysis.comparison import Comparison, paired_comparison, with_holm
from tis_ray.analysis.intervals import Interval, mean_interval
from tis_ray.analysis.legend import Legend
from tis_ray.analysis.study_values import ZERO_SHOT, ZERO_SHOT_PLAIN, Cell, Method
from tis_ray.errors import InputError
from tis_ray.metrics.description import PARSE_FAILURES, MetricDescription, measured

Runs = Mapping[int | None, Cell]
"""The cells of one row by seed."""
Place = tuple[Method, int]
"""Method and budget of a row."""
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
    """Random's mean over the same seeds: what `vs_random` subtracts."""
    vs_random: Comparison | None = None
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
) -> list[TableRow]:
    """Turn the cells of a study into table rows, one for each method and budget.

    A metric that is None or NaN counts as missing and is flagged. Rows keep the order of zero-shot,
    random, then first appearance, and rise in budget. Raises InputError when a cell appears twice.
    """
    cells, legend = list(cells), legend or Legend()
    metrics = [legend.metric(name) for name in measured(cell.metrics for cell in cells)]
    groups: dict[Place, dict[int | None, Cell]] = {}
    for cell in cells:
        runs = groups.setdefault((cell.method, cell.budget), {})
        if cell.seed in runs:
            raise InputError(
                f"cells: {legend.method(cell.method)} at budget {cell.budget} has seed {cell.seed} "
                "twice; keep one"
            )
        runs[cell.seed] = cell
    zero_shots = {method: runs for (method, _), runs in groups.items() if method.is_zero_shot}
    random_runs = {budget: runs for (method, budget), runs in groups.items() if method.is_random}
    rows = []
    for (method, budget), runs in groups.items():
        row = TableRow(method, legend.method(method), budget, seeds=tuple(runs), metrics={})
        others = {} if method.is_baseline else random_runs.get(budget, {})
        rows.append(_filled(row, runs, others, zero_shots, metrics))
    first = {method: i for i, method in enumerate(dict.fromkeys(method for method, _ in groups))}
    rows.sort(
        key=lambda r: (
            not r.method.is_zero_shot,
            not r.method.is_random,
            first[r.method],
            r.budget,
        )
    )
    rows = _correct_for_many(rows, metrics)
    return [
        replace(
            row,
            flags=(
                *_run_flags(row, runs := groups[row.method, row.budget], budget_unit),
                *(flag for metric in metrics for flag in _metric_flags(metric, row, runs, rows)),
            ),
        )
        for row in rows
    ]


def best_zero_shot(values: Mapping[Method, float], lower_is_better: bool) -> Method | None:
    """Return which zero-shot (by its value of one metric) is better, if there is one."""
    sign = 1 if lower_is_better else -1
    return min(
        values, key=lambda m: (sign * values[m], m.representation != ZERO_SHOT), default=None
    )


def best_of_zero_shots(
    cells: Iterable[Cell], metric: MetricDescription
) -> tuple[Method, float] | None:
    """Return the better zero-shot of a study on one metric with its value, if it was measured."""
    values = {
        cell.method: float(value)
        for cell in cells
        if cell.method.is_zero_shot
        and (value := cell.metrics.get(metric.name)) is not None
        and math.isfinite(value)
    }
    best = best_zero_shot(values, metric.lower_is_better)
    return (best, values[best]) if best else None


def _filled(
    row: TableRow,
    runs: Runs,
    random_runs: Runs,
    zero_shots: Mapping[Method, Runs],
    known: Sequence[MetricDescription],
) -> TableRow:
    """Summarise the runs of one row against the runs of random at the same budget."""
    metrics = {}
    for metric in known:
        name, lower = metric.name, metric.lower_is_better
        values = finite_by_seed(runs, name)
        if not values:
            continue
        others = finite_by_seed(random_runs, name)
        shared = [seed for seed in values if seed in others]
        summary = MetricSummary(
            metric,
            mean_interval(list(values.values())),
            parse_failures=_mean(finite_by_seed(runs, name + PARSE_FAILURES).values()),
        )
        if shared:
            pairs = [others[seed] for seed in shared]
            versus = paired_comparison(
                [values[seed] for seed in shared], pairs, lower_is_better=lower
            )
            if len(shared) < len(values):
                lost = f"{len(shared)} of {len(values)} seeds also ran random"
                versus = replace(versus, note="; ".join(filter(None, [versus.note, lost])))
            summary = replace(summary, vs_random=versus, baseline=mean_interval(pairs))
        if not row.method.is_zero_shot:
            versus_zero, which = _versus_zero_shot(values, zero_shots, metric)
            summary = replace(summary, vs_zero_shot=versus_zero, zero_shot=which)
        metrics[name] = summary
    return replace(row, metrics=metrics)


def _versus_zero_shot(
    values: Mapping[int | None, float], zero_shots: Mapping[Method, Runs], metric: MetricDescription
) -> tuple[Comparison | None, Method | None]:
    """Compare with the better zero-shot, as a constant; name it where there are two."""
    means = {m: _mean(finite_by_seed(runs, metric.name).values()) for m, runs in zero_shots.items()}
    constants = {method: mean for method, mean in means.items() if mean is not None}
    best = best_zero_shot(constants, metric.lower_is_better)
    if best is None:
        return None, None
    versus = paired_comparison(
        list(values.values()), constants[best], lower_is_better=metric.lower_is_better
    )
    return versus, best if len(constants) > 1 else None


def _correct_for_many(
    rows: Sequence[TableRow], metrics: Sequence[MetricDescription]
) -> list[TableRow]:
    """Fill `p_holm` of every comparison with random, metric by metric."""
    result = [replace(row, metrics=dict(row.metrics)) for row in rows]
    for name in (metric.name for metric in metrics):
        found = {
            i: versus
            for i, row in enumerate(result)
            if name in row.metrics and (versus := row.metrics[name].vs_random) is not None
        }
        for i, versus in with_holm(found).items():
            of_row = result[i].metrics
            of_row[name] = replace(of_row[name], vs_random=versus)
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
    if zero and zero.difference and (zero.difference > 0) == metric.lower_is_better:
        constant = summary.value.mean - zero.difference
        doubt = " (cannot tell from noise)" if zero.verdict == "cannot tell" else ""
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
    if versus and versus.verdict != "cannot tell" and not versus.survives_holm:
        message = (
            f"{words} verdict does not survive Holm's correction"
            f" (p {versus.p_value:.2g}, corrected {versus.p_holm:.2g})"
        )
        yield Flag("many_comparisons", message, name)


def _is_plain(zero_shot: Method | None) -> bool:
    return zero_shot is not None and zero_shot.representation == ZERO_SHOT_PLAIN


def finite_by_seed(runs: Runs, name: str) -> dict[int | None, float]:
    """Return seed -> value of the runs that have a finite value of the metric."""
    found = {seed: cell.metrics.get(name) for seed, cell in runs.items()}
    return {s: float(v) for s, v in found.items() if v is not None and math.isfinite(v)}


def _mean(values: Iterable[float]) -> float | None:
    found = list(values)
    return float(np.mean(found)) if found else None

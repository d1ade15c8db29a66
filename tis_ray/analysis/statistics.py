"""The table of a study: one row per representation, selector and budget, with its flags.

`tis_ray.analysis.intervals` says how means, intervals and verdicts are made. This module groups
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
from typing import Any, Literal

import numpy as np

from tis_ray.analysis.intervals import (
    Comparison,
    Interval,
    holm,
    mean_interval,
    paired_comparison,
)
from tis_ray.analysis.metrics import PARSE_FAILURES, describe, measured
from tis_ray.errors import InputError

Runs = Mapping[int | None, Mapping[str, Any]]
"""The cells of one row by seed."""

ZERO_SHOT, RANDOM = "zero_shot", "random"
ZERO_SHOT_PLAIN = "zero_shot (no template)"
"""The untrained model on prompts that are the bare text."""
FEW_STEPS = 16
"""Runs of at most this many optimizer steps are flagged (500 examples at batch 128 take 8)."""
WIDE_SPREAD = 5.0
"""A standard deviation over seeds this many times the table's median is flagged."""
UNREADABLE = 0.5
"""A mean share of unreadable answers from which a metric says more about form than about skill."""


@dataclass(frozen=True)
class MetricSummary:
    """One metric of one row: its mean, and its comparisons where the baselines exist."""

    value: Interval
    baseline: Interval | None = None
    """Random's mean over the same seeds: what `vs_random` subtracts."""
    vs_random: Comparison | None = None
    vs_zero_shot: Comparison | None = None
    """Against the better zero-shot."""
    zero_shot: str | None = None
    """The representation of that one, where there are two."""
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
    """One representation, selector and budget over its seeds."""

    representation: str
    selector: str | None
    budget: int
    seeds: tuple[int | None, ...]
    metrics: dict[str, MetricSummary]
    train_rows: float | None = None
    train_tokens: float | None = None
    optimizer_steps: float | None = None
    seconds: float | None = None
    flags: tuple[Flag, ...] = field(default=())

    @property
    def n_seeds(self) -> int:
        """Number of runs behind the row."""
        return len(self.seeds)

    def flat(self) -> dict[str, Any]:
        """Return one level of plain values, ready for CSV or a data frame."""
        row: dict[str, Any] = {
            "representation": self.representation,
            "selector": self.selector,
            "budget": self.budget,
            "n_seeds": self.n_seeds,
        }
        for name, metric in self.metrics.items():
            value = metric.value
            row |= {f"{name}_mean": value.mean, f"{name}_low": value.low}
            row |= {f"{name}_high": value.high, f"{name}_n": value.n}
            if metric.parse_failures is not None:
                row[name + PARSE_FAILURES] = metric.parse_failures
            for baseline in ("random", "zero_shot"):
                comparison: Comparison | None = getattr(metric, f"vs_{baseline}")
                for part in ("difference", "low", "high", "n", "p_value", "p_holm", "verdict"):
                    key = f"{name}_vs_{baseline}_{part}"
                    row[key] = getattr(comparison, part) if comparison else None
        row |= {"train_rows": self.train_rows, "train_tokens": self.train_tokens}
        row |= {"optimizer_steps": self.optimizer_steps, "seconds": self.seconds}
        return row | {"flags": "; ".join(flag.message for flag in self.flags)}


def summarise(
    cells: Iterable[Mapping[str, Any]],
    *,
    budget_unit: Literal["examples", "tokens"] = "examples",
) -> list[TableRow]:
    """Turn the cells of a study into table rows, one per (representation, selector, budget).

    A cell has `representation, selector, budget, seed` and any metrics (`analysis.metrics`;
    None or NaN counts as missing and is flagged), and may have `train_rows, train_tokens,
    optimizer_steps, seconds`. Rows keep the order of zero-shot, random, then first appearance, and
    rise in budget. Raises InputError when a cell appears twice.
    """
    cells = list(cells)
    names = measured(cells)
    groups: dict[tuple[str, str | None, int], dict[int | None, Mapping[str, Any]]] = {}
    for cell in cells:
        key = (str(cell["representation"]), cell.get("selector"), int(cell.get("budget") or 0))
        runs = groups.setdefault(key, {})
        seed = cell.get("seed")
        if seed in runs:
            raise InputError(
                f"cells: {key[0]} + {key[1]} at budget {key[2]} has seed {seed} twice; keep one"
            )
        runs[seed] = cell
    zero_shots = {key[0]: runs for key, runs in groups.items() if is_zero_shot(key[0])}
    random_runs = {key[2]: runs for key, runs in groups.items() if key[0] == RANDOM}
    rows = []
    for key, runs in groups.items():
        compared = not is_zero_shot(key[0]) and key[0] != RANDOM
        others = random_runs.get(key[2], {}) if compared else {}
        rows.append(_row(key, runs, others, zero_shots, names))
    first = {method: i for i, method in enumerate(dict.fromkeys(key[:2] for key in groups))}
    rows.sort(
        key=lambda r: (
            not is_zero_shot(r.representation),
            r.representation != RANDOM,
            first[r.representation, r.selector],
            r.budget,
        )
    )
    rows = _correct_for_many(rows, names)
    return [
        replace(
            row,
            flags=(
                *_run_flags(row, runs := groups[_key(row)], budget_unit),
                *(f for name in names for f in _metric_flags(name, row, runs, rows)),
            ),
        )
        for row in rows
    ]


def is_zero_shot(representation: str) -> bool:
    """Whether a row is of the untrained model, with the template or without."""
    return representation in (ZERO_SHOT, ZERO_SHOT_PLAIN)


def best_zero_shot(values: Mapping[str, float], lower_is_better: bool) -> str | None:
    """Return which zero-shot (representation → value of one metric) is better, if there is one."""
    sign = 1 if lower_is_better else -1
    return min(values, key=lambda name: (sign * values[name], name != ZERO_SHOT), default=None)


def _key(row: TableRow) -> tuple[str, str | None, int]:
    return row.representation, row.selector, row.budget


def _row(
    key: tuple[str, str | None, int],
    runs: Runs,
    random_runs: Runs,
    zero_shots: Mapping[str, Runs],
    names: Sequence[str],
) -> TableRow:
    """Summarise the runs of one row against the runs of random at the same budget."""
    metrics = {}
    for name in names:
        lower = describe(name).lower_is_better
        values = _finite(runs, name)
        if not values:
            continue
        others = _finite(random_runs, name)
        shared = [seed for seed in values if seed in others]
        summary = MetricSummary(
            mean_interval(list(values.values())),
            parse_failures=_mean_or_none(runs, name + PARSE_FAILURES),
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
        if not is_zero_shot(key[0]):
            versus_zero, which = _versus_zero_shot(values, zero_shots, name)
            summary = replace(summary, vs_zero_shot=versus_zero, zero_shot=which)
        metrics[name] = summary
    return TableRow(
        *key,
        seeds=tuple(runs),
        metrics=metrics,
        train_rows=_mean_or_none(runs, "train_rows"),
        train_tokens=_mean_or_none(runs, "train_tokens"),
        optimizer_steps=_mean_or_none(runs, "optimizer_steps"),
        seconds=_mean_or_none(runs, "seconds"),
    )


def _versus_zero_shot(
    values: Mapping[int | None, float], zero_shots: Mapping[str, Runs], name: str
) -> tuple[Comparison | None, str | None]:
    """Compare with the better zero-shot, as a constant; name it where there are two."""
    constants = {}
    for representation, runs in zero_shots.items():
        found = list(_finite(runs, name).values())
        if found:
            constants[representation] = float(np.mean(found))
    lower = describe(name).lower_is_better
    best = best_zero_shot(constants, lower)
    if best is None:
        return None, None
    versus = paired_comparison(list(values.values()), constants[best], lower_is_better=lower)
    return versus, best if len(constants) > 1 else None


def _correct_for_many(rows: Sequence[TableRow], names: Sequence[str]) -> list[TableRow]:
    """Fill `p_holm` of every comparison with random, metric by metric."""
    result = [replace(row, metrics=dict(row.metrics)) for row in rows]
    for name in names:
        found = [
            (row, versus)
            for row in result
            if name in row.metrics
            and (versus := row.metrics[name].vs_random) is not None
            and versus.p_value is not None
        ]
        adjusted = holm([versus.p_value for _, versus in found if versus.p_value is not None])
        for (row, versus), p_holm in zip(found, adjusted, strict=True):
            fixed = replace(versus, p_holm=p_holm)
            row.metrics[name] = replace(row.metrics[name], vs_random=fixed)
    return result


def _run_flags(row: TableRow, runs: Runs, budget_unit: str) -> Iterable[Flag]:
    """Yield what is wrong with the training behind a row."""
    if is_zero_shot(row.representation):
        return
    steps = [run["optimizer_steps"] for run in runs.values() if _given(run, "optimizer_steps")]
    if steps and min(steps) <= FEW_STEPS:
        yield Flag("few_steps", f"only {min(steps)} optimizer steps")
    used = [run["train_rows"] for run in runs.values() if _given(run, "train_rows")]
    if budget_unit == "examples" and used and min(used) < row.budget:
        yield Flag("short_subset", f"trained on {min(used)} of {row.budget} rows")
    if row.n_seeds == 1:
        yield Flag("one_seed", "one seed: no interval and no verdict")


def _metric_flags(name: str, row: TableRow, runs: Runs, rows: Sequence[TableRow]) -> Iterable[Flag]:
    """Yield what is wrong with one metric of a row."""
    about = describe(name)
    words = about.words
    if (lost := len(runs) - len(_finite(runs, name))) and any(name in r.metrics for r in rows):
        yield Flag("missing_metric", f"{words} missing in {lost} of {len(runs)}", name)
    if name not in row.metrics:
        return
    summary = row.metrics[name]
    zero = summary.vs_zero_shot
    if zero and zero.difference and (zero.difference > 0) == about.lower_is_better:
        constant = summary.value.mean - zero.difference
        doubt = " (cannot tell from noise)" if zero.verdict == "cannot tell" else ""
        which = " without template" if summary.zero_shot == ZERO_SHOT_PLAIN else ""
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


def _given(run: Mapping[str, Any], name: str) -> bool:
    return run.get(name) is not None


def _finite(runs: Mapping[Any, Mapping[str, Any]], name: str) -> dict[Any, float]:
    """Return seed -> value of the runs that have a finite value of the metric."""
    found = {seed: run.get(name) for seed, run in runs.items()}
    return {s: float(v) for s, v in found.items() if v is not None and math.isfinite(v)}


def _mean_or_none(runs: Mapping[Any, Mapping[str, Any]], name: str) -> float | None:
    values = list(_finite(runs, name).values())
    return float(np.mean(values)) if values else None

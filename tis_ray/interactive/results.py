"""The results of a study as tables: its cells, their means, and two methods against each other."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pyarrow as pa

from tis_ray.analysis import (
    Cell,
    Comparison,
    Interval,
    Legend,
    Method,
    TableRow,
    compare_cells,
)
from tis_ray.analysis.comparison import with_holm
from tis_ray.analysis.samples import Sample
from tis_ray.analysis.study_pairs import compare_methods
from tis_ray.analysis.study_runs import Place, StudyRuns
from tis_ray.errors import InputError
from tis_ray.interactive.table import Table
from tis_ray.metrics.description import MetricDescription, measured
from tis_ray.report.formatting import decimals_of, interval, number

_ENDS = ["low", "high", "difference_low", "difference_high", "p_value"]
"""Columns that stand in the text of another."""
MOST_RESULTS = 60
"""Rows of results that are shown: people come for all of them."""
Cells = Mapping[str, Sequence[Cell]]
"""The cells of each study, by the study's name."""


def cell_table(cells: Cells, title: str) -> Table:
    """Return a row for each cell: study, method, budget, seed, its metrics, what it cost, its artifact."""
    rows = [
        {
            "study": study,
            "method": cell.method.asked,
            "budget": cell.budget,
            "seed": cell.seed,
            "draw": cell.draw,
            **cell.metrics,
            "train_rows": cell.train_rows,
            "train_tokens": cell.train_tokens,
            "optimizer_steps": cell.optimizer_steps,
            "seconds": cell.seconds,
            "artifact": cell.artifact,
        }
        for study, own in cells.items()
        for cell in own
    ]
    names = list(dict.fromkeys(name for row in rows for name in row))
    columns = {name: pa.array([row.get(name) for row in rows]) for name in names}
    return Table(pa.table(columns), title, hidden=["artifact", *_study_column(cells)])


def result_table(rows: Mapping[str, Sequence[TableRow]], title: str) -> Table:
    """Return a row for each metric of each method and budget: mean with interval, and against random.

    difference is the mean of these rows' models minus random's, with what of it may be luck; p_holm is after
    Holm's correction. Where the study made draws, `method_...` says the same of the method.
    """
    found: list[dict[str, object]] = []
    means: list[str] = []
    differences: list[str] = []
    drawn: list[str] = []
    asked = any(
        s.method_vs_random for own in rows.values() for r in own for s in r.metrics.values()
    )
    # What was selected comes first, then what it is compared with.
    every = [(study, row) for study, own in rows.items() for row in own]
    every.sort(key=lambda each: (each[1].method.is_zero_shot, each[1].method.is_random))
    for study, row in every:
        for name, summary in row.metrics.items():
            value = summary.value
            flags = [flag.message for flag in row.flags if flag.metric in (None, name)]
            found.append(
                {
                    "study": study,
                    "method": row.method.asked,
                    "budget": row.budget,
                    "metric": name,
                    "seeds": value.n,
                    "mean": value.mean,
                    "low": value.low,
                    "high": value.high,
                    **_comparison(summary.vs_random),
                    **(_comparison(summary.method_vs_random, "method_") if asked else {}),
                    "flags": "; ".join(flags),
                }
            )
            means.append(_with_interval(summary.about, value, value.mean))
            for versus, said in (
                (summary.vs_random, differences),
                (summary.method_vs_random, drawn),
            ):
                signed = versus and _with_interval(summary.about, versus, versus.difference, True)
                said.append(signed or "")
    texts = {"mean": means, "difference": differences}
    hidden = [*_ENDS, *_study_column(rows)]
    if asked:
        texts["method_difference"] = drawn
        hidden += [f"method_{name}" for name in ("difference_low", "difference_high", "p_value")]
    return Table(pa.Table.from_pylist(found), title, texts, hidden, shown=MOST_RESULTS)


def compared_table(
    cells: Cells, left: Method, right: Method, legend: Legend, *, apart: bool = False
) -> Table:
    """Return a row for each metric and budget: left minus right, with interval, p and verdict.

    In one study the question is about the methods where both selected anew in several draws, and about
    their subsets otherwise; with several studies these are the pairs, each by its mean over the seeds
    that both ran. p_holm is corrected over all rows of the table. Raises InputError where there is no
    pair.
    """
    trained = [c for own in cells.values() for c in own if c.method in (left, right) and c.budget]
    budgets = sorted({cell.budget for cell in trained})
    names = measured(cell.metrics for own in cells.values() for cell in own)
    runs = {study: StudyRuns.of(own, legend) for study, own in cells.items()}
    found: dict[tuple[str, int], Comparison] = {}
    means: dict[tuple[str, int], tuple[float, float]] = {}
    for name in names:
        about = legend.metric(name)
        for budget in budgets:
            if len(runs) == 1:
                own = next(iter(runs.values()))
                compared = compare_methods(own, left, right, budget, about, apart)
                drawn = compared is not None and compared.question == "method"
                pick = own.drawn if drawn else own.sample
                sides = np.array([_means(pick, left, right, budget, about, drawn)])
            else:
                sides = np.array(
                    [_means(own.sample, left, right, budget, about, True) for own in runs.values()]
                )
                compared = compare_cells(*sides.T, metric=about)
            if compared is not None:
                found[name, budget] = compared
                means[name, budget] = tuple(np.nanmean(sides, axis=0).tolist())
    if not found:
        raise InputError(
            f"compare: {left.asked} and {right.asked} have no budget with a metric of "
            "both for the same seed"
        )
    found = with_holm(found)
    rows = [
        {
            "metric": name,
            "budget": budget,
            left.asked: means[name, budget][0],
            right.asked: means[name, budget][1],
            "about": "studies" if compared.question == "cells" else compared.question,
            "n": compared.n,
            **_comparison(compared),
            "note": "; ".join(filter(None, [compared.note, _after_holm(compared)])),
        }
        for (name, budget), compared in found.items()
    ]
    title = f"{legend.method(left)} minus {legend.method(right)}; 95% intervals"
    texts = {
        "difference": [
            _with_interval(legend.metric(name), compared, compared.difference, True)
            for (name, _), compared in found.items()
        ]
    }
    for place, method in enumerate((left, right)):
        texts[method.asked] = [
            number(
                about := legend.metric(name), means[name, budget][place], 1 if about.share else 4
            )
            for name, budget in found
        ]
    return Table(pa.Table.from_pylist(rows), title, texts, _ENDS)


def _means(
    pick: Callable[[Place, MetricDescription], Sample | None],
    left: Method,
    right: Method,
    budget: int,
    metric: MetricDescription,
    paired: bool,
) -> tuple[float, float]:
    """Return each side's mean in one study; NaN where there is none.

    pick: which runs, seeds or draws. paired: only those that both have.
    """
    ours, theirs = (
        pick((method, 0 if method.is_zero_shot else budget), metric) for method in (left, right)
    )
    if ours is None or theirs is None:
        return math.nan, math.nan
    if paired and not (left.is_zero_shot or right.is_zero_shot):
        shared = [run for run in ours.values if run in theirs.values]
        if not shared:
            return math.nan, math.nan
        ours, theirs = ours.only(shared), theirs.only(shared)
    return ours.mean_value, theirs.mean_value


def _after_holm(found: Comparison) -> str:
    """Return what a reader must know of a verdict that the number of comparisons alone could explain."""
    doubtful = found.decided and not found.survives_holm
    return "does not survive Holm's correction" if doubtful else ""


def _comparison(found: Comparison | None, prefix: str = "") -> dict[str, object]:
    named = {
        "difference": found.difference if found else None,
        "difference_low": found.low if found else None,
        "difference_high": found.high if found else None,
        "p_value": found.p_value if found else None,
        "p_holm": found.p_holm if found else None,
        "verdict": found.verdict if found else None,
    }
    return {prefix + name: value for name, value in named.items()}


def _with_interval(
    about: MetricDescription, found: Interval | Comparison, value: float, signed: bool = False
) -> str:
    """Return a mean or a difference with its interval, as the report writes them."""
    places = 1 if about.share else max(decimals_of(about, [found]), 3)
    text = number(about, value, places, signed=signed).removesuffix(" points")
    return f"{text} {interval(about, found, places, signed=signed)}".rstrip()


def _study_column(studies: Mapping[str, object]) -> list[str]:
    """Return what is hidden where there is one study."""
    return ["study"] if len(studies) == 1 else []

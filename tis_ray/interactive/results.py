"""The results of a study as tables: its cells, their means, and two methods against each other."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from tis_ray.analysis import (
    Cell,
    Comparison,
    Interval,
    Legend,
    Method,
    TableRow,
    compare_complete,
)
from tis_ray.analysis.comparison import Pairs, with_holm
from tis_ray.analysis.study_table import finite_by_seed
from tis_ray.analysis.study_values import RANDOM_METHOD
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
            "method": method_name(cell.method),
            "budget": cell.budget,
            "seed": cell.seed,
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
    """Return a row for each metric of each method and budget: mean and interval over seeds, and against random.

    difference is the method's value minus random's, paired by seed; p_holm is after Holm's correction.
    """
    found, means, differences = [], [], []
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
                    "method": method_name(row.method),
                    "budget": row.budget,
                    "metric": name,
                    "seeds": value.n,
                    "mean": value.mean,
                    "low": value.low,
                    "high": value.high,
                    **_comparison(summary.vs_random),
                    "flags": "; ".join(flags),
                }
            )
            means.append(_with_interval(summary.about, value, value.mean))
            versus = summary.vs_random
            signed = versus and _with_interval(summary.about, versus, versus.difference, True)
            differences.append(signed or "")
    texts = {"mean": means, "difference": differences}
    hidden = [*_ENDS, *_study_column(rows)]
    return Table(pa.Table.from_pylist(found), title, texts, hidden, shown=MOST_RESULTS)


def compared_table(cells: Cells, left: Method, right: Method, legend: Legend) -> Table:
    """Return a row for each metric and budget: left minus right, with interval, p and verdict.

    Pairs are seeds where there is one study, and studies (each by its mean over the seeds that both ran)
    where there are several. p_holm is corrected over all rows of the table.
    Raises InputError where there is no pair.
    """
    pairs: Pairs = "seeds" if len(cells) == 1 else "cells"
    trained = [c for own in cells.values() for c in own if c.method in (left, right) and c.budget]
    budgets = sorted({cell.budget for cell in trained})
    names = measured(cell.metrics for own in cells.values() for cell in own)
    found: dict[tuple[str, int], Comparison] = {}
    sides: dict[tuple[str, int], _Paired] = {}
    for name in names:
        for budget in budgets:
            paired = _Paired.of(cells, left, right, budget, name)
            about = legend.metric(name)
            compared = compare_complete(
                paired.left, paired.right, lower_is_better=about.lower_is_better, pairs=pairs
            )
            if compared is not None:
                found[name, budget], sides[name, budget] = compared, paired
    if not found:
        raise InputError(
            f"compare: {method_name(left)} and {method_name(right)} have no budget with a metric of "
            "both for the same seed"
        )
    found = with_holm(found)
    rows = [
        {
            "metric": name,
            "budget": budget,
            method_name(left): float(np.nanmean(sides[name, budget].left)),
            method_name(right): float(np.nanmean(sides[name, budget].right)),
            "pairs": "seeds" if compared.pairs == "seeds" else "studies",
            "n": compared.n,
            **_comparison(compared),
            "note": "; ".join(filter(None, [compared.note, _after_holm(compared)])),
        }
        for (name, budget), compared in found.items()
    ]
    by = "seed" if pairs == "seeds" else "study"
    title = f"{legend.method(left)} minus {legend.method(right)}, paired by {by}; 95% intervals"
    texts = {
        "difference": [
            _with_interval(legend.metric(name), compared, compared.difference, True)
            for (name, _), compared in found.items()
        ]
    }
    return Table(pa.Table.from_pylist(rows), title, texts, _ENDS)


def method_name(method: Method) -> str:
    """Return a method as it is asked for: `less+round_robin`, `random`, `zero_shot`."""
    if method.selector is None or method == RANDOM_METHOD:
        return method.representation
    return f"{method.representation}+{method.selector}"


@dataclass(frozen=True)
class _Paired:
    """The values of two methods, pair by pair; NaN is a missing value."""

    left: np.ndarray
    right: np.ndarray

    @classmethod
    def of(cls, cells: Cells, left: Method, right: Method, budget: int, metric: str) -> _Paired:
        pairs = []
        for own in cells.values():
            seeds = dict.fromkeys(c.seed for c in own if c.seed is not None)
            ours, theirs = (_by_seed(own, method, budget, metric) for method in (left, right))
            both = [(_at(ours, seed), _at(theirs, seed)) for seed in seeds]
            shared = [(a, b) for a, b in both if a is not None and b is not None]
            pairs += shared if len(cells) == 1 else [_means(shared)]
        values = np.array(pairs, np.float64).reshape(-1, 2)
        return cls(values[:, 0], values[:, 1])


def _means(pairs: Sequence[tuple[float, float]]) -> tuple[float, float]:
    if not pairs:
        return math.nan, math.nan
    left, right = zip(*pairs, strict=True)
    return float(np.mean(left)), float(np.mean(right))


def _by_seed(
    cells: Sequence[Cell], method: Method, budget: int, metric: str
) -> dict[int | None, float]:
    """Return the finite values of a method by seed; zero-shot is one for all budgets."""
    own = [c for c in cells if c.method == method and (c.budget == budget or method.is_zero_shot)]
    return finite_by_seed({cell.seed: cell for cell in own}, metric)


def _after_holm(found: Comparison) -> str:
    """Return what a reader must know of a verdict that the number of comparisons alone could explain."""
    doubtful = found.verdict != "cannot tell" and not found.survives_holm
    return "does not survive Holm's correction" if doubtful else ""


def _at(values: Mapping[int | None, float], seed: int | None) -> float | None:
    """Return the value of a seed; what has no seed, as zero-shot, has one value for all."""
    return values.get(seed, values.get(None))


def _comparison(found: Comparison | None) -> dict[str, object]:
    return {
        "difference": found.difference if found else None,
        "difference_low": found.low if found else None,
        "difference_high": found.high if found else None,
        "p_value": found.p_value if found else None,
        "p_holm": found.p_holm if found else None,
        "verdict": found.verdict if found else None,
    }


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

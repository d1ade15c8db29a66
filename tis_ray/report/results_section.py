"""The section on results: a table for each metric, and what to know before believing it.

The rows are those of one study (over seeds) or of several (over cells).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

from tis_ray.analysis import Comparison, TableRow
from tis_ray.analysis.comparison import Pairs
from tis_ray.analysis.study_table import MetricSummary
from tis_ray.metrics.description import MetricDescription
from tis_ray.report.formatting import (
    decimals,
    interval,
    number,
    probability,
    sentence,
    with_template,
)

_WARNINGS = {
    "below_zero_shot": "on average worse than zero-shot, on some metric: as if training had hurt",
    "few_steps": "after 16 optimizer steps or fewer: they show the first few updates, little more",
    "short_subset": "from fewer rows than the budget: compare at the effective budget",
    "one_seed": "from one seed: no interval, no verdict",
    "missing_metric": "with runs that gave no finite metric: those runs are not in the mean",
    "unreadable": "where half of the answers or more could not be read: a matter of form, not of skill",
    "wide_spread": "whose seeds disagree far more than usual: look for a broken run",
    "many_comparisons": "with a verdict, on some metric, that the number of comparisons alone could explain",
}


def warnings_of(rows: Sequence[TableRow]) -> list[tuple[str, list[str]]]:
    """Return each kind of flag in words with the rows that carry it."""
    labels: dict[str, list[str]] = defaultdict(list)
    for row in rows:
        for code in dict.fromkeys(flag.code for flag in row.flags):
            labels[code].append(f"{row.label} @ {row.budget:,}")
    return [(words, labels[code]) for code, words in _WARNINGS.items() if code in labels]


@dataclass(frozen=True)
class Difference:
    """A comparison as texts; `tone` is the class of its chip."""

    difference: str
    interval: str
    note: str
    p: str
    verdict: str
    tone: str


@dataclass(frozen=True)
class Line:
    """A row of a metric's table as texts; without a result it says so."""

    method: str
    baseline: bool
    budget: str
    flags: list[str]
    mean: str = "no result"
    over: str = "0"
    interval: str = ""
    note: str = ""
    parse_failures: str = ""
    random: Difference | None = None
    drawn: Difference | None = None
    """Of the method selected anew in each draw, where the study made draws."""
    zero_shot: Difference | None = None


@dataclass(frozen=True)
class ResultsTable:
    """One metric's table, with the names of the figures above it."""

    metric: str
    name: str
    figures: list[str]
    direction: str
    over: str
    """What a mean is over: "Seeds" or "Cells"."""
    times: str
    """How many of them, where all rows have as many."""
    which: str
    """Which of two zero-shots the rows are compared with."""
    drawn: bool
    """Whether methods selected anew."""
    over_rows: bool
    """Whether intervals are about other test rows, too."""
    parsed: bool
    """Whether answers were read, some of which may have been unreadable."""
    rows: list[Line]


def results_table(
    rows: Sequence[TableRow],
    metric: MetricDescription,
    figures: Sequence[str],
    pairs: Pairs = "seeds",
) -> ResultsTable:
    """Return one metric's table as texts; a row without a result is listed, not left out."""
    places = decimals(rows, metric)
    summaries = [row.metrics[metric.name] for row in rows if metric.name in row.metrics]
    return ResultsTable(
        metric=metric.name,
        name=sentence(metric.words),
        figures=list(figures),
        direction="lower" if metric.lower_is_better else "higher",
        over=pairs.capitalize(),
        times=_same({str(s.value.n) for s in summaries if s.vs_random}),
        which=next((with_template(s.zero_shot) for s in summaries if s.zero_shot), ""),
        drawn=any(summary.method_vs_random is not None for summary in summaries),
        over_rows=over_rows(summaries),
        parsed=any(summary.parse_failures is not None for summary in summaries),
        rows=[_line(row, metric, places) for row in rows],
    )


def over_rows(summaries: Sequence[MetricSummary]) -> bool:
    """Return whether any comparison counts in that other test rows would have other values."""
    compared = [versus for s in summaries for versus in (s.vs_random, s.vs_zero_shot) if versus]
    return any(part.name == "rows" for versus in compared for part in versus.spread.parts)


def _line(row: TableRow, metric: MetricDescription, places: int) -> Line:
    summary = row.metrics.get(metric.name)
    line = Line(
        method=row.label,
        baseline=row.method.is_baseline,
        budget=f"{row.budget:,}" if row.budget else "none",
        flags=[f.message for f in row.flags if f.metric in (None, metric.name)],
    )
    if summary is None:
        return line
    single = row.seeds == (None,) and summary.value.n == 1
    unread = summary.parse_failures
    return replace(
        line,
        mean=number(metric, summary.value.mean, places),
        interval=interval(metric, summary.value, places),
        note="" if single else summary.value.note,
        parse_failures="" if unread is None else f"{100 * unread:.1f}%",
        over="–" if single else str(summary.value.n),
        random=difference(summary.vs_random, metric, places),
        drawn=difference(summary.method_vs_random, metric, places),
        zero_shot=difference(summary.vs_zero_shot, metric, places),
    )


def _same(counts: set[str]) -> str:
    return next(iter(counts)) if len(counts) == 1 else ""


def difference(
    versus: Comparison | None, metric: MetricDescription, places: int
) -> Difference | None:
    """Return a comparison as texts."""
    if versus is None:
        return None
    return Difference(
        difference=number(metric, versus.difference, places, signed=True),
        interval=interval(metric, versus, places, signed=True),
        note=versus.note,
        p=probability(versus.p_value),
        verdict=versus.verdict,
        tone=versus.verdict.replace(" ", "-"),
    )

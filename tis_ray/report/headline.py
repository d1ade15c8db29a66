"""The verdict of a table in sentences: what leads a page, and what qualifies it.

The table is one study's (its pairs are seeds) or that of several (its pairs are cells).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from tis_ray.analysis import Comparison, TableRow
from tis_ray.analysis.comparison import Verdict
from tis_ray.analysis.winners import gain, leading_metric, winners
from tis_ray.metrics.description import MetricDescription
from tis_ray.report.formatting import (
    counted,
    decimals,
    interval,
    margin,
    metrics_of,
    number,
    p_words,
    probability,
    with_template,
)


@dataclass(frozen=True)
class Headline:
    """The verdict in one sentence, what qualifies it, and its tone (which colours the page)."""

    sentence: str
    details: tuple[str, ...] = ()
    tone: Literal["good", "bad", "open"] = "open"


def headline(
    rows: Sequence[TableRow], leads: str | None = None, more: Iterable[str] = ()
) -> Headline:
    """Say whether selection beat random and zero-shot, on which metric, by how much, how surely.

    leads: the metric that the verdict is about; the first one otherwise. more: details to add.
    """
    methods = [row for row in rows if not row.method.is_baseline]
    metric = leading_metric(methods, leads)
    if metric is None:
        nothing = "No method has been trained and measured yet: there is nothing to compare."
        return Headline(nothing, tuple(more))
    compared = [row for row in methods if _compared(row, metric)]
    name = metric.words
    if not compared:
        return Headline(
            f"No verdict: random was not measured at the same budget, so no {name} can be compared.",
            tuple(more),
        )
    groups = {v: [r for r in compared if _versus(r, metric).verdict == v] for v in _VERDICTS}
    won = winners(compared, metric)
    best = won[0] if won else _best(compared, metric)
    details = (*_details(metric, compared, groups, best), *more)
    where = f"{best.label} at budget {best.budget:,}"
    numbers = _difference(best, metric, decimals(rows, metric))
    if won:
        return Headline(
            f"{best.label} beats random at budget {best.budget:,}: {numbers}.", details, "good"
        )
    if len(groups["worse"]) == len(compared):
        lead = f"Every method is worse than random on {name}. The least bad is"
        return Headline(f"{lead} {where}: {numbers}.", details, "bad")
    if all(_versus(row, metric).n == 1 for row in compared):
        one = counted(1, _versus(best, metric).pairs[:-1]).replace("1", "One")
        lead = f"{one} gives no verdict. The most favourable on {name} is"
        return Headline(f"{lead} {where}: {numbers}.", details)
    if len(groups["alike"]) == len(compared):
        lead = f"On {name} every method is as good as random within {margin(metric)}. The best is"
        return Headline(f"{lead} {where}: {numbers}.", details)
    lead = f"No method is shown to beat random on {name}. The closest is"
    return Headline(f"{lead} {where}: {numbers}.", details, "bad" if groups["worse"] else "open")


_VERDICTS: tuple[Verdict, ...] = ("better", "alike", "cannot tell", "worse")


def _details(
    metric: MetricDescription,
    compared: Sequence[TableRow],
    groups: dict[Verdict, list[TableRow]],
    best: TableRow,
) -> Iterable[str]:
    """Yield what qualifies the headline: never only the good half."""
    versus = _versus(best, metric)
    if versus.question == "subset":
        yield from _two_questions(best, metric, decimals(compared, metric))
    if versus.decided and len(compared) > 1:
        holds = "still holds" if versus.survives_holm else "does not hold"
        yield (
            f"This is the most favourable of {len(compared)} comparisons. After Holm's correction"
            f" for that many it {holds} ({p_words(versus.p_value)}, corrected"
            f" {probability(versus.p_holm)})."
        )
    versus_random = {
        other: [row for row in compared if _compared(row, other)] for other in metrics_of(compared)
    }
    same = [
        f"{_difference(best, other, decimals(compared, other))} ({_versus(best, other).verdict})"
        for other in versus_random
        if other != metric and best in versus_random[other]
    ]
    if same:
        yield f"The same subset: {'; '.join(same)}."
    tallies = []
    for other, rows in versus_random.items():
        tally = Counter(_versus(row, other).verdict for row in rows)
        counts = ", ".join(f"{tally[v]} {v}" for v in _VERDICTS if tally[v])
        tallies += [f"{other.words} {counts}"] if counts else []
    yield f"All {len(compared)} comparisons with random: {'; '.join(tallies)}."
    if groups["worse"]:
        yield f"Worse than random on {metric.words}: {_row_list(groups['worse'])}."
    below = [r for r in compared if any(f.code == "below_zero_shot" for f in r.flags)]
    if below:
        yield f"Worse than no training at all (zero-shot) on some metric: {_row_list(below)}."
    elif all(m.vs_zero_shot for row in compared for m in row.metrics.values()):
        yield "Nothing that was selected is on average worse than zero-shot, on any metric."
    yield from _zero_shots(compared)
    if all(_versus(row, metric).n == row.n_seeds == 1 for row in compared):
        yield "Run at least three seeds to get intervals and verdicts."


def _two_questions(row: TableRow, metric: MetricDescription, places: int) -> Iterable[str]:
    """Say what the verdict is about, and what is known of the method itself."""
    drawn = row.metrics[metric.name].method_vs_random
    if drawn is None:
        yield (
            "This is about these rows: random subsets differ so much from each other. Whether the method"
            " would do so again with other queries and another half of the pool was not asked"
            " (`draws: 5` does)."
        )
        return
    words = {
        "better": "The method itself is better too",
        "worse": "The method itself is worse",
        "alike": f"The method itself is as good as random within {margin(metric)}",
        "cannot tell": "Of the method itself one cannot tell",
    }[drawn.verdict]
    if drawn.decided and not drawn.survives_holm:
        words += ", before the correction for many"
    ends = interval(metric, drawn, places, signed=True)
    difference = number(metric, drawn.difference, places, signed=True)
    numbers = f"difference {difference}{' ' + ends if ends else ''}"
    yield (
        f"{words}: it selected anew {counted(drawn.n, 'time')}, {numbers}, {p_words(drawn.p_value)}."
    )


def _zero_shots(rows: Sequence[TableRow]) -> Iterable[str]:
    """Say which of two zero-shots each metric is compared with."""
    groups: dict[str, list[str]] = {}
    for metric in metrics_of(rows):
        summaries = (row.metrics.get(metric.name) for row in rows)
        which = next((summary.zero_shot for summary in summaries if summary), None)
        if which:
            groups.setdefault(with_template(which), []).append(metric.words)
    if groups:
        each = "; ".join(f"{which}: {', '.join(names)}" for which, names in groups.items())
        yield f"Zero-shot was measured with the study's template and without; the better of two counts ({each})."


def _difference(row: TableRow, metric: MetricDescription, places: int) -> str:
    """Return "test loss 0.28 vs 0.48, difference −0.20 [−0.24, −0.16] over 3 seeds"."""
    summary, versus = row.metrics[metric.name], _versus(row, metric)
    other = summary.baseline.mean if summary.baseline else summary.value.mean - versus.difference
    ends = interval(metric, versus, places, signed=True)
    return (
        f"{metric.words} {number(metric, other + versus.difference, places)}"
        f" vs {number(metric, other, places)},"
        f" difference {number(metric, versus.difference, places, signed=True)}"
        f"{' ' + ends if ends else ''} over {counted(versus.n, versus.pairs[:-1])}"
        + (f" ({versus.note})" if versus.note and versus.n > 1 else "")
    )


def _row_list(rows: Sequence[TableRow], most: int = 6) -> str:
    names = [f"{row.label} @ {row.budget:,}" for row in rows[:most]]
    return ", ".join(names) + (f" and {len(rows) - most} more" if len(rows) > most else "")


def _best(rows: Sequence[TableRow], metric: MetricDescription) -> TableRow:
    """Return the row with the largest gain over random."""
    return max(rows, key=lambda row: gain(row, metric))


def _compared(row: TableRow, metric: MetricDescription) -> bool:
    return metric.name in row.metrics and row.metrics[metric.name].vs_random is not None


def _versus(row: TableRow, metric: MetricDescription) -> Comparison:
    versus = row.metrics[metric.name].vs_random
    assert versus is not None, "callers keep only the rows that were compared"
    return versus

"""How the report says things: method names, numbers, and the verdict of a study in sentences."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Literal

from tis_ray.analysis import Comparison, Interval, Method, Metric, TableRow, measured
from tis_ray.analysis.cells import ZERO_SHOT_PLAIN
from tis_ray.analysis.paired import Verdict

MINUS = "\N{MINUS SIGN}"


@dataclass(frozen=True)
class Headline:
    """The verdict in one sentence, what qualifies it, and its tone (which colours the page)."""

    sentence: str
    details: tuple[str, ...] = ()
    tone: Literal["good", "bad", "open"] = "open"


def with_template(zero_shot: Method | None) -> str:
    """Return which of two zero-shots one is, or nothing where there is only one."""
    if zero_shot is None:
        return ""
    return "without template" if zero_shot == Method(ZERO_SHOT_PLAIN) else "with template"


def metrics_of(rows: Sequence[TableRow]) -> list[Metric]:
    """Return the metrics of a table in the order of the report; the first one leads."""
    about = {name: summary.about for row in rows for name, summary in row.metrics.items()}
    return [about[name] for name in measured(row.metrics for row in rows)]


def sentence(words: str) -> str:
    """Return a metric's words as the beginning of a sentence; a task's name stays as it is."""
    return words if ": " in words else words[:1].upper() + words[1:]


def decimals(rows: Sequence[TableRow], metric: Metric) -> int:
    """Return how many decimals the table of a metric needs: one digit of the typical interval."""
    if metric.share:
        return 1
    summaries = [row.metrics[metric.name] for row in rows if metric.name in row.metrics]
    spans = [s.vs_random or s.value for s in summaries]
    halves = [(s.high - s.low) / 2 for s in spans if s.low is not None and s.high is not None]
    typical = median(halves) if halves else 0.0
    return min(max(math.ceil(-math.log10(typical)), 2), 5) if typical > 0 else 3


def number(metric: Metric, value: float, places: int, *, signed: bool = False) -> str:
    """Return a metric's value or difference: losses in nats, shares of rows in percent."""
    text = plain_number((100 if metric.share else 1) * value, places)
    unit = (" points" if signed else "%") if metric.share else ""
    return (text if signed else text.removeprefix("+")) + unit


def plain_number(value: float, places: int) -> str:
    """Return a number with its sign; a rounded zero has none."""
    text = f"{value:+.{places}f}"
    return (text if text.strip("+-0.") else text[1:]).replace("-", MINUS)


def interval(
    metric: Metric, value: Interval | Comparison, places: int, *, signed: bool = False
) -> str:
    """Return "[low, high]" in the metric's format, or nothing where there is no interval."""
    if value.low is None or value.high is None:
        return ""
    ends = [number(metric, end, places, signed=signed) for end in (value.low, value.high)]
    return f"[{', '.join(end.removesuffix(' points') for end in ends)}]"


def p_words(p_value: float | None) -> str:
    """Return "p = 0.03", "p < 0.001"."""
    words = probability(p_value)
    return f"p {words}" if words.startswith("<") else f"p = {words}"


def probability(p_value: float | None) -> str:
    """Return a p-value with two digits."""
    if p_value is None:
        return ""
    return "< 0.001" if p_value < 0.001 else f"{p_value:.{3 if p_value < 0.01 else 2}f}"


def duration(seconds: float | None) -> str:
    """Return seconds in the unit a reader would choose."""
    if not seconds:
        return "–"
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


def seeds(count: int) -> str:
    """Return "1 seed", "3 seeds"."""
    return f"{count} seed" if count == 1 else f"{count} seeds"


def headline(rows: Sequence[TableRow]) -> Headline:
    """Say whether selection beat random and zero-shot, on which metric, by how much, how surely."""
    methods = [row for row in rows if not row.method.is_baseline]
    metric = next(iter(metrics_of(methods)), None)
    if metric is None:
        return Headline("No method has been trained and measured yet: there is nothing to compare.")
    compared = [row for row in methods if _compared(row, metric)]
    name = metric.words
    if not compared:
        return Headline(
            f"No verdict: random was not measured at the same budget, so no {name} can be compared."
        )
    groups = {v: [r for r in compared if _versus(r, metric).verdict == v] for v in _VERDICTS}
    details = tuple(_details(metric, compared, groups))
    best = _best(groups["better"] or compared, metric)
    where = f"{best.label} at budget {best.budget:,}"
    numbers = _difference(best, metric, decimals(rows, metric))
    if groups["better"]:
        return Headline(
            f"{best.label} beats random at budget {best.budget:,}: {numbers}.", details, "good"
        )
    if len(groups["worse"]) == len(compared):
        lead = f"Every method is worse than random on {name}. The least bad is"
        return Headline(f"{lead} {where}: {numbers}.", details, "bad")
    if all(_versus(row, metric).n == 1 for row in compared):
        lead = f"One seed gives no verdict. The most favourable on {name} is"
        return Headline(f"{lead} {where}: {numbers}.", details)
    lead = f"No method is shown to beat random on {name}. The closest is"
    return Headline(f"{lead} {where}: {numbers}.", details, "bad" if groups["worse"] else "open")


_VERDICTS: tuple[Verdict, ...] = ("better", "cannot tell", "worse")


def _details(
    metric: Metric, compared: Sequence[TableRow], groups: dict[Verdict, list[TableRow]]
) -> Iterable[str]:
    """Yield what qualifies the headline: never only the good half."""
    best = _best(groups["better"] or compared, metric)
    versus = _versus(best, metric)
    if versus.verdict != "cannot tell" and len(compared) > 1:
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
        yield "Nothing is worse than zero-shot, on any metric."
    yield from _zero_shots(compared)
    if all(row.n_seeds == 1 for row in compared):
        yield "Run at least three seeds to get intervals and verdicts."


def _zero_shots(rows: Sequence[TableRow]) -> Iterable[str]:
    """Say which of two zero-shots each metric is compared with."""
    groups: dict[str, list[str]] = {}
    for metric in metrics_of(rows):
        summaries = (row.metrics.get(metric.name) for row in rows)
        which = next((found.zero_shot for found in summaries if found), None)
        if which:
            groups.setdefault(with_template(which), []).append(metric.words)
    if groups:
        each = "; ".join(f"{which}: {', '.join(names)}" for which, names in groups.items())
        yield f"Zero-shot is the better of two, with the study's template and without ({each})."


def _difference(row: TableRow, metric: Metric, places: int) -> str:
    """Return "test loss 0.28 vs 0.48, difference −0.20 [−0.24, −0.16] over 3 seeds"."""
    summary, versus = row.metrics[metric.name], _versus(row, metric)
    other = summary.baseline.mean if summary.baseline else summary.value.mean - versus.difference
    ends = interval(metric, versus, places, signed=True)
    return (
        f"{metric.words} {number(metric, other + versus.difference, places)}"
        f" vs {number(metric, other, places)},"
        f" difference {number(metric, versus.difference, places, signed=True)}"
        f"{' ' + ends if ends else ''} over {seeds(versus.n)}"
        + (f" ({versus.note})" if versus.note and versus.n > 1 else "")
    )


def _row_list(rows: Sequence[TableRow], most: int = 6) -> str:
    names = [f"{row.label} @ {row.budget:,}" for row in rows[:most]]
    return ", ".join(names) + (f" and {len(rows) - most} more" if len(rows) > most else "")


def _best(rows: Sequence[TableRow], metric: Metric) -> TableRow:
    """Return the row with the largest gain over random."""
    sign = -1 if metric.lower_is_better else 1
    return max(rows, key=lambda row: sign * _versus(row, metric).difference)


def _compared(row: TableRow, metric: Metric) -> bool:
    return metric.name in row.metrics and row.metrics[metric.name].vs_random is not None


def _versus(row: TableRow, metric: Metric) -> Comparison:
    versus = row.metrics[metric.name].vs_random
    assert versus is not None, "callers keep only the rows that were compared"
    return versus

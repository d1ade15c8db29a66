"""Numbers, intervals, p-values and durations as texts for tables, figures and sentences."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import median

from tis_ray.analysis import Comparison, Interval, Method, TableRow
from tis_ray.analysis.study_values import ZERO_SHOT_PLAIN
from tis_ray.metrics.description import MetricDescription, measured

MINUS = "\N{MINUS SIGN}"
_FEWEST, _FEWEST_OF_LARGE, _FEWEST_OF_SHARES, _MOST = 3, 2, 1, 5
"""Decimals of numbers, of those whose intervals are wider than 1, and of shares in percent."""


def with_template(zero_shot: Method | None) -> str:
    """Return which of two zero-shots one is, or nothing where there is only one."""
    if zero_shot is None:
        return ""
    return "without template" if zero_shot == Method(ZERO_SHOT_PLAIN) else "with template"


def metrics_of(rows: Sequence[TableRow]) -> list[MetricDescription]:
    """Return the metrics of a table in the order of the report; the first one leads."""
    about = {name: summary.about for row in rows for name, summary in row.metrics.items()}
    return [about[name] for name in measured(row.metrics for row in rows)]


def sentence(words: str) -> str:
    """Return a metric's words as the beginning of a sentence; a task's name stays as it is."""
    return words if ": " in words else words[:1].upper() + words[1:]


def decimals(rows: Sequence[TableRow], metric: MetricDescription) -> int:
    """Return how many decimals a metric has wherever the study's numbers stand: page, terminal, files."""
    summaries = [row.metrics[metric.name] for row in rows if metric.name in row.metrics]
    return decimals_of(metric, [s.vs_random or s.value for s in summaries])


def decimals_of(metric: MetricDescription, values: Sequence[Interval | Comparison]) -> int:
    """Return how many decimals these values need.

    Shares have one in percent, others three, as losses have on screen; more where that would hide the
    typical interval's first digit, or show as zero what a verdict stands on: an end of an interval that
    leaves out zero, or a difference that is judged without one.
    """
    if metric.share:
        places = _FEWEST_OF_SHARES
    else:
        halves = [(v.high - v.low) / 2 for v in values if v.low is not None and v.high is not None]
        typical = median(halves) if halves else 0.0
        fewest = _FEWEST if typical < 1 else _FEWEST_OF_LARGE
        places = max(math.ceil(-math.log10(typical)), fewest) if typical > 0 else _FEWEST
    scale = 100 if metric.share else 1
    for versus in values:
        if isinstance(versus, Interval):
            continue
        low, high = versus.low, versus.high
        if low is None or high is None:
            shown = [versus.difference] if versus.decided else []
        else:
            shown = [low, high] if low * high > 0 else []
        while places < _MOST and any(round(scale * value, places) == 0 for value in shown):
            places += 1
    return min(places, _MOST)


def number(metric: MetricDescription, value: float, places: int, *, signed: bool = False) -> str:
    """Return a metric's value or difference: losses in nats, shares of rows in percent."""
    text = plain_number((100 if metric.share else 1) * value, places)
    unit = (" points" if signed else "%") if metric.share else ""
    return (text if signed else text.removeprefix("+")) + unit


def margin(metric: MetricDescription) -> str:
    """Return the difference that does not matter, "2.0 points"; a dash where nobody said one."""
    if metric.margin is None:
        return "–"
    return number(metric, metric.margin, 1 if metric.share else 3, signed=True).removeprefix("+")


def plain_number(value: float, places: int) -> str:
    """Return a number with its sign; a rounded zero has none."""
    text = f"{value:+.{places}f}"
    return (text if text.strip("+-0.") else text[1:]).replace("-", MINUS)


def interval(
    metric: MetricDescription, value: Interval | Comparison, places: int, *, signed: bool = False
) -> str:
    """Return "[low, high]" in the metric's format, or nothing where there is no interval."""
    if value.low is None or value.high is None:
        return ""
    ends = [number(metric, end, places, signed=signed) for end in (value.low, value.high)]
    return f"[{', '.join(end.removesuffix(' points') for end in ends)}]"


def with_ends(
    metric: MetricDescription, value: Interval | Comparison, places: int, *, signed: bool = False
) -> str:
    """Return "0.149 [0.141, 0.157]"."""
    middle = value.difference if isinstance(value, Comparison) else value.mean
    ends = interval(metric, value, places, signed=signed)
    return f"{number(metric, middle, places, signed=signed)} {ends}".strip()


def axis_words(metric: MetricDescription) -> str:
    """Return what an axis says of a metric."""
    better = "lower" if metric.lower_is_better else "higher"
    return f"{metric.words}{', %' if metric.share else ''} ({better} is better)"


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


def counted(count: int, word: str) -> str:
    """Return "1 seed", "1,000 rows"."""
    return f"{count:,} {word}{'' if count == 1 else 's'}"


def rho_span(low: float | None, high: float | None) -> str:
    """Return "[low, high]" of a correlation, cut to [-1, 1], or nothing where there is no interval."""
    if low is None or high is None:
        return ""
    return f"[{plain_number(max(low, -1.0), 2)}, {plain_number(min(high, 1.0), 2)}]"

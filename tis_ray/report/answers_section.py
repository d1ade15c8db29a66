"""The section on answers: what models say beside the labels, what a method has fixed and what it has broken.

Of each test row a method has the share of its models (one a seed) that answer it rightly. Fixed are rows
with a higher share than the other method has, broken those with a lower one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tis_ray.analysis import Method
from tis_ray.analysis.study_runs import best_of_zero_shots
from tis_ray.metrics.description import MetricDescription
from tis_ray.report.formatting import number
from tis_ray.report.record import StudyRecord
from tis_ray.report.recorded_texts import GradedAnswers, MethodAnswers


@dataclass(frozen=True)
class Change:
    """How a method's answers differ from those of what it is compared with, at one budget."""

    name: str
    method: str
    other: str
    fixed: int
    broken: int
    same: int
    rows: int


def answers_data(record: StudyRecord) -> list[dict[str, Any]]:
    """Return each set of rows with the answers of all methods, as data for the page's table."""
    data = []
    for found in record.answers:
        metric = record.legend.metric(found["metric"])
        places = [_label(record, method) for method in found["methods"]]
        left, right = first_pair(found)
        data.append(
            {
                "name": found["name"],
                "metric": metric.words,
                "lower": metric.lower_is_better,
                "share": metric.share,
                "rows": found["rows"],
                "methods": [
                    {
                        "name": name,
                        "models": method["models"],
                        "values": method["values"],
                        "shown": [_value(metric, value) for value in method["values"]],
                        "answers": method["answers"],
                    }
                    for name, method in zip(places, found["methods"], strict=True)
                ],
                "left": left,
                "right": right,
                "left_out": found["left_out"],
            }
        )
    return data


def changes(record: StudyRecord) -> list[Change]:
    """Return what each method fixed and broke against random at its budget and the better zero-shot."""
    lines = []
    for found in record.answers:
        metric = record.legend.metric(found["metric"])
        best = best_of_zero_shots(record.cells, metric)
        for mine in found["methods"]:
            if Method.from_json(mine).is_baseline:
                continue
            for other in found["methods"]:
                method = Method.from_json(other)
                same_budget = method.is_random and other["budget"] == mine["budget"]
                if not same_budget and (best is None or method != best[0]):
                    continue
                gains = _gains(metric, mine["values"], other["values"])
                fixed, broken = sum(g > 0 for g in gains), sum(g < 0 for g in gains)
                rest = len(gains) - fixed - broken
                names = _label(record, mine), record.legend.method(method)
                lines.append(Change(found["name"], *names, fixed, broken, rest, len(gains)))
    return lines


def first_pair(found: GradedAnswers) -> tuple[int, int]:
    """Return which two are shown first: a method at the largest budget, and random there."""
    methods = [Method.from_json(method) for method in found["methods"]]
    budgets = [method["budget"] for method in found["methods"]]
    own = [i for i, method in enumerate(methods) if not method.is_baseline]
    mine = max(own, key=lambda i: budgets[i], default=len(methods) - 1)
    others = [i for i, method in enumerate(methods) if method.is_baseline and i != mine]
    random = [i for i in others if methods[i].is_random and budgets[i] == budgets[mine]]
    return mine, next(iter([*random, *others]), mine)


def _gains(metric: MetricDescription, mine: Sequence[float], other: Sequence[float]) -> list[float]:
    sign = -1 if metric.lower_is_better else 1
    return [sign * (a - b) for a, b in zip(mine, other, strict=True)]


def _label(record: StudyRecord, method: MethodAnswers) -> str:
    name = record.legend.method(Method.from_json(method))
    return f"{name} @ {method['budget']:,}" if method["budget"] else name


def _value(metric: MetricDescription, value: float) -> str:
    return number(metric, value, 0 if metric.share else 3)

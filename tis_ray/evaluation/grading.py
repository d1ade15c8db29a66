"""Grading of answers by metrics: means over all of them, and a table with each one's values."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np

from tis_ray.metrics import METRICS, Score

Column: TypeAlias = Sequence[object] | np.ndarray
"""A value for each row."""

MetricSettings: TypeAlias = Mapping[str, Mapping[str, object]]
"""Settings of metrics, by the metrics' names."""


@dataclass(frozen=True)
class Measured:
    """Means by name, and a table of the rows they were taken over: columns of equal length.

    queries: the same of the queries, where they were measured too.
    """

    metrics: dict[str, float]
    rows: dict[str, Column]
    queries: dict[str, Column] = field(default_factory=dict)


def grade(
    answers: Sequence[str],
    references: Sequence[Sequence[str]],
    metrics: Sequence[str],
    pattern: str | None = None,
    settings: MetricSettings | None = None,
) -> Measured:
    """Score answers, each against its references, by every metric; return means and parse failures.

    pattern: a regular expression; the first match of its group counts as the answer, and an answer
        without a match is a parse failure.
    settings: of those metrics that have any.

    The columns are each metric's value by row, and what it read in the answer (None: nothing).
    """
    read: list[str | None] = list(answers)
    if pattern is not None:
        matches = [re.search(pattern, answer) for answer in answers]
        read = [match[1] if match else None for match in matches]
    means: dict[str, float] = {}
    columns: dict[str, Column] = {}
    for metric in map(METRICS.find, metrics):
        name = metric.name
        own = metric.Settings.model_validate((settings or {}).get(name, {}))
        scores = [
            metric.graded(answer, right, own) if answer is not None else Score(0.0, None)
            for answer, right in zip(read, references, strict=True)
        ]
        means[name] = float(np.mean([score.value for score in scores]))
        means[f"{name}_parse_failures"] = float(np.mean([score.read is None for score in scores]))
        columns[name] = [score.value for score in scores]
        columns[f"{name}_read"] = [score.read for score in scores]
    return Measured(means, columns)

"""Scores of many answers: their means, and what was found row by row."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tis_ray.metrics import METRICS, Score


@dataclass(frozen=True)
class Measured:
    """Means by name, and what was found for each row: columns of equal length."""

    metrics: dict[str, float]
    rows: dict[str, Any]


def grade(
    answers: Sequence[str],
    references: Sequence[Sequence[str]],
    metrics: Sequence[str],
    pattern: str | None = None,
    settings: Mapping[str, Mapping[str, Any]] | None = None,
) -> Measured:
    """Score answers, each against its references: every metric with its share of parse failures.

    settings: of metrics that have any, by their names. With a `pattern`, what its group matches first is the answer, and no match is a parse failure.
    The columns are each metric's value by row, and what it read out of the answer (None: nothing).
    """
    read: list[str | None] = list(answers)
    if pattern is not None:
        matches = [re.search(pattern, answer) for answer in answers]
        read = [match[1] if match else None for match in matches]
    means: dict[str, float] = {}
    columns: dict[str, Any] = {}
    for metric in map(METRICS.find, metrics):
        name = metric.name
        own = metric.Settings.model_validate((settings or {}).get(name, {}))
        scores = [
            metric.graded(found, right, own) if found is not None else Score(0.0, None)
            for found, right in zip(read, references, strict=True)
        ]
        means[name] = float(np.mean([score.value for score in scores]))
        means[f"{name}_parse_failures"] = float(np.mean([score.read is None for score in scores]))
        columns[name] = [score.value for score in scores]
        columns[f"{name}_read"] = [score.read for score in scores]
    return Measured(means, columns)

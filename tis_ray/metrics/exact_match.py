"""The metric `exact_match`: whether the whole answer is the label."""

from __future__ import annotations

from collections.abc import Sequence

from tis_ray.metrics.spec import Metric, Score


def exact_match(answer: str, references: Sequence[str]) -> Score:
    """Score 1 if the answer is a reference, ignoring white space at both ends; nothing to read if empty."""
    read = answer.strip()
    value = float(any(read == reference.strip() for reference in references))
    return Score(value, read if read or value else None)


METRIC = Metric(
    name="exact_match",
    summary="the answer is the label, apart from white space around it",
    score=exact_match,
)

"""Exact match of the whole answer."""

from __future__ import annotations

from collections.abc import Sequence

from tis_ray.metrics.spec import Metric, Score


def exact_match(answer: str, references: Sequence[str]) -> Score:
    """Whether the answer is a reference, white space at both ends aside; nothing to read if empty."""
    read = answer.strip()
    value = float(any(read == reference.strip() for reference in references))
    return Score(value, read if read or value else None)


METRIC = Metric(
    name="exact_match", summary="the answer is the label, white space aside", score=exact_match
)

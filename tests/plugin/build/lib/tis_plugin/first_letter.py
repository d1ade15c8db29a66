"""A metric: whether an answer begins as a reference does."""

from __future__ import annotations

from collections.abc import Sequence

from tis_ray.metrics import Metric, Score


def first_letter(answer: str, references: Sequence[str]) -> Score:
    """Compare first letters; an empty answer holds nothing to read."""
    read = answer.strip()[:1] or None
    right = {reference.strip()[:1] for reference in references}
    return Score(float(read in right), read)


FIRST_LETTER = Metric(
    name="first_letter",
    label="first letter",
    version=1,
    summary="the first letter is the label's",
    score=first_letter,
)

"""The texts that a study's record holds: selected rows, their queries, and answers of models, as plain values.

Each text stands once, however many methods have selected it, and is cut to an equal share of a fixed
whole, so that the record of a large study can still be opened.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypedDict

MOST_TEXT = 24_000_000
"""Characters of rows and queries in one record."""
MOST_ANSWERS = 6_000_000
"""Characters of answers in one record."""
MOST_ROWS = 2_000
"""Test rows of one set whose answers a record holds."""
LEAST = 120
"""Characters that a text keeps, however many there are."""


class PoolText(TypedDict):
    """A selected row of the pool."""

    index: int
    id: str
    source: str
    file: str | None
    line: int | None
    text: str


class QueryText(TypedDict):
    """A query that pulled selected rows."""

    query: int
    id: str
    text: str


class SelectedTexts(TypedDict):
    """The texts behind the numbers in an ordering's rows (`index`, `query`)."""

    rows: list[PoolText]
    queries: list[QueryText]


class AskedRow(TypedDict):
    """A test row: what was asked, and the label."""

    id: str
    prompt: str
    label: str


class MethodAnswers(TypedDict):
    """The answers of one method's models at one budget (0 for the untrained model).

    values: the metric's mean over the models, a value a row. answers: of each row the different answers
    with how many models gave them, `[text, count]`, the most frequent first.
    """

    representation: str
    selector: str | None
    budget: int
    models: int
    values: list[float]
    answers: list[list[list[str | int]]]


class GradedAnswers(TypedDict):
    """All answers to one set of rows; `left_out` counts rows that are not listed.

    metric: the name of what `values` are.
    """

    name: str
    metric: str
    left_out: int
    rows: list[AskedRow]
    methods: list[MethodAnswers]


def cut(text: str | None, most: int) -> str:
    """Return a text, or its beginning and how much is missing."""
    text = text or ""
    if len(text) <= most:
        return text
    return f"{text[:most]}… [{len(text) - most:,} more characters]"


def shared_out(texts: Sequence[str | None], most: int) -> list[str]:
    """Return texts whose sum is about `most` or less: short ones whole, long ones cut to one length."""
    lengths = sorted(len(text or "") for text in texts)
    left, allowed = most, max(lengths, default=0)
    for place, length in enumerate(lengths):
        allowed = left // (len(lengths) - place)
        if length > allowed:
            break
        left -= length
    else:
        return [text or "" for text in texts]
    return [cut(text, max(LEAST, allowed)) for text in texts]

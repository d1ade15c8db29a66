"""The metric `choice_match`: whether the letter that an answer chooses is the label's."""

from __future__ import annotations

import re
from collections.abc import Sequence

from tis_ray.metrics.spec import Metric, Score, reference_value


def choice_match(answer: str, references: Sequence[str]) -> Score:
    """Score 1 if the letter that the answer chooses is a reference's, else 0; see `read_choice`."""
    read = read_choice(answer)
    if read is None:
        return Score(0.0, None)
    return Score(float(any(read == _reference(r) for r in references)), read)


_STATED = re.compile(r"\b[Aa]nswer\s*(?:is|:)?\s*:?\s*\**\s*(?:\(([A-Za-z])\)|([A-Z])\b(?!['’]))")
_FIRST = re.compile(r"^\s*\**(?:\(([A-Za-z])\)|([A-Z])(?=\s*(?:[.):,*\n]|$)))")
_BRACKETED = re.compile(r"\(([A-Za-z])\)")


def read_choice(text: str) -> str | None:
    """Return the letter that an answer chooses, as a capital; None if it chooses none.

    Tried in this order: the last "answer is B" or "Answer: (b)"; a letter at the start of the text,
    alone or before one of . ) : ,; the last letter in brackets. A small letter counts only in
    brackets.
    """
    stated, first = list(_STATED.finditer(text)), _FIRST.search(text)
    bracketed = list(_BRACKETED.finditer(text))
    matches = stated[-1:] or ([first] if first else bracketed[-1:])
    if not matches:
        return None
    return next(letter for letter in matches[0].groups() if letter).upper()


def _reference(reference: str) -> str:
    return reference_value(read_choice, "letter of a choice", reference)


METRIC = Metric(
    name="choice_match",
    summary="the chosen letter is the label's",
    score=choice_match,
    check=_reference,
)

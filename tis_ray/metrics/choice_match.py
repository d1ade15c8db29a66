"""The letter chosen in an answer."""

from __future__ import annotations

import re
from collections.abc import Sequence

from tis_ray.metrics.spec import Metric, Score, reference_value


def choice_match(answer: str, references: Sequence[str]) -> Score:
    """Whether the letter chosen in the answer is a reference's: see `read_choice`."""
    read = read_choice(answer)
    if read is None:
        return Score(0.0, None)
    return Score(float(any(read == _reference(r) for r in references)), read)


_SAID = re.compile(r"\b[Aa]nswer\s*(?:is|:)?\s*:?\s*\**\s*(?:\(([A-Za-z])\)|([A-Z])\b(?!['’]))")
_FIRST = re.compile(r"^\s*\**(?:\(([A-Za-z])\)|([A-Z])(?=\s*(?:[.):,*\n]|$)))")
_BRACKETED = re.compile(r"\(([A-Za-z])\)")


def read_choice(text: str) -> str | None:
    """Return the letter that an answer chooses, a capital.

    In this order: the last "answer is B" or "Answer: (b)"; a letter that the text begins with, alone
    or before one of . ) : ,; the last letter in brackets. A small letter counts only in brackets.
    """
    said, first = list(_SAID.finditer(text)), _FIRST.search(text)
    bracketed = list(_BRACKETED.finditer(text))
    found = said[-1:] or ([first] if first else bracketed[-1:])
    if not found:
        return None
    return next(letter for letter in found[0].groups() if letter).upper()


def _reference(reference: str) -> str:
    letter: str = reference_value(read_choice, "letter of a choice", reference)
    return letter


METRIC = Metric(
    name="choice_match",
    summary="the letter of the choice is the label's",
    score=choice_match,
    check=_reference,
)

"""What a generated answer is worth: is the right thing in it, and is there anything in it to read?

Every metric reads something out of the answer and compares it with the references, any of which may
be right. Where there is nothing to read, the answer counts as wrong *and* as a parse failure: a model
that has lost the form of an answer is not the same as one that has lost the knowledge.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from tis_ray.errors import InputError


@dataclass(frozen=True)
class Score:
    """One answer: its value from 0 to 1, and what was read out of it (None: nothing)."""

    value: float
    read: str | None


Metric = Callable[[str, Sequence[str]], Score]


def exact_match(answer: str, references: Sequence[str]) -> Score:
    """Whether the answer is a reference, white space at both ends aside; nothing to read if empty."""
    read = answer.strip()
    value = float(any(read == reference.strip() for reference in references))
    return Score(value, read if read or value else None)


def f1(answer: str, references: Sequence[str]) -> Score:
    """Overlap of words with the best reference, as SQuAD does it (Rajpurkar et al. 2016).

    F1 of precision and recall over words (with repetitions) after lower-casing and dropping ASCII
    punctuation and the articles a, an, the. Words are what white space separates, so that in
    languages without spaces this is exact match.
    """
    found = _words(answer)
    value = max(_overlap(found, _words(reference)) for reference in references)
    return Score(value, " ".join(found) if found or value else None)


def numeric_match(answer: str, references: Sequence[str]) -> Score:
    """Whether the answer's number is a reference's (GSM8K): see `read_number`."""
    read = read_number(answer)
    if read is None:
        return Score(0.0, None)
    return Score(float(any(read == _reference(read_number, r) for r in references)), str(read))


def choice_match(answer: str, references: Sequence[str]) -> Score:
    """Whether the letter chosen in the answer is a reference's: see `read_choice`."""
    read = read_choice(answer)
    if read is None:
        return Score(0.0, None)
    return Score(float(any(read == _reference(read_choice, r) for r in references)), read)


METRICS: dict[str, Metric] = {
    "exact_match": exact_match,
    "f1": f1,
    "numeric_match": numeric_match,
    "choice_match": choice_match,
}
"""Every metric by its name in `evaluation.metrics` and in task files."""


def check_references(metric: str, references: Sequence[str]) -> None:
    """Raise InputError where a metric cannot read the references themselves."""
    readers: dict[str, Callable[[str], Any]] = {
        "numeric_match": read_number,
        "choice_match": read_choice,
    }
    for reference in references if metric in readers else ():
        _reference(readers[metric], reference)


_NUMBER = re.compile(
    r"(?P<sign>(?<![\w.)])[-\N{MINUS SIGN}])?\$?"
    r"(?P<digits>\d{1,3}(?:,\d{3})+(?!\d)(?:\.\d+)?|\d+(?:\.\d+)?|(?<!\d)\.\d+)"
)


def read_number(text: str) -> Decimal | None:
    """Return the first number after the last `####` where there is one, else the last number.

    Commas between thousands and a dollar sign before the digits are passed over; a minus counts as
    a sign unless a word or number stands right before it (3-5 ends in 5).
    """
    _, marked, after = text.rpartition("####")
    found = list(_NUMBER.finditer(after if marked else text))
    if not found:
        return None
    number = found[0 if marked else -1]
    value = Decimal(number["digits"].replace(",", ""))
    return (-value if number["sign"] else value).normalize() + 0  # no -0


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


def _reference(reader: Callable[[str], Any], reference: str) -> Any:
    found = reader(reference)
    if found is None:
        what = "number" if reader is read_number else "letter of a choice"
        raise InputError(f"found no {what} in the reference answer {reference[:60]!r}")
    return found


_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


def _words(text: str) -> list[str]:
    return _ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split()


def _overlap(found: Sequence[str], wanted: Sequence[str]) -> float:
    if not found or not wanted:
        return float(not found and not wanted)
    shared = (Counter(found) & Counter(wanted)).total()
    return 2 * shared / (len(found) + len(wanted))

"""The metric `numeric_match`: whether the number in an answer is the label's."""

from __future__ import annotations

import re
from collections.abc import Sequence
from decimal import Decimal

from tis_ray.metrics.spec import Metric, Score, reference_value


def numeric_match(answer: str, references: Sequence[str]) -> Score:
    """Score 1 if the answer's number is a reference's (GSM8K), else 0; see `read_number`."""
    read = read_number(answer)
    if read is None:
        return Score(0.0, None)
    return Score(float(any(read == _reference(r) for r in references)), str(read))


_NUMBER = re.compile(
    r"(?P<sign>(?<![\w.)])[-\N{MINUS SIGN}])?\$?"
    r"(?P<digits>\d{1,3}(?:,\d{3})+(?!\d)(?:\.\d+)?|\d+(?:\.\d+)?|(?<!\d)\.\d+)"
)


def read_number(text: str) -> Decimal | None:
    """Return the first number after the last `####` or, if there is no `####`, the last number.

    Commas between thousands and a dollar sign before the digits are ignored; a minus counts as a
    sign unless a word or number comes right before it (3-5 ends in 5). None if there is no number.
    """
    _, marked, after = text.rpartition("####")
    numbers = list(_NUMBER.finditer(after if marked else text))
    if not numbers:
        return None
    number = numbers[0 if marked else -1]
    value = Decimal(number["digits"].replace(",", ""))
    return (-value if number["sign"] else value).normalize() + 0  # no -0


def _reference(reference: str) -> Decimal:
    return reference_value(read_number, "number", reference)


METRIC = Metric(
    name="numeric_match",
    summary="the number after `####`, or the last number, is the label's",
    score=numeric_match,
    check=_reference,
)

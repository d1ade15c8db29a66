"""The number in an answer."""

from __future__ import annotations

import re
from collections.abc import Sequence
from decimal import Decimal

from tis_ray.metrics.spec import Metric, Score, reference_value


def numeric_match(answer: str, references: Sequence[str]) -> Score:
    """Whether the answer's number is a reference's (GSM8K): see `read_number`."""
    read = read_number(answer)
    if read is None:
        return Score(0.0, None)
    return Score(float(any(read == _reference(r) for r in references)), str(read))


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


def _reference(reference: str) -> Decimal:
    number: Decimal = reference_value(read_number, "number", reference)
    return number


METRIC = Metric(
    name="numeric_match",
    summary="the number after `####`, or the last one, is the label's",
    score=numeric_match,
    check=_reference,
)

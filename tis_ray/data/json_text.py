"""JSON in which a key stands once in its object: of two, Python's own decoder takes the last in silence."""

from __future__ import annotations

import json
from collections import Counter

PLAIN = json.JSONDecoder()


class RepeatedKeyError(ValueError):
    """An object has a key twice."""


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    value = dict(pairs)
    if len(value) < len(pairs):
        key = Counter(name for name, _ in pairs).most_common(1)[0][0]
        raise RepeatedKeyError(f"an object has the key {key!r} twice; keep one")
    return value


STRICT = json.JSONDecoder(object_pairs_hook=_object)
"""Raises RepeatedKeyError where `PLAIN` has no objection, else ValueError or RecursionError."""

"""Grids: several values for a setting, their combinations, and how these are written in a name."""

from __future__ import annotations

import hashlib
import itertools
import json
import re
from collections.abc import Mapping, Sequence
from typing import Annotated

from pydantic import Field

Axes = dict[str, Annotated[list[object], Field(min_length=1)]]
"""Values by dotted key."""

Point = dict[str, object]
"""One value for each axis."""

LONGEST_LABEL = 100
"""Characters of a label that no hash cuts short; folder names end at 255."""


def points(axes: Mapping[str, Sequence[object]]) -> list[Point]:
    """Return every combination, the last axis fastest."""
    return [dict(zip(axes, values, strict=True)) for values in itertools.product(*axes.values())]


def placed(raw: Mapping[str, object], point: Point) -> dict[str, object]:
    """Return a copy of `raw` with the values of a point in their places.

    Raises ValueError where a key leads into something that is not a section.
    """
    copy = dict(raw)
    for key, value in point.items():
        *sections, last = key.split(".")
        node = copy
        for depth, section in enumerate(sections, start=1):
            inner = node.get(section)
            if not isinstance(inner, Mapping | None):
                where = ".".join(sections[:depth])
                raise ValueError(f"`{key}`: `{where}` holds a value, not a section")
            node[section] = inside = dict(inner or {})
            node = inside
        node[last] = value
    return copy


def label(point: Mapping[str, object]) -> str:
    """Return a point as part of a folder's name: `finetune.learning_rate-0.001`.

    Two points of the same axes never share a label. Where the words do not say exactly which point it
    is (`"Q: "` and `"Q:"` read the same), or are too many, a hash of the values follows after `--`.
    """
    parts = [f"{_words(key)}-{_words(value)}" for key, value in point.items()]
    words = "-".join(parts)
    if len(words) <= LONGEST_LABEL and all(_is_exact(value, point) for value in point.values()):
        return words
    values = json.dumps([repr(value) for value in point.values()])
    digest = hashlib.sha256(values.encode()).hexdigest()[:12]
    return f"{words[:LONGEST_LABEL].rstrip('-')}--{digest}"


def _words(value: object) -> str:
    return re.sub(r"[^A-Za-z0-9._]+", "-", str(value)).strip("-")


def _is_exact(value: object, point: Mapping[str, object]) -> bool:
    """Whether the words of a value are its own, and none of them could be read as an axis."""
    if any("-" in key or _words(key) != key for key in point):
        return False
    words = _words(value)
    if words.split("-") == [""] or any(word in point for word in words.split("-")):
        return False
    if isinstance(value, str):
        return words == value and not _is_scalar(value)
    return isinstance(value, bool | int | float | None) and words == str(value)


def _is_scalar(text: str) -> bool:
    """Whether text is how a value that is no text would be written."""
    try:
        return str(float(text)) == text or str(int(text)) == text
    except ValueError:
        return text in ("None", "True", "False")

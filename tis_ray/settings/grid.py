"""Lists where one value is expected: a grid of studies.

`finetune: {learning_rate: [1.0e-3, 2.0e-3]}` becomes an axis of the grid, `finetune.learning_rate`, and
its first value stays in its place. (Lists of `representation`, `selector`, `budget` and `seed` are the
grid inside one study.)
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, get_args, get_origin

from pydantic import BaseModel

Axes = dict[str, list[Any]]
"""Values by dotted key."""

Point = dict[str, Any]
"""One value for each axis."""


def take_axes(model: type[BaseModel], raw: Mapping[str, Any]) -> tuple[dict[str, Any], Axes]:
    """Return `raw` with one value where `model` expects one, and the lists that stood there."""
    axes: Axes = {}
    plain = dict(raw)
    for key, values in _lists(model, raw, ""):
        plain = placed(plain, {key: values[0]})
        if len(values) > 1:
            axes[key] = values
    return plain, axes


def points(axes: Mapping[str, Sequence[Any]]) -> list[Point]:
    """Return every combination, the last axis fastest."""
    return [dict(zip(axes, values, strict=True)) for values in itertools.product(*axes.values())]


def placed(raw: Mapping[str, Any], point: Point) -> dict[str, Any]:
    """Return a copy of `raw` with the values of a point in their places."""
    copy = dict(raw)
    for key, value in point.items():
        *sections, last = key.split(".")
        node = copy
        for section in sections:
            node[section] = dict(node.get(section) or {})
            node = node[section]
        node[last] = value
    return copy


def label(point: Point) -> str:
    """Return a point as part of a folder's name: `finetune.learning_rate-0.001`."""
    parts = (f"{key}-{value}" for key, value in point.items())
    return "-".join(re.sub(r"[^A-Za-z0-9._]+", "-", part).strip("-") for part in parts)


def _lists(
    model: type[BaseModel], raw: Mapping[str, Any], above: str
) -> Iterator[tuple[str, list[Any]]]:
    for name, value in raw.items():
        known = model.model_fields.get(name)
        if known is None:
            continue  # the schema's own error is better
        section = _section(known.annotation)
        if section is not None and isinstance(value, Mapping):
            yield from _lists(section, value, f"{above}{name}.")
        elif above and isinstance(value, list) and value and _single(known.annotation):
            yield f"{above}{name}", value


def _section(annotation: Any) -> type[BaseModel] | None:
    """Return the model of a field that is a section; none where it is one of several."""
    found = [a for a in get_args(annotation) or (annotation,) if a is not type(None)]
    is_one = len(found) == 1 and isinstance(found[0], type) and issubclass(found[0], BaseModel)
    return found[0] if is_one else None


def _single(annotation: Any) -> bool:
    """Whether a field holds one plain value: nothing in its type is a collection or a section."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return False
    if get_origin(annotation) in (list, tuple, dict, set):
        return False
    return all(
        _single(part) for part in get_args(annotation) if isinstance(part, type) or get_args(part)
    )

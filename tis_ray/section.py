"""What every section of a config has in common: of `tis_ray.settings`, and of a method's own settings."""

from __future__ import annotations

import re
from functools import cache
from typing import Annotated, Literal, TypeVar, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator

Stop = Annotated[str, Field(min_length=1)]


Seed = Annotated[int, Field(ge=0, lt=2**32)]

V = TypeVar("V")

_SCIENTIFIC = re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+")
"""A number that YAML 1.1 reads as text, for want of a dot or a sign."""


class Section(BaseModel):
    """Base of every section: unknown keys are errors, values do not change after reading."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _numbers(cls, value: object, info: ValidationInfo) -> object:
        """Refuse true and false where numbers belong: Python would take them for 1 and 0."""
        assert info.field_name is not None
        return _as_numbers(value) if _holds_numbers(cls, info.field_name) else value


def as_list(value: object) -> object:
    """Return a value where a list is meant as a list of one."""
    return value if isinstance(value, list | tuple) else [value]


def distinct(values: list[V]) -> list[V]:
    """Refuse a value that is given twice."""
    if len(set(values)) != len(values):
        raise ValueError("a value is given twice; keep one")
    return values


def not_empty(values: list[V]) -> list[V]:
    """Refuse a list without values."""
    if not values:
        raise ValueError("give at least one value")
    return values


def _as_numbers(value: object) -> object:
    if isinstance(value, bool):
        raise ValueError("give a number, not true or false")
    if isinstance(value, str) and _SCIENTIFIC.fullmatch(value):
        return float(value)
    if isinstance(value, list | tuple):
        return [_as_numbers(item) for item in value]
    if isinstance(value, dict):
        return {key: _as_numbers(item) for key, item in value.items()}
    return value


@cache
def _holds_numbers(section: type[Section], field: str) -> bool:
    """Whether a field holds numbers, or lists or a table of them, and nothing else."""
    kinds = _kinds(section.model_fields[field].annotation)
    return bool(kinds & {int, float}) and kinds <= {int, float, type(None)}


def _kinds(annotation: object) -> set[object]:
    """Return the types of the plain values that an annotation allows; of a table's, those of its values."""
    origin, inside = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _kinds(inside[0])
    if origin is Literal:
        return {type(value) for value in inside}
    if origin is dict:
        return _kinds(inside[1])
    if not inside:
        return {annotation}
    return {kind for part in inside for kind in _kinds(part)}

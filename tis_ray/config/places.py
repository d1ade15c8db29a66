"""Where in a config a problem is: its keys as the file has them, and the section that they lead to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from types import UnionType
from typing import Annotated, Union, get_args, get_origin

from pydantic import BaseModel

from tis_ray.settings.data import SOURCE_KINDS

_UNIONS = (Union, UnionType)


@dataclass(frozen=True)
class Place:
    """The place of a problem.

    keys: what leads to it in the file; places in lists are left out.
    around: keys of the section that it is in. inside: those of the section that belongs there.
    """

    keys: list[str]
    around: list[str]
    inside: list[str]
    in_list: bool = False

    @property
    def dotted(self) -> str:
        """The keys as one."""
        return ".".join(self.keys)


def place_of(schema: type[BaseModel], location: Sequence[int | str]) -> Place:
    """Return the place that pydantic's location names; it holds tags of unions too, which no file has."""
    keys: list[str] = []
    around: list[str] = []
    in_list = False
    here: object = schema
    for part in location:
        if part == "[key]":  # the key itself is wrong
            continue
        here, origin = _plain(here), get_origin(_plain(here))
        if isinstance(here, type) and issubclass(here, BaseModel):
            keys.append(str(part))
            around = list(here.model_fields)
            field = here.model_fields.get(str(part))
            here = None if field is None else field.annotation
        elif origin is dict:
            keys.append(str(part))
            here = get_args(here)[1]
        elif isinstance(part, int):
            in_list = True
            here = next(iter(get_args(here)), None)
        elif origin in _UNIONS or here is None:  # a tag of a kind of source, or of a plain value
            here = SOURCE_KINDS.get(part)
        else:
            keys.append(part)
    return Place(keys, around, _keys_inside(here), in_list)


def _keys_inside(annotation: object) -> list[str]:
    here = _plain(annotation)
    if isinstance(here, type) and issubclass(here, BaseModel):
        return list(here.model_fields)
    return []


def _plain(annotation: object) -> object:
    """Return an annotation without its notes, and without the None beside it."""
    if get_origin(annotation) is Annotated:
        return _plain(get_args(annotation)[0])
    if get_origin(annotation) in _UNIONS:
        others = [part for part in get_args(annotation) if part is not type(None)]
        return _plain(others[0]) if len(others) == 1 else annotation
    return annotation

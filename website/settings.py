"""The reference of a study's config, from its schema: every field with its type, its default and its docstring."""

from __future__ import annotations

import inspect
import types
from collections.abc import Iterator
from contextlib import suppress
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from tis_ray.config import Config
from website.columns import docstrings

INTRODUCTION = """# Settings

A study is a YAML file of these sections. This page is made from the schema when the site is built. An unknown key is an error. On the command line a setting
goes by its dotted name: `--set finetune.epochs=2`. Settings of methods from outside the package stand under `settings`, by the method's name
([Your own method](../extend.md)).

"""


def settings_page() -> str:
    """Return the page of all sections, each a table of its fields."""
    return INTRODUCTION + "\n".join(_pages())


def _pages() -> Iterator[str]:
    """Yield every section once, where a field first needs it."""
    waiting: list[tuple[str, type[BaseModel]]] = [("", Config)]
    seen: set[type[BaseModel]] = set()
    while waiting:
        path, section = waiting.pop(0)
        if section in seen:
            continue
        seen.add(section)
        yield f"## {f'`{path}`' if path else 'A study'} {{ #{anchor(section)} }}\n"
        about = inspect.getdoc(section) or ""
        yield f"{_one_line(about)}\n"
        yield "| setting | type | default | |\n|---|---|---|---|"
        inner: list[tuple[str, type[BaseModel]]] = []
        said = help_texts(section)
        for name, field in section.model_fields.items():
            key = field.alias or name
            yield _row(f"{path}.{key}".strip("."), field, said.get(name, ""))
            for each in _sections(field.annotation):
                kind = each.model_fields.get("kind")
                ending = f" ({', '.join(get_args(kind.annotation))})" if kind is not None else ""
                inner.append((f"{path}.{key}".strip(".") + ending, each))
        yield ""
        waiting = inner + waiting if path else waiting + inner


def anchor(section: type[BaseModel]) -> str:
    """Return what a link names the table of a section by."""
    return section.__name__.lower()


def help_texts(section: type[BaseModel]) -> dict[str, str]:
    """Return what is said of each field of a section, in the string below it."""
    found: dict[str, str] = {}
    for kind in reversed(section.__mro__[: section.__mro__.index(BaseModel)]):
        with suppress(OSError):  # what is made of other sections has no source
            found |= docstrings(kind)
    return found


def _row(path: str, field: FieldInfo, about: str) -> str:
    sections = list(_sections(field.annotation))
    about = _one_line(about)
    links = ", ".join(f"[{each.__name__}](#{anchor(each)})" for each in sections)
    if not about and sections:
        about = _one_line(inspect.getdoc(sections[0]) or "")
    shown = f"see {links}" if sections else f"`{_escaped(_type(field.annotation))}`"
    return f"| `{path}` | {shown} | {_default(field)} | {about} |"


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "must be given"
    value = field.get_default(call_default_factory=True)
    if value is PydanticUndefined:
        return "must be given"
    if isinstance(value, BaseModel):
        return "its defaults"
    if isinstance(value, str):
        return f"`{_escaped(value)}`" if value else "empty"
    text = yaml.safe_dump(value, default_flow_style=True, width=10_000)
    return f"`{_escaped(text.removesuffix('...' + chr(10)).strip())}`"


def _type(annotation: Any) -> str:
    """Return a type as a reader of YAML would say it."""
    origin, inside = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _type(inside[0])
    if isinstance(annotation, TypeVar):
        return "value"
    if origin is Literal:
        return " or ".join(str(value) for value in inside)
    if origin in (Union, types.UnionType):
        return " or ".join(dict.fromkeys(_type(part) for part in inside))
    if origin in (list, tuple, set):
        return f"list of {_type(inside[0])}" if inside else "list"
    if origin is dict:
        return f"{_type(inside[0])}: {_type(inside[1])}"
    names: dict[Any, str] = {
        str: "text",
        int: "whole number",
        float: "number",
        bool: "true or false",
        type(None): "null",
        Any: "anything",
        object: "anything",
    }
    return names.get(annotation, getattr(annotation, "__name__", str(annotation)))


def _sections(annotation: Any) -> Iterator[type[BaseModel]]:
    """Yield the sections that a field may hold."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    if get_origin(annotation) is Literal:
        return
    for part in get_args(annotation):
        yield from _sections(part)


def _one_line(text: str) -> str:
    return _escaped(" ".join(text.split()))


def _escaped(text: str) -> str:
    return text.replace("|", "\\|")

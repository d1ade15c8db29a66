"""One line for what is wrong with a config: the field, what was found, what to do."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from tis_ray.settings.data import SOURCE_KINDS

_ONE_VALUE = {"bool_type", "float_type", "int_type", "literal_error", "string_type"}
"""Types of pydantic's errors where a plain value is expected."""
_RETIRED = {
    "setting": "is no longer a key of a config; leave it out (an earlier version wrote it into the "
    "config of a grid's study: run the file with `grid:` instead)"
}
LONGEST_FOUND = 200


def problem_line(
    error: ValidationError, schema: type[BaseModel], axes: Collection[str] = ()
) -> str:
    """Return the first problem in one line, and how many more there are.

    axes: dotted keys whose values come from `grid`.
    """
    problems = error.errors()
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    return " ".join(_line(problems[0], schema, axes).split()) + more


def _line(problem: Any, schema: type[BaseModel], axes: Collection[str]) -> str:
    location = list(problem["loc"])
    kind = None
    if location[:1] == ["data"] and len(location) > 2:
        kind = location.pop(2)  # pydantic's tag for the kind of source, not a key of the file
    keys = [part for part in location if isinstance(part, str)]  # numbers are places in lists
    dotted = ".".join(keys)
    where = f"`grid.{dotted}`" if dotted in axes else f"`{dotted}`"
    found = problem.get("input")
    match problem["type"]:
        case "extra_forbidden":
            if dotted in _RETIRED:
                return f"{where} {_RETIRED[dotted]}"
            known = _known_keys(schema, keys[:-1], kind)
            advice = _nearest(keys[-1], known) or f"known keys: {', '.join(known)}"
            return f"{where} is not a known key; {advice}"
        case "missing":
            return f"{where} is missing; add it"
        case "union_tag_not_found":
            return f"{where}: `kind` is missing; add one of {', '.join(SOURCE_KINDS)}"
        case "union_tag_invalid":
            return _not_among(where, found.get("kind"), list(SOURCE_KINDS))
        case "unknown_method":
            known = [*problem["ctx"]["known"], "`module:attribute`"]
            return _not_among(where, problem["ctx"]["found"], known)
        case "model_type":
            among = ", ".join(_known_keys(schema, keys, kind))
            return f"{where}: found {shown(found)}, expected a section with keys among {among}"
        case "invalid_key":
            return f"`{location[-1]}` is not a known key; keys are words"
        case one if isinstance(found, list) and (one in _ONE_VALUE or dotted in _SOURCES):
            return _list_line(where, dotted, found, len(keys) == len(location))
        case "literal_error":
            expected = problem["ctx"]["expected"]
            return _not_among(where, found, re.findall(r"'([^']*)'", expected))
    message = str(problem["msg"]).removeprefix("Value error, ")
    if not keys:
        return message
    # A message about a whole section says itself what was found.
    return f"{where}: {message}" + ("" if isinstance(found, dict) else f"; found {shown(found)}")


_SOURCES = ("data.pool", "data.query", "data.test")


def _list_line(where: str, dotted: str, found: list[Any], is_setting: bool) -> str:
    """Return what to do about a list where one value belongs."""
    line = f"{where}: found a list, {shown(found)}, where one value belongs"
    if "." in dotted and is_setting and not where.startswith("`grid."):
        line += f"; for a study of each value write `grid: {{{dotted}: {shown(found)}}}`"
    return line


def shown(value: Any) -> str:
    """Return a value as it was found, cut where it is too long for a line."""
    try:
        text = repr(value)
    except ValueError:  # an integer of thousands of digits
        return "a number with too many digits"
    except RecursionError:
        return "something nested too deeply"
    return text if len(text) <= LONGEST_FOUND else f"{text[: LONGEST_FOUND - 3]}..."


def _not_among(where: str, found: Any, known: list[str]) -> str:
    advice = _nearest(found, known) if isinstance(found, str) else ""
    tail = f"; {advice}" if advice else ""
    return f"{where}: found {shown(found)}, expected one of {', '.join(known)}{tail}"


def _nearest(word: str, known: list[str]) -> str:
    close = difflib.get_close_matches(word, known, n=1)
    return f"did you mean `{close[0]}`?" if close else ""


def _known_keys(schema: type[BaseModel], keys: list[str], kind: str | None) -> list[str]:
    """Return the keys of a section; `kind` is the kind of source where the section is one."""
    section: Any = schema
    for key in keys:
        annotation = section.model_fields[key].annotation
        section = SOURCE_KINDS.get(kind or "") if get_args(annotation) else annotation
        if not hasattr(section, "model_fields"):
            return []
    return list(section.model_fields)
